"""The log of one session: what passed on the wire, in order, with times, and without audio."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipecat_hydra.conversation.effects import FailureKind

__all__ = ["Audio", "Entry", "SessionLog", "field_of"]

_LONGEST_TEXT: int = 100


@dataclass(frozen=True, slots=True)
class Audio:
    """What is known of the audio of an event, which itself is not kept.

    Parameters:
        name: The field that held it.
        size: Its length in bytes, decoded.
        has_lines: Whether its base64 was broken into lines.
    """

    name: str
    size: int
    has_lines: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened in a session.

    Parameters:
        place: Its number in the log.
        at: When, in seconds since the session's connection was begun.
        source: The server, the client, or the scene, which marks a step of its own.
        type: The type of the event, or the name of the step.
        data: The event, without its audio.
        audio: What is known of its audio, if it has any.
    """

    place: int
    at: float
    source: Literal["server", "client", "scene"]
    type: str
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    audio: Audio | None = None

    def get(self, *path: str) -> Any:
        """Return the value at a path of the event; None if there is none."""
        return field_of(self.data, *path)

    def __str__(self) -> str:
        facts = ", ".join(f"{name} {_shortened(value)}" for name, value in _facts(self))
        arrow = {"server": "<-", "client": "->", "scene": "  "}[self.source]
        return f"{self.at:.2f} s {arrow} {self.type}{f' ({facts})' if facts else ''}"


@dataclass(slots=True)
class SessionLog:
    """All that was seen of one session, or of one attempt to open it.

    Parameters:
        label: What the session is for: a model, a voice, a size; empty if its scene has only one.
        model: The model that was asked for.
        entries: What happened, in order.
        failure: Why there was no connection.
        failure_kind: The kind of that failure.
        is_redirected: Whether the upgrade was redirected.
        close_code: The code that the server closed with; None if it did not close.
        closed_at: When the connection ended, if the client did not end it.
        pong_secs: How long the server took to answer a ping.
        secs: How long the session was open.
    """

    label: str = ""
    model: str = ""
    entries: list[Entry] = field(default_factory=list[Entry])
    failure: str = ""
    failure_kind: FailureKind | None = None
    is_redirected: bool = False
    close_code: int | None = None
    closed_at: float | None = None
    pong_secs: float | None = None
    secs: float = 0.0

    def add(
        self,
        at: float,
        source: Literal["server", "client", "scene"],
        kind: str,
        data: Mapping[str, Any] | None = None,
        audio: Audio | None = None,
    ) -> Entry:
        """Append an entry, and return it."""
        entry = Entry(len(self.entries), at, source, kind, data or {}, audio)
        self.entries.append(entry)
        return entry

    def server(
        self, *types: str, after: Entry | None = None, before: Entry | None = None
    ) -> list[Entry]:
        """Return the server's events of some types, of all if none is given.

        Args:
            types: The types.
            after: Only what came after this entry.
            before: Only what came before this entry.
        """
        return [e for e in self._between(after, before) if e.source == "server" and _is(e, types)]

    def client(self, *types: str, after: Entry | None = None) -> list[Entry]:
        """Return the client's events of some types; see `server`."""
        return [e for e in self._between(after, None) if e.source == "client" and _is(e, types)]

    def first(
        self, *types: str, after: Entry | None = None, before: Entry | None = None
    ) -> Entry | None:
        """Return the first event of the server of some types; see `server`."""
        return next(iter(self.server(*types, after=after, before=before)), None)

    def step(self, name: str) -> Entry | None:
        """Return the entry by which the scene has marked a step."""
        return next((e for e in self.entries if e.source == "scene" and e.type == name), None)

    def user_items(self, kind: str) -> list[Entry]:
        """Return the events of the user's items: `added` or `done`."""
        return [e for e in self._items(kind) if e.get("item", "role") == "user"]

    def reply_items(self, kind: str) -> list[Entry]:
        """Return the events of the items that are the model's speech: `added` or `done`."""
        return [
            e
            for e in self._items(kind)
            if e.get("item", "role") != "user" and e.get("item", "type") in ("message", None)
        ]

    def call_items(self, kind: str) -> list[Entry]:
        """Return the events of the items that are function calls: `added` or `done`."""
        return [e for e in self._items(kind) if e.get("item", "type") == "function_call"]

    @property
    def audio(self) -> list[Entry]:
        """The events of the server that have audio."""
        return [entry for entry in self.entries if entry.audio and entry.audio.size]

    @property
    def errors(self) -> list[Entry]:
        """The server's errors."""
        return self.server("error")

    @property
    def close(self) -> str:
        """How the server ended the connection, for evidence; empty if it did not."""
        if self.closed_at is None:
            return ""
        how = "lost" if self.close_code is None else f"closed with {self.close_code}"
        return f"{self.closed_at:.2f} s connection {how}"

    def _items(self, kind: str) -> list[Entry]:
        return self.server(f"conversation.item.{kind}")

    def _between(self, after: Entry | None, before: Entry | None) -> Iterator[Entry]:
        first = 0 if after is None else after.place + 1
        last = len(self.entries) if before is None else before.place
        yield from self.entries[first:last]


def field_of(data: Any, *path: str) -> Any:
    """Return the value at a path in JSON of any shape; None if there is none."""
    for name in path:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


def _is(entry: Entry, types: tuple[str, ...]) -> bool:
    return not types or entry.type in types


def _facts(entry: Entry) -> Iterator[tuple[str, Any]]:
    """The fields that say what an event is, as far as they are no text of anybody."""
    paths = {
        "session.configured": (
            ("session", "voice"),
            ("session", "output_audio_sample_rate"),
        ),
        "response.done": (
            ("response", "status"),
            ("response", "status_details", "reason"),
            ("response", "status_details", "error", "code"),
        ),
        "error": (("error", "code"), ("error", "param"), ("error", "message")),
        "warning": (("code",), ("warning", "code"), ("message",)),
        "response.function_call_arguments.done": (("name",), ("arguments",)),
    }.get(entry.type, ())
    if entry.type.startswith("conversation.item."):
        paths = (("item", "type"), ("item", "role"), ("item", "status"))
    for path in paths:
        if (value := entry.get(*path)) is not None:
            yield path[-1], value
    if entry.audio is not None:
        yield "bytes", entry.audio.size


def _shortened(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
