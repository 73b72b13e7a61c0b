"""How a function call ended, as the frame that settles the call says."""

from dataclasses import dataclass
from typing import Literal

from pipecat.frames.frames import FunctionCallCancelFrame, FunctionCallResultFrame

__all__ = ["CallOutcome", "Settling", "outcome_of"]

Settling = FunctionCallResultFrame | FunctionCallCancelFrame
"""The frames that settle a call, or give a result in advance."""


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """How a call ended.

    Parameters:
        status: In which way.
        error: The type of the error and a description; None if it is none, as of a call that an
            interruption has cancelled.
    """

    status: Literal["completed", "error", "timeout", "cancelled"]
    error: tuple[str, str] | None = None


def outcome_of(frame: Settling) -> CallOutcome | None:
    """Return how a call ended; None if the frame gives a result in advance."""
    if isinstance(frame, FunctionCallCancelFrame):
        # Pipecat runs the model only after a timeout.
        if frame.run_llm:
            return CallOutcome("timeout", ("timeout", "the function took too long"))
        return CallOutcome("cancelled")
    if frame.properties is not None and not frame.properties.is_final:
        return None
    if frame.error:
        # "TypeError: ..."
        return CallOutcome("error", (frame.error.partition(":")[0], frame.error))
    return CallOutcome("completed")
