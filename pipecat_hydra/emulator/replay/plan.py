"""Finds, for each server event of a recording, what caused it: see the package's docstring.

Pure: what it makes of a `Recording` is data, which `session` plays.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from pipecat_hydra.emulator.replay.expectations import APPEND
from pipecat_hydra.emulator.replay.stretches import Place, Stretches, threshold_of
from pipecat_hydra.emulator.wire.ending import Ending
from pipecat_hydra.emulator.wire.events import Event
from pipecat_hydra.recording import AudioReference, Record, Recording

Cause = Literal["opening", "previous", "client", "audio"]
"""What an event of the server follows: that the connection opened, the previous event of the
server, an event of the client, or a place in the user's audio."""

_BY_AUDIO: Final = ("input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped")
_CONFIGURE: Final = "session.configure"

# A recording says in words why a connection ended; these are the service's.
_CODE: Final = re.compile(r"closed the connection \(code (\d+)")
_BROKE: Final = " broke"
_STATUS: Final = re.compile(r"HTTP (\d{3})")


@dataclass(frozen=True, slots=True)
class Sent:
    """A client event of the recording.

    Parameters:
        event: The event.
        line: Its line in `call.jsonl`.
        t: When it was sent, in seconds.
    """

    event: Event
    line: int
    t: float


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the server did: an event, or the end of the connection.

    Parameters:
        event: The event; empty for the end of the connection.
        line: Its line in `call.jsonl`.
        t: When it came, in seconds.
        cause: What it follows.
        delay: How long after that it came, in seconds.
        needs: Numbers of the client events without which it would not have come.
        by: Number of the one that caused it, if it was a client event.
        place: The place in the user's audio that caused it, if one did.
        is_asked: Whether it is a response that the client asked for and that nothing else began.
        audio: Its audio.
        ending: How the connection ended, if it did.
    """

    event: Event
    line: int
    t: float
    cause: Cause
    delay: float
    needs: tuple[int, ...] = ()
    by: int = -1
    place: Place | None = None
    is_asked: bool = False
    audio: AudioReference | None = None
    ending: Ending | None = None


@dataclass(slots=True)
class Attempt:
    """One connection of the recording, from its request on.

    Parameters:
        number: Number of the attempt, from 1.
        line: Line of `call.jsonl` where it begins.
        t: When it was requested, in seconds.
        opening_secs: How long it took to open, or to fail. Where the recording does not tell,
            because it knows of the first event only, that event comes later by as much.
        is_open: Whether it opened.
        status: The HTTP status that refused it, if one did.
        steps: What the server did.
        sent: The events of the client, audio left out.
        begins: At which sample of the user's audio each stretch of sound begins.
    """

    number: int
    line: int
    t: float
    opening_secs: float = 0.0
    is_open: bool = False
    status: int | None = None
    steps: list[Step] = field(default_factory=list[Step])
    sent: list[Sent] = field(default_factory=list[Sent])
    begins: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class CallPlan:
    """All connections of a recorded call.

    Parameters:
        recording: The recording.
        attempts: Its connections, in the order of their requests.
        threshold: The amplitude above which a sample of the user's audio counts as sound.
    """

    recording: Recording
    attempts: Sequence[Attempt]
    threshold: int

    @classmethod
    def of(cls, recording: Recording) -> "CallPlan":
        """Read a recording."""
        user = [recording.samples(r.audio) for r in recording.records if r.source == "client"]
        threshold = threshold_of(np.concatenate([*user, np.zeros(0, np.int16)]))
        attempts: list[Attempt] = []
        for number, rows in enumerate(_attempts(recording), 1):
            attempts.append(_Reader(recording, number, rows, threshold).read())
        return cls(recording, attempts, threshold)


def _attempts(recording: Recording) -> Iterator[list[Record]]:
    """Split the records of a call into those of each connection."""
    rows: list[Record] = []
    for record in recording.records:
        if record.source == "pipeline" or record.type == "malformed":
            continue
        known = next((row.session for row in rows if row.session is not None), record.session)
        begins = record.type == "session_opening" or (
            record.session is not None and record.session != known
        )
        if begins and rows:
            yield rows
            rows = []
        if rows or begins or record.source != "call":
            rows.append(record)
    if rows:
        yield rows


class _Reader:
    """Reads one connection, record by record."""

    def __init__(
        self, recording: Recording, number: int, rows: list[Record], threshold: int
    ) -> None:
        first = rows[0]
        self._attempt = Attempt(number, first.line, first.t)
        self._recording = recording
        self._rows = rows
        self._stretches = Stretches(threshold)
        self._opened_at = self._previous_at = self._audio_at = first.t
        self._configure: list[int] = []
        self._updates: list[int] = []
        self._items: list[int] = []
        self._creates: list[int] = []
        self._cancels: list[int] = []
        self._by_event_id: dict[str, int] = {}
        self._user_stopped = False
        self._is_configured = False

    def read(self) -> Attempt:
        """Return what the connection is."""
        attempt = self._attempt
        for record in self._rows:
            if record.source == "call":
                self._on_call(record)
                continue
            attempt.is_open = True
            if record.source == "server":
                attempt.steps.append(self._step(record))
                self._previous_at = record.t
            elif record.type == APPEND:
                self._on_audio(record)
            else:
                self._on_client(record)
        attempt.begins = tuple(self._stretches.begins)
        return attempt

    def _on_call(self, record: Record) -> None:
        attempt = self._attempt
        match record.type:
            case "session_open" if not attempt.steps:
                attempt.is_open = True
                attempt.opening_secs = record.t - attempt.t
                self._opened_at = self._previous_at = record.t
            case "session_closed":
                attempt.is_open = True
                if (ending := _ending(str(record.data.get("reason")))) is not None:
                    delay = record.t - self._previous_at
                    step = Step({}, record.line, record.t, "previous", delay, ending=ending)
                    attempt.steps.append(step)
            case "reconnecting" | "given_up" if not attempt.is_open:
                attempt.opening_secs = record.t - attempt.t
                status = _STATUS.search(str(record.data.get("message")))
                attempt.status = int(status[1]) if status else None
            case _:
                pass

    def _on_audio(self, record: Record) -> None:
        samples: NDArray[np.int16] = self._recording.samples(record.audio)
        if record.audio is not None and len(samples) < record.audio.samples:
            samples = np.zeros(record.audio.samples, np.int16)  # no audio was kept
        self._stretches.push(samples)
        self._audio_at = record.t

    def _on_client(self, record: Record) -> None:
        number = len(self._attempt.sent)
        self._attempt.sent.append(Sent(dict(record.data), record.line, record.t))
        kept = {
            _CONFIGURE: self._configure,
            "session.update": self._updates,
            "conversation.item.create": self._items,
            "response.create": self._creates,
            "response.cancel": self._cancels,
        }.get(record.type)
        if kept is not None:
            kept.append(number)
        if isinstance(event_id := record.data.get("event_id"), str):
            self._by_event_id[event_id] = number

    def _step(self, record: Record) -> Step:
        event = dict(record.data)
        needs, is_asked = self._needs(record.type, event)
        rest: dict[str, Any] = {"needs": tuple(needs), "is_asked": is_asked, "audio": record.audio}
        if record.type in _BY_AUDIO:
            rest["place"] = self._stretches.place()
            cause, since = "audio", self._audio_at
        elif not self._attempt.steps:
            cause, since = "opening", self._opened_at
        else:
            cause, since = "previous", self._previous_at
        last = max(needs, default=-1)
        if last >= 0 and self._attempt.sent[last].t >= since:
            cause, since = "client", self._attempt.sent[last].t
        return Step(
            event, record.line, record.t, cause, max(0.0, record.t - since), by=last, **rest
        )

    def _needs(self, kind: str, event: Event) -> tuple[list[int], bool]:
        """Return which client events a server event answers, and whether it was only asked for."""
        is_asked = False
        match event:
            case {"type": "session.configured"}:
                needs, self._is_configured = self._configure, True
            case {"type": "session.updated"}:
                needs, self._updates = self._updates, []
            case {"type": "response.created"}:
                is_asked = bool(self._creates) and not self._user_stopped
                needs = sorted([*self._items, *self._creates])
                self._items, self._creates, self._user_stopped = [], [], False
            case {"type": "response.done"} if _is_cancelled_by_client(event):
                needs, self._cancels = self._cancels, []
            case {"type": "error"}:
                needs = self._at_fault(event)
            case {"type": str(), "item": dict()} if kind.startswith("conversation.item."):
                needs = self._posted(cast(Event, event["item"]))
            case _:
                needs = []
        self._user_stopped |= kind == "input_audio_buffer.speech_stopped"
        return list(needs), is_asked

    def _at_fault(self, event: Event) -> list[int]:
        """Return the client event that an error is about."""
        error: Any = event.get("error")
        event_id = cast(Event, error).get("event_id") if isinstance(error, dict) else None
        if isinstance(event_id, str) and event_id in self._by_event_id:
            return [self._by_event_id[event_id]]
        return [] if self._is_configured else self._configure

    def _posted(self, item: Event) -> list[int]:
        """Return the client event that made an item, if one did."""
        for number, sent in enumerate(self._attempt.sent):
            posted = cast(Event, sent.event.get("item") or {})
            names = ("call_id", "output") if "call_id" in posted else ("role", "content")
            if posted and all(posted.get(name) == item.get(name) for name in ("type", *names)):
                return [number]
        return []


def _is_cancelled_by_client(event: Event) -> bool:
    response: Any = event.get("response")
    details: Any = cast(Event, response).get("status_details") if isinstance(response, dict) else {}
    return isinstance(details, dict) and cast(Event, details).get("reason") == "client_cancelled"


def _ending(reason: str) -> Ending | None:
    """Return how the server ended a connection; `None` if the client did."""
    if (code := _CODE.search(reason)) is not None:
        return int(code[1])
    return "reset" if reason.endswith(_BROKE) else None
