"""Says in words how what a client sent differs from what was recorded."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from pipecat_hydra.emulator.wire.events import Event

Kind = Literal["missing", "additional", "changed", "order", "late", "speech", "session"]
"""What a difference is: an event of the client that did not come, came though none was recorded,
came with another field, in another order or too late; speech that did not come; a session that
was not opened, was opened though none was recorded, or was closed early."""

_LONGEST: Final = 80
"""How many characters of a value are shown."""

_BEFORE: Final = 25
"""How many characters are shown of what two texts have in common before they differ."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between a recording and its replay.

    Parameters:
        kind: See `Kind`.
        session: Number of the session in the call, from 1.
        what: What differs, in words.
        line: Line of `call.jsonl` that was expected; `None` if none was.
        t: When it happened in the recording, in seconds; of what was not recorded, when it came
            in the replay, in seconds since the session opened.
    """

    kind: Kind
    session: int
    what: str
    line: int | None
    t: float

    def __str__(self) -> str:
        if self.line is None:
            return f"session {self.session}, {self.t:.2f} s after it opened: {self.what}"
        return f"session {self.session}, call.jsonl line {self.line} at {self.t:.2f} s: {self.what}"


class ReplayDifferenceError(AssertionError):
    """A client that a recording was replayed to sent something else than was recorded.

    Parameters:
        differences: All differences.
    """

    def __init__(self, differences: list[Difference]) -> None:
        lines = "\n".join(f"  {difference}" for difference in differences)
        count = "1 difference" if len(differences) == 1 else f"{len(differences)} differences"
        super().__init__(f"{count} to the recording:\n{lines}")
        self.differences = differences


def title(event: Event) -> str:
    """Name a client event, with what tells it from others of its type."""
    kind = str(event.get("type"))
    item: Any = event.get("item")
    if isinstance(item, dict):
        item = cast(Event, item)
        if item.get("type") == "function_call_output":
            return f"{kind} with the output of call {item.get('call_id')}"
        return f"{kind} with a message ({item.get('role')}) {shown(_text(item))}"
    if event.get("response_id"):
        return f"{kind} of {event['response_id']}"
    return kind


def changed_fields(expected: Event, came: Event) -> Iterator[str]:
    """Say of each field that differs what was expected and what came, the event's id left out."""
    yield from _changes({**expected, "event_id": None}, {**came, "event_id": None}, "")


def shown(value: Any) -> str:
    """Write a value as JSON, cut if it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _changes(expected: Any, came: Any, path: str) -> Iterator[str]:
    if expected == came:
        return
    if isinstance(expected, dict) and isinstance(came, dict):
        ours, theirs = cast(Event, expected), cast(Event, came)
        for name in [*ours, *(name for name in theirs if name not in ours)]:
            inner = f"{path}.{name}" if path else name
            if name not in theirs:
                yield f"{inner} is missing; expected {shown(ours[name])}"
            elif name not in ours:
                yield f"{inner} was not recorded; came {shown(theirs[name])}"
            else:
                yield from _changes(ours[name], theirs[name], inner)
    elif isinstance(expected, list) and isinstance(came, list):
        yield from _list_changes(cast(list[Any], expected), cast(list[Any], came), path)
    elif isinstance(expected, str) and isinstance(came, str):
        yield from _text_changes(expected, came, path)
    else:
        yield f"{path}: expected {shown(expected)}, came {shown(came)}"


def _list_changes(expected: list[Any], came: list[Any], path: str) -> Iterator[str]:
    """Compare lists by the names of what is in them, such as tools, else by position."""
    ours, theirs = _by_name(expected), _by_name(came)
    if list(ours) != list(theirs) and set(ours) == set(theirs):
        yield f"{path}: expected in the order {shown(list(ours))}, came {shown(list(theirs))}"
    yield from _changes(ours, theirs, path)


def _text_changes(expected: str, came: str, path: str) -> Iterator[str]:
    """Compare texts, and the fields of those that are JSON objects."""
    ours, theirs = _object(expected), _object(came)
    if ours is not None and theirs is not None and ours != theirs:
        yield from _changes(ours, theirs, path)
        return
    same = next(
        (n for n, (a, b) in enumerate(zip(expected, came, strict=False)) if a != b),
        min(len(expected), len(came)),
    )
    begin = max(0, same - _BEFORE)
    dots = "…" if begin else ""
    yield f"{path}: expected {shown(dots + expected[begin:])}, came {shown(dots + came[begin:])}"


def _by_name(values: list[Any]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for number, value in enumerate(values):
        name = cast(Event, value).get("name") if isinstance(value, dict) else None
        named[name if isinstance(name, str) and name not in named else str(number)] = value
    return named


def _object(text: str) -> Event | None:
    try:
        value: Any = json.loads(text)
    except ValueError:
        return None
    return cast(Event, value) if isinstance(value, dict) else None


def _text(item: Event) -> str:
    content: Any = item.get("content")
    parts = cast(list[Any], content) if isinstance(content, list) else []
    return " ".join(str(cast(Event, p).get("text", "")) for p in parts if isinstance(p, dict))
