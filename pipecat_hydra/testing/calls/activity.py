"""Observes a pipeline, to tell whether the bot has more to say."""

from typing import Any

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    FunctionCallCancelFrame,
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.processors.frame_processor import FrameDirection

__all__ = ["BotActivity"]


class BotActivity(BaseObserver):
    """Tells whether the bot answers at present: generates, calls a function, or is heard.

    Each frame is processed when it is first pushed. A broadcast frame is pushed in both directions
    as two frames, of which only the downstream one is processed.
    """

    def __init__(self) -> None:
        """Create an observer that has seen nothing."""
        super().__init__(observe_every_push=False)
        self._is_generating = False
        self._is_heard = False
        self._calls: set[str] = set()
        # A result is known, and the response about it has not begun.
        self._is_due = False

    @property
    def is_busy(self) -> bool:
        """Whether the bot is not done: more of its answer is to be expected."""
        return self._is_generating or self._is_heard or bool(self._calls) or self._is_due

    async def on_push_frame(self, data: FramePushed) -> None:
        """Process a frame that is pushed for the first time.

        Args:
            data: The frame, and the processor that pushes it.
        """
        if data.direction is not FrameDirection.DOWNSTREAM:
            return
        match data.frame:
            case LLMFullResponseStartFrame():
                self._is_generating, self._is_due = True, False
            case LLMFullResponseEndFrame():
                self._is_generating = False
            case BotStartedSpeakingFrame():
                self._is_heard = True
            case BotStoppedSpeakingFrame():
                self._is_heard = False
            case FunctionCallInProgressFrame(tool_call_id=call_id):
                self._calls.add(call_id)
            case FunctionCallCancelFrame(tool_call_id=call_id):
                self._calls.discard(call_id)
            case FunctionCallResultFrame() as frame:
                if frame.properties is None or frame.properties.is_final:
                    self._calls.discard(frame.tool_call_id)
                self._is_due = _asks_the_model(frame)
            case _:
                pass


def _asks_the_model(frame: FunctionCallResultFrame) -> bool:
    """Return whether the model is to speak about a result."""
    wishes: list[Any] = [frame.run_llm, frame.properties and frame.properties.run_llm]
    return False not in wishes
