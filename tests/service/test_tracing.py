"""OpenTelemetry spans: the tree of whole calls, and what becomes of every span."""

import asyncio
import functools
import subprocess
import sys
import textwrap
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind, StatusCode
from pipecat.adapters.llm.schemas.direct_function import tool_options
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    EndFrame,
    FunctionCallCancelFrame,
    FunctionCallResultFrame,
    FunctionCallResultProperties,
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
from pipecat.utils.tracing.tracing_context import TracingContext
from support import call as calls
from support.call import NO_GREETING, SHAPES, Call, Shape, call, emulator

from pipecat_hydra import HydraLLMSettings, RetryPolicy
from pipecat_hydra.conversation.effects import (
    AudioChunk,
    Connected,
    Disconnected,
    FailureKind,
    GivenUp,
    Lost,
    PipelineEffect,
    Ready,
    ReplyEnded,
    ReplyStarted,
    ResponseFinished,
    Rested,
    Retrying,
    SessionStarted,
    TextChunk,
    ToolArguments,
    ToolCall,
    ToolCalls,
    UserStarted,
    UserStopped,
    VoiceStarted,
)
from pipecat_hydra.emulator import Call as EmulatedCall
from pipecat_hydra.emulator import Drop, HydraEmulator, Say, Script
from pipecat_hydra.service.tracing import Tracing
from pipecat_hydra.wire.events import SessionConfiguration, SessionInfo, Usage

shapes = pytest.mark.parametrize("shape", SHAPES)

KEY = "sk-5ecret-9d2"
QUICK = RetryPolicy(first_delay_secs=0.05, longest_delay_secs=0.1)


class Spans(SpanProcessor):
    """The spans of one test: how many were begun, and those that have ended."""

    def __init__(self):
        self.begun = 0
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.begun += 1

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)

    def of(self, name: str) -> list[ReadableSpan]:
        found = [span for span in self.ended if span.name == name]
        return sorted(found, key=lambda span: span.start_time or 0)

    def parent(self, span: ReadableSpan) -> ReadableSpan | None:
        by_id = {s.context.span_id: s for s in self.ended if s.context}
        return by_id[span.parent.span_id] if span.parent else None

    def tree(self) -> str:
        """All spans, each under its parent, in the order that they began."""
        (root,) = [span for span in self.ended if not span.parent]
        return "\n".join(self._branch(root, root.start_time or 0, 0))

    def _branch(self, span: ReadableSpan, zero: int, depth: int) -> Iterator[str]:
        begun, ended = (((at or 0) - zero) / 1e9 for at in (span.start_time, span.end_time))
        status = "" if span.status.is_unset else f"  {span.status.status_code.name}"
        yield f"{'  ' * depth}{span.name}  {begun:.2f} to {ended:.2f} s{status}"
        for name, value in sorted((span.attributes or {}).items()):
            yield f"{'  ' * depth}  | {name} = {value!r}"
        for event in span.events:
            yield f"{'  ' * depth}  @ {(event.timestamp - zero) / 1e9:.2f} s {event.name}"
        for child in sorted(self.ended, key=lambda s: s.start_time or 0):
            if child.parent and span.context and child.parent.span_id == span.context.span_id:
                yield from self._branch(child, zero, depth + 1)


class _Relay(SpanProcessor):
    """Tells the test that runs; a process can have its provider set only once."""

    spans = Spans()

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.spans.on_start(span)

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.on_end(span)


@pytest.fixture(scope="module")
def relay() -> _Relay:
    relay, provider = _Relay(), TracerProvider()
    provider.add_span_processor(relay)
    trace.set_tracer_provider(provider)
    return relay


@pytest.fixture
def spans(relay: _Relay) -> Spans:
    relay.spans = Spans()
    return relay.spans


def about(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def lasted(span: ReadableSpan) -> tuple[float, float]:
    """When it began and ended, in seconds."""
    return (span.start_time or 0) / 1e9, (span.end_time or 0) / 1e9


# Whole calls


@pytest.fixture
def traced(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> Generator[Spans]:
    """Calls of this test are traced, and all spans that they begin they end."""
    traced = functools.partial(PipelineWorker, enable_tracing=True, conversation_id="call-1")
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
    assert [event.name for event in setup.events] == [
        "connected",
        "session.created",
        "session.configure",
    ]
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
    from functools import partial
    from pipecat.frames.frames import LLMFullResponseEndFrame
    from pipecat_hydra.service.tracing import Tracing

    calls.PipelineWorker = partial(calls.PipelineWorker, enable_tracing=True)

    async def main():
        async with emulator() as hydra, call(hydra, "bare") as talk:
            await talk.run_llm()
            await talk.until_pushed(LLMFullResponseEndFrame)

    asyncio.run(main())
    tracing = Tracing()
    tracing.begin(None)
    print(tracing.enabled, any(name.startswith("opentelemetry.") for name in sys.modules))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False False"


# Step by step

BEGUN = 1_800_000_000


class Story:
    """A call told by its effects, at times in seconds."""

    def __init__(self):
        self.secs = 0.0
        self.context = TracingContext()
        self.tracing = Tracing(now=lambda: round((BEGUN + self.secs) * 1e9))
        self.tracing.begin(self.context)

    def at(self, secs: float, *effects: PipelineEffect) -> None:
        self.secs = secs
        for effect in effects:
            self.tracing.see(effect)

    def turn(self, name: str | None) -> None:
        """A turn begins, or none is there any more."""
        self.context.set_turn_context(_begin(name) if name else None)


def _begin(name: str) -> trace.SpanContext:
    span = trace.get_tracer("test").start_span(name)
    span.end()
    return span.get_span_context()


@pytest.fixture
def story(spans: Spans) -> Generator[Story]:
    story = Story()
    story.context.set_conversation_context(_begin("conversation"), "call-1")
    yield story
    story.tracing.close()
    assert spans.begun == len(spans.ended)


def times(span: ReadableSpan) -> tuple[float, float]:
    begun, ended = lasted(span)
    return pytest.approx(begun - BEGUN), pytest.approx(ended - BEGUN)  # type: ignore


def parent_name(spans: Spans, span: ReadableSpan) -> str | None:
    parent = spans.parent(span)
    return parent.name if parent else None


READY = Ready(SessionInfo(voice="aria"), 24_000)
SECOND = AudioChunk(bytes(48_000), 24_000)


def finished(response: str | None = "resp_1", status: str = "completed", **given: Any):
    return ResponseFinished(response, status, given.get("usage"), given.get("took"))


def configure(story: Story, secs: float, **fields: Any) -> None:
    story.secs = secs
    story.tracing.configuring(SessionConfiguration(**fields), "Be brief.")


def test_a_setup_spans_all_its_attempts(spans: Spans, story: Story):
    story.secs = 1
    story.tracing.connecting("hydra-v1.1")
    refused = (FailureKind.CAPACITY, "Hydra is full")
    story.at(2, Lost(*refused, configured=False), Retrying(1, 0.5, *refused))
    story.tracing.connecting("hydra-v1.1")
    story.at(3, Connected(), SessionStarted("sess_1"))
    configure(story, 4, voice="aria", instructions="Be brief. The user said: hi.")
    story.at(5, READY)
    (setup,) = spans.of("llm_setup")
    assert times(setup) == (1, 5)
    assert setup.kind is SpanKind.CLIENT
    assert setup.status.is_unset
    assert [event.name for event in setup.events] == [
        "retry",
        "connected",
        "session.created",
        "session.configure",
    ]
    assert about(setup) == {
        "gen_ai.provider.name": "smallest",
        "gen_ai.operation.name": "llm_setup",
        "service.operation": "llm_setup",
        "gen_ai.request.model": "hydra-v1.1",
        "gen_ai.conversation.id": "call-1",
        "gen_ai.system_instructions": "Be brief.",
        "voice_id": "aria",
        "tools.count": 0,
        "tools.available": False,
        "hydra.attempts": 2,
        "hydra.generate_initial_response": False,
        "hydra.instructions.bytes": 28,
        "hydra.lost_by": "Hydra is full",
        "hydra.output_sample_rate": 24_000,
        "hydra.reconnect": False,
        "hydra.session.id": "sess_1",
        "hydra.session.number": 1,
    }


def test_a_setup_that_comes_to_nothing(spans: Spans, story: Story):
    story.tracing.connecting("hydra-v1.1")
    story.at(1, GivenUp(FailureKind.AUTHENTICATION, "refused"))
    story.tracing.connecting("hydra-v1.1")
    story.at(2, Rested("not reached", failed=True))
    story.tracing.connecting("hydra-v1.1")
    story.at(3, Connected(), SessionStarted(None), Rested("not used", failed=False))
    given_up, failed, unused = spans.of("llm_setup")
    assert given_up.status.description == "refused"
    assert about(failed)["error.type"] == "_OTHER"
    assert unused.status.is_unset
    assert about(unused)["hydra.ended_by"] == "not used"


def test_a_session_dialled_before_the_conversation_hangs_under_it(spans: Spans):
    story = Story()
    story.tracing.connecting("hydra-v1.1")
    story.context.set_conversation_context(_begin("conversation"), "call-1")
    story.at(1, READY)
    assert parent_name(spans, spans.of("llm_setup")[0]) == "conversation"
    story.tracing.close()


def test_a_setup_that_is_over_before_the_conversation_waits_for_it(spans: Spans):
    story = Story()
    story.tracing.connecting("hydra-v1.1")
    story.at(1, GivenUp(FailureKind.AUTHENTICATION, "refused"))
    assert not spans.of("llm_setup")
    story.context.set_conversation_context(_begin("conversation"), "call-1")
    story.at(2)
    story.tracing.close()
    (setup,) = spans.of("llm_setup")
    assert times(setup) == (0, 1)
    assert parent_name(spans, setup) == "conversation"


def test_without_turn_tracking_spans_hang_under_nothing(spans: Spans):
    tracing = Tracing()
    tracing.begin(None)
    tracing.see(ReplyStarted("resp_1"))
    tracing.see(finished("resp_1"))
    tracing.close()
    assert spans.of("llm_response")[0].parent is None


def test_spans_that_end_after_the_conversation_hang_under_it(spans: Spans, story: Story):
    story.at(1, ReplyStarted("resp_1"))
    story.context.set_conversation_context(None)
    story.at(2, ReplyEnded("resp_1", False), finished(), ReplyStarted("resp_2"))
    story.tracing.close()
    assert [parent_name(spans, s) for s in spans.of("llm_response")] == ["conversation"] * 2
    assert about(spans.of("llm_response")[1])["hydra.ended_by"] == "the pipeline has ended"
    assert not story.tracing.enabled


def test_a_response_lasts_from_when_it_was_asked_for_until_it_is_done(spans: Spans, story: Story):
    story.turn("turn 1")
    story.at(1, UserStopped(discarded=False))
    story.at(2, ReplyStarted("resp_1"))
    story.turn("turn 2")
    story.at(3, VoiceStarted("resp_1", 2.25), SECOND, TextChunk("Well,"), TextChunk(" yes"))
    story.turn(None)
    usage = Usage(input_tokens=7, output_tokens=0)
    story.at(4, SECOND, ReplyEnded("resp_1", False), finished(usage=usage, took=3.25))
    (response,) = spans.of("llm_response")
    assert times(response) == (0.75, 4)
    assert parent_name(spans, response) == "turn 1"
    assert about(response) == {
        "gen_ai.provider.name": "smallest",
        "gen_ai.operation.name": "chat",
        "gen_ai.output.type": "speech",
        "gen_ai.conversation.id": "call-1",
        "gen_ai.response.id": "resp_1",
        "gen_ai.response.time_to_first_chunk": 2.25,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 0,
        "service.operation": "llm_response",
        "metrics.ttfb": 2.25,
        "response.id": "resp_1",
        "response.status": "completed",
        "output": "Well, yes",
        "hydra.audio.seconds": 2.0,
        "hydra.interrupted": False,
    }


def test_a_response_without_a_word_begins_when_it_was_asked_for_too(spans: Spans, story: Story):
    story.at(2, ReplyStarted("resp_1"), ToolArguments("call_1", "weather", "{"))
    story.at(3, ReplyEnded("resp_1", False), finished(took=2.5))
    story.at(4, UserStopped(discarded=False))
    story.at(5, ReplyStarted("resp_2"), ReplyEnded("resp_2", True))
    story.at(6, finished("resp_2", "cancelled"))
    first, second = spans.of("llm_response")
    assert times(first) == (0.5, 3)
    assert times(second) == (4, 5)


def test_an_interrupted_response_ends_when_it_is_interrupted(spans: Spans, story: Story):
    story.at(1, ReplyStarted("resp_1"), VoiceStarted("resp_1", None), SECOND)
    story.at(2, UserStarted(), ReplyEnded("resp_1", True))
    story.at(3, UserStopped(False), finished(status="cancelled", usage=Usage(output_tokens=3)))
    (response,) = spans.of("llm_response")
    assert times(response) == (1, 2)
    assert about(response)["hydra.interrupted"] is True
    assert about(response)["gen_ai.usage.output_tokens"] == 3


@pytest.mark.parametrize("generated", [False, True])
def test_noise_does_not_end_a_response(spans: Spans, story: Story, generated: bool):
    story.at(1, ReplyStarted("resp_1"), VoiceStarted("resp_1", None), SECOND)
    story.at(2, UserStarted(), ReplyEnded("resp_1", True))
    story.at(3, *([finished()] if generated else []))
    assert not spans.of("llm_response")
    story.at(4, UserStopped(True), ReplyStarted("resp_1", resumed=True), SECOND)
    story.at(5, ReplyEnded("resp_1", False), *([] if generated else [finished()]))
    (response,) = spans.of("llm_response")
    assert times(response) == (1, 3 if generated else 5)
    assert about(response)["hydra.interrupted"] is False
    assert about(response)["hydra.resumed"] is True
    # What is said again of a response that is over is none.
    story.at(6, ReplyStarted(None, resumed=True), SECOND, ReplyEnded(None, False))
    story.tracing.close()
    assert len(spans.of("llm_response")) == 1


def test_a_response_that_was_done_when_it_was_interrupted_ends_with_the_next(
    spans: Spans, story: Story
):
    story.at(1, ReplyStarted("resp_1"))
    story.at(2, UserStarted(), ReplyEnded("resp_1", True))
    story.at(3, finished())
    story.at(4, UserStopped(False))
    story.at(5, ReplyStarted("resp_2"))
    (response,) = spans.of("llm_response")
    assert times(response) == (1, 2)
    assert about(response)["hydra.interrupted"] is True


def test_a_response_that_is_done_after_the_next_has_begun(spans: Spans, story: Story):
    story.at(1, ReplyStarted("resp_1"))
    story.at(2, ReplyEnded("resp_1", False), ReplyStarted("resp_2"))
    story.at(3, finished("resp_1"))
    story.at(4, ReplyEnded("resp_2", False), finished("resp_2"))
    assert [times(span) for span in spans.of("llm_response")] == [(1, 3), (2, 4)]


def test_a_response_that_is_announced_without_its_id(spans: Spans, story: Story):
    story.at(1, ReplyStarted(None))
    story.at(2, ReplyEnded("resp_1", False), finished("resp_1"))
    story.at(3, ReplyStarted("resp_2"))
    story.at(4, ReplyEnded("resp_2", False), finished(None))
    assert [about(s)["response.id"] for s in spans.of("llm_response")] == ["resp_1", "resp_2"]


def test_a_response_that_is_cancelled_before_it_begins(spans: Spans, story: Story):
    story.at(1, UserStopped(discarded=False))
    story.at(2, finished(status="cancelled"))
    (response,) = spans.of("llm_response")
    assert times(response) == (1, 2)
    assert about(response)["hydra.interrupted"] is True


def test_a_response_that_failed(spans: Spans, story: Story):
    story.at(1, ReplyStarted("resp_1"), ReplyEnded("resp_1", False), finished(status="failed"))
    (response,) = spans.of("llm_response")
    assert response.status.status_code is StatusCode.ERROR
    assert about(response)["error.type"] == "failed"


def test_responses_that_are_never_done_do_not_pile_up(spans: Spans, story: Story):
    for n in range(200):
        story.at(n, ReplyStarted(f"resp_{n}"), ReplyEnded(f"resp_{n}", True))
    assert len(spans.of("llm_response")) > 100


def result(result: Any, *, final: bool = True, error: str | None = None):
    properties = FunctionCallResultProperties(is_final=final)
    return FunctionCallResultFrame(
        "weather", "call_1", {}, result, properties=properties, error=error
    )


CALLS = ToolCalls("resp_1", (ToolCall("call_1", "weather", "{}"),))
LOST = (
    Disconnected("reset"),
    Lost(FailureKind.CONNECTIVITY, "the connection broke", configured=True),
)


def test_a_call_lasts_until_its_function_has_given_its_result(spans: Spans, story: Story):
    story.turn("turn 1")
    story.at(1, ReplyStarted("resp_1"), CALLS)
    story.turn("turn 2")
    story.secs = 2
    story.tracing.settle(result("half", final=False))
    story.tracing.hold("call_1")
    story.tracing.hold("call_1")
    # It was answered for now, so it goes on.
    story.at(3, *LOST)
    story.secs = 4
    story.tracing.settle(result("x" * 3_000))
    story.tracing.settle(result("again"))
    (tool,) = spans.of("llm_tool_call")
    assert times(tool) == (1, 4)
    assert tool.kind is SpanKind.INTERNAL
    assert parent_name(spans, tool) == "turn 1"
    assert [event.name for event in tool.events] == ["answered_for_now"]
    assert about(tool)["gen_ai.operation.name"] == "execute_tool"
    assert about(tool)["gen_ai.tool.name"] == "weather"
    assert about(tool)["gen_ai.tool.call.id"] == "call_1"
    assert about(tool)["gen_ai.response.id"] == "resp_1"
    assert len(about(tool)["tool.result"]) == 2_003


def test_a_call_that_is_cancelled_is_no_error(spans: Spans, story: Story):
    story.at(1, CALLS)
    story.tracing.settle(FunctionCallCancelFrame("weather", "call_1"))
    (tool,) = spans.of("llm_tool_call")
    assert about(tool)["tool.result_status"] == "cancelled"
    assert tool.status.is_unset


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

    monkeypatch.setattr(_Relay, "on_start", fail)
    story.at(1, ReplyStarted("resp_1"), ReplyEnded("resp_1", False), finished())
    monkeypatch.undo()
    (warning,) = warnings
    assert "RuntimeError" in warning
    assert "what the user said" not in warning
