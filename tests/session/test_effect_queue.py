"""Effects reach the pipeline one at a time and in order, whatever becomes of the task (P2, S6)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pipecat_hydra.conversation.effects import (
    AudioChunk,
    PipelineEffect,
    Report,
    Severity,
    TextChunk,
)
from pipecat_hydra.session.effect_queue import EffectQueue, Pause


def note(text: str) -> Report:
    return Report(Severity.INFO, text)


class Pipeline:
    """Takes the effects; it can be slow, and it can fail on some of them."""

    def __init__(self):
        self.taken: list[PipelineEffect] = []
        self.faults: dict[PipelineEffect, BaseException] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.deaths: list[str] = []

    async def __call__(self, effect: PipelineEffect) -> None:
        await self.gate.wait()
        self.taken.append(effect)
        if effect in self.faults:
            raise self.faults[effect]


@asynccontextmanager
async def queue_to(pipeline: Pipeline) -> AsyncGenerator[EffectQueue]:
    queue = EffectQueue(pipeline, on_death=pipeline.deaths.append)
    try:
        yield queue
    finally:
        await queue.close(drain=False)


def the_task() -> "asyncio.Task[Any]":
    (task,) = (task for task in asyncio.all_tasks() if task.get_name() == "hydra-effects")
    return task


async def drained(queue: EffectQueue) -> None:
    await asyncio.wait_for(queue.drained(), 5)


async def test_effects_are_handed_on_in_order_and_later():
    pipeline = Pipeline()
    effects = [note(str(n)) for n in range(20)]
    async with queue_to(pipeline) as queue:
        await drained(queue)
        for effect in effects:
            queue.put(effect)
        assert not pipeline.taken
        assert len(queue) == 20
        await drained(queue)
        assert pipeline.taken == effects
        queue.put(note("last"))
        await drained(queue)
        assert pipeline.taken[-1] == note("last")


async def test_nothing_is_handed_on_within_put_if_tasks_start_eagerly():
    factory = getattr(asyncio, "eager_task_factory", None)
    if factory is None:
        pytest.skip("eager tasks are new in Python 3.12")
    asyncio.get_running_loop().set_task_factory(factory)
    pipeline = Pipeline()
    async with queue_to(pipeline) as queue:
        queue.put(note("one"))
        assert not pipeline.taken
        await drained(queue)
        assert pipeline.taken == [note("one")]


async def test_an_exception_is_logged_and_costs_one_effect(warnings: list[str]):
    pipeline = Pipeline()
    pipeline.faults[note("one")] = RuntimeError("what a user said")
    async with queue_to(pipeline) as queue:
        queue.put(note("one"))
        queue.put(note("two"))
        await drained(queue)
    assert pipeline.taken == [note("one"), note("two")]
    assert not pipeline.deaths
    (line,) = warnings
    assert "Report was not handled: RuntimeError" in line
    assert "what a user said" not in line


async def test_a_stray_cancellation_in_a_handler_is_reported_and_the_rest_handed_on(
    warnings: list[str],
):
    pipeline = Pipeline()
    pipeline.faults[note("one")] = asyncio.CancelledError()
    async with queue_to(pipeline) as queue:
        queue.put(note("one"))
        queue.put(note("two"))
        await drained(queue)
    assert pipeline.taken == [note("one"), note("two")]
    assert pipeline.deaths == ["cancelled by somebody else"]
    assert "the task hydra-effects died" in warnings[0]


async def test_a_cancellation_with_the_last_effect_in_hand_lets_nobody_wait_for_ever():
    pipeline = Pipeline()
    pipeline.gate.clear()
    async with queue_to(pipeline) as queue:
        queue.put(note("one"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not len(queue)
        the_task().cancel()
        await drained(queue)
        assert pipeline.deaths == ["cancelled by somebody else"]


async def test_a_task_that_dies_with_nothing_to_do_is_reported_and_has_a_successor():
    pipeline = Pipeline()
    async with queue_to(pipeline) as queue:
        queue.put(note("one"))
        await drained(queue)
        the_task().cancel()
        await asyncio.sleep(0.01)
        assert pipeline.deaths == ["cancelled by somebody else"]
        queue.put(note("two"))
        await drained(queue)
        assert pipeline.taken == [note("one"), note("two")]


async def test_speech_that_waits_can_be_discarded():
    pipeline = Pipeline()
    async with queue_to(pipeline) as queue:
        queue.put(note("one"))
        queue.put(AudioChunk(b"ab", 24_000))
        queue.put(TextChunk("word"))
        queue.put(note("two"))
        queue.discard_speech()
        queue.put(TextChunk("another"))
        await drained(queue)
    assert pipeline.taken == [note("one"), note("two"), TextChunk("another")]


async def test_discarding_all_that_waits_while_between_leaves_nothing_to_hand_on():
    pipeline = Pipeline()
    async with queue_to(pipeline) as queue:
        async with queue.between():
            queue.put(TextChunk("word"))
            # The task has seen that something waits, and waits for the body to end.
            await asyncio.sleep(0.01)
            queue.discard_speech()
        await drained(queue)
    assert not pipeline.taken


async def test_what_is_done_between_waits_for_the_effect_in_hand():
    pipeline = Pipeline()
    pipeline.gate.clear()
    async with queue_to(pipeline) as queue:
        queue.put(note("one"))
        queue.put(note("two"))
        await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_later(0.02, pipeline.gate.set)
        async with queue.between():
            assert pipeline.taken == [note("one")]
            await asyncio.sleep(0.02)
            assert pipeline.taken == [note("one")]
        await drained(queue)
        assert pipeline.taken == [note("one"), note("two")]


async def test_within_a_handler_what_is_done_between_is_done_at_once():
    done: list[PipelineEffect] = []

    async def handler(effect: PipelineEffect) -> None:
        async with queue.between():
            done.append(effect)

    queue = EffectQueue(handler, on_death=lambda death: None)
    queue.put(note("one"))
    await drained(queue)
    assert done == [note("one")]
    await queue.close(drain=True)


async def test_what_is_done_between_may_run_in_the_pause_after_an_effect_but_no_effect():
    done: list[PipelineEffect | str] = []
    answered = asyncio.Event()

    async def pause() -> None:
        await answered.wait()
        done.append("answered")

    async def handler(effect: PipelineEffect) -> Pause | None:
        done.append(effect)
        return pause if effect == note("one") else None

    queue = EffectQueue(handler, on_death=lambda death: None)
    queue.put(note("one"))
    queue.put(note("two"))
    await asyncio.sleep(0.01)
    async with queue.between():
        done.append("between")
        answered.set()
        await asyncio.sleep(0.01)
        # The effect behind waits for both: the pause, and what is done between.
        assert done == [note("one"), "between", "answered"]
    await drained(queue)
    assert done[3:] == [note("two")]
    await queue.close(drain=True)


async def test_a_pause_that_fails_ends_nothing():
    taken: list[PipelineEffect] = []

    async def fails() -> None:
        raise RuntimeError("fault")

    async def handler(effect: PipelineEffect) -> Pause:
        taken.append(effect)
        return fails

    queue = EffectQueue(handler, on_death=lambda death: None)
    queue.put(note("one"))
    queue.put(note("two"))
    await drained(queue)
    assert taken == [note("one"), note("two")]
    await queue.close(drain=True)


async def test_closing_hands_on_what_waits():
    pipeline = Pipeline()
    queue = EffectQueue(pipeline, on_death=pipeline.deaths.append)
    queue.put(note("one"))
    await queue.close(drain=True)
    await queue.close(drain=True)
    queue.put(note("two"))
    await asyncio.sleep(0)
    assert pipeline.taken == [note("one")]
    assert not len(queue)
    assert not pipeline.deaths
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "hydra-effects"]


async def test_closing_does_not_wait_long_for_a_pipeline_that_takes_nothing(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("pipecat_hydra.session.effect_queue._DRAIN_TIMEOUT_SECS", 0.02)
    pipeline = Pipeline()
    pipeline.gate.clear()
    queue = EffectQueue(pipeline, on_death=pipeline.deaths.append)
    queue.put(note("one"))
    async with asyncio.timeout(5):
        await queue.close(drain=True)
    assert not pipeline.taken


async def test_closing_at_once_hands_on_nothing_more():
    pipeline = Pipeline()
    queue = EffectQueue(pipeline, on_death=pipeline.deaths.append)
    await queue.close(drain=False)
    queue = EffectQueue(pipeline, on_death=pipeline.deaths.append)
    queue.put(note("one"))
    await queue.close(drain=False)
    assert not pipeline.taken
    assert not pipeline.deaths
