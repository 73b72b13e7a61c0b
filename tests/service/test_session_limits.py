"""How long sessions and calls last: silence, the limits on both, and the seconds as a metric."""

import asyncio
from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    EndFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    MetricsFrame,
    TTSAudioRawFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.services.llm_service import FunctionCallParams
from support.call import NO_GREETING, SHAPES, Call, Shape, call, emulator, recording
from support.reconnects import QUICK, Story, errors

from pipecat_hydra import HydraLLMService, HydraSessionMetricsData, RetryPolicy
from pipecat_hydra.emulator import Call as FunctionCall
from pipecat_hydra.emulator import EmulatedSession, HydraEmulator, Refuse, Say, Script

PIN = "My PIN is 1234."


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> Shape:
    return request.param


async def session_of_number(number: int, talk: Call, hydra: HydraEmulator) -> EmulatedSession:
    await talk.until(
        lambda: len(hydra.sessions) == number and hydra.sessions[-1].configured, within=100.0
    )
    return hydra.sessions[-1]


async def until_age(session: EmulatedSession, secs: float) -> None:
    await asyncio.sleep(secs - session.elapsed)


def heard(talk: Call) -> bytes:
    return b"".join(frame.audio for frame in talk.frames.of(TTSAudioRawFrame))


def seconds(talk: Call) -> list[float]:
    """The seconds of each session, as the pipeline was told."""
    data = [data for frame in talk.frames.of(MetricsFrame) for data in frame.data]
    found = [each for each in data if isinstance(each, HydraSessionMetricsData)]
    assert all(each.processor == talk.llm.name and each.model == "hydra-v1.1" for each in found)
    return [each.value for each in found]


def statuses(session: EmulatedSession) -> list[str]:
    return [done.event["response"]["status"] for done in session.sent_of("response.done")]


def instructions(session: EmulatedSession) -> str:
    assert session.configuration is not None
    return session.configuration["instructions"]


def offering(shape: Shape, function: Any) -> dict[str, Any]:
    """Arguments of a call whose model may call a function."""
    if shape == "aggregators":
        return {"context": LLMContext(tools=[function])}
    return {"tools": [function]}


class TestSilence:
    """What counts as use of a session."""

    async def test_silence_on_an_open_microphone_neither_keeps_a_session_nor_opens_one(
        self, shape: Shape
    ):
        async with (
            emulator() as hydra,
            call(hydra, shape, settings=NO_GREETING, idle_timeout_secs=5.0) as talk,
        ):
            await talk.say("hello")
            await talk.until_pushed(LLMFullResponseEndFrame)
            await talk.until_quiet()
            first = hydra.sessions[0]
            # The microphone goes on to send silence.
            await talk.until(lambda: first.closed, within=10.0)
            assert first.close_code == 1000
            await asyncio.sleep(60.0)
            assert len(hydra.sessions) == 1
            await talk.say("question")
            said_at = talk.transport.timeline.secs
            await talk.until_pushed(LLMFullResponseStartFrame, 2)
            assert talk.transport.timeline.secs - said_at < 2.0
            assert recording("question").tobytes() in hydra.sessions[1].received_audio
            assert len(hydra.sessions) == 2
            assert not errors(talk)

    async def test_a_session_that_hears_nobody_from_the_first_is_closed(self, shape: Shape):
        async with (
            emulator() as hydra,
            call(hydra, shape, settings=NO_GREETING, idle_timeout_secs=5.0) as talk,
        ):
            first = await session_of_number(1, talk, hydra)
            await talk.until(lambda: first.closed)
            assert first.elapsed < 8.0

    async def test_text_wakes_a_session_whose_microphone_is_silent(self, shape: Shape):
        async with (
            emulator() as hydra,
            call(hydra, shape, settings=NO_GREETING, idle_timeout_secs=3.0) as talk,
        ):
            first = await session_of_number(1, talk, hydra)
            await talk.until(lambda: first.closed)
            await talk.llm.send_text("Are you there?")
            await talk.until_pushed(LLMFullResponseEndFrame)
            await talk.say("hello")
            await talk.until_pushed(LLMFullResponseEndFrame, 2)
            assert len(hydra.sessions) == 2

    async def test_a_reply_that_is_heard_for_long_can_be_interrupted(self, shape: Shape):
        script = Script([Say.tones(20.0), Say.tones(0.5)])
        async with (
            HydraEmulator(script) as hydra,
            call(hydra, shape, settings=NO_GREETING, idle_timeout_secs=4.0) as talk,
        ):
            await talk.say("hello")
            await talk.until_pushed(LLMFullResponseEndFrame)
            await asyncio.sleep(12.0)
            await talk.say("interrupt")
            await talk.until_pushed(LLMFullResponseEndFrame, 2)
            assert len(talk.frames.of(InterruptionFrame)) == 2
            assert len(hydra.sessions) == 1


class TestLongSessions:
    """A session is renewed before `max_session_secs`, here 20 s: from 16 s on."""

    async def test_another_one_follows_and_nobody_hears_it(self, shape: Shape):
        async with (
            emulator() as hydra,
            call(hydra, shape, settings=NO_GREETING, max_session_secs=20.0) as talk,
        ):
            story = Story(talk.llm)
            first = await session_of_number(1, talk, hydra)
            await talk.llm.send_text(PIN)
            await talk.until_pushed(LLMFullResponseEndFrame)
            await talk.until_quiet()
            second = await session_of_number(2, talk, hydra)
            assert 16.0 <= first.elapsed < 17.0
            assert first.close_code == 1000
            assert PIN in instructions(second)
            third = await session_of_number(3, talk, hydra)
            assert 16.0 <= second.elapsed < 17.0
            assert PIN in instructions(third)
            assert len(talk.frames.of(LLMFullResponseStartFrame)) == 1
            assert not errors(talk)
            assert not story.attempts
            await talk.say("hello")
            await talk.until_pushed(LLMFullResponseEndFrame, 2)
            assert third.sent_of("response.done")

    async def test_one_that_nobody_uses_is_replaced_too(self, shape: Shape):
        unused = {"start_audio_paused": True, "unused_timeout_secs": None}
        async with (
            emulator() as hydra,
            call(hydra, shape, settings=NO_GREETING, max_session_secs=20.0, **unused) as talk,
        ):
            await talk.until(lambda: len(hydra.sessions) == 2, within=20.0)
            assert seconds(talk) == [pytest.approx(16.0, abs=0.3)]
            await talk.llm.send_text(PIN)
            await talk.until_pushed(LLMFullResponseEndFrame)
            assert len(hydra.sessions) == 2

    async def test_it_needs_no_sound_of_the_user(self, shape: Shape):
        quiet = {"start_audio_paused": True, "max_session_secs": 20.0}
        async with emulator() as hydra, call(hydra, shape, settings=NO_GREETING, **quiet) as talk:
            await talk.llm.send_text(PIN)
            first = await session_of_number(1, talk, hydra)
            await session_of_number(2, talk, hydra)
            assert 16.0 <= first.elapsed < 17.0

    async def test_what_the_user_is_saying_is_answered_first(self, shape: Shape):
        async with (
            emulator() as hydra,
            call(hydra, shape, settings=NO_GREETING, max_session_secs=20.0) as talk,
        ):
            first = await session_of_number(1, talk, hydra)
            await until_age(first, 15.0)
            await talk.say("question")
            assert first.elapsed > 16.0
            second = await session_of_number(2, talk, hydra)
            assert statuses(first) == ["completed"]
            await asyncio.sleep(1.0)
            assert not second.sent_of("input_audio_buffer.speech_started")
            await talk.until_quiet()
            assert heard(talk) == first.sent_audio()

    async def test_a_reply_is_received_whole_first(self, shape: Shape):
        script = Script([Say.tones(3.0)])
        async with (
            emulator(script, delivery_speed=1.0) as hydra,
            call(hydra, shape, settings=NO_GREETING, max_session_secs=20.0) as talk,
        ):
            first = await session_of_number(1, talk, hydra)
            await until_age(first, 15.0)
            await talk.llm.send_text("Go on.")
            await session_of_number(2, talk, hydra)
            assert first.elapsed > 18.0
            assert statuses(first) == ["completed"]
            await talk.until_quiet()
            assert heard(talk) == first.sent_audio()

    async def test_a_function_is_answered_first(self, shape: Shape):
        async def book(params: FunctionCallParams):
            """Book a table."""
            await asyncio.sleep(2.0)
            await params.result_callback({"table": 7})

        script = Script([[FunctionCall("book", {}), Say.tones(0.5)]])
        async with (
            HydraEmulator(script) as hydra,
            call(
                hydra,
                shape,
                settings=NO_GREETING,
                max_session_secs=20.0,
                **offering(shape, book),
            ) as talk,
        ):
            first = await session_of_number(1, talk, hydra)
            await until_age(first, 15.0)
            await talk.llm.send_text("A table, please.")
            await session_of_number(2, talk, hydra)
            (item,) = [
                record.event["item"]
                for record in first.received_of("conversation.item.create")
                if record.event["item"]["type"] == "function_call_output"
            ]
            assert item["output"] == '{"table": 7}'
            assert first.elapsed < 20.0
            await talk.until_quiet()
            assert heard(talk) == first.sent_audio()

    async def test_a_function_that_takes_too_long_is_told_to_the_next_session(self, shape: Shape):
        async def book(params: FunctionCallParams):
            """Book a table."""
            await asyncio.sleep(10.0)
            await params.result_callback({"table": 7})

        script = Script([[FunctionCall("book", {}), Say.tones(0.5)], Say.tones(0.7)])
        async with (
            HydraEmulator(script) as hydra,
            call(
                hydra,
                shape,
                settings=NO_GREETING,
                max_session_secs=20.0,
                **offering(shape, book),
            ) as talk,
        ):
            first = await session_of_number(1, talk, hydra)
            await until_age(first, 15.0)
            await talk.llm.send_text("A table, please.")
            second = await session_of_number(2, talk, hydra)
            assert first.elapsed == pytest.approx(20.0, abs=0.3)
            await talk.until(lambda: second.sent_of("response.done"), within=20.0)
            (told,) = second.received_of("conversation.item.create")
            assert '{"table": 7}' in str(told.event)
            assert not errors(talk)

    async def test_what_the_user_says_for_too_long_the_next_session_hears_again(self, shape: Shape):
        speech = np.tile(recording("question"), 5)[: 10 * 16_000]
        async with (
            emulator() as hydra,
            call(
                hydra, shape, settings=NO_GREETING, max_session_secs=20.0, preroll_secs=30.0
            ) as talk,
        ):
            first = await session_of_number(1, talk, hydra)
            await until_age(first, 14.0)
            await talk.transport.microphone.say(speech)
            second = hydra.sessions[1]
            assert seconds(talk) == [pytest.approx(20.0, abs=0.3)]
            await talk.until(lambda: "completed" in statuses(second), within=30.0)
            assert speech[:16_000].tobytes() in second.received_audio
            assert not errors(talk)

    async def test_a_session_that_is_had_again_is_young(self, shape: Shape):
        async with (
            emulator() as hydra,
            call(hydra, shape, settings=NO_GREETING, max_session_secs=20.0, retry=QUICK) as talk,
        ):
            first = await session_of_number(1, talk, hydra)
            await until_age(first, 10.0)
            await hydra.drop()
            second = await session_of_number(2, talk, hydra)
            await session_of_number(3, talk, hydra)
            assert 16.0 <= second.elapsed < 17.0

    async def test_renewals_do_not_keep_a_session_from_rest(self, shape: Shape):
        async with (
            emulator() as hydra,
            call(
                hydra,
                shape,
                settings=NO_GREETING,
                max_session_secs=20.0,
                idle_timeout_secs=40.0,
            ) as talk,
        ):
            await session_of_number(1, talk, hydra)
            await asyncio.sleep(60.0)
            assert hydra.open_sessions == []
            assert len(hydra.sessions) == 3


class TestLongCalls:
    """A call ends by `max_call_secs`, here 30 s."""

    @staticmethod
    def farewells(llm: HydraLLMService, *, say: bool = False) -> list[float]:
        """Keep what the event tells, and have the bot say goodbye."""
        told: list[float] = []

        @llm.event_handler("on_call_limit")
        async def on_call_limit(service: HydraLLMService, secs_left: float) -> None:
            told.append(secs_left)
            if say:
                await service.send_text("Say goodbye.", role="system")

        return told

    async def test_it_is_told_before_and_the_bot_says_goodbye(self, shape: Shape):
        script = Script([Say.tones(2.0)])
        async with (
            HydraEmulator(script) as hydra,
            call(hydra, shape, settings=NO_GREETING, max_call_secs=30.0) as talk,
        ):
            told = self.farewells(talk.llm, say=True)
            await asyncio.sleep(19.0)
            assert told == []
            await talk.until(lambda: told)
            assert told == [pytest.approx(10.0, abs=0.1)]
            assert 20.0 <= talk.transport.timeline.secs < 22.0
            await talk.ended(within=20.0)
            assert 30.0 <= talk.transport.timeline.secs < 32.0
            assert len(talk.frames.of(EndFrame)) == 1
            assert heard(talk) == hydra.sessions[0].sent_audio()
            assert len(heard(talk)) == 2 * 2 * 24_000
            assert hydra.sessions[0].close_code == 1000

    async def test_what_the_bot_says_at_the_limit_is_heard_to_its_end(self, shape: Shape):
        script = Script([Say.tones(8.0)])
        async with (
            emulator(script, delivery_speed=1.0) as hydra,
            call(hydra, shape, settings=NO_GREETING, max_call_secs=30.0) as talk,
        ):
            await asyncio.sleep(27.0)
            await talk.llm.send_text("Hello?")
            await talk.ended(within=30.0)
            assert heard(talk) == hydra.sessions[0].sent_audio()
            assert len(talk.transport.heard_pcm) >= 8 * 2 * 24_000

    async def test_it_runs_through_losses_and_rests(self, shape: Shape):
        async with (
            emulator() as hydra,
            call(
                hydra,
                shape,
                settings=NO_GREETING,
                max_call_secs=30.0,
                idle_timeout_secs=5.0,
                retry=QUICK,
            ) as talk,
        ):
            told = self.farewells(talk.llm)
            first = await session_of_number(1, talk, hydra)
            await hydra.drop()
            second = await session_of_number(2, talk, hydra)
            await talk.until(lambda: second.closed)
            assert first.closed
            await talk.ended(within=30.0)
            assert 30.0 <= talk.transport.timeline.secs < 32.0
            assert len(told) == 1

    async def test_it_ends_a_call_that_never_has_a_session(self, shape: Shape):
        patient = RetryPolicy(attempts_per_drop=1_000, secs_per_drop=1_000.0)
        async with (
            HydraEmulator(faults=[Refuse(503)]) as hydra,
            call(hydra, shape, settings=NO_GREETING, max_call_secs=30.0, retry=patient) as talk,
        ):
            told = self.farewells(talk.llm)
            await talk.ended(within=40.0)
            assert 30.0 <= talk.transport.timeline.secs < 35.0
            assert len(told) == 1
            assert hydra.sessions == []

    async def test_it_begins_with_the_first_use_and_anew_in_another_pipeline(self, shape: Shape):
        async with emulator() as hydra:
            llm = HydraLLMService(
                api_key=hydra.api_key,
                base_url=hydra.url,
                settings=NO_GREETING,
                start_audio_paused=True,
                max_call_secs=30.0,
            )
            told = self.farewells(llm)
            for run in (1, 2):
                async with call(hydra, shape, llm=llm) as talk:
                    llm.set_audio_input_paused(True)
                    await asyncio.sleep(50.0)
                    assert len(told) == run - 1
                    llm.set_audio_input_paused(False)
                    await asyncio.sleep(25.0)
                    assert len(told) == run
                    await talk.ended(within=10.0)


class TestSeconds:
    """The seconds of open sessions, as a metric."""

    @pytest.mark.parametrize("end", ["ended", "cancelled"])
    async def test_each_session_is_told_and_nothing_between(self, shape: Shape, end: str):
        async with emulator() as hydra:
            async with call(
                hydra,
                shape,
                settings=NO_GREETING,
                idle_timeout_secs=8.0,
                retry=QUICK,
                observed=True,
            ) as talk:
                first = await session_of_number(1, talk, hydra)
                await until_age(first, 4.0)
                await hydra.drop()
                second = await session_of_number(2, talk, hydra)
                assert seconds(talk) == [pytest.approx(4.0, abs=0.1)]
                await talk.until(lambda: second.closed, within=20.0)
                rested_after = second.elapsed
                await asyncio.sleep(30.0)
                await talk.say("hello")
                await talk.until_pushed(LLMFullResponseEndFrame)
                if end == "ended":
                    await talk.worker.queue_frame(EndFrame())
                else:
                    await talk.worker.cancel()
                third = hydra.sessions[2]
                await talk.until(lambda: third.closed)
                opened = [4.0, rested_after, third.elapsed]
                await talk.ended()
            assert seconds(talk) == [pytest.approx(secs, abs=0.2) for secs in opened]
            assert sum(seconds(talk)) < talk.transport.timeline.secs - 29.0

    async def test_a_pipeline_without_usage_metrics_is_told_nothing(
        self, shape: Shape, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(HydraLLMService, "usage_metrics_enabled", False)
        async with emulator() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
            await session_of_number(1, talk, hydra)
            await talk.worker.queue_frame(EndFrame())
            await talk.ended()
            assert seconds(talk) == []

    async def test_a_second_run_counts_anew(self, shape: Shape):
        async with emulator() as hydra:
            llm = HydraLLMService(api_key=hydra.api_key, base_url=hydra.url, settings=NO_GREETING)
            for _ in range(2):
                async with call(hydra, shape, llm=llm) as talk:
                    await asyncio.sleep(5.0)
                    await talk.worker.queue_frame(EndFrame())
                    await talk.ended()
                    assert seconds(talk) == [pytest.approx(5.0, abs=0.5)]
