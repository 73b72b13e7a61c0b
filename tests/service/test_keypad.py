"""Keys that the user presses: told as text and answered, or ignored."""

import asyncio
from typing import Any

import pytest
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    InputDTMFFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMRunFrame,
    UserMuteStartedFrame,
    UserMuteStoppedFrame,
)
from pipecat.processors.aggregators.dtmf_aggregator import DTMFAggregator
from pipecat.processors.aggregators.llm_response_universal import LLMUserAggregator
from pipecat.processors.frameworks.rtvi import models as rtvi_models
from support.bots import Bot, running, script, until
from support.call import NO_GREETING, SHAPES, Call, Shape, call, emulator, session

from pipecat_hydra import RetryPolicy
from pipecat_hydra.emulator import HydraEmulator, Say, Script

shapes = pytest.mark.parametrize("shape", SHAPES)
# With and without Pipecat's own processor for keys.
aggregated = pytest.mark.parametrize("aggregated", [False, True], ids=["alone", "aggregated"])

PROMPT = Script([Say.tones(1.0)], greeting=Say.tones(8.0), then="repeat")


def arguments(aggregated: bool, **service: Any) -> dict[str, Any]:
    return {"before_aggregator": [DTMFAggregator()] if aggregated else [], **service}


async def press(talk: Call, keys: str) -> None:
    """Do what a telephone's transport does."""
    for key in keys:
        await talk.transport.input().push_frame(InputDTMFFrame(button=KeypadEntry(key)))
        await asyncio.sleep(0.2)


async def prompted(talk: Call) -> None:
    """Wait until the user hears the prompt."""
    await talk.worker.queue_frame(LLMRunFrame())
    await talk.until(lambda: talk.transport.heard_until_secs > 0.5)


def messages(hydra: HydraEmulator) -> list[tuple[str, str]]:
    items = [r.event["item"] for r in session(hydra).received_of("conversation.item.create")]
    return [(i["role"], i["content"][0]["text"]) for i in items if i["type"] == "message"]


@shapes
@aggregated
async def test_the_first_key_cuts_the_prompt_and_all_are_answered_once(
    shape: Shape, aggregated: bool
):
    async with emulator(PROMPT) as hydra, call(hydra, shape, **arguments(aggregated)) as talk:
        await prompted(talk)
        await press(talk, "12")
        assert len(talk.frames.of(InterruptionFrame)) == 1
        await asyncio.sleep(0.5)
        assert talk.transport.timeline.secs - talk.transport.heard_until_secs > 0.3
        assert messages(hydra) == []
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        await talk.until_quiet()
        await asyncio.sleep(3.0)
        assert messages(hydra) == [("user", "DTMF: 12")]
        assert len(session(hydra).received_of("response.create")) == 1
        assert len(session(hydra).sent_of("response.created")) == 2
        assert session(hydra).errors == []
        if talk.context is not None and aggregated:
            assert talk.context.get_messages() == [{"role": "user", "content": "DTMF: 12"}]


@shapes
@aggregated
async def test_the_last_key_is_answered_at_once(shape: Shape, aggregated: bool):
    more = arguments(aggregated, settings=NO_GREETING)
    async with emulator(PROMPT) as hydra, call(hydra, shape, **more) as talk:
        await talk.until(lambda: hydra.sessions and session(hydra).configured)
        await press(talk, "9#")
        assert messages(hydra) == [("user", "DTMF: 9#")]
        await talk.until_pushed(LLMFullResponseEndFrame)
        # Others follow.
        await press(talk, "7#")
        assert messages(hydra) == [("user", "DTMF: 9#"), ("user", "DTMF: 7#")]
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        await asyncio.sleep(3.0)
        assert len(session(hydra).received_of("response.create")) == 2


@shapes
async def test_the_rules_are_those_of_the_aggregator(shape: Shape):
    keys = DTMFAggregator(timeout=4.0, termination_digit=KeypadEntry.STAR, prefix="Keys: ")
    more: dict[str, Any] = {"settings": NO_GREETING, "before_aggregator": [keys]}
    async with emulator(PROMPT) as hydra, call(hydra, shape, **more) as talk:
        await talk.until(lambda: hydra.sessions and session(hydra).configured)
        await press(talk, "1#")
        await asyncio.sleep(3.0)
        assert messages(hydra) == []
        await press(talk, "*")
        assert messages(hydra) == [("user", "Keys: 1#*")]
        await talk.until_pushed(LLMFullResponseEndFrame)
        await asyncio.sleep(3.0)
        if talk.context is not None:
            assert talk.context.get_messages() == [{"role": "user", "content": "Keys: 1#*"}]
        assert len(session(hydra).received_of("response.create")) == 1


@shapes
@aggregated
async def test_ignored_keys_leave_the_prompt_alone(shape: Shape, aggregated: bool):
    more = arguments(aggregated, keypad="ignore")
    async with emulator(PROMPT) as hydra, call(hydra, shape, **more) as talk:
        await prompted(talk)
        await press(talk, "12#")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await talk.until_quiet()
        await asyncio.sleep(3.0)
        assert messages(hydra) == []
        assert talk.frames.of(InterruptionFrame) == []
        assert len(talk.transport.heard_pcm.rstrip(b"\0")) > 7.9 * 48_000
        assert len(session(hydra).sent_of("response.created")) == 1


@shapes
async def test_speech_interrupts_where_keys_are_ignored(shape: Shape):
    more = arguments(True, keypad="ignore")
    async with emulator(PROMPT) as hydra, call(hydra, shape, **more) as talk:
        await prompted(talk)
        await press(talk, "1")
        await talk.say("hello")
        await talk.until_pushed(InterruptionFrame)
        await talk.until_pushed(LLMFullResponseEndFrame, 2)


@shapes
async def test_the_keys_of_an_rtvi_client_are_answered(shape: Shape):
    async with (
        emulator(PROMPT) as hydra,
        call(hydra, shape, settings=NO_GREETING, observed=True) as talk,
    ):
        await talk.until(lambda: hydra.sessions and session(hydra).configured)
        buttons = [KeypadEntry.ONE, KeypadEntry.TWO, KeypadEntry.POUND]
        await talk.worker.rtvi._handle_dtmf(rtvi_models.DTMFInputData(buttons=buttons))
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert messages(hydra) == [("user", "DTMF: 12#")]


@shapes
async def test_the_first_use_of_a_service_may_be_a_key(shape: Shape):
    async with emulator(PROMPT) as hydra, call(hydra, shape) as talk:
        await press(talk, "3#")
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert "DTMF: 3#" in (session(hydra).configuration or {})["instructions"]


async def test_a_muted_user_presses_no_keys():
    async with emulator(PROMPT) as hydra, call(hydra, "bare", settings=NO_GREETING) as talk:
        await talk.until(lambda: hydra.sessions and session(hydra).configured)
        await press(talk, "1")
        await talk.worker.queue_frame(UserMuteStartedFrame())
        await press(talk, "2#")
        await talk.worker.queue_frame(UserMuteStoppedFrame())
        await asyncio.sleep(3.0)
        assert messages(hydra) == []
        await press(talk, "3#")
        assert messages(hydra) == [("user", "DTMF: 3#")]


@shapes
@aggregated
async def test_the_next_session_knows_the_keys_once_and_what_was_said_it_does_not_claim_to(
    shape: Shape, aggregated: bool
):
    restored: list[bool] = []
    quick = RetryPolicy(first_delay_secs=0.05, longest_delay_secs=0.1)
    more = arguments(aggregated, settings=NO_GREETING, retry=quick)
    script = Script([Say.tones(0.4, "I see.")], then="repeat")
    async with emulator(script, transcripts=True) as hydra, call(hydra, shape, **more) as talk:

        @talk.llm.event_handler("on_reconnected")
        async def on_reconnected(service: Any, state_restored: bool):
            restored.append(state_restored)

        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await press(talk, "5#")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        await talk.until_quiet()
        await asyncio.sleep(3.0)
        await hydra.drop()
        await talk.until(lambda: restored)
        instructions = (hydra.sessions[-1].configuration or {})["instructions"]
        assert instructions.count("DTMF: 5#") == 1
        # Nobody has written down what the user has said.
        assert restored == [False]


async def test_keys_in_the_end_are_not_waited_for():
    async with emulator(PROMPT) as hydra, call(hydra, "bare", settings=NO_GREETING) as talk:
        await talk.until(lambda: hydra.sessions and session(hydra).configured)
        await press(talk, "1")
        await talk.worker.stop_when_done()
        await talk.ended()
        assert messages(hydra) == []


async def test_who_presses_keys_is_there():
    idle: list[float] = []
    async with emulator(script()) as hydra:
        bot = Bot(hydra, user={"user_idle_timeout": 1.5})

        @bot.user.event_handler("on_user_turn_idle")
        async def on_user_turn_idle(aggregator: LLMUserAggregator):
            idle.append(bot.line.timeline.secs)

        async with running(bot):
            await bot.greet()
            for key in "123":
                await asyncio.sleep(1.0)
                await bot.line.input().push_frame(InputDTMFFrame(button=KeypadEntry(key)))
            assert idle == []
            await until(lambda: idle)
