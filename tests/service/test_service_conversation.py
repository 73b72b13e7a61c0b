"""What the service tells the pipeline besides audio: configuration, text, metrics, errors."""

import asyncio
from typing import Any

import pytest
from pipecat.frames.frames import (
    ErrorFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMServiceMetadataFrame,
    LLMSetToolsFrame,
    LLMTextFrame,
    LLMUpdateSettingsFrame,
    MetricsFrame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.metrics.metrics import (
    LLMUsageMetricsData,
    MetricsData,
    ProcessingMetricsData,
    TTFAMetricsData,
    TTFBMetricsData,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import FunctionCallParams
from pipecat.turns.user_turn_processor import UserTurnProcessor
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.utils.errors import ErrorCategory
from support.call import NO_GREETING, SHAPES, Call, Shape, call, configuration, emulator, session

from pipecat_hydra import HydraLLMService, HydraLLMSettings
from pipecat_hydra.emulator import Call as ToolCall
from pipecat_hydra.emulator import HydraEmulator, RejectVoice, Say, Script
from pipecat_hydra.service.pipecat_versions import FunctionSchema, ToolsSchema

shapes = pytest.mark.parametrize("shape", SHAPES)


def metrics(talk: Call, kind: type[MetricsData]) -> list[Any]:
    frames = talk.frames.of(MetricsFrame)
    found = [data for frame in frames for data in frame.data if isinstance(data, kind)]
    # Pipecat announces each processor that has metrics with zeros.
    return [data for data in found if getattr(data, "value", 1) != 0.0]


def errors(talk: Call) -> list[ErrorFrame]:
    return talk.frames.of(ErrorFrame, direction=FrameDirection.UPSTREAM)


async def get_weather(params: FunctionCallParams, city: str):
    """Tell the weather.

    Args:
        city: Where.
    """
    await params.result_callback({"city": city, "sky": "blue"})


# Configuring


async def test_the_session_is_configured_with_what_the_application_says():
    settings = HydraLLMSettings(system_instruction="Be kind.", voice="zoe", model="hydra-v1.1")
    async with (
        emulator() as hydra,
        call(hydra, "bare", settings=settings, tools=[get_weather]) as talk,
    ):
        await talk.run_llm()
        await talk.until(lambda: hydra.sessions and session(hydra).configured)
        told = configuration(hydra)
        assert told["instructions"] == "Be kind."
        assert told["voice"] == "zoe"
        assert told["generate_initial_response"] is True
        (tool,) = told["tools"]
        assert (tool["type"], tool["name"]) == ("function", "get_weather")
        assert tool["parameters"]["required"] == ["city"]
        assert session(hydra).unknown_fields == ()
        assert session(hydra).model == "hydra-v1.1"


async def test_a_context_brings_its_tools_and_its_system_message():
    tool = FunctionSchema("look_up", "Looks up.", {"word": {"type": "string"}}, ["word"])
    context = LLMContext(tools=ToolsSchema([tool]))
    async with (
        emulator() as hydra,
        call(
            hydra, context=context, settings=HydraLLMSettings(system_instruction="Be brief.")
        ) as talk,
    ):
        await talk.run_llm()
        await talk.until(lambda: hydra.sessions and session(hydra).configured)
        told = configuration(hydra)
        assert told["instructions"] == "Be brief."
        assert [t["name"] for t in told["tools"]] == ["look_up"]


async def test_a_context_that_never_comes_is_looked_up_when_the_user_speaks_first():
    tool = FunctionSchema("look_up", "Looks up.", {}, [])
    context = LLMContext(tools=ToolsSchema([tool]))
    async with emulator() as hydra, call(hydra, context=context) as talk:
        await talk.until(lambda: hydra.sessions and session(hydra).configured)
        told = configuration(hydra)
        assert [t["name"] for t in told["tools"]] == ["look_up"]
        assert not told["generate_initial_response"]


@pytest.mark.parametrize("always", [True, False])
async def test_the_settings_may_say_who_speaks_first(always: bool):
    settings = HydraLLMSettings(generate_initial_response=always)
    async with emulator() as hydra, call(hydra, "bare", settings=settings) as talk:
        await talk.until(lambda: hydra.sessions and session(hydra).configured)
        told = configuration(hydra)
        assert told["generate_initial_response"] is always


async def test_a_greeting_asked_for_too_late_for_the_configuration_is_asked_for_all_the_same():
    async with emulator() as hydra, call(hydra, kickoff_timeout_secs=0.05) as talk:
        await talk.until(lambda: hydra.sessions and session(hydra).configured)
        await talk.run_llm()
        await session(hydra).wait_for_received("response.create")
        await talk.until_pushed(LLMFullResponseEndFrame)


async def test_a_session_closed_before_it_was_used_is_opened_again_without_an_error():
    async with (
        emulator(idle_timeout_secs=0.2) as hydra,
        call(hydra, "bare", start_audio_paused=True) as talk,
    ):
        await talk.until(lambda: hydra.sessions and hydra.sessions[0].closed)
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert len(hydra.sessions) == 2
        assert not errors(talk)
        assert talk.llm.is_usable


# Turns


async def test_a_user_turn_processor_decides_too():
    turns = UserTurnProcessor(user_turn_strategies=ExternalUserTurnStrategies())
    async with emulator() as hydra, call(hydra, "bare", before=[turns]) as talk:
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert talk.frames.of(ProposedUserStartedSpeakingFrame)
        assert len(talk.frames.of(InterruptionFrame)) == 1
        assert len(talk.frames.of(UserStartedSpeakingFrame)) == 1


async def test_the_way_turns_are_told_can_be_forced():
    async with (
        emulator() as hydra,
        call(hydra, "aggregators", turn_frames="broadcast", settings=NO_GREETING) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(UserStoppedSpeakingFrame)
        assert not talk.frames.of(ProposedUserStartedSpeakingFrame)
        assert len(talk.frames.of(InterruptionFrame)) == 1
    async with (
        emulator() as hydra,
        call(hydra, "bare", turn_frames="propose", settings=NO_GREETING) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(ProposedUserStoppedSpeakingFrame)
        assert not talk.frames.of(UserStartedSpeakingFrame)
        assert not talk.frames.of(InterruptionFrame)


async def test_the_service_tells_that_it_is_a_realtime_service():
    async with emulator() as hydra, call(hydra, "bare") as talk:
        await talk.until_pushed(LLMServiceMetadataFrame)
        (frame,) = talk.frames.of(LLMServiceMetadataFrame)
        assert frame.is_realtime_service
        assert isinstance(frame.user_turn_strategies, ExternalUserTurnStrategies)


async def test_a_lost_connection_closes_the_turn_and_the_reply_and_is_reported_once():
    async with emulator(delivery_speed=1.0) as hydra:
        async with call(hydra, settings=NO_GREETING) as talk:
            await talk.say("question")
            await talk.until_pushed(TTSAudioRawFrame)
            await hydra.stop()
            await talk.until_pushed(LLMFullResponseEndFrame)
            await talk.until(lambda: errors(talk))
            await talk.say("hello")
            (error,) = errors(talk)
            assert error.category is ErrorCategory.CONNECTIVITY
            assert talk.llm.is_usable
            assert len(talk.frames.of(TTSStoppedFrame)) == 1
        async with emulator() as hydra, call(hydra, settings=NO_GREETING) as talk:
            await talk.say("question")
            await talk.until_pushed(ProposedUserStartedSpeakingFrame)
            await hydra.stop()
            await talk.until_pushed(ProposedUserStoppedSpeakingFrame)


# Text


@shapes
async def test_transcripts_become_text_frames_with_the_spaces_between_phrases(shape: Shape):
    text = "Hello there, how are you? I am well, thank you."
    script = Script([Say.tones(1.5, text)])
    async with (
        emulator(script, transcripts=True) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert len(talk.frames.of(TTSTextFrame)) > 1
        assert "".join(f.text for f in talk.frames.of(TTSTextFrame)) == text
        assert "".join(f.text for f in talk.frames.of(LLMTextFrame)) == text
        if talk.context is not None:
            await talk.until(lambda: talk.context and talk.context.get_messages())
            messages = talk.context.get_messages()
            assert messages == [{"role": "assistant", "content": text}]


async def test_an_interrupted_reply_leaves_in_the_context_what_was_heard_of_it():
    text = "one, two, three, four, five, six, seven, eight, nine, ten"
    script = Script([Say.tones(6.0, text)])
    async with (
        emulator(script, transcripts=True, delivery_speed=1.5) as hydra,
        call(hydra, settings=NO_GREETING) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(TTSTextFrame, 2)
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert talk.context is not None
        await talk.until(lambda: talk.context and talk.context.get_messages())
        content = str(talk.context.get_messages()[0]["content"])  # type: ignore[index]
        assert text.startswith(content)
        assert content != text


# Metrics


async def test_a_turn_gives_one_measurement_of_each_kind():
    async with (
        emulator(response_latency_secs=0.2) as hydra,
        call(hydra, settings=NO_GREETING) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await talk.until(lambda: metrics(talk, LLMUsageMetricsData))
        (ttfb,) = metrics(talk, TTFBMetricsData)
        (ttfa,) = metrics(talk, TTFAMetricsData)
        (processing,) = metrics(talk, ProcessingMetricsData)
        (usage,) = metrics(talk, LLMUsageMetricsData)
        assert 0.1 <= ttfb.value <= processing.value
        assert ttfa.ttfb == ttfb.value
        assert ttfb.model == "hydra-v1.1"
        told = session(hydra).sent_of("response.done")[0].event["response"]["usage"]
        assert usage.value.prompt_tokens == told["input_tokens"]
        assert usage.value.completion_tokens == told["output_tokens"]
        assert usage.value.total_tokens == told["total_tokens"]


@shapes
async def test_a_turn_that_was_interrupted_before_its_answer_gives_no_measurement(shape: Shape):
    async with (
        emulator(response_latency_secs=10.0) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await talk.say("hello")
        await session(hydra).wait_for_sent("input_audio_buffer.speech_stopped")
        await talk.say("hello")
        await talk.until_pushed(InterruptionFrame, 2)
        await asyncio.sleep(0.1)
        assert not metrics(talk, TTFBMetricsData)
        assert not metrics(talk, ProcessingMetricsData)


async def test_noise_gives_no_measurement():
    async with emulator(min_turn_ms=10_000) as hydra, call(hydra, settings=NO_GREETING) as talk:
        await talk.say("hello")
        await session(hydra).wait_for_sent("conversation.item.done")
        await asyncio.sleep(0.1)
        assert not metrics(talk, TTFBMetricsData)


# Errors


async def test_a_refused_key_is_one_permanent_error():
    async with emulator() as hydra, call(hydra, api_key="wrong") as talk:
        await talk.until(lambda: errors(talk))
        await talk.say("hello")
        (error,) = errors(talk)
        assert error.category is ErrorCategory.AUTHENTICATION
        assert "SMALLEST_API_KEY" in error.error
        assert not talk.llm.is_usable
        assert not hydra.sessions


async def test_a_server_that_cannot_be_reached_is_one_error():
    async with emulator() as hydra:
        pass
    async with call(hydra, "bare", base_url="ws://127.0.0.1:9/s2s", api_key="k") as talk:
        await talk.until(lambda: errors(talk))
        await talk.say("hello")
        (error,) = errors(talk)
        assert error.category is ErrorCategory.CONNECTIVITY
        assert "127.0.0.1:9" in error.error


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_voice_that_hydra_rejects_at_the_start_is_left_out(
    shape: Shape, warnings: list[str]
):
    settings = HydraLLMSettings(voice="nobody")
    async with emulator() as hydra, call(hydra, shape, settings=settings) as talk:
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame)
        rejected, served = hydra.sessions
        assert rejected.configuration is not None
        assert served.configuration is not None
        assert rejected.configuration["voice"] == "nobody"
        assert served.configuration.get("voice") is None
        assert served.configuration["generate_initial_response"] is True
        assert not errors(talk)
    assert any("'nobody' is not in the known roster" in w for w in warnings)
    (loud,) = [w for w in warnings if "has no voice" in w]
    assert "'nobody'" in loud
    assert "once more without a voice" in loud


async def test_a_server_that_rejects_no_voice_too_is_one_permanent_error():
    async with (
        HydraEmulator(faults=[RejectVoice()]) as hydra,
        call(hydra, settings=HydraLLMSettings(voice="nobody")) as talk,
    ):
        await talk.run_llm()
        await talk.until(lambda: errors(talk))
        (error,) = errors(talk)
        assert error.category is ErrorCategory.INVALID_REQUEST
        assert len(hydra.sessions) == 2
        assert not talk.llm.is_usable


async def test_no_room_is_reported_as_a_rate_limit():
    async with emulator(max_sessions=0) as hydra, call(hydra, "bare") as talk:
        await talk.until(lambda: errors(talk))
        (error,) = errors(talk)
        assert error.category is ErrorCategory.RATE_LIMIT


async def test_a_handshake_that_hangs_is_given_up():
    async with (
        emulator(created_delay_secs=30) as hydra,
        call(hydra, "bare", handshake_timeout_secs=0.2) as talk,
    ):
        await talk.until(lambda: errors(talk))
        (error,) = errors(talk)
        assert error.category is ErrorCategory.CONNECTIVITY
        assert "session.created" in error.error


async def test_an_error_event_is_reported_and_the_call_goes_on():
    script = Script([ToolCall("get_weather", {"city": "Paris"})])
    async with (
        emulator(script, tool_timeout_secs=0.2) as hydra,
        call(hydra, "bare", settings=NO_GREETING) as talk,
    ):

        async def never(params: FunctionCallParams):
            await asyncio.sleep(0.6)
            await params.result_callback("late")

        talk.llm.register_function("get_weather", never)
        await talk.say("hello")
        await talk.until(lambda: errors(talk))
        error = errors(talk)[0]
        assert error.category is ErrorCategory.APPLICATION
        assert "get_weather" in error.error
        assert talk.llm.is_usable
        await talk.say("hello")
        await talk.until_pushed(TTSAudioRawFrame)


async def test_a_deprecated_model_is_warned_about(warnings: list[str]):
    async with (
        emulator() as hydra,
        call(hydra, "bare", settings=HydraLLMSettings(model="hydra")) as talk,
    ):
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert not errors(talk)
    assert sum("deprecated" in w for w in warnings) == 2


async def test_a_configuration_that_would_silence_hydra_is_warned_about(warnings: list[str]):
    settings = HydraLLMSettings(system_instruction="x" * 20_000)
    async with emulator() as hydra, call(hydra, "bare", settings=settings) as talk:
        await talk.run_llm()
        await talk.until(lambda: hydra.sessions and session(hydra).configured)
        await talk.until(lambda: any("instructions 20000" in w for w in warnings))


def test_a_missing_key_and_a_wrong_url_are_told_at_once():
    with pytest.raises(ValueError, match="SMALLEST_API_KEY"):
        HydraLLMService(api_key="")
    with pytest.raises(ValueError, match="wss://"):
        HydraLLMService(api_key="k", base_url="https://api.smallest.ai/waves/v1/s2s")


# Tools


@shapes
async def test_a_tool_is_called_and_its_result_narrated(shape: Shape):
    script = Script([[ToolCall("get_weather", {"city": "Paris"}, "call_1"), Say.tones()]])
    context = LLMContext(tools=[get_weather])
    service: dict[str, Any] = {"context": context} if shape == "aggregators" else {}
    if shape == "bare":
        service["tools"] = [get_weather]
    async with (
        emulator(script) as hydra,
        call(hydra, shape, settings=NO_GREETING, **service) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        (item,) = session(hydra).received_of("conversation.item.create")
        assert item.event["item"] == {
            "type": "function_call_output",
            "call_id": "call_1",
            "output": '{"city": "Paris", "sky": "blue"}',
        }
        assert len(session(hydra).received_of("response.create")) == 1
        assert len(talk.frames.of(LLMFullResponseStartFrame)) == 2
        assert len(talk.frames.of(TTSStoppedFrame)) == 1
        assert not session(hydra).errors


async def test_arguments_that_are_no_json_are_answered():
    script = Script([[ToolCall("get_weather", "{city:", "call_1"), Say.tones()]])
    async with (
        emulator(script) as hydra,
        call(hydra, "bare", settings=NO_GREETING, tools=[get_weather]) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(TTSAudioRawFrame)
        (item,) = session(hydra).received_of("conversation.item.create")
        assert "JSON" in item.event["item"]["output"]


async def test_tools_can_be_replaced_in_a_pipeline_without_a_context():
    async with (
        emulator() as hydra,
        call(hydra, "bare", settings=NO_GREETING, tools=[get_weather]) as talk,
    ):
        await talk.until(lambda: hydra.sessions and session(hydra).configured)
        tool = FunctionSchema("look_up", "Looks up.", {}, [])
        await talk.worker.queue_frame(LLMSetToolsFrame(tools=[tool]))
        (update,) = await session(hydra).wait_for_received("session.update")
        assert [t["name"] for t in update.event["session"]["tools"]] == ["look_up"]
        assert not session(hydra).errors


async def test_settings_that_hydra_does_not_have_are_warned_about(warnings: list[str]):
    async with emulator() as hydra, call(hydra, "bare", settings=NO_GREETING) as talk:
        await talk.until(lambda: hydra.sessions and session(hydra).configured)
        delta = HydraLLMSettings(temperature=0.5)
        await talk.worker.queue_frame(LLMUpdateSettingsFrame(delta=delta))
        await talk.until(lambda: any("runtime update of [temperature]" in w for w in warnings))
