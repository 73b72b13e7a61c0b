"""The examples that hold a conversation: functions, interruptions, flows, hand-over."""

import asyncio
import json
from typing import Any, cast

import pytest
from pipecat.runner.types import RunnerArguments, WebSocketRunnerArguments
from support.bots import (
    example,
    loud_secs,
    talking,
    tool_names,
    until,
    until_ended,
    until_heard,
)
from support.call import emulator, recording

from pipecat_hydra.emulator import Call, Say, Script
from pipecat_hydra.testing import VirtualTransport


class TestFunctionCalling:
    async def test_both_functions_are_called_and_what_they_give_is_told(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        bot = example("function_calling")
        monkeypatch.setattr(bot, "SEARCH_SECS", 0.3)
        script = Script(
            [
                [
                    Call("get_weather", {"city": "Paris"}, "weather"),
                    Call("find_restaurant", {"city": "Paris", "cuisine": "French"}, "table"),
                    Say.tones(0.6, "The weather, and a search that is under way"),
                ],
                Say.tones(0.4, "The restaurant"),
            ]
        )
        line = VirtualTransport()
        async with emulator(script) as hydra:
            run = bot.run_bot(
                line,
                RunnerArguments(),
                api_key=hydra.api_key,
                base_url=hydra.url,
            )
            async with talking(run, line):
                told = await hydra.wait_for_session()
                await until_heard(line, told, 1)  # the greeting
                await line.microphone.say(recording("hello"))
                await until_heard(line, told, 3)

            assert told.configuration is not None
            assert told.configuration["generate_initial_response"] is True
            assert "for travellers" in told.configuration["instructions"]
            assert tool_names(told.tools) == ["get_weather", "find_restaurant"]
            weather, search = told.call("weather"), told.call("table")
            assert json.loads(weather.output or "")["sky"] == "clear"
            assert json.loads(search.output or "")["status"] == "running"
            (narration,) = told.narrations
            assert not narration.missing
            (found,) = told.messages
            assert "The Golden Lion" in found.text
            assert len(told.create_times) == 2
            assert told.errors == []


class TestVoiceAgent:
    @pytest.mark.parametrize(
        ("transport_type", "rates"),
        [("websocket", (16_000, 24_000)), ("twilio", (8_000, 8_000)), ("telnyx", (8_000, 8_000))],
    )
    def test_the_pipeline_has_the_rates_of_the_device(
        self, transport_type: str, rates: tuple[int, int]
    ):
        arguments = WebSocketRunnerArguments(cast("Any", None), transport_type)
        assert example("voice_agent").sample_rates(arguments) == rates
        assert example("voice_agent").sample_rates(RunnerArguments()) == (16_000, 24_000)

    async def test_a_key_that_is_refused_ends_the_call(self, warnings: list[str]):
        bot = example("voice_agent")
        async with emulator() as hydra:
            run = bot.run_bot(
                VirtualTransport(), RunnerArguments(), api_key="sk-wrong", base_url=hydra.url
            )
            await until_ended(asyncio.create_task(run))
        logged = "".join(warnings)
        assert "key" in logged
        assert "sk-wrong" not in logged
        assert "Traceback" not in logged

    # Pipecat's transport for evals imports what websockets has deprecated.
    @pytest.mark.filterwarnings("ignore:websockets.* is deprecated:DeprecationWarning")
    @pytest.mark.parametrize("transport", ["webrtc", "websocket", "twilio", "plivo", "eval"])
    def test_a_transport_is_configured_when_it_is_chosen(self, transport: str):
        params = example("voice_agent").transport_params[transport]()
        assert params.audio_in_enabled
        assert params.audio_out_enabled


class TestMinimal:
    async def test_it_greets_answers_and_can_be_interrupted(self):
        line = VirtualTransport()
        script = Script([Say.tones(5.0), Say.tones(0.4)], greeting=Say.tones(0.4))
        async with emulator(script) as hydra:
            endpoint = {"api_key": hydra.api_key, "base_url": hydra.url}
            run = example("minimal").run_bot(line, RunnerArguments(), **endpoint)
            async with talking(run, line):
                told = await hydra.wait_for_session()
                await until_heard(line, told, 1)
                await line.microphone.say(recording("hello"))
                await told.wait_for_sent("response.output_audio.done", count=2)
                await until(lambda: line.timeline.secs - line.heard_until_secs < 0.1)
                await line.microphone.say(recording("interrupt"))
                await told.wait_for_sent("response.output_audio.done", count=3, within=10)
                await until(lambda: line.timeline.secs - line.heard_until_secs > 0.3)
            assert len(line.heard_pcm) < 0.6 * len(told.sent_audio())
            assert told.errors == []


class TestFlows:
    async def test_each_step_has_its_task_and_its_functions(self):
        line = VirtualTransport()
        script = Script(
            [
                [Call("choose_size", {"size": "large"}, "size"), Say.tones(0.4)],
                [Call("place_order", {"address": "Main Street 1"}, "order"), Say.tones(0.4)],
            ],
            greeting=Say.tones(0.4),
        )
        async with emulator(script) as hydra:
            endpoint = {"api_key": hydra.api_key, "base_url": hydra.url}
            run = example("flows").run_bot(line, RunnerArguments(), **endpoint)
            async with talking(run, line):
                told = await hydra.wait_for_session()
                await until_heard(line, told, 1)
                assert tool_names(told.tools) == ["choose_size"]
                await line.microphone.say(recording("hello"))
                await until_heard(line, told, 2)
                assert tool_names(told.tools) == ["place_order"]
                assert [m.text for m in told.messages] == [
                    "Ask where the large pizza goes, and order it."
                ]
                await line.microphone.say(recording("hello"))
                await until_heard(line, told, 3)
            assert json.loads(told.call("order").output or "") == {"minutes": 30}
            assert told.errors == []


class TestMultiAgent:
    async def test_the_caller_is_handed_over_and_back_and_never_hears_two_at_once(self):
        line = VirtualTransport()
        handing_over = [Call("hand_over", {"note": "The caller is Bob."}), Say.tones(2.0)]
        script = Script([handing_over] * 2, greeting=Say.tones(0.5))
        async with emulator(script, honour_messages=True) as hydra:
            run = example("multi_agent").run_bot(
                line, RunnerArguments(), api_key=hydra.api_key, base_url=hydra.url
            )
            async with talking(run, line):
                await until(lambda: any(told.sent_audio() for told in hydra.sessions))
                reception = next(told for told in hydra.sessions if told.sent_audio())
                await until(lambda: line.timeline.secs - line.heard_until_secs > 0.5)
                assert loud_secs(line.heard_pcm) == pytest.approx(0.5, abs=0.1)
                await line.microphone.say(recording("hello"))
                await until(lambda: len([t for t in hydra.sessions if t.sent_audio()]) == 2)
                sales = next(t for t in hydra.sessions if t.sent_audio() and t is not reception)
                # All that the reception says was heard before sales is told to speak.
                assert loud_secs(line.heard_pcm) == pytest.approx(2.5, abs=0.2)
                assert "The caller is Bob." in str(sales.received)
                await until(lambda: line.timeline.secs - line.heard_until_secs > 0.5)
                await line.microphone.say(recording("hello"))
                await sales.wait_for_sent("response.function_call_arguments.done", within=10)
                told = len(reception.received_of("response.create"))
                await until(lambda: len(reception.received_of("response.create")) > told)
            voices = [(told.configuration or {})["voice"] for told in (reception, sales)]
            assert voices == ["aria", "leo"]

    async def test_a_farewell_is_heard_before_the_call_ends(self):
        line = VirtualTransport()
        script = Script([[Call("hang_up"), Say.tones(2.0)]], greeting=Say.tones(0.5))
        async with emulator(script) as hydra:
            run = example("multi_agent").run_bot(
                line, RunnerArguments(), api_key=hydra.api_key, base_url=hydra.url
            )
            running = asyncio.create_task(run)
            await line.timeline.started()
            await until(lambda: line.heard_until_secs > 0)
            await until(lambda: line.timeline.secs - line.heard_until_secs > 0.5)
            await line.microphone.say(recording("hello"))
            await until_ended(running)
            assert loud_secs(line.heard_pcm) == pytest.approx(2.5, abs=0.2)
