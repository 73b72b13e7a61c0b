"""A service before its pipeline runs, and in one run after another."""

import asyncio
from typing import Any

import pytest
from pipecat.frames.frames import (
    EndFrame,
    LLMFullResponseEndFrame,
    LLMSetToolsFrame,
    TTSAudioRawFrame,
)
from support.call import SHAPES, Call, Frames, Shape, call, emulator

from pipecat_hydra import HydraLLMService, RetryPolicy
from pipecat_hydra.emulator import HydraEmulator, Refuse, Say, Script

shapes = pytest.mark.parametrize("shape", SHAPES)

GREETING = Script([Say.tones(0.6)], greeting=Say.tones(1.0))


def service(hydra: HydraEmulator, **arguments: Any) -> HydraLLMService:
    return HydraLLMService(api_key=hydra.api_key, base_url=hydra.url, **arguments)


async def end(talk: Call, how: str) -> None:
    """End a run: let it end, or cancel it, or do the latter in the middle of a reply."""
    if how == "end":
        await talk.worker.queue_frame(EndFrame())
    else:
        await talk.worker.cancel()
    await talk.ended()


class TestAnotherRun:
    @shapes
    @pytest.mark.parametrize("how", ["end", "cancel"])
    async def test_has_a_greeting_and_answers_of_its_own(self, shape: Shape, how: str):
        async with emulator(GREETING) as hydra:
            llm = service(hydra)
            for run in (1, 2, 3):
                async with call(hydra, shape, llm=llm) as talk:
                    await talk.run_llm()
                    await talk.until_pushed(LLMFullResponseEndFrame)
                    await talk.until_quiet()
                    await talk.say("hello")
                    await talk.until_pushed(LLMFullResponseEndFrame, 2)
                    await talk.until_quiet()
                    await end(talk, how)
                assert len(hydra.sessions) == run
                told = hydra.sessions[-1]
                heard = talk.transport.heard_pcm.replace(b"\0", b"")
                assert heard == told.sent_audio().replace(b"\0", b"")
                assert told.configuration == hydra.sessions[0].configuration

    @shapes
    async def test_knows_nothing_of_what_was_cut(self, shape: Shape):
        async with emulator(GREETING, delivery_speed=1.0) as hydra:
            llm = service(hydra)
            async with call(hydra, shape, llm=llm) as talk:
                await talk.worker.queue_frame(LLMSetToolsFrame(tools=[]))
                await llm.send_text("My PIN is 1234.")
                await talk.until_pushed(TTSAudioRawFrame)
                await talk.worker.cancel()
                await talk.ended()
            async with call(hydra, shape, llm=llm) as talk:
                await asyncio.sleep(3.0)
                assert not talk.frames.of(TTSAudioRawFrame)
                await talk.run_llm()
                await talk.until_pushed(LLMFullResponseEndFrame)
            first, second = hydra.sessions[0], hydra.sessions[-1]
            assert "My PIN is 1234." not in str(second.received)
            assert first.configured
            assert "My PIN is 1234." in str(first.received)

    @shapes
    async def test_may_have_a_session_though_the_last_had_none(self, shape: Shape):
        async with HydraEmulator(GREETING, faults=[Refuse(503)]) as hydra:
            llm = service(hydra, retry=RetryPolicy(attempts_per_drop=0))
            async with call(hydra, shape, llm=llm) as talk:
                await talk.run_llm()
                await talk.until(lambda: not llm.is_usable)
            hydra.faults = []
            async with call(hydra, shape, llm=llm) as talk:
                await talk.run_llm()
                await talk.until_pushed(LLMFullResponseEndFrame)
            assert llm.is_usable


class TestBeforeTheRun:
    @shapes
    async def test_text_is_kept(self, shape: Shape):
        async with emulator(GREETING) as hydra:
            llm = service(hydra)
            await llm.send_text("My name is Bob.")
            async with call(hydra, shape, llm=llm) as talk:
                await talk.until_pushed(LLMFullResponseEndFrame)
                frames: Frames = talk.frames
                await asyncio.sleep(1.0)
                assert len(frames.of(LLMFullResponseEndFrame)) == 1
            assert str(hydra.sessions[-1].received).count("My name is Bob.") == 1

    @shapes
    async def test_a_reply_that_is_asked_for_is_given(self, shape: Shape):
        async with emulator(GREETING) as hydra:
            llm = service(hydra)
            await llm.request_response()
            async with call(hydra, shape, llm=llm) as talk:
                await talk.until_pushed(LLMFullResponseEndFrame)


@shapes
async def test_text_after_the_run_is_refused_with_a_warning(shape: Shape, warnings: list[str]):
    async with emulator(GREETING) as hydra:
        llm = service(hydra)
        async with call(hydra, shape, llm=llm) as talk:
            await talk.worker.cancel()
            await talk.ended()
        await llm.send_text("Are you there?")
        assert any("the pipeline has ended" in line for line in warnings)
        async with call(hydra, shape, llm=llm) as talk:
            await talk.run_llm()
            await talk.until_pushed(LLMFullResponseEndFrame)
        assert "Are you there?" not in str([s.received for s in hydra.sessions])
