"""Flushes and ends of a pipeline wait for the reply that can come, and for nothing else (S5)."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pipecat.frames.frames import (
    EndFrame,
    EndTaskFrame,
    EndWorkerFrame,
    InterruptionFrame,
    PipelineFlushFrame,
    TTSAudioRawFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import FunctionCallParams
from support.call import NO_GREETING, SHAPES, Call, Shape, call, emulator

from pipecat_hydra import RetryPolicy
from pipecat_hydra.emulator import Call as ToolCall
from pipecat_hydra.emulator import Full, HydraEmulator, Refuse, Say, Script

shapes = pytest.mark.parametrize("shape", SHAPES)

ANNOUNCEMENT = Script([], greeting=Say.tones(2.0))


def tools(shape: Shape, *functions: Any) -> dict[str, Any]:
    if shape == "bare":
        return {"tools": list(functions)}
    return {"context": LLMContext(tools=list(functions))}


def calling(*, preamble_secs: float = 0.0) -> Script:
    """A model that calls `leave` when the user speaks, and takes leave for two seconds after it."""
    preamble = [Say.tones(preamble_secs)] if preamble_secs else []
    return Script([[*preamble, ToolCall("leave"), Say.tones(2.0)]])


async def took(something: Awaitable[Any]) -> float:
    """Wait for something; return how long that took, in seconds."""
    began = time.monotonic()
    await something
    return time.monotonic() - began


def heard_secs(talk: Call) -> float:
    """How much sound the listener has heard, in seconds."""
    pcm = talk.transport.heard_pcm
    return sum(1 for at in range(0, len(pcm), 960) if any(pcm[at : at + 960])) * 0.02


class TestFlushes:
    @shapes
    async def test_one_waits_for_the_reply_that_was_asked_for(self, shape: Shape):
        async with emulator(ANNOUNCEMENT) as hydra, call(hydra, shape) as talk:
            await talk.run_llm()
            assert await talk.worker.flush_pipeline()
            assert heard_secs(talk) == pytest.approx(2.0, abs=0.1)

    @shapes
    @pytest.mark.parametrize("speed", [1.0, 10.0])
    async def test_one_waits_for_the_reply_in_flight(self, shape: Shape, speed: float):
        async with (
            emulator(ANNOUNCEMENT, delivery_speed=speed) as hydra,
            call(hydra, shape) as talk,
        ):
            await talk.run_llm()
            await talk.until_pushed(TTSAudioRawFrame)
            assert await talk.worker.flush_pipeline()
            assert heard_secs(talk) == pytest.approx(2.0, abs=0.1)

    @shapes
    async def test_one_with_nothing_to_wait_for_passes_at_once(self, shape: Shape):
        async with emulator(ANNOUNCEMENT) as hydra, call(hydra, shape) as talk:
            assert await took(talk.worker.flush_pipeline()) < 0.1
            await talk.run_llm()
            await talk.until_pushed(TTSAudioRawFrame)
            await talk.until_quiet()
            assert await took(talk.worker.flush_pipeline()) < 0.1

    @shapes
    async def test_one_does_not_wait_for_a_reply_that_is_interrupted(self, shape: Shape):
        async with emulator(ANNOUNCEMENT, delivery_speed=1.0) as hydra, call(hydra, shape) as talk:
            await talk.run_llm()
            await talk.until_pushed(TTSAudioRawFrame)
            flushing = asyncio.create_task(talk.worker.flush_pipeline())
            await asyncio.sleep(0.3)
            await talk.worker.queue_frame(InterruptionFrame())
            assert await took(flushing) < 0.3
            assert heard_secs(talk) < 1.0

    @shapes
    @pytest.mark.parametrize("calls_done", ["before_outputs", "after_outputs"])
    async def test_a_call_that_waits_for_a_client_does_not_hold_one(
        self, shape: Shape, calls_done: Any
    ):
        asked: list[FunctionCallParams] = []

        async def leave(params: FunctionCallParams):
            """Ask the client."""
            asked.append(params)

        async with (
            emulator(calling(), calls_done=calls_done) as hydra,
            call(hydra, shape, settings=NO_GREETING, **tools(shape, leave)) as talk,
        ):
            await talk.say("hello")
            await talk.until(lambda: asked)
            await asyncio.sleep(0.5)
            assert await took(talk.worker.flush_pipeline()) < 0.1
            await asked[0].result_callback("done")
            assert await talk.worker.flush_pipeline()
            assert heard_secs(talk) == pytest.approx(2.0, abs=0.1)

    @shapes
    async def test_one_of_a_function_without_a_result_does_not_wait_for_it(self, shape: Shape):
        flushed: list[float] = []

        async def leave(params: FunctionCallParams):
            """Flush, and only then give the result."""
            flushed.append(await took(params.pipeline_worker.flush_pipeline()))
            await params.result_callback("done")

        async with (
            emulator(calling()) as hydra,
            call(hydra, shape, settings=NO_GREETING, **tools(shape, leave)) as talk,
        ):
            await talk.say("hello")
            await talk.until(lambda: flushed)
            assert flushed[0] < 0.5
            await talk.until_pushed(TTSAudioRawFrame)

    @shapes
    async def test_one_does_not_wait_for_a_session_that_is_not_to_be_had(self, shape: Shape):
        async with HydraEmulator(faults=[Refuse(503)]) as hydra, call(hydra, shape) as talk:
            await talk.run_llm()
            assert await took(talk.worker.flush_pipeline()) < 5.0

    @shapes
    async def test_a_cancel_ends_a_flush_that_waits(self, shape: Shape):
        async with emulator(ANNOUNCEMENT, delivery_speed=0.5) as hydra, call(hydra, shape) as talk:
            await talk.run_llm()
            await talk.until_pushed(TTSAudioRawFrame)
            await talk.worker.queue_frame(PipelineFlushFrame())
            await asyncio.sleep(0.2)
            assert await took(talk.worker.cancel()) < 0.2
            assert await took(talk.ended()) < 0.2


async def end_by_worker(params: FunctionCallParams) -> None:
    await params.pipeline_worker.end()


async def end_by_frame(params: FunctionCallParams) -> None:
    await params.llm.push_frame(EndWorkerFrame(), FrameDirection.UPSTREAM)


async def end_by_deprecated_frame(params: FunctionCallParams) -> None:
    with pytest.warns(DeprecationWarning, match="EndTaskFrame"):
        frame = EndTaskFrame()
    await params.llm.push_frame(frame, FrameDirection.UPSTREAM)


ways = pytest.mark.parametrize("end", [end_by_worker, end_by_frame, end_by_deprecated_frame])

End = Callable[[FunctionCallParams], Awaitable[None]]


class TestEndsByFunctions:
    @shapes
    @ways
    @pytest.mark.parametrize("calls_done", ["before_outputs", "after_narration_began"])
    async def test_a_farewell_about_the_result_is_heard(
        self, shape: Shape, end: End, calls_done: Any
    ):
        async def leave(params: FunctionCallParams):
            """Hang up."""
            await params.result_callback("Say goodbye.")
            await end(params)

        async with (
            emulator(calling(), calls_done=calls_done) as hydra,
            call(hydra, shape, settings=NO_GREETING, **tools(shape, leave)) as talk,
        ):
            await talk.say("hello")
            await talk.ended()
            assert heard_secs(talk) == pytest.approx(2.0, abs=0.1)

    @shapes
    async def test_also_if_the_result_is_given_last(self, shape: Shape):
        async def leave(params: FunctionCallParams):
            """Hang up."""
            await end_by_frame(params)
            await asyncio.sleep(1.0)
            await params.result_callback("Say goodbye.")

        async with (
            emulator(calling()) as hydra,
            call(hydra, shape, settings=NO_GREETING, **tools(shape, leave)) as talk,
        ):
            await talk.say("hello")
            await talk.ended()
            assert heard_secs(talk) == pytest.approx(2.0, abs=0.1)

    @shapes
    @ways
    @pytest.mark.parametrize("preamble_secs", [0.0, 1.5])
    @pytest.mark.parametrize("calls_done", ["before_outputs", "after_outputs"])
    async def test_without_a_result_nothing_but_the_preamble_is_waited_for(
        self, shape: Shape, end: End, preamble_secs: float, calls_done: Any
    ):
        called: list[float] = []

        async def leave(params: FunctionCallParams):
            """Hang up, and give no result."""
            called.append(time.monotonic())
            await end(params)

        async with (
            emulator(calling(preamble_secs=preamble_secs), calls_done=calls_done) as hydra,
            call(hydra, shape, settings=NO_GREETING, **tools(shape, leave)) as talk,
        ):
            await talk.say("hello")
            await talk.ended()
            assert time.monotonic() - called[0] < preamble_secs + 1.0
            assert heard_secs(talk) == pytest.approx(preamble_secs, abs=0.1)


class TestEndsWithoutSession:
    @shapes
    @pytest.mark.parametrize("fault", [Refuse(503), Full(), Refuse(429)], ids=str)
    @pytest.mark.parametrize("later", [0.0, 3.0])
    async def test_one_waits_for_a_moment_only(self, shape: Shape, fault: Any, later: float):
        patient = RetryPolicy(attempts_per_drop=50, secs_per_drop=100)
        async with (
            HydraEmulator(faults=[fault]) as hydra,
            call(hydra, shape, retry=patient) as talk,
        ):
            await talk.run_llm()
            await asyncio.sleep(later)
            await talk.worker.queue_frame(EndFrame())
            assert await took(talk.ended()) < 2.5

    @shapes
    async def test_a_session_that_is_there_again_soon_gives_the_reply(self, shape: Shape):
        hydra = HydraEmulator(ANNOUNCEMENT, faults=[Refuse(503, times=1)])
        async with hydra, call(hydra, shape) as talk:
            await talk.run_llm()
            await talk.worker.queue_frame(EndFrame())
            await talk.ended()
            assert heard_secs(talk) == pytest.approx(2.0, abs=0.1)


class TestCancels:
    @shapes
    @pytest.mark.parametrize("end", [False, True])
    async def test_one_does_not_wait(self, shape: Shape, end: bool):
        async with emulator(ANNOUNCEMENT, delivery_speed=0.5) as hydra, call(hydra, shape) as talk:
            await talk.run_llm()
            await talk.until_pushed(TTSAudioRawFrame)
            if end:
                await talk.worker.queue_frame(EndFrame())
                await asyncio.sleep(0.2)
            assert await took(talk.worker.cancel()) < 0.2
            assert await took(talk.ended()) < 0.2
