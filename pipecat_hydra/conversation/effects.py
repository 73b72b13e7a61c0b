"""What the conversation asks for: one immutable value for each thing to be done.

`Conversation` decides and does nothing itself. Each of its methods returns the
effects of one step, in order: `Send` is for the socket, `Fail`, `Rest` and `Discard` for
whoever runs the connection, everything else is for the pipeline. What becomes of the
connection itself the pipeline is told by whoever runs it, by effects too.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from pipecat_hydra.wire.events import ClientEvent, SessionInfo, Usage

__all__ = [
    "AudioChunk",
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
    "Ready",
    "ReplyEnded",
    "ReplyStarted",
    "Report",
    "ResponseFinished",
    "Rest",
    "Rested",
    "Retrying",
    "Send",
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
    "VoiceEnded",
    "VoiceStarted",
]


class Severity(Enum):
    """How loud a `Report` is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class FailureKind(Enum):
    """Why a session could not be had, or was lost."""

    AUTHENTICATION = "authentication"
    """The key was refused. Trying again is of no use."""
    CONFIGURATION = "configuration"
    """The server rejects what was asked for. Trying the same again is of no use."""
    CAPACITY = "capacity"
    """No room at the moment."""
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
        is_of_voice: Whether Hydra has rejected the voice, so that another may do.
    """

    kind: FailureKind
    message: str
    is_of_voice: bool = False


@dataclass(frozen=True, slots=True)
class Rest:
    """Nobody uses this session: close it quietly, until somebody does.

    Parameters:
        message: For a log.
    """

    message: str


@dataclass(frozen=True, slots=True)
class Connected:
    """A WebSocket is open; there is no session yet."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The WebSocket that was open is gone, whoever closed it.

    Parameters:
        reason: For a person. Never holds the key or the URL's query.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Rested:
    """There is no session, and nobody wants one; it is opened when somebody does.

    Parameters:
        message: Why, for a log. Never holds the key or the URL's query.
        failed: Whether that is because none could be had.
    """

    message: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """The session is lost, or could not be had; it will be tried again.

    Told once for each session that was lost, however many attempts it takes to get
    another.

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
    """Another attempt to get a session follows.

    Parameters:
        attempt: Which it is since the session was lost, counted from 1.
        delay_secs: How long it waits.
        kind: Why the one before failed.
        message: The same, for a person.
    """

    attempt: int
    delay_secs: float
    kind: FailureKind
    message: str


@dataclass(frozen=True, slots=True)
class GivenUp:
    """There is no session, and there will be none.

    Parameters:
        kind: Why.
        message: For a person. Never holds the key or the URL's query.
    """

    kind: FailureKind
    message: str


@dataclass(frozen=True, slots=True)
class Discard:
    """Drop what the pipeline has not yet been told of what a response says."""


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """The server has opened the session `session_id`; it is not configured yet."""

    session_id: str | None


@dataclass(frozen=True, slots=True)
class Ready:
    """The session is configured.

    Parameters:
        session: What is in force.
        output_sample_rate: Rate of reply audio in Hz, from now on.
        lost_secs: How much of what the user said before could not be kept, in seconds.
    """

    session: SessionInfo
    output_sample_rate: int
    lost_secs: float = 0.0


@dataclass(frozen=True, slots=True)
class UserStarted:
    """The user has begun to speak: what is being played must stop."""


@dataclass(frozen=True, slots=True)
class UserStopped:
    """The user has stopped; `discarded` when it was noise that gets no answer.

    `silence_secs` is how long the server had heard silence before it said so, as far as known.
    """

    discarded: bool
    silence_secs: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class TurnConfirmed:
    """What the user was heard to say was no noise: the functions that it interrupted are cancelled.

    Told only when functions may be running. The user may still speak.
    """


@dataclass(frozen=True, slots=True)
class TurnDiscarded:
    """What the user was heard to say was noise. The turn is over, and gets no answer."""


@dataclass(frozen=True, slots=True)
class Flush:
    """Stop what is being played: the server cancelled it with no user turn to tell so."""


@dataclass(frozen=True, slots=True)
class ReplyStarted:
    """A response begins, or (`resumed`) goes on after an interruption that was none."""

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
    """The response's bracket closes; `interrupted` when it did not come to its end."""

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
        arguments: JSON text as the model wrote it, which may be no JSON at all.
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
    """Something that a developer should know; the session goes on.

    Parameters:
        severity: `ERROR` reports go to the pipeline too, the others are logged.
        message: For a person. Never holds what users say.
        code: The server's `error.code`, if that is what it is about.
    """

    severity: Severity
    message: str
    code: str | None = None


ConnectionEffect: TypeAlias = (
    Connected | SessionStarted | Ready | Disconnected | Rested | Lost | Retrying | GivenUp
)
"""What becomes of the connection."""

PipelineEffect: TypeAlias = (
    UserStarted
    | UserStopped
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
    | ConnectionEffect
)
"""What the pipeline is told."""

Effect: TypeAlias = Send | Fail | Rest | Discard | PipelineEffect
"""Whatever a step of the conversation may ask for."""
