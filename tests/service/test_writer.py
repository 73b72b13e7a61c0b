"""Replies as text alone: what a client gets that has asked for no audio."""

import asyncio
from typing import Any

import pytest
from pipecat.frames.frames import (
    AggregatedTextFrame,
    ErrorFrame,
    Frame,
    LLMConfigureOutputFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMMessagesAppendFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.processors.frameworks.rtvi import models as rtvi_models
from pipecat.services.llm_service import FunctionCallParams
from support.call import NO_GREETING, SHAPES, Call, Shape, call, emulator, session

from pipecat_hydra.conversation.effects import (
    AudioChunk,
    ReplyEnded,
    ReplyStarted,
    TextChunk,
    VoiceEnded,
    VoiceStarted,
)
from pipecat_hydra.emulator import Call as ToolCall
from pipecat_hydra.emulator import Say, Script
from pipecat_hydra.service.speaker import Speech
from pipecat_hydra.service.writer import Writer

shapes = pytest.mark.parametrize("shape", SHAPES)

REPLY: tuple[Speech, ...] = (
    ReplyStarted("r"),
    VoiceStarted("r", None),
    TextChunk("Hello"),
    AudioChunk(b"ab", 24_000),
    TextChunk(" there."),
    VoiceEnded("r"),
    ReplyEnded("r", interrupted=False),
)
CALLING: tuple[Speech, ...] = (ReplyStarted("c"), ReplyEnded("c", interrupted=False))


class Service(FrameProcessor):
    """Keeps what is pushed."""

    def __init__(self, *, is_before_tts: bool = False):
        super().__init__()
        self.pushed: list[Frame] = []
        self.written: list[str] = []
        self.missing = 0
        self.writer = Writer(
            self,
            is_before_tts=lambda: is_before_tts,
            on_written=self.written.append,
            on_missing=self._miss,
        )

    def _miss(self) -> None:
        self.missing += 1

    async def push_frame(self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM):
        self.pushed.append(frame)

    async def reply(self, *speech: Speech) -> bool:
        """Give a reply; return whether it was to be text."""
        taken = [self.writer.takes(one) for one in speech]
        for one in speech:
            if self.writer.takes(one):
                await self.writer.say(one)
        return all(taken)

    def ask(self) -> None:
        """Do what one text of a client that wants no audio comes to."""
        self.writer.turn_speech(off=True)
        self.writer.asked()
        self.writer.turn_speech(off=False)


class TestWriter:
    async def test_a_reply_is_text_in_its_bracket(self):
        service = Service()
        service.writer.turn_speech(off=True)
        assert await service.reply(*REPLY)
        assert [type(frame).__name__ for frame in service.pushed] == [
            "LLMFullResponseStartFrame",
            "LLMTextFrame",
            "AggregatedTextFrame",
            "LLMTextFrame",
            "AggregatedTextFrame",
            "LLMFullResponseEndFrame",
        ]
        assert all(getattr(frame, "skip_tts", False) for frame in service.pushed)
        kept = [f for f in service.pushed if getattr(f, "append_to_context", False)]
        assert [type(frame) for frame in kept] == [AggregatedTextFrame] * 2
        assert service.written == ["Hello there."]
        assert service.missing == 0
        assert service.writer.are_replies_known

    async def test_a_tts_service_makes_the_sentences_itself(self):
        service = Service(is_before_tts=True)
        service.writer.turn_speech(off=True)
        await service.reply(*REPLY)
        assert not any(isinstance(frame, AggregatedTextFrame) for frame in service.pushed)

    @pytest.mark.parametrize("interrupted", [False, True])
    async def test_a_reply_without_text_is_missing_unless_it_was_cut(self, interrupted: bool):
        service = Service()
        service.writer.turn_speech(off=True)
        end = ReplyEnded("r", interrupted=interrupted)
        await service.reply(ReplyStarted("r"), VoiceStarted("r", None), AudioChunk(b"ab", 1), end)
        assert service.missing == (not interrupted)
        assert service.written == []
        assert not service.writer.are_replies_known

    async def test_one_request_is_answered_by_text_and_the_next_is_spoken(self):
        service = Service()
        service.ask()
        # Of a function call nothing is heard: the reply is what comes after.
        assert await service.reply(*CALLING)
        assert await service.reply(*REPLY)
        assert not await service.reply(*REPLY)

    async def test_another_request_in_between_is_spoken(self):
        service = Service()
        service.ask()
        service.writer.asked()
        assert not await service.reply(*REPLY)

    async def test_the_reply_to_speech_is_spoken_but_noise_changes_nothing(self):
        service = Service()
        service.ask()
        service.writer.turn_stopped()
        assert not await service.reply(*REPLY)
        service.ask()
        service.writer.turn_stopped()
        service.writer.turn_discarded()
        assert await service.reply(*REPLY)

    async def test_a_reply_that_goes_on_after_noise_is_still_text(self):
        service = Service()
        service.ask()
        assert await service.reply(*REPLY)
        assert await service.reply(ReplyStarted("r", resumed=True), *REPLY[1:])


async def send_text(talk: Call, text: str, *, audio_response: bool = False) -> None:
    """Do what Pipecat's RTVI processor does when a client sends text."""
    options = rtvi_models.SendTextOptions(audio_response=audio_response)
    data = rtvi_models.SendTextData(content=text, options=options)
    await talk.worker.rtvi._handle_send_text(data, "message-1")


class TestAClientThatWantsNoAudio:
    @shapes
    async def test_where_hydra_sends_text_it_gets_text(self, shape: Shape):
        script = Script([Say.tones(0.6, "I am well."), Say.tones(0.6, "Aloud.")])
        arguments: dict[str, Any] = {"settings": NO_GREETING}
        async with emulator(script, transcripts=True) as hydra:
            async with call(hydra, shape, observed=True, **arguments) as talk:
                await talk.until(lambda: hydra.sessions and session(hydra).configured)
                await send_text(talk, "How are you?")
                await talk.until_pushed(LLMFullResponseEndFrame)
                await asyncio.sleep(1.0)
                assert "".join(f.text for f in talk.frames.of(LLMTextFrame)) == "I am well."
                assert talk.frames.of(TTSAudioRawFrame, TTSStartedFrame) == []
                assert talk.transport.heard_pcm.strip(b"\0") == b""
                assert talk.frames.of(ErrorFrame, direction=FrameDirection.UPSTREAM) == []
                if talk.context is not None:
                    assert talk.context.get_messages()[-1] == {
                        "role": "assistant",
                        "content": "I am well.",
                    }
                # The next one is spoken again.
                await send_text(talk, "And now?", audio_response=True)
                await talk.until_pushed(LLMFullResponseEndFrame, 2)
                await talk.until_quiet()
                assert talk.transport.heard_pcm.strip(b"\0")
            assert len(session(hydra).received_of("response.create")) == 2

    @shapes
    async def test_where_hydra_sends_none_it_is_told_so_and_nothing_is_spoken(self, shape: Shape):
        async with (
            emulator() as hydra,
            call(hydra, shape, settings=NO_GREETING, observed=True) as talk,
        ):
            await talk.until(lambda: hydra.sessions and session(hydra).configured)
            await send_text(talk, "How are you?")
            up = FrameDirection.UPSTREAM
            await talk.until(lambda: talk.frames.of(ErrorFrame, direction=up))
            await asyncio.sleep(1.0)
            (error,) = talk.frames.of(ErrorFrame, direction=up)
            assert "Hydra sends no text of what it says" in error.error
            assert not error.fatal
            assert talk.llm.is_usable
            assert talk.frames.of(TTSAudioRawFrame, TTSStartedFrame) == []
            # What the user says is answered aloud.
            await talk.say("hello")
            await talk.until_pushed(TTSStartedFrame)

    @shapes
    async def test_a_function_is_called_and_its_result_is_told_by_text(self, shape: Shape):
        async def search(params: FunctionCallParams):
            """Search for something."""
            await params.result_callback("found")

        script = Script([[ToolCall("search", {}), Say.tones(0.6, "I have found it.")]])
        arguments: dict[str, Any] = {"settings": NO_GREETING, "tools": [search]}
        async with (
            emulator(script, transcripts=True) as hydra,
            call(hydra, shape, observed=True, **arguments) as talk,
        ):
            await talk.until(lambda: hydra.sessions and session(hydra).configured)
            await send_text(talk, "Search.")
            await talk.until(lambda: talk.frames.of(LLMTextFrame))
            await asyncio.sleep(1.0)
            assert talk.frames.of(TTSAudioRawFrame) == []
            starts = talk.frames.of(LLMFullResponseStartFrame)
            assert len(starts) == len(talk.frames.of(LLMFullResponseEndFrame)) == 2

    @shapes
    async def test_noise_afterwards_does_not_give_it_again(self, shape: Shape):
        script = Script([Say.tones(4.0, "A long answer.")], greeting=Say.tones(0.4, "Hello."))
        arguments: dict[str, Any] = {"min_turn_ms": 5_000, "cancel_on": "turn_confirmed"}
        async with (
            emulator(script, transcripts=True, **arguments) as hydra,
            call(hydra, shape, observed=True) as talk,
        ):
            await talk.run_llm()
            await talk.until_pushed(LLMFullResponseEndFrame)
            await talk.until_quiet()
            await send_text(talk, "How are you?")
            await talk.until_pushed(LLMFullResponseEndFrame, 2)
            heard = len(talk.transport.heard_pcm)
            await talk.say("hello")
            await asyncio.sleep(3.0)
            assert len(talk.transport.heard_pcm) == heard
            texts = [frame.text for frame in talk.frames.of(LLMTextFrame)]
            assert texts == ["Hello.", "A long answer."]

    @shapes
    async def test_speech_may_be_off_for_good(self, shape: Shape):
        script = Script([Say.tones(0.6, "I am well.")] * 2)
        arguments: dict[str, Any] = {"settings": NO_GREETING}
        async with (
            emulator(script, transcripts=True) as hydra,
            call(hydra, shape, observed=True, **arguments) as talk,
        ):
            await talk.worker.queue_frame(LLMConfigureOutputFrame(skip_tts=True))
            await talk.until(lambda: hydra.sessions and session(hydra).configured)
            await talk.say("hello")
            await talk.until_pushed(LLMFullResponseEndFrame)
            message: Any = {"role": "user", "content": "And you?"}
            await talk.worker.queue_frame(LLMMessagesAppendFrame([message], run_llm=True))
            await talk.until_pushed(LLMFullResponseEndFrame, 2)
            assert talk.frames.of(TTSAudioRawFrame) == []
