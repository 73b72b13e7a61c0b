"""Faults of single events: each is one class, with its options and their limits.

`kinds.py` has all other faults, and the list of all.
"""

from dataclasses import dataclass
from typing import ClassVar

from pipecat_hydra.emulator.faults.fault import Fault
from pipecat_hydra.wire.protocol import MIN_APPEND_BYTES

OPTIONAL_FIELDS = (
    "event_id",
    "item_id",
    "previous_item_id",
    "output_index",
    "content_index",
    "audio_start_ms",
    "audio_end_ms",
    "session_id",
    "session.instructions",
    "session.voice",
    "session.tools",
    "session.input_audio_format",
    "session.output_audio_format",
    "item.role",
    "item.content",
    "response.status",
    "response.status_details",
    "response.output",
    "response.usage",
    "arguments",
    "error.type",
    "error.message",
    "error.param",
    "error.event_id",
    "code",
    "message",
)
"""Fields of server events that a client can do without (§3). A client needs the ids of responses
and calls, what marks a turn as discarded, the audio and its rate: those are not in this list."""


@dataclass(frozen=True, slots=True)
class EventFault(Fault):
    """The base of faults that change single events.

    Parameters:
        probability: How likely the fault is at each event, from 0 to 1.
        of: The type of the events that may have the fault; `None` for all.
    """

    probability: float = 0.1
    of: str | None = None

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self._require("probability", 0 <= self.probability <= 1)


@dataclass(frozen=True, slots=True)
class Duplicate(EventFault):
    """Send an event twice, with the same id."""

    kind: ClassVar[str] = "duplicate"


@dataclass(frozen=True, slots=True)
class Reorder(EventFault):
    """Send an event after the next one; if there is none within 50 ms, send it late."""

    kind: ClassVar[str] = "reorder"


@dataclass(frozen=True, slots=True)
class Missing(EventFault):
    """Send an event without some of its fields, but never without `type`.

    Parameters:
        fields: The fields that may be missing, a random choice of them each time.
            `response.usage` names the field `usage` in `response`.
    """

    kind: ClassVar[str] = "missing"
    fields: tuple[str, ...] = OPTIONAL_FIELDS

    def __post_init__(self) -> None:
        EventFault.__post_init__(self)
        self._require("fields", bool(self.fields) and "type" not in self.fields)


@dataclass(frozen=True, slots=True)
class Unknown(EventFault):
    """Send an event of an unknown type after an event."""

    kind: ClassVar[str] = "unknown"


@dataclass(frozen=True, slots=True)
class Garbage(EventFault):
    """Send a wrong text frame after an event: no JSON, no event, or fields of wrong types."""

    kind: ClassVar[str] = "garbage"


@dataclass(frozen=True, slots=True)
class Binary(EventFault):
    """Send a binary frame with random bytes after an event.

    Parameters:
        size: Length of the frame in bytes.
    """

    kind: ClassVar[str] = "binary"
    size: int = MIN_APPEND_BYTES

    def __post_init__(self) -> None:
        EventFault.__post_init__(self)
        self._require("size", self.size >= 0)


@dataclass(frozen=True, slots=True)
class Jitter(EventFault):
    """Delay an event and all that follow, which then come in a burst.

    Parameters:
        secs: Longest delay in seconds; the delay is random.
    """

    kind: ClassVar[str] = "jitter"
    secs: float = 0.3

    def __post_init__(self) -> None:
        EventFault.__post_init__(self)
        self._require("secs", self.secs >= 0)


@dataclass(frozen=True, slots=True)
class Giant(Fault):
    """Send one very long event of an unknown type.

    Parameters:
        size: Length of the event in bytes.
        sent: The number of the event to the client after which it is sent.
    """

    kind: ClassVar[str] = "giant"
    size: int = 50_000_000
    sent: int = 3

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self._require("size", self.size >= 1)
        self._require("sent", self.sent >= 1)
