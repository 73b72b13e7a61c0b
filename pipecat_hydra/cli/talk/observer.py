"""Observes the frames of a pipeline, and reports turns and replies to a `TurnLog`."""

import json
from collections.abc import Callable
from typing import Any, Final

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ErrorFrame,
    Frame,
    FunctionCallCancelFrame,
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    MetricsFrame,
    TTSAudioRawFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.metrics.metrics import LLMUsageMetricsData, TTFBMetricsData
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from pipecat_hydra.cli.talk.turns import TurnLog
from pipecat_hydra.testing.virtual_transport.timeline import Timeline

__all__ = ["TalkObserver"]

Note = Callable[[float, str], None]

_LONGEST: Final = 80
"""How many characters of arguments and results are shown."""


class TalkObserver(BaseObserver):
    """Keeps a `TurnLog` up to date, and reports what happens to the user.

    Each frame is processed when it is first pushed. A broadcast frame is pushed in both directions
    as two frames, of which only the downstream one is processed.
    """

    def __init__(
        self,
        llm: FrameProcessor,
        timeline: Timeline,
        *,
        note: Note,
        on_error: Callable[[ErrorFrame], None],
    ):
        """Create an observer.

        Args:
            llm: The service whose audio and text count.
            timeline: The timeline of the conversation, for the times of the turns.
            note: Called with the position in seconds and a line for the user.
            on_error: Called with each error frame.
        """
        super().__init__(observe_every_push=False)
        self.log: TurnLog = TurnLog()
        self._llm = llm
        self._timeline = timeline
        self._note = note
        self._on_error = on_error

    async def on_push_frame(self, data: FramePushed) -> None:
        """Process a frame that is pushed for the first time.

        Args:
            data: The frame, and the processor that pushes it.
        """
        if isinstance(data.frame, ErrorFrame):
            self._on_error(data.frame)
        elif data.direction == FrameDirection.DOWNSTREAM:
            # Observers run later than the pipeline, so the time of the push is taken from `data`.
            behind_secs = (self._llm.get_clock().get_time() - data.timestamp) / 1e9
            self._on_frame(data.frame, data.source, self._timeline.secs - behind_secs)

    def _on_frame(self, frame: Frame, source: FrameProcessor, secs: float) -> None:
        match frame:
            case UserStartedSpeakingFrame():
                self.log.user_started(secs)
                self._note(secs, "user speaks")
            case UserStoppedSpeakingFrame():
                self.log.user_stopped(secs)
                self._note(secs, "user stopped")
            case BotStartedSpeakingFrame():
                if self.log.bot_started(secs):
                    self._note(secs, "bot answers")
            case BotStoppedSpeakingFrame():
                if self.log.bot_stopped(secs):
                    self._note(secs, "bot stopped")
            case InterruptionFrame():
                if self.log.interrupted(secs):
                    self._note(secs, "bot is interrupted")
            case LLMFullResponseStartFrame():
                self.log.response_started()
            case LLMFullResponseEndFrame():
                self.log.response_ended()
            case FunctionCallInProgressFrame():
                self.log.called()
                self._note(secs, f"bot calls {frame.function_name}({_arguments(frame.arguments)})")
            case FunctionCallResultFrame():
                self._note(secs, f"{frame.function_name} gives {_shown(frame.result)}")
            case FunctionCallCancelFrame():
                self._note(secs, f"{frame.function_name} is cancelled")
            case TTSAudioRawFrame() if source is self._llm:
                if self.log.audio_received(len(frame.audio), secs):
                    self._note(secs, "bot answers")
            case TTSTextFrame() if source is self._llm:
                self._note(secs, f"bot says: {frame.text.strip()}")
            case MetricsFrame():
                self._on_metrics(frame)
            case _:
                pass

    def _on_metrics(self, frame: MetricsFrame) -> None:
        for metric in frame.data:
            if isinstance(metric, LLMUsageMetricsData):
                self.log.tokens(metric.value.prompt_tokens, metric.value.completion_tokens)
            elif isinstance(metric, TTFBMetricsData) and metric.processor == self._llm.name:
                self.log.first_byte(metric.value)


def _arguments(arguments: Any) -> str:
    if not isinstance(arguments, dict):
        return _shown(arguments)
    return ", ".join(f"{name}={_shown(value)}" for name, value in arguments.items())


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
