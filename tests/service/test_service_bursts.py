"""What Hydra says may come in bursts; the pipeline must not mix it up (A5, T1, T3)."""

import asyncio
from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    ErrorFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMRunFrame,
    LLMSetToolsFrame,
    LLMUpdateSettingsFrame,
    TTSAudioRawFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import FunctionCallParams
from support.bursts import Puppet, audio, called, created, done, item_done, puppet, started, stopped
from support.call import NO_GREETING, SHAPES, Call, Shape, call

from pipecat_hydra import HydraLLMSettings
from pipecat_hydra.service.pipecat_versions import FunctionSchema, ToolsSchema

OLD = np.random.default_rng(1).integers(-9_000, 9_000, 4 * 24_000).astype("<i2").tobytes()
NEW = np.random.default_rng(2).integers(-9_000, 9_000, 24_000).astype("<i2").tobytes()

shapes = pytest.mark.parametrize("shape", SHAPES)


async def hearing_a_reply(hydra: Puppet, talk: Call) -> None:
    """A reply of four seconds has been generated, and is being heard."""
    await asyncio.wait_for(hydra.configured.wait(), 5)
    hydra.burst(created("r1"), audio("r1", OLD), done("r1"))
    await talk.until(lambda: len(talk.transport.heard_pcm) > 48_000)


@shapes
async def test_a_reply_right_behind_a_barge_in_is_heard_whole(shape: Shape):
    async with puppet() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        await hearing_a_reply(hydra, talk)
        hydra.burst(
            started("i"),
            stopped("i"),
            item_done("completed", "i"),
            created("r2"),
            audio("r2", NEW),
            done("r2"),
        )
        await talk.until(lambda: NEW in talk.transport.heard_pcm)
        heard = talk.transport.heard_pcm
        assert len(talk.frames.of(InterruptionFrame)) == 1
        # Of the old reply, little more than what had been heard.
        assert OLD.startswith(heard[: heard.index(NEW)][:-1_920])
        assert heard.index(NEW) < len(OLD) // 2


@shapes
async def test_what_was_pushed_just_before_an_interruption_does_not_outlast_it(shape: Shape):
    async with puppet() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        await asyncio.wait_for(hydra.configured.wait(), 5)
        # With nothing in between in which the transport could run.
        await talk.llm.push_frame(TTSAudioRawFrame(NEW[:9_600], 24_000, 1))
        await talk.llm.process_frame(InterruptionFrame(), FrameDirection.DOWNSTREAM)
        await asyncio.sleep(0.5)
        # A chunk of 40 ms is written at once.
        assert len(talk.transport.heard_pcm) <= 1_920


@shapes
async def test_noise_in_a_burst_costs_nothing(shape: Shape):
    async with puppet() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        await hearing_a_reply(hydra, talk)
        hydra.burst(started("i"), stopped("i"), item_done("incomplete", "i"))
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        await talk.until(lambda: OLD[-48_000:] in talk.transport.heard_pcm)
        assert len(talk.frames.of(InterruptionFrame)) == 1


@shapes
async def test_the_application_is_told_which_turns_were_noise(shape: Shape):
    async with puppet() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        discarded: list[Any] = []

        @talk.llm.event_handler("on_turn_discarded")
        async def on_turn_discarded(service: Any) -> None:
            discarded.append(service)

        await hearing_a_reply(hydra, talk)
        hydra.burst(started("i"), stopped("i"), item_done("incomplete", "i"))
        await talk.until(lambda: discarded == [talk.llm])
        hydra.burst(started("j"), stopped("j"), item_done("completed", "j"))
        await talk.until_pushed(UserStoppedSpeakingFrame, 2)
        await asyncio.sleep(0.5)
        assert discarded == [talk.llm]


@shapes
async def test_two_turns_in_a_burst_are_two_turns(shape: Shape):
    async with puppet() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        await hearing_a_reply(hydra, talk)
        hydra.burst(started("i"), stopped("i"), started("j"))
        await talk.until_pushed(InterruptionFrame, 2)
        assert len(talk.frames.of(UserStartedSpeakingFrame)) == 2
        assert len(talk.frames.of(UserStoppedSpeakingFrame)) == 1
        hydra.burst(stopped("j"))
        await talk.until_pushed(UserStoppedSpeakingFrame, 2)


async def test_a_session_that_closes_as_it_is_first_used_is_opened_again():
    async with puppet() as hydra, call(hydra, "bare", start_audio_paused=True) as talk:
        await talk.until(lambda: hydra.connections)
        hydra.answer_configure = False
        await talk.run_llm()
        await talk.until(lambda: hydra.of("session.configure"))
        hydra.answer_configure = True
        await hydra.connections[0].close(1000)
        await asyncio.wait_for(hydra.configured.wait(), 5)
        assert len(hydra.connections) == 2
        assert hydra.of("session.configure")[1]["session"]["generate_initial_response"] is True
        assert not talk.frames.of(ErrorFrame, direction=FrameDirection.UPSTREAM)


async def test_a_tool_that_is_no_json_is_left_out_and_the_call_goes_on():
    bad: Any = {"when": {"enum": {1, 2}}}
    tools = ToolsSchema([FunctionSchema("bad", "", bad, []), FunctionSchema("good", "", {}, [])])
    async with puppet() as hydra, call(hydra, "bare") as talk:
        await talk.worker.queue_frame(LLMSetToolsFrame(tools=tools))
        await talk.run_llm()
        await asyncio.wait_for(hydra.configured.wait(), 5)
        (configure,) = hydra.of("session.configure")
        assert [tool["name"] for tool in configure["session"]["tools"]] == ["good"]


async def test_a_function_called_while_another_cleans_up_is_not_cancelled_with_it():
    browsing, cleaning, cleaned = (asyncio.Event() for _ in range(3))
    reserving, reserved = asyncio.Event(), asyncio.Event()

    async def browse(params: FunctionCallParams):
        """Browse for long, and close the browser."""
        browsing.set()
        try:
            await asyncio.sleep(60)
        finally:
            cleaning.set()
            await cleaned.wait()

    async def reserve(params: FunctionCallParams):
        """Reserve a table."""
        reserving.set()
        await reserved.wait()
        await params.result_callback("reserved")

    async with (
        puppet() as hydra,
        call(hydra, "bare", settings=NO_GREETING, tools=[browse, reserve]) as talk,
    ):
        await asyncio.wait_for(hydra.configured.wait(), 5)
        hydra.burst(created("r1"), called("r1", "c1", "browse"), done("r1"))
        await asyncio.wait_for(browsing.wait(), 5)
        await talk.llm.queue_frame(InterruptionFrame())
        await asyncio.wait_for(cleaning.wait(), 5)
        hydra.burst(created("r2"), called("r2", "c2", "reserve"), done("r2"))
        await asyncio.wait_for(reserving.wait(), 5)
        cleaned.set()
        await talk.until(lambda: hydra.of("conversation.item.create"))
        await asyncio.sleep(0.1)
        reserved.set()
        await talk.until(lambda: len(hydra.of("conversation.item.create")) == 2)
        outputs = [event["item"] for event in hydra.of("conversation.item.create")]
        assert [output["call_id"] for output in outputs] == ["c1", "c2"]
        assert outputs[1]["output"] == '"reserved"'


async def test_text_after_the_end_opens_nothing():
    async with puppet() as hydra:
        async with call(hydra, "bare", settings=NO_GREETING) as talk:
            await asyncio.wait_for(hydra.configured.wait(), 5)
        await talk.llm.send_text("too late")
        await talk.llm.request_response()
        await asyncio.sleep(0.1)
        assert len(hydra.connections) == 1


async def test_a_new_model_just_before_the_first_use_is_the_one_that_is_used():
    async with puppet() as hydra, call(hydra, "bare", start_audio_paused=True) as talk:
        await talk.until(lambda: hydra.connections)
        delta = HydraLLMSettings(model="hydra-v1.0", voice="brooks")
        await talk.worker.queue_frames([LLMUpdateSettingsFrame(delta=delta), LLMRunFrame()])
        await talk.until(lambda: len(hydra.connections) == 2)
        request = hydra.connections[1].request
        assert request is not None
        assert "model=hydra-v1.0" in request.path
        await talk.until(lambda: hydra.of("session.configure")[-1:])
        await talk.until(lambda: hydra.of("session.configure")[-1]["session"]["voice"] == "brooks")


async def test_a_change_followed_by_a_run_is_answered_by_the_new_session():
    async with puppet() as hydra, call(hydra, "bare", settings=NO_GREETING) as talk:
        await asyncio.wait_for(hydra.configured.wait(), 5)
        hydra.burst(started("i"), stopped("i"), item_done("incomplete", "i"))
        await talk.until_pushed(UserStoppedSpeakingFrame)
        delta = HydraLLMSettings(system_instruction="Be brief.")
        await talk.worker.queue_frames([LLMUpdateSettingsFrame(delta=delta), LLMRunFrame()])
        await talk.until(lambda: len(hydra.of("session.configure")) == 2)
        told = hydra.of("session.configure")[1]["session"]
        assert told["generate_initial_response"] is True
        assert told["instructions"].startswith("Be brief.")
        await asyncio.sleep(0.2)
        assert hydra.of("response.create") == []


@shapes
async def test_what_was_heard_whole_is_not_said_again(shape: Shape):
    async with puppet() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        await asyncio.wait_for(hydra.configured.wait(), 5)
        hydra.burst(created("r1"), audio("r1", NEW), done("r1"))
        await talk.until_quiet()
        hydra.burst(started("i"), stopped("i"), item_done("incomplete", "i"))
        await talk.until_pushed(UserStoppedSpeakingFrame)
        await asyncio.sleep(0.2)
        pushed = b"".join(f.audio for f in talk.frames.of(TTSAudioRawFrame))
        assert pushed == NEW
