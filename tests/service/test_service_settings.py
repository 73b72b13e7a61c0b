"""Settings that change in a call take effect by a new session, and cost nothing (S1)."""

import asyncio
from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    ErrorFrame,
    LLMFullResponseEndFrame,
    LLMSetToolsFrame,
    LLMUpdateSettingsFrame,
    ServiceSwitcherRequestMetadataFrame,
    TTSAudioRawFrame,
)
from pipecat.processors.aggregators.llm_context import NOT_GIVEN, LLMContext
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import FunctionCallParams
from support.call import NO_GREETING, SHAPES, Call, Shape, call, emulator, recording

from pipecat_hydra import HydraLLMSettings
from pipecat_hydra.emulator import Call as ToolCall
from pipecat_hydra.emulator import HydraEmulator, Noise, Say, Script
from pipecat_hydra.service.pipecat_versions import FunctionSchema, ToolsSchema

shapes = pytest.mark.parametrize("shape", SHAPES)


def told(hydra: HydraEmulator, number: int) -> dict[str, Any]:
    """What the session of this number was configured with."""
    configuration = hydra.sessions[number].configuration
    assert configuration is not None
    return configuration


async def configured(talk: Call, hydra: HydraEmulator, sessions: int = 1) -> None:
    await talk.until(lambda: len(hydra.sessions) == sessions and hydra.sessions[-1].configured)


async def change(talk: Call, **settings: Any) -> None:
    delta = HydraLLMSettings(**settings)
    await talk.worker.queue_frame(LLMUpdateSettingsFrame(delta=delta))


@shapes
async def test_what_changes_in_a_reply_takes_effect_after_it(shape: Shape):
    """The reply is heard to its end, the next turn has the new settings, no word is lost."""
    async with (
        emulator(delivery_speed=2.0) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await talk.say("question")
        await talk.until_pushed(TTSAudioRawFrame)
        await change(talk, voice="zoe", system_instruction="Be brief.")
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert len(hydra.sessions) == 1
        await configured(talk, hydra, 2)
        await talk.until_quiet()
        first, second = hydra.sessions
        assert first.sent_of("response.done")[0].event["response"]["status"] == "completed"
        assert talk.transport.heard_pcm.startswith(first.sent_audio())
        assert told(hydra, 1)["voice"] == "zoe"
        assert told(hydra, 1)["instructions"].startswith("Be brief.")
        assert not told(hydra, 1)["generate_initial_response"]
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        assert second.sent_of("response.done")
        assert recording("hello").tobytes() in second.received_audio
        assert not talk.frames.of(ErrorFrame, direction=FrameDirection.UPSTREAM)
        assert await first.wait_closed() == 1000


@shapes
async def test_a_voice_that_hydra_rejects_later_leaves_the_last_good_one_in_force(
    shape: Shape, warnings: list[str]
):
    settings = HydraLLMSettings(voice="ivy", generate_initial_response=False)
    async with emulator() as hydra, call(hydra, shape, settings=settings) as talk:
        await configured(talk, hydra)
        await change(talk, voice="wren", system_instruction="Be brief.")
        await configured(talk, hydra, 3)
        assert [told(hydra, number)["voice"] for number in range(3)] == ["ivy", "wren", "ivy"]
        assert told(hydra, 2)["instructions"].startswith("Be brief.")
        assert talk.llm._settings.voice == "ivy"
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert not talk.frames.of(ErrorFrame, direction=FrameDirection.UPSTREAM)
        await change(talk, voice="zoe")
        await configured(talk, hydra, 4)
        assert told(hydra, 3)["voice"] == "zoe"
    (warning,) = [w for w in warnings if "has no voice" in w]
    assert "'wren'" in warning
    assert "'ivy' stays in force" in warning


async def test_words_said_while_the_session_changes_reach_the_new_one():
    slow = {"created_delay_secs": 0.4, "configured_delay_secs": 0.4}
    async with emulator(**slow) as hydra, call(hydra, "bare", settings=NO_GREETING) as talk:
        await configured(talk, hydra)
        await change(talk, voice="zoe")
        await asyncio.sleep(0.02)
        await talk.say("question")
        await configured(talk, hydra, 2)
        said = recording("question").tobytes()
        second = hydra.sessions[1]
        await talk.until(lambda: said in second.received_audio)
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert len(second.sent_of("response.created")) == 1


async def test_a_word_that_had_just_begun_is_not_cut_in_two():
    """It went to the old session, whose ears had not noticed; the new one hears it whole."""
    async with emulator() as hydra, call(hydra, "bare", settings=NO_GREETING) as talk:
        await configured(talk, hydra)
        said = recording("hello")
        utterance = talk.transport.microphone.queue(np.concatenate([said, np.zeros(800, "<i2")]))
        await talk.until(lambda: utterance.start_secs is not None)
        await asyncio.sleep(0.05)
        await change(talk, voice="zoe")
        await configured(talk, hydra, 2)
        await talk.until(lambda: said.tobytes() in hydra.sessions[1].received_audio)
        await talk.until_pushed(LLMFullResponseEndFrame)


async def test_several_changes_cost_one_session():
    async with emulator() as hydra, call(hydra, settings=NO_GREETING) as talk:
        await configured(talk, hydra)
        await change(talk, voice="zoe")
        await change(talk, system_instruction="Be brief.")
        await change(talk, voice="maya")
        talk.llm.append_system_instruction("And kind.")
        await configured(talk, hydra, 2)
        await asyncio.sleep(0.3)
        assert len(hydra.sessions) == 2
        assert told(hydra, 1)["voice"] == "maya"
        assert told(hydra, 1)["instructions"].startswith("Be brief.\n\nAnd kind.")


async def test_a_change_that_changes_nothing_costs_nothing():
    settings = HydraLLMSettings(voice="zoe", generate_initial_response=False)
    async with emulator() as hydra, call(hydra, settings=settings) as talk:
        await configured(talk, hydra)
        await change(talk, voice="zoe")
        await asyncio.sleep(0.2)
        assert len(hydra.sessions) == 1


async def test_what_changes_before_the_session_is_configured_is_in_it():
    async with emulator() as hydra, call(hydra, "bare", start_audio_paused=True) as talk:
        await talk.until(lambda: hydra.sessions)
        await change(talk, voice="zoe", system_instruction="Be brief.")
        await talk.run_llm()
        await configured(talk, hydra)
        assert told(hydra, 0)["voice"] == "zoe"
        assert told(hydra, 0)["instructions"] == "Be brief."


@pytest.mark.parametrize("when", ["before", "after"])
async def test_another_model_comes_with_another_connection(when: str):
    """Replies keep one rate for the whole call, whatever the model speaks at (A4)."""
    tone = (8_000 * np.sin(np.arange(48_000) * 2 * np.pi * 440 / 48_000)).astype("<i2")
    script = Script([Say(tone.tobytes(), 48_000)])
    async with (
        emulator(script) as hydra,
        call(hydra, "bare", start_audio_paused=when == "before", settings=NO_GREETING) as talk,
    ):
        if when == "before":
            await talk.until(lambda: hydra.sessions)
            talk.llm.set_audio_input_paused(False)
        else:
            await talk.say("hello")
            await talk.until_pushed(LLMFullResponseEndFrame)
        await change(talk, model="hydra-v1.0", voice="brooks")
        await configured(talk, hydra, 2)
        assert hydra.sessions[1].model == "hydra-v1.0"
        assert hydra.sessions[1].output_sample_rate == 48_000
        replies = len(talk.frames.of(LLMFullResponseEndFrame))
        before = len(talk.frames.of(TTSAudioRawFrame))
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame, replies + 1)
        frames = talk.frames.of(TTSAudioRawFrame)[before:]
        (rate,) = {frame.sample_rate for frame in frames}
        assert rate == (24_000 if when == "after" else 48_000)
        samples = sum(len(frame.audio) for frame in frames) // 2
        assert samples / rate == pytest.approx(1.0, abs=0.01)


async def test_the_new_session_knows_what_was_said():
    context = LLMContext([{"role": "user", "content": "I am Ada."}])
    script = Script([Say.tones(0.6, "Hello Ada.")])
    async with (
        emulator(script, transcripts=True) as hydra,
        call(hydra, context=context, settings=NO_GREETING) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await talk.until(lambda: len(context.get_messages()) == 2)
        await change(talk, voice="zoe")
        await configured(talk, hydra, 2)
        assert "I am Ada." in told(hydra, 1)["instructions"]
        assert "Hello Ada." in told(hydra, 1)["instructions"]


async def test_without_a_context_the_new_session_knows_what_the_bot_said():
    script = Script([Say.tones(0.6, "Hello Ada.")])
    async with (
        emulator(script, transcripts=True) as hydra,
        call(hydra, "bare", settings=NO_GREETING) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await change(talk, voice="zoe")
        await configured(talk, hydra, 2)
        assert "Hello Ada." in told(hydra, 1)["instructions"]


async def test_a_session_with_an_open_call_is_not_replaced():
    release = asyncio.Event()

    async def waits(params: FunctionCallParams):
        """Wait for a sign."""
        await release.wait()
        await params.result_callback("done")

    script = Script([[ToolCall("waits", {}, "call_1"), Say.tones()]])
    async with (
        emulator(script) as hydra,
        call(hydra, "bare", settings=NO_GREETING, tools=[waits]) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await change(talk, voice="zoe")
        await asyncio.sleep(0.2)
        assert len(hydra.sessions) == 1
        release.set()
        await talk.until_pushed(TTSAudioRawFrame)
        await configured(talk, hydra, 2)
        (output,) = hydra.sessions[0].received_of("conversation.item.create")
        assert output.event["item"]["call_id"] == "call_1"


@shapes
async def test_tools_change_within_the_session(shape: Shape):
    async with emulator() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        await configured(talk, hydra)
        tool = FunctionSchema("look_up", "Looks up.", {}, [])
        await talk.worker.queue_frame(LLMSetToolsFrame(tools=[tool]))
        (update,) = await hydra.sessions[0].wait_for_received("session.update")
        assert [t["name"] for t in update.event["session"]["tools"]] == ["look_up"]
        await talk.worker.queue_frame(LLMSetToolsFrame(tools=[tool]))
        await asyncio.sleep(0.2)
        assert len(hydra.sessions) == 1
        # What changes nothing is not sent.
        assert len(hydra.sessions[0].received_of("session.update")) == 1
        assert not hydra.sessions[0].errors


async def test_tools_that_are_taken_away_are_not_called_any_more():
    async def look_up(params: FunctionCallParams):
        """Look something up."""
        await params.result_callback("found")

    async with (
        emulator() as hydra,
        call(hydra, "bare", settings=NO_GREETING, tools=[look_up]) as talk,
    ):
        await configured(talk, hydra)
        assert talk.llm.has_function("look_up")
        await talk.worker.queue_frame(LLMSetToolsFrame(tools=NOT_GIVEN))
        (update,) = await hydra.sessions[0].wait_for_received("session.update")
        assert update.event["session"]["tools"] == []
        assert not talk.llm.has_function("look_up")


async def test_tools_that_only_the_service_was_given_come_into_force_too():
    context = LLMContext(tools=[FunctionSchema("old", "Looks up.", {}, [])])
    async with (
        emulator() as hydra,
        call(hydra, context=context, settings=NO_GREETING) as talk,
    ):
        await configured(talk, hydra)
        tool = FunctionSchema("look_up", "Looks up.", {}, [])
        await talk.llm.queue_frame(LLMSetToolsFrame(tools=[tool]))
        (update,) = await hydra.sessions[0].wait_for_received("session.update")
        assert [t["name"] for t in update.event["session"]["tools"]] == ["look_up"]


async def test_the_tools_of_a_context_come_into_force_with_it():
    context = LLMContext()
    async with emulator() as hydra, call(hydra, context=context, kickoff_timeout_secs=0.05) as talk:
        await configured(talk, hydra)
        context.set_tools(ToolsSchema([FunctionSchema("look_up", "Looks up.", {}, [])]))
        await talk.run_llm()
        (update,) = await hydra.sessions[0].wait_for_received("session.update")
        assert [t["name"] for t in update.event["session"]["tools"]] == ["look_up"]
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        assert len(hydra.sessions[0].received_of("session.update")) == 1


@shapes
async def test_noise_does_not_cost_the_reply_that_new_settings_were_to_have(shape: Shape):
    script = Script([Say.tones(2.0), Noise()])
    async with (
        emulator(script, delivery_speed=1.0) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await talk.say("question")
        await talk.until_pushed(TTSAudioRawFrame)
        await change(talk, system_instruction="Be brief.")
        await talk.run_llm()
        await talk.say("hello")
        await hydra.sessions[0].wait_for_sent("conversation.item.done", count=2)
        await configured(talk, hydra, 2)
        assert told(hydra, 1)["generate_initial_response"] is True
        await hydra.sessions[1].wait_for_sent("response.done")


@shapes
async def test_the_answer_to_the_user_takes_the_place_of_the_reply_to_be(shape: Shape):
    script = Script([Say.tones(2.0), Say.tones(0.4)])
    async with (
        emulator(script, delivery_speed=1.0) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await talk.say("question")
        await talk.until_pushed(TTSAudioRawFrame)
        await change(talk, system_instruction="Be brief.")
        await talk.run_llm()
        await talk.say("hello")
        await configured(talk, hydra, 2)
        assert len(hydra.sessions[0].sent_of("response.done")) == 2
        assert told(hydra, 1)["generate_initial_response"] is False


@shapes
async def test_settings_that_change_back_do_not_cost_the_reply_that_was_asked_for(shape: Shape):
    async with emulator() as hydra, call(hydra, shape, kickoff_timeout_secs=0.05) as talk:
        await configured(talk, hydra)
        await change(talk, voice="zoe")
        await talk.run_llm()
        await change(talk, voice="aria")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await change(talk, voice="zoe")
        await configured(talk, hydra, 2)
        # What was asked for then is not asked for once more.
        assert told(hydra, 1)["generate_initial_response"] is False
        assert len(hydra.sessions[0].sent_of("response.done")) == 1


async def test_what_was_said_to_another_service_is_known_when_it_is_switched_back():
    context = LLMContext([{"role": "user", "content": "I am Ada."}])
    async with emulator() as hydra, call(hydra, context=context, settings=NO_GREETING) as talk:
        await configured(talk, hydra)
        context.add_message({"role": "assistant", "content": "Hello Ada."})
        context.add_message({"role": "user", "content": "Is it warm in Oslo?"})
        context.add_message({"role": "assistant", "content": "It is 21 degrees."})
        # As a switcher does.
        await talk.llm.queue_frame(ServiceSwitcherRequestMetadataFrame(service=talk.llm))
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert len(hydra.sessions) == 2
        assert told(hydra, 1)["generate_initial_response"] is True
        for said in ("I am Ada.", "Hello Ada.", "Is it warm in Oslo?", "It is 21 degrees."):
            assert told(hydra, 1)["instructions"].count(said) == 1
        await asyncio.sleep(0.3)
        assert len(hydra.sessions) == 2
        assert not hydra.sessions[1].messages


async def test_a_voice_that_is_not_known_is_warned_about_again(warnings: list[str]):
    async with emulator() as hydra, call(hydra, "bare", settings=NO_GREETING) as talk:
        await configured(talk, hydra)
        await change(talk, voice="nobody")
        await talk.until(lambda: any("'nobody' is not in the known roster" in w for w in warnings))
