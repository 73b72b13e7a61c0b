"""The effects of a step of the conversation: one immutable value for each thing to be done.

`Conversation` decides and does nothing itself. Each of its methods returns the effects of one
step, in order. `Send` is for the socket, and `Fail`, `Rest` and `Discard` are for the owner of the
connection. All others are for the pipeline. The owner of the connection tells the pipeline about
the connection itself, by effects too (`ConnectionEffect`).
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from pipecat_hydra.wire.events import ClientEvent, SessionInfo, Usage

__all__ = [
    "AudioChunk",
    "CallLimitNear",
    "CallLimitReached",
    "ClockEffect",
    "Connected",
    "ConnectionEffect",
    "Discard",
    "Disconnected",
    "Effect",
    "Fail",
    "FailureKind",
    "Flush",
    "GivenUp",
    "Lost",
    "PipelineEffect",
    "Queued",
    "Ready",
    "ReplyEnded",
    "ReplyStarted",
    "Report",
    "ResponseFinished",
    "Rest",
    "Rested",
    "Retrying",
    "Send",
    "SessionOld",
    "SessionStarted",
    "Severity",
    "TextChunk",
    "ToolArguments",
    "ToolCall",
    "ToolCalls",
    "TurnConfirmed",
    "TurnDiscarded",
    "UserStarted",
    "UserStopped",
    "UserTranscript",
    "VoiceEnded",
    "VoiceStarted",
]


class Severity(Enum):
    """How loud a `Report` is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class FailureKind(Enum):
    """Why a session could not be opened, or was lost."""

    AUTHENTICATION = "authentication"
    """The key was refused. Trying again is of no use."""
    CONFIGURATION = "configuration"
    """The server rejects what was asked for. Trying the same again is of no use."""
    CAPACITY = "capacity"
    """The server has no room at the moment."""
    CONNECTIVITY = "connectivity"
    """The server cannot be reached, or the connection broke."""
    TIMEOUT = "timeout"
    """The server does not answer in time."""
    SERVER = "server"
    """The server failed."""
    ENDED = "ended"
    """The server closed the session normally."""

    @property
    def final(self) -> bool:
        """Whether trying again is of no use."""
        return self in (FailureKind.AUTHENTICATION, FailureKind.CONFIGURATION)


@dataclass(frozen=True, slots=True)
class Send:
    """Send `event` to the server."""

    event: ClientEvent


@dataclass(frozen=True, slots=True)
class Fail:
    """Give this session up: close the socket and report why.

    Parameters:
        kind: Why.
        message: The same, for a person.
        is_of_voice: Whether Hydra has rejected the voice, so that another voice may be accepted.
    """

    kind: FailureKind
    message: str
    is_of_voice: bool = False


@dataclass(frozen=True, slots=True)
class Rest:
    """Close this session without an error, because nobody uses it; the next use opens another.

    Parameters:
        message: Why, for a log.
    """

    message: str


@dataclass(frozen=True, slots=True)
class Queued:
    """Another session has to end before this one may be opened.

    Parameters:
        position: How far from the head of the queue, where it is 1.
        begins: Whether the wait begins with it; else the position has changed.
    """

    position: int
    begins: bool


@dataclass(frozen=True, slots=True)
class Connected:
    """A WebSocket is open; there is no session yet."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The WebSocket that was open is closed, by either side.

    Parameters:
        reason: For a person. Never holds the key or the URL's query.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Rested:
    """No session is open, and none is being opened; the next use opens one.

    Parameters:
        message: Why, for a log. Never holds the key or the URL's query.
        failed: Whether that is because no session could be opened.
    """

    message: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """The session is lost, or could not be opened; another attempt follows.

    Given once for each session that is lost, however many attempts it takes to open another.

    Parameters:
        kind: Why.
        message: For a person. Never holds the key or the URL's query.
        configured: Whether the session had been configured.
    """

    kind: FailureKind
    message: str
    configured: bool


@dataclass(frozen=True, slots=True)
class Retrying:
    """Another attempt to open a session follows, after a delay.

    Parameters:
        attempt: The number of the attempt since the session was lost, from 1.
        delay_secs: How long it waits.
        kind: Why the attempt before failed.
        message: The same, for a person.
    """

    attempt: int
    delay_secs: float
    kind: FailureKind
    message: str


@dataclass(frozen=True, slots=True)
class GivenUp:
    """No session is open, and no further attempt is made.

    Parameters:
        kind: Why.
        message: For a person. Never holds the key or the URL's query.
    """

    kind: FailureKind
    message: str


@dataclass(frozen=True, slots=True)
class Discard:
    """Drop the audio and text of responses that still wait to be handed to the pipeline."""


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """The server has opened the session `session_id`; it is not configured yet."""

    session_id: str | None


@dataclass(frozen=True, slots=True)
class Ready:
    """The session is configured.

    Parameters:
        session: What the server says is in force.
        output_sample_rate: Rate of reply audio in Hz, from now on.
        lost_secs: How much of the user's earlier audio was dropped because it was too much to
            keep, in seconds.
    """

    session: SessionInfo
    output_sample_rate: int
    lost_secs: float = 0.0


@dataclass(frozen=True, slots=True)
class SessionOld:
    """The session nears the limit on its length, and is to be replaced at a turn boundary."""


@dataclass(frozen=True, slots=True)
class CallLimitNear:
    """The call reaches the limit on its length in `secs_left` seconds."""

    secs_left: float


@dataclass(frozen=True, slots=True)
class CallLimitReached:
    """The call has reached the limit on its length, and is to end."""


@dataclass(frozen=True, slots=True)
class UserStarted:
    """The user has begun to speak. Playback must stop."""


@dataclass(frozen=True, slots=True)
class UserStopped:
    """The user has stopped speaking.

    Parameters:
        discarded: Whether the turn was noise, which gets no answer.
        silence_secs: How long the server had heard silence when it sent `speech_stopped`, in
            seconds; 0 if that is not known.
    """

    discarded: bool
    silence_secs: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class UserTranscript:
    """What the user has said in a turn, in words, as the server has understood it."""

    text: str


@dataclass(frozen=True, slots=True)
class TurnConfirmed:
    """The user's turn is real, not noise: the functions that it interrupted are to be cancelled.

    Given only when functions may be running. The user may still speak.
    """


@dataclass(frozen=True, slots=True)
class TurnDiscarded:
    """The user's turn was noise. It is over, and gets no answer."""


@dataclass(frozen=True, slots=True)
class Flush:
    """Stop playback, because the server cancelled the response without a user turn."""


@dataclass(frozen=True, slots=True)
class ReplyStarted:
    """A response begins, or, if `resumed`, goes on after noise."""

    response_id: str | None
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class VoiceStarted:
    """The first audio of a response follows, `waited` seconds after it was asked for."""

    response_id: str | None
    waited: float | None


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """Reply audio: whole samples of PCM16 LE mono at `sample_rate` Hz."""

    pcm: bytes
    sample_rate: int


@dataclass(frozen=True, slots=True)
class TextChunk:
    """A phrase of what the assistant says, with the space before it where one is due."""

    text: str


@dataclass(frozen=True, slots=True)
class VoiceEnded:
    """No more audio follows; `interrupted` when the response did not come to its end."""

    response_id: str | None
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class ReplyEnded:
    """The response is over for the pipeline; `interrupted` when it did not come to its end."""

    response_id: str | None
    interrupted: bool


@dataclass(frozen=True, slots=True)
class ResponseFinished:
    """The server has finished generating a response.

    Parameters:
        response_id: The response.
        status: `completed`, `cancelled`, `incomplete`, `failed`, or None.
        usage: The tokens it took, where the server says so.
        took: Seconds from asking to finishing, for a response that ended by itself.
    """

    response_id: str | None
    status: str | None
    usage: Usage | None
    took: float | None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One function call of the model; it must be answered exactly once.

    Parameters:
        call_id: The call. No other call of the conversation has this id.
        name: The function; empty if the server never named it.
        arguments: The JSON text as the model wrote it, which may be invalid JSON.
    """

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """The model calls functions; calls of one response come together."""

    response_id: str | None
    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class ToolArguments:
    """A fragment of the arguments of a call, as the model writes them."""

    call_id: str
    name: str
    fragment: str


@dataclass(frozen=True, slots=True)
class Report:
    """A message for the developer, about a fault or an oddity; the session goes on.

    Parameters:
        severity: `ERROR` reports go to the pipeline too, the others are logged.
        message: For a person. Never holds what users say.
        code: The server's `error.code`, if the message is about an `error` event.
    """

    severity: Severity
    message: str
    code: str | None = None


ConnectionEffect: TypeAlias = (
    Queued | Connected | SessionStarted | Ready | Disconnected | Rested | Lost | Retrying | GivenUp
)
"""Effects that tell the pipeline about the connection."""

ClockEffect: TypeAlias = SessionOld | CallLimitNear | CallLimitReached
"""Effects that tell that something has lasted long enough."""

PipelineEffect: TypeAlias = (
    UserStarted
    | UserStopped
    | UserTranscript
    | TurnConfirmed
    | TurnDiscarded
    | Flush
    | ReplyStarted
    | VoiceStarted
    | AudioChunk
    | TextChunk
    | VoiceEnded
    | ReplyEnded
    | ResponseFinished
    | ToolCalls
    | ToolArguments
    | Report
    | ClockEffect
    | ConnectionEffect
)
"""Effects that are for the pipeline."""

Effect: TypeAlias = Send | Fail | Rest | Discard | PipelineEffect
"""All effects that a step of the conversation may return."""
