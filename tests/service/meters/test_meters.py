"""Metrics of whole calls: each one with its value, and nothing where nobody measures."""

import asyncio
from typing import Any

import numpy as np
import pytest
from opentelemetry import metrics
from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    MetricsFrame,
    TTSStartedFrame,
)
from pipecat.metrics.metrics import LLMUsageMetricsData, TTFBMetricsData
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.llm_service import FunctionCallParams
from support.call import NO_GREETING, SHAPES, Call, Shape, call, emulator, recording
from support.measured import Measured
from support.reconnects import QUICK, Story, reconnected

from pipecat_hydra import HydraLLMService, HydraLLMSettings, HydraSessionMetricsData
from pipecat_hydra.conversation.effects import TurnDiscarded
from pipecat_hydra.emulator import Call as EmulatedCall
from pipecat_hydra.emulator import Full, HydraEmulator, Say, Script
from pipecat_hydra.service.meters import Meters
from pipecat_hydra.service.pipecat_versions import tool_options
from pipecat_hydra.session.websocket import Traffic

shapes = pytest.mark.parametrize("shape", SHAPES)

KEY = "sk-5ecret-9d2"
INSTRUCTION = "Be brief."
COUGH = recording("hello")[:7_000]

ATTRIBUTES = {
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.operation.name",
    "gen_ai.token.type",
    "gen_ai.tool.name",
    "error.type",
    "network.io.direction",
}


async def weather(params: FunctionCallParams, city: str):
    """Tell the weather.

    Args:
        city: Where.
    """
    await asyncio.sleep(0.3)
    await params.result_callback({"sky": "clear"})


async def fails(params: FunctionCallParams):
    """Fail."""
    raise RuntimeError("no such city as Oslo")


@tool_options(timeout_secs=0.1)
async def hangs(params: FunctionCallParams):
    """Never come back."""
    await asyncio.sleep(30)


def tools(shape: Shape, *functions: Any) -> dict[str, Any]:
    if shape == "bare":
        return {"tools": list(functions)}
    return {"context": LLMContext(tools=list(functions))}


def told(talk: Call, kind: type[Any]) -> list[Any]:
    """What the pipeline was told by metrics frames, but for the zeros that Pipecat begins with."""
    data: list[Any] = [d for frame in talk.frames.of(MetricsFrame) for d in frame.data]
    return [d.value for d in data if isinstance(d, kind) and d.value]


def times_of(talk: Call, kind: type[Any]) -> list[float]:
    """When the bot began or stopped to be heard, on the timeline."""
    frames = zip(talk.frames.pushed, talk.frames.times, strict=True)
    zero = talk.frames.times[-1] - talk.transport.timeline.secs
    up = FrameDirection.UPSTREAM
    return [at - zero for (frame, to), at in frames if isinstance(frame, kind) and to is up]


def end_of_speech(talk: Call, before: float) -> float:
    """When the user's speech ended that was answered at a time, by its loudness."""
    samples = talk.transport.user_samples()[: round(before * 16_000)]
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 500)
    return float(loud[-1]) / 16_000


def start_of_sound(talk: Call, after: float) -> float:
    """When the bot was heard first, after a time."""
    return next(audio.start_secs for audio in talk.transport.heard if audio.start_secs > after)


@shapes
async def test_a_call_with_a_tool_and_a_barge_in(shape: Shape, measured: Measured):
    """A greeting; a turn with a tool, whose narration is interrupted; and its answer."""
    script = Script(
        [
            [EmulatedCall("weather", {"city": "Oslo"}, "call_1"), Say.tones(20, "It is clear.")],
            Say.tones(0.3, "Bye!"),
        ],
        greeting=Say.tones(0.3, "Hello!"),
    )
    settings = HydraLLMSettings(system_instruction=INSTRUCTION)
    async with HydraEmulator(script, api_key=KEY) as hydra:
        async with call(hydra, shape, settings=settings, **tools(shape, weather)) as talk:
            story = Story(talk.llm)
            await talk.run_llm()
            await talk.until_pushed(TTSStartedFrame)
            await talk.until_quiet()
            assert measured.counts("hydra.session.active") == {"": 1}
            await talk.say("hello")
            await talk.until_pushed(TTSStartedFrame, 2)
            await asyncio.sleep(1.0)
            began_at = talk.transport.timeline.secs
            narrated_at = start_of_sound(talk, began_at - 2.0)
            await talk.say("hello")
            silent_at = next(at for at in times_of(talk, BotStoppedSpeakingFrame) if at > began_at)
            await talk.until_pushed(LLMFullResponseEndFrame, 4)
            await talk.until_quiet()
            answered_at = start_of_sound(talk, silent_at + 0.5)
            interrupted_at = next(
                record.time
                for record in hydra.sessions[0].sent_of("input_audio_buffer.speech_started")[1:]
            )
            opened_at = talk.transport.timeline.secs - hydra.sessions[0].elapsed
        (session,) = hydra.sessions
        sent, received = session.sent_audio(), session.received_audio
    label = "hydra.session.duration"
    assert measured.sums(label) == {"": (1, pytest.approx(session.elapsed, abs=0.05))}
    assert [(measured.sums(label)[""][1],)] == story.of("on_session_ended")
    assert told(talk, HydraSessionMetricsData) == [measured.sums(label)[""][1]]
    assert measured.counts("hydra.session.active") == {}

    ttfbs = told(talk, TTFBMetricsData)
    assert measured.sums("hydra.response.first_audio") == {
        "": (3, pytest.approx(sum(ttfbs), abs=0.05))
    }
    # As a person would measure them in the two recordings.
    answers = [at - end_of_speech(talk, at) for at in (narrated_at, answered_at)]
    ((_, latency),) = measured.points("hydra.turn.latency")
    assert latency.count == 2
    assert [latency.max, latency.min] == pytest.approx(answers, abs=0.03)
    silence = silent_at - opened_at - interrupted_at
    assert measured.sums("hydra.barge_in.silence") == {"": (1, pytest.approx(silence, abs=0.03))}
    assert measured.sums("hydra.tool.duration") == {
        "execute_tool weather": (1, pytest.approx(0.3, abs=0.05))
    }
    usages = told(talk, LLMUsageMetricsData)
    assert measured.sums("gen_ai.client.token.usage") == {
        "chat input": (len(usages), sum(usage.prompt_tokens for usage in usages)),
        "chat output": (len(usages), sum(usage.completion_tokens for usage in usages)),
    }
    # Base64 is longer than what it holds by a third, and the fields around it take some.
    counted = measured.counts("hydra.network.io")
    assert 4 / 3 * len(received) < counted["transmit"] < 1.6 * len(received)
    assert 4 / 3 * len(sent) < counted["receive"] < 1.6 * len(sent)
    for name in ("hydra.reconnects", "hydra.given_up", "hydra.capacity.waits"):
        assert measured.points(name)
        assert measured.counts(name) == {}
    assert measured.points("hydra.discarded_turns")
    assert measured.counts("hydra.discarded_turns") == {}

    for metric in measured.metrics:
        for point in metric.data.data_points:
            assert set(point.attributes or {}) <= ATTRIBUTES
    everything = str(measured.metrics)
    for secret in (KEY, session.id, "call_1", "Oslo", "clear", "Bye", INSTRUCTION):
        assert secret not in everything


class Slow(FrameProcessor):
    """Is slow to pass an interruption on."""

    async def process_frame(self, frame: Frame, direction: FrameDirection):
        await super().process_frame(frame, direction)
        if isinstance(frame, InterruptionFrame) and direction is FrameDirection.DOWNSTREAM:
            await asyncio.sleep(0.15)
        await self.push_frame(frame, direction)


@shapes
async def test_a_barge_in_lasts_until_the_transport_is_silent(shape: Shape, measured: Measured):
    script = Script([Say.tones(20.0), Say.tones(0.2)])
    async with (
        HydraEmulator(script) as hydra,
        call(hydra, shape, settings=NO_GREETING, behind=[Slow()]) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(TTSStartedFrame)
        await asyncio.sleep(1.0)
        await talk.say("hello")
        await talk.until_pushed(TTSStartedFrame, 2)
    assert measured.sums("hydra.barge_in.silence") == {"": (1, pytest.approx(0.15, abs=0.02))}


@shapes
async def test_noise_over_a_reply(shape: Shape, measured: Measured):
    script = Script([Say.tones(6.0)])
    async with (
        emulator(script, min_turn_ms=800) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await talk.say("question")
        await talk.until_pushed(TTSStartedFrame)
        await asyncio.sleep(1.0)
        await talk.transport.microphone.say(COUGH)
        # The rest of the reply.
        await talk.until_pushed(TTSStartedFrame, 2)
        await talk.until_quiet()
    assert measured.counts("hydra.discarded_turns") == {"": 1}
    assert measured.sums("hydra.barge_in.silence")[""][0] == 1
    # What is heard behind the noise is no answer to it.
    assert measured.sums("hydra.turn.latency")[""][0] == 1


async def test_a_connection_that_drops(measured: Measured):
    async with emulator() as hydra:
        async with call(hydra, "bare", settings=NO_GREETING, retry=QUICK) as talk:
            story = Story(talk.llm)
            await talk.say("hello")
            await talk.until_pushed(LLMFullResponseEndFrame)
            before = measured.counts("hydra.network.io")
            await hydra.drop()
            lasted = hydra.sessions[0].elapsed
            await reconnected(talk, story)
            assert measured.counts("hydra.session.active") == {"": 1}
            await talk.say("hello")
            await talk.until_pushed(LLMFullResponseEndFrame, 2)
        assert len(hydra.sessions) == 2
    assert measured.counts("hydra.reconnects") == {"connectivity": 1}
    ended = [secs for (secs,) in story.of("on_session_ended")]
    assert [lasted, hydra.sessions[1].elapsed] == pytest.approx(ended, abs=0.1)
    assert measured.sums("hydra.session.duration") == {"": (2, pytest.approx(sum(ended)))}
    assert measured.counts("hydra.session.active") == {}
    after = measured.counts("hydra.network.io")
    assert after["transmit"] > before["transmit"] > 0


async def test_a_server_that_is_full(measured: Measured):
    # The first one only warms the connection up, and nobody waits for another attempt.
    async with HydraEmulator(faults=[Full(times=3)]) as hydra:
        async with call(hydra, "bare", settings=NO_GREETING, retry=QUICK) as talk:
            story = Story(talk.llm)
            await reconnected(talk, story)
        assert len(story.of("on_capacity")) == 2
        # Hydra has created one of them only.
        assert len(story.of("on_connected")) > len(story.of("on_session_ended")) == 1
    assert measured.counts("hydra.capacity.waits") == {"": 2}
    assert measured.counts("hydra.reconnects") == {"capacity": 1}
    assert measured.sums("hydra.session.duration")[""][0] == 1


async def test_a_key_that_is_refused(measured: Measured):
    async with emulator() as hydra, call(hydra, "bare", api_key=KEY) as talk:
        story = Story(talk.llm)
        await talk.until(lambda: story.of("on_given_up"))
    assert measured.counts("hydra.given_up") == {"authentication": 1}
    assert measured.counts("hydra.reconnects") == {}
    assert measured.points("hydra.session.duration") == []
    assert story.of("on_session_ended") == []


async def test_functions_that_fail(measured: Measured):
    asked = {
        "call_1": ("fails", {}),
        "call_2": ("hangs", {}),
        "call_3": ("weather", "{not json"),
        "call_4": ("delete_everything", {}),
    }
    steps = [EmulatedCall(name, arguments, id_) for id_, (name, arguments) in asked.items()]
    async with (
        emulator(Script([[*steps, Say.tones(0.2)]])) as hydra,
        call(hydra, "bare", settings=NO_GREETING, tools=[fails, hangs, weather]) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
    sums = measured.sums("hydra.tool.duration")
    assert {label: count for label, (count, _) in sums.items()} == {
        "error execute_tool fails": 1,
        "timeout execute_tool hangs": 1,
        "invalid_arguments execute_tool weather": 1,
        # A name that only the model knows.
        "execute_tool _OTHER": 1,
    }
    assert sums["timeout execute_tool hangs"][1] == pytest.approx(0.1, abs=0.05)
    assert "Oslo" not in str(measured.metrics)


@shapes
async def test_a_function_that_the_user_interrupts(shape: Shape, measured: Measured):
    async def slow(params: FunctionCallParams):
        """Take long."""
        await asyncio.sleep(60)

    script = Script([[EmulatedCall("slow", {}), Say.tones(0.2)], Say.tones(0.2)])
    async with (
        emulator(script) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, slow)) as talk,
    ):
        await talk.say("hello")
        await asyncio.sleep(1.0)
        await talk.say("hello")
        await talk.until_pushed(TTSStartedFrame)
    assert measured.sums("hydra.tool.duration") == {
        "cancelled execute_tool slow": (1, pytest.approx(2.1, abs=0.1))
    }


@shapes
async def test_a_session_that_ends_with_the_pipeline_is_told_once(shape: Shape, measured: Measured):
    async with emulator() as hydra:
        llm = HydraLLMService(api_key=hydra.api_key, base_url=hydra.url, settings=NO_GREETING)
        story = Story(llm)
        for run in (1, 2):
            async with call(hydra, shape, llm=llm) as talk:
                await talk.until(lambda run=run: len(hydra.sessions) == run)
                await asyncio.sleep(3.0)
            assert len(story.of("on_session_ended")) == run
    assert measured.sums("hydra.session.duration")[""][0] == 2
    assert measured.counts("hydra.session.active") == {}


async def test_nothing_is_measured_unless_the_application_has_set_a_provider(
    monkeypatch: pytest.MonkeyPatch,
):
    made: list[str] = []
    monkeypatch.setattr(metrics.NoOpMeter, "create_counter", lambda *_, **__: made.append("it"))
    async with emulator() as hydra, call(hydra, "bare", settings=NO_GREETING) as talk:
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
    assert made == []


# Step by step


async def test_a_session_of_whose_end_no_effect_tells_is_told_at_the_end(measured: Measured):
    llm = HydraLLMService(api_key=KEY)
    story, run = Story(llm), llm._run
    run.meters.begin()
    clock = run.conversation.clock
    clock.opened(10.0)
    clock.created()
    clock.closed(13.0)
    for _ in range(2):
        await run.end(drain=False)
        await asyncio.sleep(0.1)
    assert story.told == [("on_session_ended", (3.0,))]
    assert measured.sums("hydra.session.duration") == {"": (1, 3.0)}


def meters() -> Meters:
    return Meters(
        model=lambda: "hydra-v1.1",
        clock=lambda: 0.0,
        traffic=Traffic(),
        knows_function=lambda name: True,
    )


def test_meters_that_were_not_begun_or_are_closed_measure_nothing(measured: Measured):
    unused = meters()
    unused.see(TurnDiscarded())
    unused.close()
    assert not unused.enabled
    used = meters()
    used.begin()
    assert used.enabled
    used.see(TurnDiscarded())
    used.close()
    used.see(TurnDiscarded())
    used.close()
    assert measured.counts("hydra.discarded_turns") == {"": 1}


def test_an_instrument_that_fails_harms_no_call(
    measured: Measured, warnings: list[str], monkeypatch: pytest.MonkeyPatch
):
    from opentelemetry.sdk.metrics import Counter

    used = meters()
    used.begin()

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("what the user said")

    monkeypatch.setattr(Counter, "add", fail)
    used.see(TurnDiscarded())
    (warning,) = warnings
    assert "Hydra: meters failed: RuntimeError" in warning
    assert "what the user said" not in warning
