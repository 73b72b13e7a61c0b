"""Fixed phrases: spoken by a TTS service, else by the model, as far as the application wants."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    BotBackchannelFrame,
    EndFrame,
    Frame,
    LLMFullResponseEndFrame,
    LLMRunFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import FunctionCallParams
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService
from support.call import NO_GREETING, SHAPES, Shape, call, emulator, session

from pipecat_hydra.emulator import Call as ToolCall
from pipecat_hydra.emulator import HydraEmulator, Say, Script

shapes = pytest.mark.parametrize("shape", SHAPES)

PHRASE = "This call is recorded."
ASKED = f'Say exactly this to the user now, word for word: "{PHRASE}"'


class ToneTTS(TTSService):
    """Speaks every text as half a second of a tone, and remembers it."""

    def __init__(self):
        settings = TTSSettings(model=None, voice=None, language=None)
        super().__init__(settings=settings, push_start_frame=True, push_stop_frames=True)
        self.spoken: list[str] = []

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame]:
        self.spoken.append(text)
        times = np.arange(self.sample_rate // 2) / self.sample_rate
        pcm = (4000 * np.sin(2 * np.pi * 330 * times)).astype("<i2").tobytes()
        yield TTSAudioRawFrame(pcm, self.sample_rate, 1, context_id=context_id)


def messages(hydra: HydraEmulator) -> list[tuple[str, str]]:
    items = [r.event["item"] for r in session(hydra).received_of("conversation.item.create")]
    return [(i["role"], i["content"][0]["text"]) for i in items if i["type"] == "message"]


def ours(warnings: list[str]) -> list[str]:
    """The warnings of the service; Pipecat has one of its own about turn strategies."""
    return [warning for warning in warnings if "pipecat_hydra" in warning]


class TestWithoutATTS:
    @shapes
    async def test_the_model_is_asked_to_say_it_once(self, shape: Shape, warnings: list[str]):
        async with emulator() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
            await talk.until(lambda: hydra.sessions and session(hydra).configured)
            await talk.worker.queue_frame(TTSSpeakFrame(PHRASE))
            await talk.until_pushed(LLMFullResponseEndFrame)
            await talk.until_quiet()
            assert talk.transport.heard_pcm.strip(b"\0")
            await talk.worker.queue_frame(TTSSpeakFrame(PHRASE))
            await talk.until_pushed(LLMFullResponseEndFrame, 2)
            assert messages(hydra) == [("system", ASKED)] * 2
            assert len(session(hydra).received_of("response.create")) == 2
        (warning,) = ours(warnings)
        assert "perhaps not word for word" in warning
        assert "fixed_phrases" in warning
        assert PHRASE not in warning

    @shapes
    async def test_one_that_comes_first_is_said_before_the_greeting(self, shape: Shape):
        async with emulator() as hydra, call(hydra, shape) as talk:
            await talk.worker.queue_frame(TTSSpeakFrame(PHRASE))
            await talk.until_pushed(LLMFullResponseEndFrame)
            told = session(hydra).configuration or {}
            assert told["generate_initial_response"] is True
            assert PHRASE in told["instructions"]
            await talk.worker.queue_frame(LLMRunFrame())
            await talk.until_pushed(LLMFullResponseEndFrame, 2)
            assert messages(hydra) == []

    @shapes
    async def test_the_last_words_are_heard_before_the_end(self, shape: Shape):
        script = Script([Say.tones(2.0)])
        async with emulator(script) as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
            await talk.until(lambda: hydra.sessions and session(hydra).configured)
            await talk.worker.queue_frames([TTSSpeakFrame("Goodbye."), EndFrame()])
            await talk.ended()
            heard = np.frombuffer(talk.transport.heard_pcm, "<i2")
            assert np.count_nonzero(np.abs(heard.astype(np.int32)) > 150) > 1.5 * 24_000

    @shapes
    async def test_a_function_may_push_one(self, shape: Shape):
        async def search(params: FunctionCallParams):
            """Search for something."""
            await params.llm.push_frame(TTSSpeakFrame(PHRASE))
            await params.result_callback("found")

        script = Script([[ToolCall("search", {}), Say.tones(0.4)]], greeting=Say.tones(0.2))
        arguments: dict[str, Any] = {"tools": [search]}
        async with emulator(script) as hydra, call(hydra, shape, **arguments) as talk:
            await talk.run_llm()
            await talk.until_pushed(LLMFullResponseEndFrame)
            await talk.say("hello")
            await talk.until(lambda: messages(hydra) == [("system", ASKED)])
            await talk.until_pushed(LLMFullResponseEndFrame, 3)
            assert session(hydra).errors == []

    @pytest.mark.parametrize("mode", ["warn", "ignore"])
    @shapes
    async def test_the_application_may_want_it_unsaid(
        self, shape: Shape, mode: Any, warnings: list[str]
    ):
        arguments: dict[str, Any] = {"settings": NO_GREETING, "fixed_phrases": mode}
        async with emulator() as hydra, call(hydra, shape, **arguments) as talk:
            await talk.until(lambda: hydra.sessions and session(hydra).configured)
            await talk.worker.queue_frames([TTSSpeakFrame(PHRASE), TTSSpeakFrame(PHRASE)])
            await asyncio.sleep(0.5)
            assert messages(hydra) == []
            assert talk.transport.heard_pcm.strip(b"\0") == b""
        assert ["a fixed phrase is not heard" in warning for warning in ours(warnings)] == (
            [True] if mode == "warn" else []
        )

    @shapes
    async def test_a_backchannel_is_no_turn_of_the_model(self, shape: Shape, warnings: list[str]):
        async with emulator() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
            await talk.until(lambda: hydra.sessions and session(hydra).configured)
            await talk.worker.queue_frame(BotBackchannelFrame("mhm"))
            await asyncio.sleep(0.5)
            assert messages(hydra) == []
        (warning,) = ours(warnings)
        assert "a backchannel is not heard" in warning


class TestWithATTS:
    @shapes
    async def test_one_before_hydra_speaks_it_and_hydra_hears_nothing_of_it(
        self, shape: Shape, warnings: list[str]
    ):
        tts = ToneTTS()
        async with emulator() as hydra, call(hydra, shape, before=[tts]) as talk:
            await talk.worker.queue_frames([TTSSpeakFrame(PHRASE), LLMRunFrame()])
            await talk.until_pushed(LLMFullResponseEndFrame)
            await talk.until_quiet()
            assert tts.spoken == [PHRASE]
            told = session(hydra).configuration or {}
            assert PHRASE not in str(told)
            assert messages(hydra) == []
            assert len(session(hydra).sent_of("response.created")) == 1
            if talk.context is not None:
                said = [{"role": "assistant", "content": PHRASE}]
                assert talk.context.get_messages() == said
        assert ours(warnings) == []

    @shapes
    async def test_one_above_speaks_what_goes_up(self, shape: Shape):
        tts = ToneTTS()
        arguments: dict[str, Any] = {"settings": NO_GREETING, "before": [tts]}
        async with emulator() as hydra, call(hydra, shape, **arguments) as talk:
            await talk.until(lambda: hydra.sessions and session(hydra).configured)
            await talk.llm.push_frame(TTSSpeakFrame(PHRASE), FrameDirection.UPSTREAM)
            await talk.until(lambda: tts.spoken == [PHRASE])
            assert messages(hydra) == []


class TestATTSBehindHydra:
    """It gets all text that Hydra pushes, and must not speak it over Hydra's own voice."""

    @shapes
    async def test_it_speaks_nothing_of_what_hydra_says(self, shape: Shape):
        tts = ToneTTS()
        script = Script([Say.tones(2.0, "I am well. And you?")], greeting=Say.tones(1.0, "Hello!"))
        arguments: dict[str, Any] = {"behind": [tts]}
        async with emulator(script, transcripts=True) as hydra:
            async with call(hydra, shape, **arguments) as talk:
                await talk.run_llm()
                await talk.until_pushed(LLMFullResponseEndFrame)
                await talk.until_quiet()
                await talk.say("hello")
                await talk.until_pushed(LLMFullResponseEndFrame, 2)
                await talk.until_quiet()
                # For RTVI's bot-llm-text.
                assert talk.frames.of(LLMTextFrame)[0].text == "Hello!"
                if talk.context is not None:
                    texts = ["Hello!", "I am well. And you?"]
                    said = [{"role": "assistant", "content": text} for text in texts]
                    context = talk.context
                    await talk.until(lambda: len(context.get_messages()) == 2)
                    assert context.get_messages() == said
            assert tts.spoken == []
            assert talk.transport.heard_pcm.strip(b"\0") == session(hydra).sent_audio().strip(b"\0")

    @shapes
    async def test_it_speaks_fixed_phrases(self, shape: Shape, warnings: list[str]):
        tts = ToneTTS()
        arguments: dict[str, Any] = {"settings": NO_GREETING, "behind": [tts]}
        async with emulator() as hydra, call(hydra, shape, **arguments) as talk:
            await talk.until(lambda: hydra.sessions and session(hydra).configured)
            await talk.worker.queue_frame(TTSSpeakFrame(PHRASE))
            await talk.until(lambda: tts.spoken == [PHRASE])
            assert messages(hydra) == []
        assert ours(warnings) == []
