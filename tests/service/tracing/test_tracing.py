"""Tracing of whole calls, of sessions that end, and of failures of its own."""

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import StatusCode
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    EndFrame,
    LLMFullResponseEndFrame,
    MetricsFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
)
from pipecat.metrics.metrics import LLMUsageMetricsData, TTFBMetricsData
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import FunctionCallParams
from support import call as calls
from support.call import NO_GREETING, SHAPES, Call, Shape, call, emulator
from support.spans import (
    BEGUN,
    CALLS,
    LOST,
    Relay,
    Spans,
    Story,
    about,
    finished,
    lasted,
    result,
    times,
)

from pipecat_hydra import HydraLLMSettings, RetryPolicy
from pipecat_hydra.conversation.effects import (
    Connected,
    Disconnected,
    Ready,
    ReplyEnded,
    ReplyStarted,
)
from pipecat_hydra.emulator import Call as EmulatedCall
from pipecat_hydra.emulator import Drop, HydraEmulator, Say, Script
from pipecat_hydra.service.pipecat_versions import tool_options
from pipecat_hydra.wire.events import SessionInfo

shapes = pytest.mark.parametrize("shape", SHAPES)

KEY = "sk-5ecret-9d2"
QUICK = RetryPolicy(first_delay_secs=0.05, longest_delay_secs=0.1)


# Whole calls


@pytest.fixture
def traced(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> Generator[Spans]:
    """Calls of this test are traced, and all spans that they begin they end."""

    def traced(*args: Any, **options: Any) -> PipelineWorker:
        tracing = {"enable_turn_tracking": True, "enable_tracing": True}
        return PipelineWorker(*args, **(options | tracing), conversation_id="call-1")

    monkeypatch.setattr(calls, "PipelineWorker", traced)
    yield spans
    assert spans.begun == len(spans.ended)
    # There is one tree.
    assert spans.tree().startswith("conversation")
    assert all(KEY not in span.to_json() for span in spans.ended)


async def weather(params: FunctionCallParams, city: str):
    """Tell the weather.

    Args:
        city: Where.
    """
    await params.result_callback({"sky": "clear"})


async def fails(params: FunctionCallParams):
    """Fail."""
    raise RuntimeError("no such city")


@tool_options(timeout_secs=0.1)
async def hangs(params: FunctionCallParams):
    """Never come back."""
    await asyncio.sleep(30)


def tools(shape: Shape, *functions: Any) -> dict[str, Any]:
    if shape == "bare":
        return {"tools": list(functions)}
    return {"context": LLMContext(tools=list(functions))}


async def heard_bot(talk: Call, times: int) -> None:
    """Wait until the bot is heard, for the nth time: else no turn of it can end."""
    up = FrameDirection.UPSTREAM
    await talk.until(lambda: len(talk.frames.of(BotStartedSpeakingFrame, direction=up)) >= times)


def measured(talk: Call, kind: type[Any]) -> list[Any]:
    """What was measured, but for the zeros that Pipecat begins with."""
    data: list[Any] = [d for frame in talk.frames.of(MetricsFrame) for d in frame.data]
    return [d.value for d in data if isinstance(d, kind) and d.value]


@shapes
async def test_a_call_with_a_tool_and_a_barge_in(shape: Shape, traced: Spans):
    """A greeting; a turn with a tool, whose narration is interrupted; and its answer."""
    script = Script(
        [
            [EmulatedCall("weather", {"city": "Oslo"}, "call_1"), Say.tones(20, "It is clear.")],
            Say.tones(0.3, "Bye!"),
        ],
        greeting=Say.tones(0.3, "Hello!"),
    )
    settings = HydraLLMSettings(voice="aria", system_instruction="Be brief.")
    async with (
        emulator(script, delivery_speed=2.0, response_latency_secs=0.2, transcripts=True) as hydra,
        call(hydra, shape, settings=settings, **tools(shape, weather)) as talk,
    ):
        await talk.run_llm()
        await talk.until_pushed(TTSStartedFrame)
        # An interruption just as it ends may look like another beginning.
        await talk.until_quiet()
        await talk.say("hello")
        await heard_bot(talk, 2)
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame, 4)
        await talk.worker.queue_frame(EndFrame())
        await talk.running
        ttfbs = measured(talk, TTFBMetricsData)
        usages = measured(talk, LLMUsageMetricsData)
    print(f"\n{traced.tree()}")

    (setup,) = traced.of("llm_setup")
    assert about(setup)["hydra.attempts"] == about(setup)["tools.count"] == 1
    assert about(setup)["gen_ai.system_instructions"] == "Be brief."
    connected, *others = [event.name for event in setup.events]
    assert connected == "connected"
    # The configuration is given on its way out, and that the session is there is told by a task.
    assert sorted(others) == ["session.configure", "session.created"]
    greeting, calling, narration, answer = traced.of("llm_response")
    assert [about(r)["response.status"] for r in traced.of("llm_response")] == [
        "completed",
        "completed",
        "cancelled",
        "completed",
    ]
    assert [about(r)["hydra.interrupted"] for r in traced.of("llm_response")] == [
        False,
        False,
        True,
        False,
    ]
    assert about(greeting)["output"] == "Hello!"
    assert about(calling)["function_calls.all_names"] == "weather"
    assert about(greeting)["hydra.audio.seconds"] == pytest.approx(0.3, abs=0.01)
    # Each response is as it was measured.
    responses = [about(response) for response in traced.of("llm_response")]
    spoke = [r["metrics.ttfb"] for r in responses if "metrics.ttfb" in r]
    assert spoke == pytest.approx(ttfbs, abs=0.05)
    assert [
        (r["gen_ai.usage.input_tokens"], r["gen_ai.usage.output_tokens"]) for r in responses
    ] == [(usage.prompt_tokens, usage.completion_tokens) for usage in usages]

    (tool,) = traced.of("llm_tool_call")
    assert about(tool)["tool.arguments"] == '{"city": "Oslo"}'
    assert about(tool)["tool.result"] == '{"sky": "clear"}'
    assert about(tool)["tool.result_status"] == "completed"
    # Each under the turn in which it began.
    turns = [traced.parent(span) for span in (greeting, calling, tool, narration, answer)]
    numbers = [about(turn)["turn.number"] for turn in turns if turn]
    assert numbers == [1, 2, 2, 2, 3]
    assert all(about(span)["gen_ai.conversation.id"] == "call-1" for span in (setup, tool, answer))
    # The interrupted one ends when it is interrupted: just before the turn after it begins.
    assert lasted(narration)[1] == pytest.approx(lasted(turns[4])[0], abs=0.5)  # type: ignore


async def test_functions_that_fail(traced: Spans):
    ids = {"call_1": ("fails", {}), "call_2": ("hangs", {}), "call_3": ("weather", "{not json")}
    steps = [EmulatedCall(name, arguments, id_) for id_, (name, arguments) in ids.items()]
    async with (
        emulator(Script([[*steps, Say.tones(0.2)]])) as hydra,
        call(hydra, "bare", settings=NO_GREETING, tools=[fails, hangs, weather]) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
    spans = {about(span)["tool.call_id"]: span for span in traced.of("llm_tool_call")}
    assert {id_: about(span)["tool.result_status"] for id_, span in spans.items()} == {
        "call_1": "error",
        "call_2": "timeout",
        "call_3": "refused",
    }
    assert all(span.status.status_code is StatusCode.ERROR for span in spans.values())
    assert about(spans["call_1"])["error.type"] == "RuntimeError"
    begun, ended = lasted(spans["call_2"])
    assert 0.1 <= ended - begun < 5


async def test_a_lost_session_ends_its_response_with_an_error(traced: Spans):
    drop = Drop("reset", sent=8, of="response.output_audio.delta", times=1)
    async with (
        HydraEmulator("echo", api_key=KEY, faults=[drop]) as hydra,
        call(hydra, "aggregators", retry=QUICK) as talk,
    ):
        await talk.run_llm()
        await talk.until(lambda: len(traced.of("llm_setup")) == 2)
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
    lost, answer = traced.of("llm_response")
    assert lost.status.status_code is StatusCode.ERROR
    assert about(lost)["error.type"] == "connectivity"
    assert "response.status" not in about(lost)
    assert about(answer)["response.status"] == "completed"
    first, second = traced.of("llm_setup")
    assert first.status.is_unset
    assert second.status.is_unset
    assert [about(setup)["hydra.reconnect"] for setup in (first, second)] == [False, True]
    assert [about(setup)["hydra.session.number"] for setup in (first, second)] == [1, 2]
    assert about(lost)["hydra.session.id"] == about(first)["hydra.session.id"]
    assert about(answer)["hydra.session.id"] == about(second)["hydra.session.id"]


async def test_a_key_that_is_refused(traced: Spans):
    async with emulator() as hydra, call(hydra, api_key=KEY) as talk:
        await talk.until(lambda: traced.of("llm_setup"))
    (setup,) = traced.of("llm_setup")
    assert about(setup)["error.type"] == "authentication"


@shapes
async def test_a_cancelled_call_leaves_no_span_open(shape: Shape, traced: Spans):
    script = Script([], greeting=Say.tones(20))
    async with emulator(script, delivery_speed=1.0) as hydra, call(hydra, shape) as talk:
        await talk.run_llm()
        await talk.until_pushed(TTSAudioRawFrame)
    (response,) = traced.of("llm_response")
    assert about(response)["hydra.ended_by"] == "the pipeline has ended"
    assert response.status.is_unset


async def test_nothing_is_traced_unless_the_pipeline_does(spans: Spans):
    async with emulator() as hydra, call(hydra, "bare") as talk:
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame)
    assert not spans.begun


def test_a_call_without_opentelemetry():
    code = """
    import asyncio, sys
    sys.modules["opentelemetry"] = None
    from support import call as calls
    from support.call import call, emulator
    from support.virtual_time import VirtualTimeLoop
    from functools import partial
    from pipecat.frames.frames import LLMFullResponseEndFrame
    from pipecat_hydra.service.tracing import Tracing

    calls.PipelineWorker = partial(calls.PipelineWorker, enable_tracing=True)

    async def main():
        async with emulator() as hydra, call(hydra, "bare") as talk:
            await talk.run_llm()
            await talk.until_pushed(LLMFullResponseEndFrame)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
    tracing = Tracing()
    tracing.begin(None)
    print(tracing.enabled, any(name.startswith("opentelemetry.") for name in sys.modules))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False False"


# Step by step

READY = Ready(SessionInfo(voice="aria"), 24_000)


def test_a_lost_session_ends_what_is_open_with_an_error(spans: Spans, story: Story):
    story.at(1, ReplyStarted("resp_1"), CALLS, ReplyEnded("resp_1", True))
    story.at(2, *LOST)
    story.at(3, Connected(), READY)
    for span in (*spans.of("llm_response"), *spans.of("llm_tool_call")):
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "the connection broke"
        assert lasted(span)[1] <= BEGUN + 2
    (setup,) = spans.of("llm_setup")
    assert times(setup) == (2, 3)
    assert about(setup)["hydra.reconnect"] is True
    story.tracing.settle(result("late"))
    assert len(spans.of("llm_tool_call")) == 1


def test_a_session_that_is_replaced_is_no_error(spans: Spans, story: Story):
    story.at(1, ReplyStarted("resp_1"), Disconnected("replaced by another"), Connected())
    (response,) = spans.of("llm_response")
    assert response.status.is_unset
    assert about(response)["hydra.ended_by"] == "replaced by another"


def test_tracing_that_fails_harms_no_call(
    story: Story, warnings: list[str], monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("what the user said")

    monkeypatch.setattr(Relay, "on_start", fail)
    story.at(1, ReplyStarted("resp_1"), ReplyEnded("resp_1", False), finished())
    monkeypatch.undo()
    (warning,) = warnings
    assert "RuntimeError" in warning
    assert "what the user said" not in warning
