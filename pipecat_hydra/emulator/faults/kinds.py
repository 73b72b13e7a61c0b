"""The table of faults: one class for each kind, with its options and their limits.

`event_faults.py` has those of single events.
"""

from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import ClassVar, Literal

from pipecat_hydra.emulator.faults.event_faults import (
    Binary,
    Duplicate,
    Garbage,
    Giant,
    Jitter,
    Missing,
    Reorder,
    Unknown,
)
from pipecat_hydra.emulator.faults.fault import Fault, FaultError
from pipecat_hydra.emulator.settings import EmulatorSettings
from pipecat_hydra.emulator.wire.ending import Ending

Moment = Literal["upgrade", "session", "configured", "user_speech", "response", "tool_call"]
"""A stretch of time in a connection. `"upgrade"`: before the answer to the upgrade request.
`"session"`: from the upgrade on. `"configured"`: from `session.configured` on. `"user_speech"`:
from `speech_started` to the end of the turn. `"response"`: from `response.created` to
`response.done`. `"tool_call"`: from `function_call_arguments.done` to the call's output."""

HandshakeStep = Literal["upgrade", "created", "configured"]
"""An answer that the server owes during the handshake, in this order: the answer to the upgrade
request, `session.created`, `session.configured`."""

_CLOSE_CODES = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


# Faults of the upgrade and of the handshake.


@dataclass(frozen=True, slots=True)
class Refuse(Fault):
    """Answer the upgrade request with an HTTP status.

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
    """Pretend to be at capacity: send an error `server_full`, then close with code 1013 (§1)."""

    kind: ClassVar[str] = "full"


@dataclass(frozen=True, slots=True)
class Hang(Fault):
    """Hold back an answer that the handshake requires.

    Parameters:
        at: The answer. With `"upgrade"`, TCP is accepted and nothing is sent.
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
    """Reject any voice in `session.configure` (§2, voices)."""

    kind: ClassVar[str] = "reject_voice"


@dataclass(frozen=True, slots=True)
class RejectConfiguration(Fault):
    """Reject any `session.configure`, for a field other than the voice (§2).

    What follows, `EmulatorSettings.after_rejection` says.

    Parameters:
        param: The field at fault, `error.param`.
    """

    kind: ClassVar[str] = "reject_configuration"
    param: str = "session.configure.session.tools"


# Faults of an open connection.


@dataclass(frozen=True, slots=True)
class Drop(Fault):
    """End the connection, at the nth event or during a moment.

    Without any option the connection ends as soon as the socket is open, before the first event.

    Parameters:
        how: The way to end the connection.
        during: The moment. If the moment is over before `secs`, the next one of its kind counts.
        secs: Seconds from the begin of the moment.
        sent: End after so many events to the client, instead of during a moment.
        received: End after so many frames from the client, instead of during a moment.
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
        if self.during == "upgrade" and self.how not in ("reset", "eof"):
            what = "close frame" if isinstance(self.how, int) else "event"
            raise FaultError(f"{self.kind}: there is no {what} before the upgrade")

    @property
    def counts(self) -> bool:
        """Whether the fault counts events, rather than waiting for a moment."""
        return self.sent is not None or self.received is not None


@dataclass(frozen=True, slots=True)
class SlowReader(Fault):
    """Stop reading from the socket.

    Parameters:
        secs: For how many seconds; `None` for ever.
        after_secs: Seconds from the opening of the socket until the server stops.
    """

    kind: ClassVar[str] = "slow_reader"
    secs: float | None = None
    after_secs: float = 0.0

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self._require("secs", self.secs is None or self.secs >= 0)
        self._require("after_secs", self.after_secs >= 0)


# Faults that change a setting of the session.


@dataclass(frozen=True, slots=True)
class Rate(Fault):
    """Use another rate of reply audio, by default from the second connection on.

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
    """Send more audio of a response after the response was cancelled.

    Parameters:
        ms: Milliseconds of audio, `EmulatorSettings.late_audio_after_cancel_ms`.
    """

    kind: ClassVar[str] = "late_audio"
    ms: int = 400

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self._require("ms", self.ms >= 0)

    def adjust(self, settings: EmulatorSettings) -> EmulatorSettings:
        """Set the length of the late audio."""
        return replace(settings, late_audio_after_cancel_ms=self.ms)


@dataclass(frozen=True, slots=True)
class OddSplits(Fault):
    """Split reply audio at odd byte counts, as `EmulatorSettings.odd_splits` does."""

    kind: ClassVar[str] = "odd_splits"

    def adjust(self, settings: EmulatorSettings) -> EmulatorSettings:
        """Turn odd splits on."""
        return replace(settings, odd_splits=True)


@dataclass(frozen=True, slots=True)
class LateEnd(Fault):
    """Send `response.done` before the last of a response: an order that the protocol rules out.

    Parameters:
        ms: Milliseconds of audio that follow, `EmulatorSettings.late_audio_after_done_ms`.
        texts: Whether all transcripts follow too, `EmulatorSettings.late_transcripts`.
    """

    kind: ClassVar[str] = "late_end"
    ms: int = 400
    texts: bool = True

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self._require("ms", self.ms >= 0)

    def adjust(self, settings: EmulatorSettings) -> EmulatorSettings:
        """Set what follows `response.done`."""
        return replace(settings, late_audio_after_done_ms=self.ms, late_transcripts=self.texts)


@dataclass(frozen=True, slots=True)
class Encoding(Fault):
    """Encode reply audio in another way than documented.

    Parameters:
        key: The field that holds the audio, `EmulatorSettings.audio_key`.
        lines: Whether the base64 is broken into lines, `EmulatorSettings.base64_lines`.
    """

    kind: ClassVar[str] = "encoding"
    key: Literal["delta", "audio"] = "audio"
    lines: bool = True

    def adjust(self, settings: EmulatorSettings) -> EmulatorSettings:
        """Set the encoding."""
        return replace(settings, audio_key=self.key, base64_lines=self.lines)


FAULTS: dict[str, type[Fault]] = {
    fault.kind: fault
    for fault in (
        Refuse,
        Full,
        Hang,
        RejectVoice,
        RejectConfiguration,
        Drop,
        SlowReader,
        Rate,
        LateAudio,
        OddSplits,
        LateEnd,
        Encoding,
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
"""All classes of faults, by kind."""
