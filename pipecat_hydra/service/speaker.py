"""Pushes replies into the pipeline: frames in their brackets, at one rate, with their metrics.

A reply is an `LLMFullResponseStartFrame`, then a `TTSStartedFrame` with the first audio, audio
and text, a `TTSStoppedFrame` and an `LLMFullResponseEndFrame` (A6). A transport's resampler
takes only one rate for its life (`audio/resamplers/soxr_stream_resampler.py`), so the rate of
Hydra's first audio is the rate of the whole call (A4).

A TTS service below would speak all text that is not marked. It takes text that is marked and
passes it on as sentences, in order with the audio (`services/tts_service.py`).

A reply that goes on after noise comes in brackets of its own, but is not a new reply: it is
counted once, and so are its words.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from pipecat.frames.frames import (
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.metrics.metrics import LLMTokenUsage
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.utils.text.base_text_aggregator import TextType

from pipecat_hydra.conversation.effects import (
    AudioChunk,
    ReplyEnded,
    ReplyStarted,
    ResponseFinished,
    TextChunk,
    VoiceEnded,
    VoiceStarted,
)
from pipecat_hydra.wire.audio import StreamResampler
from pipecat_hydra.wire.events import Usage

__all__ = ["Speaker", "Speech"]

Speech = (
    AudioChunk
    | TextChunk
    | ReplyStarted
    | VoiceStarted
    | VoiceEnded
    | ReplyEnded
    | ResponseFinished
)
"""The effects of a reply: audio, text and their brackets."""

_Marked = TypeVar("_Marked", LLMFullResponseStartFrame, LLMFullResponseEndFrame, LLMTextFrame)


class Speaker:
    """Pushes replies, from one place only."""

    def __init__(
        self,
        processor: FrameProcessor,
        *,
        is_before_tts: Callable[[], bool] = lambda: False,
        on_said: Callable[[str, bool], None],
    ):
        """Start with nothing said.

        Args:
            processor: Pushes the frames and measures.
            is_before_tts: Whether a TTS service gets the text, which must not speak it.
            on_said: Called at the end of each reply that has a text, with the text, and with
                whether the reply goes on after noise has interrupted it.
        """
        self._processor = processor
        self._is_before_tts = is_before_tts
        self._on_said = on_said
        self._rate: int | None = None
        self._resampler: StreamResampler | None = None
        self._saying = ""
        self._is_resumed = False
        # Whether some of the words of the last reply are known, and this bracket has audio.
        self._is_known = self._has_voice = False
        # What the metrics are not told yet: how long the reply was waited for, and its last audio.
        self._waited: float | None = None
        self._unmeasured: TTSAudioRawFrame | None = None
        self._replies = self._replies_known = 0

    @property
    def are_replies_known(self) -> bool:
        """Whether the words of all replies so far are known."""
        return self._replies_known >= self._replies

    async def say(self, speech: Speech) -> None:
        """Push the frames of one effect."""
        push = self._processor.push_frame
        match speech:
            case AudioChunk():
                await self.say_audio(speech)
            case TextChunk(text):
                await self._push_text(text)
            case ReplyStarted(_, resumed):
                self._is_resumed = resumed
                self._is_known = self._is_known and resumed
                self._has_voice = False
                await push(self._unspoken(LLMFullResponseStartFrame()))
            case VoiceStarted(_, waited):
                self._replies += not self._is_resumed
                self._has_voice = True
                self._waited = waited
                await push(TTSStartedFrame())
            case VoiceEnded(_, interrupted):
                await self._end_voice(interrupted=interrupted)
            case ReplyEnded():
                said, self._saying = self._saying, ""
                if said:
                    # Behind noise only the rest is said; text alone is all of it, after the end.
                    is_rest = self._is_resumed and self._has_voice
                    self._replies_known += not (is_rest or self._is_known)
                    self._is_known = True
                    self._on_said(said, self._is_resumed)
                await push(self._unspoken(LLMFullResponseEndFrame()))
            case ResponseFinished():
                await self._report_finished(speech)

    async def say_audio(self, chunk: AudioChunk) -> None:
        """Push the frame of reply audio."""
        pcm, rate = chunk.pcm, self._rate or chunk.sample_rate
        self._rate = rate
        if chunk.sample_rate != rate:
            # Another model speaks at another rate.
            if self._resampler is None:
                self._resampler = StreamResampler(chunk.sample_rate, rate)
            pcm = self._resampler.push(pcm)
        if not pcm:
            return
        frame = TTSAudioRawFrame(audio=pcm, sample_rate=rate, num_channels=1)
        await self._processor.push_frame(frame)
        if self._processor.metrics_enabled:
            await self._measure(frame)

    async def _measure(self, pushed: TTSAudioRawFrame | None) -> None:
        """Report what the audio before that which was just pushed tells.

        A metrics frame overtakes audio in the queues of the processors. So the metrics of a reply's
        first audio come with its second, when the first is through.

        Args:
            pushed: What was pushed; None at the end of the voice.
        """
        audio, self._unmeasured = self._unmeasured, pushed
        if audio is not None:
            await self._report_ttfb()
            await self._processor.process_ttfa_metrics(audio)

    async def _end_voice(self, *, interrupted: bool) -> None:
        resampler, self._resampler = self._resampler, None
        rest = resampler.drain() if resampler is not None and not interrupted else b""
        if rest and self._rate is not None:
            await self._processor.push_frame(TTSAudioRawFrame(rest, self._rate, 1))
        await self._measure(None)
        self._waited = None
        await self._processor.push_frame(TTSStoppedFrame())

    async def _push_text(self, text: str) -> None:
        self._saying += text
        # For RTVI's bot-llm-text; the aggregator records the TTSTextFrame.
        llm_text = LLMTextFrame(text)
        llm_text.append_to_context = False
        await self._processor.push_frame(self._unspoken(llm_text))
        if self._is_before_tts():
            # The TTS service makes the other frame, too.
            return
        spoken = TTSTextFrame(text, text_type=TextType.SENTENCE)
        spoken.includes_inter_frame_spaces = True
        await self._processor.push_frame(spoken)

    def _unspoken(self, frame: _Marked) -> _Marked:
        """Mark a frame for a TTS service that would speak what Hydra speaks itself."""
        if self._is_before_tts():
            frame.skip_tts = True
        return frame

    async def _report_ttfb(self) -> None:
        waited, self._waited = self._waited, None
        if waited is not None:
            # Started and stopped in one go, because an interruption would report, wrongly, a
            # measurement that runs.
            await self._processor.start_ttfb_metrics(start_time=time.time() - waited)
            await self._processor.stop_ttfb_metrics()

    async def _report_finished(self, finished: ResponseFinished) -> None:
        if finished.took is not None:
            started = time.time() - finished.took
            await self._processor.start_processing_metrics(start_time=started)
            await self._processor.stop_processing_metrics()
        if finished.usage is not None:
            await self._processor.start_llm_usage_metrics(_token_usage(finished.usage))


def _token_usage(usage: Usage) -> LLMTokenUsage:
    read, generated = usage.input_tokens or 0, usage.output_tokens or 0
    return LLMTokenUsage(
        prompt_tokens=read,
        completion_tokens=generated,
        total_tokens=usage.total_tokens or read + generated,
    )
