"""New sessions that the application asks for, in whole calls: with the conversation, or without."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pipecat.frames.frames import (
    FunctionCallResultFrame,
    LLMFullResponseEndFrame,
    LLMMessagesAppendFrame,
    TTSAudioRawFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.services.llm_service import FunctionCallParams
from support.call import NO_GREETING, SHAPES, Call, Shape, call, emulator

from pipecat_hydra import HydraLLMService, HydraLLMSettings, RetryPolicy
from pipecat_hydra.emulator import Call as FunctionCall
from pipecat_hydra.emulator import EmulatedSession, HydraEmulator, Say, Script

QUICK = RetryPolicy(first_delay_secs=0.05, longest_delay_secs=0.1)

PIN = "My PIN is 1234."


def instructions(one: EmulatedSession) -> str:
    assert one.configuration is not None
    return one.configuration.get("instructions") or ""


async def session_of_number(number: int, talk: Call, hydra: HydraEmulator) -> EmulatedSession:
    await talk.until(lambda: len(hydra.sessions) == number and hydra.sessions[-1].configured)
    return hydra.sessions[-1]


async def tell_pin(talk: Call) -> None:
    """Type a text that only the service keeps, and hear the answer."""
    answers = len(talk.frames.of(LLMFullResponseEndFrame))
    await talk.llm.send_text(PIN)
    await talk.until_pushed(LLMFullResponseEndFrame, answers + 1)
    await talk.until_quiet()


async def reset(llm: HydraLLMService) -> None:
    await llm.reset_conversation()


async def renew(llm: HydraLLMService) -> None:
    await llm.renew_session()


ASKS = [reset, renew]
Ask = Callable[[HydraLLMService], Awaitable[None]]


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> Shape:
    return request.param


@pytest.fixture(params=ASKS)
def ask(request: pytest.FixtureRequest) -> Ask:
    return request.param


async def test_a_session_that_begins_knows_the_conversation_or_nothing_of_it(
    shape: Shape, ask: Ask
):
    settings = HydraLLMSettings(system_instruction="Be kind.", generate_initial_response=False)
    async with emulator() as hydra, call(hydra, shape, settings=settings) as talk:
        await session_of_number(1, talk, hydra)
        await tell_pin(talk)
        await ask(talk.llm)
        text = instructions(await session_of_number(2, talk, hydra))
        assert text.startswith("Be kind.")
        if ask is renew:
            assert PIN in text
        else:
            assert text == "Be kind."
        await asyncio.sleep(1.0)
        # It is not begun twice, it speaks about nothing by itself, and it answers.
        assert len(hydra.sessions) == 2
        assert len(talk.frames.of(LLMFullResponseEndFrame)) == 1
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)


async def test_what_is_in_the_context_a_reset_session_is_told(ask: Ask):
    context = LLMContext([{"role": "user", "content": "I am Ada."}])
    async with (
        emulator() as hydra,
        call(hydra, context=context, settings=NO_GREETING) as talk,
    ):
        await session_of_number(1, talk, hydra)
        await tell_pin(talk)
        await ask(talk.llm)
        text = instructions(await session_of_number(2, talk, hydra))
        assert "I am Ada." in text
        assert (PIN in text) is (ask is renew)


async def test_a_reply_is_finished_first(shape: Shape, ask: Ask):
    script = Script([Say.tones(3.0, "one two"), Say.tones(0.5)])
    async with (
        emulator(script, transcripts=True) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        first = await session_of_number(1, talk, hydra)
        await talk.llm.send_text(PIN)
        await talk.until_pushed(TTSAudioRawFrame, 3)
        await ask(talk.llm)
        text = instructions(await session_of_number(2, talk, hydra))
        (done,) = first.sent_of("response.done")
        assert done.event["response"]["status"] == "completed"
        assert (PIN in text) is (ask is renew)
        assert ("one two" in text) is (ask is renew)
        # What Hydra had generated is heard to its end.
        await talk.until_quiet()
        heard = b"".join(frame.audio for frame in talk.frames.of(TTSAudioRawFrame))
        assert heard == first.sent_audio()


async def test_the_last_audio_of_a_reply_that_is_done_is_waited_for(shape: Shape, ask: Ask):
    """Hydra may say that a response is done before it has sent all of it."""
    script = Script([Say.tones(3.0)])
    async with (
        emulator(script, late_audio_after_done_ms=900, delivery_speed=1.5) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        first = await session_of_number(1, talk, hydra)
        await talk.llm.send_text(PIN)
        await talk.until_pushed(TTSAudioRawFrame, 3)
        await ask(talk.llm)
        await session_of_number(2, talk, hydra)
        assert first.sent_of("response.output_audio.done")
        await talk.until_quiet()
        heard = b"".join(frame.audio for frame in talk.frames.of(TTSAudioRawFrame))
        assert heard == first.sent_audio()


async def test_what_is_said_after_it_the_new_session_answers(shape: Shape, ask: Ask):
    async with emulator() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        await session_of_number(1, talk, hydra)
        await tell_pin(talk)
        await ask(talk.llm)
        await talk.llm.send_text("And now?")
        second = await session_of_number(2, talk, hydra)
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        assert instructions(second).count("And now?") == 1
        assert len(second.sent_of("response.created")) == 1
        assert (PIN in instructions(second)) is (ask is renew)


async def test_a_function_may_ask_for_it(shape: Shape, ask: Ask):
    async def begin_again(params: FunctionCallParams):
        """Begin again."""
        await ask(talk.llm)
        await params.result_callback("the result")

    script = Script([FunctionCall("begin_again", {}), Say.tones(0.5), Say.tones(0.5)])
    tools: dict[str, Any] = {"tools": [begin_again]}
    if shape == "aggregators":
        tools = {"context": LLMContext(tools=[begin_again])}
    async with (
        emulator(script) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools) as talk,
    ):
        first = await session_of_number(1, talk, hydra)
        await talk.llm.send_text(PIN)
        second = await session_of_number(2, talk, hydra)
        assert len(talk.frames.of(FunctionCallResultFrame)) == 1
        outputs = [
            r.event["item"]
            for r in first.received_of("conversation.item.create")
            if r.event["item"]["type"] == "function_call_output"
        ]
        # The session that called was answered, and spoke about it.
        assert len(outputs) == 1
        assert len(talk.frames.of(LLMFullResponseEndFrame)) == 2
        assert (PIN in instructions(second)) is (ask is renew)
        # Of the call, the bare service remembers nothing after a reset.
        known = "the result" in instructions(second)
        assert known is (ask is renew or shape == "aggregators")


async def test_during_a_reconnect_the_session_that_follows_is_the_new_one(shape: Shape, ask: Ask):
    policy = RetryPolicy(first_delay_secs=2.0, longest_delay_secs=2.0)
    async with (
        emulator() as hydra,
        call(hydra, shape, settings=NO_GREETING, retry=policy) as talk,
    ):
        await session_of_number(1, talk, hydra)
        await tell_pin(talk)
        await hydra.drop()
        await ask(talk.llm)
        second = await session_of_number(2, talk, hydra)
        assert (PIN in instructions(second)) is (ask is renew)
        await asyncio.sleep(1.0)
        assert len(hydra.sessions) == 2


async def test_before_anybody_uses_the_service_it_costs_no_session(shape: Shape, ask: Ask):
    async with (
        emulator() as hydra,
        call(hydra, shape, settings=NO_GREETING, start_audio_paused=True) as talk,
    ):
        await talk.until(lambda: hydra.sessions)
        await ask(talk.llm)
        await asyncio.sleep(1.0)
        assert len(hydra.sessions) == 1
        await tell_pin(talk)
        assert len(hydra.sessions) == 1


async def test_before_the_pipeline_runs_and_after_its_end_it_does_no_harm(
    shape: Shape, ask: Ask, warnings: list[str]
):
    async with emulator() as hydra:
        llm = HydraLLMService(api_key=hydra.api_key, base_url=hydra.url, settings=NO_GREETING)
        await llm.send_text(PIN, respond=False)
        await ask(llm)
        async with call(hydra, shape, llm=llm) as talk:
            first = await session_of_number(1, talk, hydra)
            assert (PIN in instructions(first)) is (ask is renew)
            await asyncio.sleep(1.0)
            assert len(hydra.sessions) == 1
            await talk.worker.stop_when_done()
            await talk.ended()
        await ask(llm)
        assert any("the pipeline has ended" in warning for warning in warnings)
        assert len(hydra.sessions) == 1


async def test_after_a_rest_the_next_session_is_the_new_one(shape: Shape, ask: Ask):
    async with (
        emulator() as hydra,
        call(
            hydra,
            shape,
            settings=NO_GREETING,
            start_audio_paused=True,
            idle_timeout_secs=5.0,
        ) as talk,
    ):
        await tell_pin(talk)
        await talk.until(lambda: hydra.sessions[0].closed, within=20.0)
        await ask(talk.llm)
        await asyncio.sleep(1.0)
        assert len(hydra.sessions) == 1
        await talk.llm.queue_frame(
            LLMMessagesAppendFrame([{"role": "user", "content": "And now?"}], run_llm=True)
        )
        second = await session_of_number(2, talk, hydra)
        assert (PIN in instructions(second)) is (ask is renew)


async def test_a_reset_does_not_forget_what_comes_after_it(shape: Shape):
    async with (
        emulator() as hydra,
        call(hydra, shape, settings=NO_GREETING, retry=QUICK) as talk,
    ):
        await session_of_number(1, talk, hydra)
        await tell_pin(talk)
        await talk.llm.reset_conversation()
        await session_of_number(2, talk, hydra)
        await talk.llm.send_text("I am Ada.")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        await talk.until_quiet()
        await hydra.drop()
        text = instructions(await session_of_number(3, talk, hydra))
        assert "I am Ada." in text
        assert PIN not in text
