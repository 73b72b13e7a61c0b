"""The table of faults: what each is, what options it has, and for which connections it holds."""

from dataclasses import dataclass, field, fields, replace
from http import HTTPStatus
from types import NoneType
from typing import Any, ClassVar, Literal, cast, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from pipecat_hydra.emulator.settings import EmulatorSettings
from pipecat_hydra.wire.protocol import MIN_APPEND_BYTES

Ending = Literal["reset", "eof"] | int
"""How a connection ends: `"reset"` by a TCP reset, `"eof"` by a TCP close without a close
frame (the client sees code 1006 both times), a number by a close frame with that code."""

Moment = Literal["upgrade", "session", "configured", "user_speech", "response", "tool_call"]
"""A stretch of a connection: before the answer to the upgrade; from the upgrade on; from
`session.configured` on; while the user speaks (between `speech_started` and the turn's end);
while a response is delivered (`response.created` to `response.done`); while a tool call is
open (`function_call_arguments.done` to its output)."""

HandshakeStep = Literal["upgrade", "created", "configured"]
"""What the server owes the client during the handshake, in this order: the answer to the
upgrade request, `session.created`, `session.configured`."""

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
"""Fields of server events without which a client can still do all it has to (§3). Not among
them is what tells responses, calls and discarded turns apart, nor audio and its rate."""

_CLOSE_CODES = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


class FaultError(ValueError):
    """A fault that there is not, or that cannot be as it is asked for."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What all faults have in common.

    Parameters:
        first: The first connection that has it, counted from 1.
        times: How many connections have it, from that one on; `None` for all.
    """

    kind: ClassVar[str] = ""
    """Its name on a command line and in records."""

    first: int = field(default=1, kw_only=True)
    times: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self._require("first", self.first >= 1)
        self._require("times", self.times is None or self.times >= 1)

    def __str__(self) -> str:
        """Write it as `parse_fault` reads it."""
        common = len(fields(Fault))
        options = (*fields(self)[common:], *fields(self)[:common])  # its own ones first
        values = [(option, getattr(self, option.name)) for option in options]
        given = [f"{o.name}={_text(value)}" for o, value in values if value != o.default]
        return f"{self.kind}:{','.join(given)}" if given else self.kind

    def holds(self, connection: int) -> bool:
        """Whether a connection, by its number, has it."""
        return self.first <= connection < self.first + (self.times or connection)

    def adjust(self, settings: EmulatorSettings) -> EmulatorSettings:
        """Return the settings of a session that has it."""
        return settings

    def _require(self, name: str, right: bool) -> None:
        if not right:
            raise FaultError(f"{self.kind}: {name} cannot be {_text(getattr(self, name))}")


# Connections that become no session, or not at once.


@dataclass(frozen=True, slots=True)
class Refuse(Fault):
    """Answer the upgrade with an HTTP status.

    Parameters:
        status: 400 to 599.
        retry_after: Seconds in a `Retry-After` header; `None` for no header.
    """

    kind: ClassVar[str] = "refuse"
    status: int = 503
    retry_after: int | None = None

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self._require("status", self.status >= 400 and self.status in set(HTTPStatus))
        self._require("retry_after", self.retry_after is None or self.retry_after >= 0)


@dataclass(frozen=True, slots=True)
class Full(Fault):
    """Be at capacity: an error `server_full`, then close code 1013 (§1)."""

    kind: ClassVar[str] = "full"


@dataclass(frozen=True, slots=True)
class Hang(Fault):
    """Say nothing where the handshake wants an answer.

    Parameters:
        at: The answer that is held back. `"upgrade"`: TCP is accepted and nothing said.
        secs: For how many seconds; `None` until the client gives up.
    """

    kind: ClassVar[str] = "hang"
    at: HandshakeStep = "upgrade"
    secs: float | None = None

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self._require("secs", self.secs is None or self.secs >= 0)


@dataclass(frozen=True, slots=True)
class RejectVoice(Fault):
    """Reject the voice in `session.configure`, whichever it is (§2, voices)."""

    kind: ClassVar[str] = "reject_voice"


# Connections that go, or do not go on.


@dataclass(frozen=True, slots=True)
class Drop(Fault):
    """End the connection: at the nth event, or some time into a moment if that lasts so long.

    Without any option that is once the socket is open, before the first event.

    Parameters:
        how: In which way.
        during: The moment; one that comes again is another chance.
        secs: Seconds into it.
        sent: After so many events to the client, instead of a moment.
        received: After so many frames from the client, instead of a moment.
        of: Count only events of this type.
    """

    kind: ClassVar[str] = "drop"
    how: Ending = "reset"
    during: Moment = "session"
    secs: float = 0.0
    sent: int | None = None
    received: int | None = None
    of: str | None = None

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        if isinstance(self.how, int):
            self._require("how", self.how in _CLOSE_CODES)
        self._require("secs", self.secs >= 0)
        self._require("sent", self.sent is None or self.sent >= 1)
        self._require("received", self.received is None or self.received >= 1)
        if self.counts and (self.during != "session" or self.secs):
            raise FaultError(f"{self.kind}: an event is not counted during a moment")
        if self.sent is not None and self.received is not None:
            raise FaultError(f"{self.kind}: sent and received exclude each other")
        if self.of is not None and not self.counts:
            raise FaultError(f"{self.kind}: of needs sent or received")
        if self.during == "upgrade" and isinstance(self.how, int):
            raise FaultError(f"{self.kind}: there is no close frame before the upgrade")

    @property
    def counts(self) -> bool:
        """Whether it waits for the nth event."""
        return self.sent is not None or self.received is not None


@dataclass(frozen=True, slots=True)
class SlowReader(Fault):
    """Stop reading from the socket.

    Parameters:
        secs: For how many seconds; `None` for ever.
        after_secs: Seconds after the socket opened.
    """

    kind: ClassVar[str] = "slow_reader"
    secs: float | None = None
    after_secs: float = 0.0

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self._require("secs", self.secs is None or self.secs >= 0)
        self._require("after_secs", self.after_secs >= 0)


# Settings of the server that are others in some sessions.


@dataclass(frozen=True, slots=True)
class Rate(Fault):
    """Negotiate another rate of reply audio, by default from the second connection on.

    Parameters:
        hz: The rate, `EmulatorSettings.output_sample_rate`.
    """

    kind: ClassVar[str] = "rate"
    hz: int = 16_000
    first: int = field(default=2, kw_only=True)

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self._require("hz", self.hz > 0)

    def adjust(self, settings: EmulatorSettings) -> EmulatorSettings:
        """Set the rate."""
        return replace(settings, output_sample_rate=self.hz)


@dataclass(frozen=True, slots=True)
class LateAudio(Fault):
    """Send some more audio of a response after it was cancelled.

    Parameters:
        ms: How much, `EmulatorSettings.late_audio_after_cancel_ms`.
    """

    kind: ClassVar[str] = "late_audio"
    ms: int = 400

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self._require("ms", self.ms >= 0)

    def adjust(self, settings: EmulatorSettings) -> EmulatorSettings:
        """Set how much."""
        return replace(settings, late_audio_after_cancel_ms=self.ms)


@dataclass(frozen=True, slots=True)
class OddSplits(Fault):
    """Split reply audio anywhere, as `EmulatorSettings.odd_splits` does."""

    kind: ClassVar[str] = "odd_splits"

    def adjust(self, settings: EmulatorSettings) -> EmulatorSettings:
        """Turn it on."""
        return replace(settings, odd_splits=True)


# What becomes of single events.


@dataclass(frozen=True, slots=True)
class EventFault(Fault):
    """What faults of single events have in common.

    Parameters:
        probability: How likely it is, at each event.
        of: Only at events of this type; `None` for all.
    """

    probability: float = 0.1
    of: str | None = None

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self._require("probability", 0 <= self.probability <= 1)


@dataclass(frozen=True, slots=True)
class Duplicate(EventFault):
    """Send an event twice, with one id."""

    kind: ClassVar[str] = "duplicate"


@dataclass(frozen=True, slots=True)
class Reorder(EventFault):
    """Send an event after the next one; when there is none within 50 ms, then late."""

    kind: ClassVar[str] = "reorder"


@dataclass(frozen=True, slots=True)
class Missing(EventFault):
    """Send an event without some of its fields, but never without `type`.

    Parameters:
        fields: Those that may be missing, some of them at a time and at random;
            `response.usage` is a field in `response`.
    """

    kind: ClassVar[str] = "missing"
    fields: tuple[str, ...] = OPTIONAL_FIELDS

    def __post_init__(self) -> None:
        EventFault.__post_init__(self)
        self._require("fields", bool(self.fields) and "type" not in self.fields)


@dataclass(frozen=True, slots=True)
class Unknown(EventFault):
    """Send an event of a type that nobody knows after an event."""

    kind: ClassVar[str] = "unknown"


@dataclass(frozen=True, slots=True)
class Garbage(EventFault):
    """Send a text frame after an event: no JSON, no event, or an event with wrong types."""

    kind: ClassVar[str] = "garbage"


@dataclass(frozen=True, slots=True)
class Binary(EventFault):
    """Send a binary frame after an event.

    Parameters:
        size: Its length in random bytes.
    """

    kind: ClassVar[str] = "binary"
    size: int = MIN_APPEND_BYTES

    def __post_init__(self) -> None:
        EventFault.__post_init__(self)
        self._require("size", self.size >= 0)


@dataclass(frozen=True, slots=True)
class Jitter(EventFault):
    """Hold up an event and all after it, which then come in a burst.

    Parameters:
        secs: For how many seconds at most; how many is random.
    """

    kind: ClassVar[str] = "jitter"
    secs: float = 0.3

    def __post_init__(self) -> None:
        EventFault.__post_init__(self)
        self._require("secs", self.secs >= 0)


@dataclass(frozen=True, slots=True)
class Giant(Fault):
    """Send one event of an unknown type that is very long.

    Parameters:
        size: Its length in bytes.
        sent: After so many events to the client.
    """

    kind: ClassVar[str] = "giant"
    size: int = 50_000_000
    sent: int = 3

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self._require("size", self.size >= 1)
        self._require("sent", self.sent >= 1)


FAULTS: dict[str, type[Fault]] = {
    fault.kind: fault
    for fault in (
        Refuse,
        Full,
        Hang,
        RejectVoice,
        Drop,
        SlowReader,
        Rate,
        LateAudio,
        OddSplits,
        Duplicate,
        Reorder,
        Missing,
        Unknown,
        Garbage,
        Binary,
        Jitter,
        Giant,
    )
}
"""All faults, by kind."""


def parse_fault(text: str) -> Fault:
    """Read a fault.

    Args:
        text: `kind` or `kind:option=value,option=value`, as described above; the options
            are the parameters of the kind's class, and fields of `missing` are joined by
            `+`.

    Raises:
        FaultError: There is no such fault, or it cannot be so.
    """
    kind, _, rest = text.strip().partition(":")
    fault = FAULTS.get(kind)
    if fault is None:
        raise FaultError(f"there is no fault {kind!r}; there are {', '.join(FAULTS)}")
    types = {option.name: get_type_hints(fault)[option.name] for option in fields(fault)}
    given: dict[str, Any] = {}
    for option in rest.split(",") if rest else []:
        name, equals, value = (part.strip() for part in option.partition("="))
        if not equals or name not in types:
            raise FaultError(f"{kind}: no option {option!r}; there are {', '.join(types)}")
        given[name] = _value(f"{kind}: {name}", types[name], value)
    return fault(**given)


def _value(place: str, wanted: Any, text: str) -> Any:
    if get_origin(wanted) is tuple:
        return tuple(text.split("+"))
    # One at a time: of a union the message would tell of each.
    kinds = [kind for kind in get_args(wanted) or (wanted,) if kind is not NoneType]
    if get_origin(wanted) is Literal:
        kinds = [wanted]
    problems: list[str] = []
    for kind in kinds:
        try:
            return TypeAdapter[Any](kind).validate_python(text)
        except ValidationError as exception:
            problems.append(exception.errors(include_url=False, include_input=False)[0]["msg"])
    raise FaultError(f"{place}={text}: {'; or: '.join(problems)}")


def _text(value: Any) -> str:
    return "+".join(cast(tuple[str, ...], value)) if isinstance(value, tuple) else str(value)
