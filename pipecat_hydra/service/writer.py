"""Gives replies as text alone, where a client has asked for no audio.

RTVI's `send-text` with `audio_response: false` comes as an `LLMConfigureOutputFrame` that turns
speech off, the text, and another one that turns it on again. An application may also turn speech
off for good. Hydra always speaks, so of a reply that is to be text the audio is dropped, and
what Hydra says in text goes into the pipeline, marked as not to be spoken. Where Hydra sends no
text (protocol §3) nothing is left of such a reply, which is reported: it is never spoken.

Between a request and its reply frames of both kinds may pass. So the `Writer` notes whether
speech was off when a reply was asked for, and takes the next reply, up to the first one that is
no mere function call. The reply to a turn that the user has spoken meanwhile is spoken, unless the
turn was noise.
"""

from collections.abc import Callable

from pipecat.frames.frames import (
    AggregatedTextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
)
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.utils.text.base_text_aggregator import TextType

from pipecat_hydra.conversation.effects import ReplyEnded, ReplyStarted, TextChunk, VoiceStarted
from pipecat_hydra.service.speaker import Speech

__all__ = ["Writer"]


class Writer:
    """Pushes the replies that are to be text."""

    def __init__(
        self,
        processor: FrameProcessor,
        *,
        is_before_tts: Callable[[], bool],
        on_written: Callable[[str], None],
        on_missing: Callable[[], None],
    ):
        """Start with speech turned on.

        Args:
            processor: Pushes the frames.
            is_before_tts: Whether a TTS service gets the text, which makes sentences of it.
            on_written: Called at the end of each reply that has a text, with the text.
            on_missing: Called at the end of each reply that was to be text and has none.
        """
        self._processor = processor
        self._is_before_tts = is_before_tts
        self._on_written = on_written
        self._on_missing = on_missing
        self._is_speech_off = False
        # Whether a reply was asked for while speech was off; and before a turn that may be noise.
        self._is_asked = self._was_asked = False
        self.is_writing: bool = False
        """Whether the reply that is being given is text, and none of its audio passes."""
        self._has_voice = False
        self._text = ""
        self._is_all_known = True

    @property
    def are_replies_known(self) -> bool:
        """Whether the words of all replies so far are known."""
        return self._is_all_known

    def turn_speech(self, *, off: bool) -> None:
        """Turn speech off or on, for replies that are asked for from now on."""
        self._is_speech_off = off

    def asked(self) -> None:
        """Record that a reply is asked for by text."""
        self._is_asked = self._is_speech_off

    def turn_stopped(self) -> None:
        """Record that the user has spoken: the reply to that is one to what was typed, too."""
        self._was_asked, self._is_asked = self._is_asked, False

    def turn_discarded(self) -> None:
        """Record that what the user was heard to say was noise."""
        self._is_asked = self._is_asked or self._was_asked

    def takes(self, speech: Speech) -> bool:
        """Return whether an effect is of a reply that is to be text."""
        if isinstance(speech, ReplyStarted) and not speech.resumed:
            self.is_writing = self._is_speech_off or self._is_asked
        return self.is_writing

    async def say(self, speech: Speech) -> None:
        """Push the frames of one effect; there are none of audio."""
        match speech:
            case ReplyStarted():
                start = LLMFullResponseStartFrame()
                start.skip_tts = True
                await self._processor.push_frame(start)
            case VoiceStarted():
                self._has_voice = True
            case TextChunk(text):
                self._text += text
                await self._push_text(text)
            case ReplyEnded(_, interrupted):
                self._end(interrupted=interrupted)
                end = LLMFullResponseEndFrame()
                end.skip_tts = True
                await self._processor.push_frame(end)
            case _:
                pass

    async def _push_text(self, text: str) -> None:
        # As in `Speaker`: the one for RTVI's bot-llm-text, the other for the context. A TTS
        # service makes the other one itself.
        llm_text = LLMTextFrame(text)
        llm_text.append_to_context = False
        llm_text.skip_tts = True
        await self._processor.push_frame(llm_text)
        if not self._is_before_tts():
            written = AggregatedTextFrame(text, TextType.SENTENCE)
            written.includes_inter_frame_spaces = True
            written.skip_tts = True
            await self._processor.push_frame(written)

    def _end(self, *, interrupted: bool) -> None:
        text, self._text = self._text, ""
        has_voice, self._has_voice = self._has_voice, False
        if text:
            self._on_written(text)
        elif has_voice:
            self._is_all_known = False
            if not interrupted:
                self._on_missing()
        if text or has_voice:
            self._is_asked = False
