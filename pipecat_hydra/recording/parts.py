"""The parts of a call's course: turns, replies, interruptions, tool calls, sessions, problems.

All moments are seconds on the time axis of the recording (`t` of its records); `None` means that
it did not happen, or not before the recording ends.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from pipecat_hydra.recording.sound import Span

__all__ = [
    "Interruption",
    "Problem",
    "Reconnect",
    "Reply",
    "SessionSpan",
    "SettingsChange",
    "ToolCall",
    "Turn",
]


@dataclass(slots=True)
class Turn:
    """One turn of the user.

    Parameters:
        number: Counted from 1 over the whole call, discarded turns included.
        session: Number of the session in which it began.
        item_id: Hydra's id of it.
        began: When Hydra's report that the user speaks arrived.
        ended: When Hydra's report that the user has stopped arrived.
        said_from: The user's first sound.
        said_until: The user's last sound before `ended`.
        is_discarded: Whether it was noise that Hydra does not answer.
        words: What was said, if Hydra told.
    """

    number: int
    session: int
    item_id: str
    began: float
    ended: float | None = None
    said_from: float | None = None
    said_until: float | None = None
    is_discarded: bool = False
    words: str = ""


@dataclass(slots=True)
class Reply:
    """One response of Hydra.

    Parameters:
        response_id: Hydra's id of it.
        session: Number of the session that it belongs to.
        created: When `response.created` arrived.
        turn: Number of the turn that it answers; `None` for a greeting.
        asked: When it was asked for: the end of the turn as reported, or the `response.create`
            that was sent; `None` for a greeting.
        first_audio: When its first audio arrived.
        ended: When `response.done` arrived.
        status: Hydra's word for how it ended, such as `completed` or `cancelled`.
        generated_secs: Length of the audio that arrived.
        heard: Where the loudspeaker has played it, silence in the audio included.
        heard_from: Its first sound as heard.
        heard_until: Its last sound as heard.
        is_cut: Whether an interruption ended it before all of it was heard.
        words: Its transcript, if Hydra sent one.
    """

    response_id: str
    session: int
    created: float
    turn: int | None = None
    asked: float | None = None
    first_audio: float | None = None
    ended: float | None = None
    status: str = "in_progress"
    generated_secs: float = 0.0
    heard: list[Span] = field(default_factory=list[Span])
    heard_from: float | None = None
    heard_until: float | None = None
    is_cut: bool = False
    words: str = ""

    @property
    def heard_secs(self) -> float:
        """How much of it was played, in seconds."""
        return sum(end - begin for begin, end in self.heard)


@dataclass(slots=True)
class Interruption:
    """A barge-in: the user speaks while a reply is heard, and the reply ends.

    Parameters:
        turn: Number of the turn that interrupts; `None` if none is known.
        response_id: The reply that is cut.
        interrupted: When the pipeline interrupted.
        speech_began: The user's first sound of that turn; when it was reported, if there is no
            audio of the user.
        silent_at: The last sound of the reply as heard.
    """

    turn: int | None
    response_id: str
    interrupted: float
    speech_began: float | None
    silent_at: float

    @property
    def secs(self) -> float | None:
        """Seconds from the begin of the user's speech to silence; 0 if it was silent before."""
        return None if self.speech_began is None else max(0.0, self.silent_at - self.speech_began)


@dataclass(slots=True)
class ToolCall:
    """One call of a function.

    Parameters:
        name: Name of the function.
        call_id: Hydra's id of the call.
        response_id: The response that calls.
        arguments: The arguments, parsed if they are JSON.
        asked: When the call arrived.
        turn: Number of the turn in which it is called; `None` in a greeting.
        result: What was answered, parsed if it is JSON; `None` if nothing was.
        error: What went wrong in the function, if the pipeline told.
        is_cancelled: Whether the function was cancelled.
        answered: When the answer was sent.
        narrated: The first sound of the reply that tells of the result.
    """

    name: str
    call_id: str
    response_id: str
    arguments: Any
    asked: float
    turn: int | None = None
    result: Any = None
    error: str | None = None
    is_cancelled: bool = False
    answered: float | None = None
    narrated: float | None = None


@dataclass(slots=True)
class SessionSpan:
    """One session with Hydra.

    Parameters:
        number: Counted from 1.
        opening: When it began to be opened.
        open: When the WebSocket was open.
        configured: When the configuration was in force.
        closed: When it was closed.
        reason: Why it was closed.
    """

    number: int
    opening: float | None = None
    open: float | None = None
    configured: float | None = None
    closed: float | None = None
    reason: str = ""


@dataclass(slots=True)
class Reconnect:
    """A loss of the connection.

    Parameters:
        began: When it was lost.
        ended: When there was a session again; `None` if it was given up, or the recording ends.
        reason: Why.
        is_restored: Whether the session that followed was told all that was said before it.
    """

    began: float
    ended: float | None = None
    reason: str = ""
    is_restored: bool = True


@dataclass(slots=True)
class Problem:
    """An error, or a loss of audio.

    Parameters:
        at: When it was reported.
        source: Who reported it: the call, the server or the pipeline.
        message: What it is, for people.
        is_permanent: Whether it ended the call.
    """

    at: float
    source: Literal["call", "server", "pipeline"]
    message: str
    is_permanent: bool = False


@dataclass(slots=True)
class SettingsChange:
    """A change of settings during the call.

    Parameters:
        at: When.
        settings: What was changed.
    """

    at: float
    settings: dict[str, Any]
