"""Matches what a client sends in a replay with what was recorded, by meaning.

Two events mean the same if they are of one type and concern one thing: the output of one call,
a message of one role, the cancellation of one response. Of several with one meaning, the one
that is equal goes first, else the earliest. When they came does not matter.
"""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, cast

from pipecat_hydra.emulator.replay.differences import Difference, changed_fields, title
from pipecat_hydra.emulator.wire.events import Event

APPEND = "input_audio_buffer.append"


@dataclass(slots=True)
class Expected:
    """A client event that was recorded, and what became of it in the replay.

    Parameters:
        event: The event.
        line: Its line in `call.jsonl`.
        t: When it was sent in the recording, in seconds.
        came: The event of the replay that means the same; `None` if none has come.
        came_at: When that came, on the clock of the session.
        given_up: Whether the replay went on without it.
        is_void: Whether it can no longer come, since what it answers was not played.
    """

    event: Event
    line: int
    t: float
    came: Event | None = field(default=None, init=False)
    came_at: float = field(default=0.0, init=False)
    given_up: bool = field(default=False, init=False)
    is_void: bool = field(default=False, init=False)

    @property
    def is_open(self) -> bool:
        """Whether the replay still waits for the event."""
        return self.came is None and not self.given_up and not self.is_void


def meaning(event: Event) -> tuple[str, ...]:
    """Return what two client events have in common that mean the same."""
    kind = str(event.get("type"))
    item: Any = event.get("item")
    if isinstance(item, dict):
        item = cast(Event, item)
        of = "call_id" if item.get("type") == "function_call_output" else "role"
        return (kind, str(item.get("type")), str(item.get(of)))
    return (kind,)


class Expectations:
    """The client events of one recorded session.

    Args:
        session: Number of the session.
        expected: Its client events, audio left out, in order.
    """

    def __init__(self, session: int, expected: Iterable[Expected]) -> None:
        self.expected: Sequence[Expected] = list(expected)
        """What the recording has."""
        self._session = session
        self._arrived: list[Expected] = []
        self._additional: list[tuple[float, Event]] = []
        self._event_ids: dict[str, Any] = {}

    def received(self, event: Event, now: float) -> None:
        """Match an event of the client.

        Args:
            event: The event; not one of audio.
            now: When it came, in seconds since the session opened.
        """
        same = [
            one
            for one in self.expected
            if one.came is None and not one.is_void and meaning(one.event) == meaning(event)
        ]
        if not same:
            self._additional.append((now, event))
            return
        found = min(same, key=lambda one: (one.given_up, *_unlikeness(one.event, event)))
        found.came, found.came_at = event, now
        self._arrived.append(found)
        if isinstance(recorded := found.event.get("event_id"), str):
            self._event_ids[recorded] = event.get("event_id")

    def current_id(self, event_id: str) -> Any:
        """Return the id that the client gave to an event in the replay, by its recorded one."""
        return self._event_ids.get(event_id, event_id)

    def skip_calls(self, skipped: Set[Any]) -> None:
        """Expect no output of calls that are not made in the replay, named by their ids."""
        for one in self.expected:
            item: Any = one.event.get("item")
            if isinstance(item, dict) and cast(Event, item).get("call_id") in skipped:
                one.is_void = True

    def differences(self, until: float) -> list[Difference]:
        """Compare what came with what was recorded.

        Args:
            until: How far the replay came, in seconds of the recording; what was recorded later
                is not missing.
        """
        found: list[Difference] = []
        for one in self.expected:
            if one.came is None:
                if not one.is_void and one.t <= until:
                    found.append(self._of(one, "missing", f"{title(one.event)} did not come"))
                continue
            if one.given_up:
                found.append(self._of(one, "late", f"{title(one.event)} came too late"))
            found += [
                self._of(one, "changed", f"{title(one.event)}: {change}")
                for change in changed_fields(one.event, one.came)
            ]
        found += self._disorder()
        found += [
            Difference(
                "additional",
                self._session,
                f"{title(event)} came, and the recording has none (any more)",
                None,
                now,
            )
            for now, event in self._additional
        ]
        return found

    def _disorder(self) -> Iterable[Difference]:
        """Report each event that came after one which it precedes in the recording."""
        latest: Expected | None = None
        for one in self._arrived:
            if latest is None or one.line > latest.line:
                latest = one
            elif not one.given_up:
                yield self._of(
                    one, "order", f"{title(one.event)} came after {title(latest.event)}, not before"
                )

    def _of(self, one: Expected, kind: Any, what: str) -> Difference:
        return Difference(kind, self._session, what, one.line, one.t)


def _unlikeness(recorded: Event, event: Event) -> tuple[int, int]:
    """Return how many fields differ, those by which an event names a response first."""
    same_response = recorded.get("response_id") == event.get("response_id")
    return (int(not same_response), sum(1 for _ in changed_fields(recorded, event)))
