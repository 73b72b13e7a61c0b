"""A batch of function calls: those of one response, on their way from the model and to an answer.

`toolcalls.py` has the rules; a `Batch` only says how far its calls are. Pure.
"""

from dataclasses import dataclass, field
from typing import Final

from pipecat_hydra.conversation.effects import ToolCall

__all__ = ["Batch", "Call"]

_GATHER_SECS: Final = 0.02


@dataclass(slots=True)
class Call:
    """One function call.

    Parameters:
        call_id: The id under which it is handed out.
        name: The function, as far as the server has named it.
        fragments: What has come of its arguments, piece by piece.
        size: The length of all pieces that have come, in characters.
        complete: Whether it is to be made, or was.
        answered: Whether it has its answer.
        is_response_sure: Whether an event has named its response, and not only an item came.
    """

    call_id: str
    name: str = ""
    fragments: list[str] = field(default_factory=list[str])
    size: int = 0
    complete: bool = False
    answered: bool = False
    is_response_sure: bool = False

    @property
    def gathered(self) -> str:
        """What has come of its arguments."""
        return "".join(self.fragments)


@dataclass(slots=True)
class Batch:
    """The calls of one response.

    Parameters:
        calls: The calls, by the server's ids.
        ready: Those that are complete and not handed out yet.
        ready_at: When the last of them became complete.
        done: Whether the response is known to be done.
        complete_by: Until when missing parts of its calls may come; None while the response
            goes on.
        respond: Whether the model shall be asked to go on.
        cancelled: Whether an interruption cancelled any of the calls.
        answered_at: When the last answer came.
        turns_before: How many turns the user had begun before it.
    """

    calls: dict[str, Call] = field(default_factory=dict[str, Call])
    ready: list[ToolCall] = field(default_factory=list[ToolCall])
    ready_at: float = 0.0
    done: bool = False
    complete_by: float | None = None
    respond: bool = False
    cancelled: bool = False
    answered_at: float = 0.0
    turns_before: int = 0

    @property
    def answered(self) -> bool:
        """Whether all calls are answered."""
        return all(call.answered for call in self.calls.values())

    @property
    def unanswered(self) -> dict[str, str]:
        """The calls that are complete and have no answer: the ids handed out, to names."""
        calls = self.calls.values()
        return {c.call_id: c.name for c in calls if c.complete and not c.answered}

    @property
    def awaited(self) -> bool:
        """Whether a call was handed out to be made, and has no answer."""
        return bool(self.unanswered.keys() - {call.call_id for call in self.ready})

    @property
    def gathered_at(self) -> float | None:
        """When the calls may be made together; None if that is not known yet."""
        if not all(call.complete for call in self.calls.values()):
            return self.complete_by
        if not self.ready:
            return None
        return self.ready_at if self.done else self.ready_at + _GATHER_SECS

    def make(self, call: Call, arguments: str, now: float) -> None:
        """Add a complete call to those that are to be made."""
        call.complete = True
        self.ready.append(ToolCall(call.call_id, call.name, arguments))
        self.ready_at = now
