"""Calls that wait for a place under a cap on sessions, and keep it."""

import asyncio
from typing import Any

import pytest
from pipecat.frames.frames import EndFrame, LLMFullResponseEndFrame
from pipecat.utils.errors import ErrorCategory
from support.call import NO_GREETING, SHAPES, Shape, call, emulator, recording
from support.capacity import LocalCapacity, RedisServer
from support.reconnects import QUICK, Story, configured, errors, reconnected

from pipecat_hydra import HydraLLMService, RedisCapacity
from pipecat_hydra.emulator import HydraEmulator

shapes = pytest.mark.parametrize("shape", SHAPES)


@shapes
async def test_a_caller_who_finds_no_place_is_told_waits_and_is_heard(shape: Shape):
    capacity = LocalCapacity(1)
    async with (
        emulator(max_sessions=1) as hydra,
        call(hydra, shape, settings=NO_GREETING, capacity=capacity) as first,
    ):
        await first.say("hello")
        await first.until_pushed(LLMFullResponseEndFrame)
        waiting = [
            HydraLLMService(
                api_key=hydra.api_key,
                base_url=hydra.url,
                settings=NO_GREETING,
                capacity=capacity,
            )
            for _ in range(2)
        ]
        story, last = map(Story, waiting)
        async with (
            call(hydra, shape, llm=waiting[0]) as second,
            call(hydra, shape, llm=waiting[1]),
        ):
            await asyncio.sleep(1)
            assert capacity.waiting == 2
            await second.say("question")
            await first.worker.queue_frame(EndFrame())
            await second.until_pushed(LLMFullResponseEndFrame)
            # What was said while the caller waited is heard.
            assert recording("question").tobytes() in hydra.sessions[1].received_audio
            assert story.of("on_capacity_position") == [(1,)]
            assert last.of("on_capacity_position") == [(2,), (1,)]
            assert capacity.holders == 1
            assert not errors(second)
    assert capacity.holders == capacity.waiting == 0
    assert len(hydra.sessions) == 2


@shapes
async def test_a_session_that_is_lost_keeps_its_place(shape: Shape):
    capacity = LocalCapacity(1)
    async with (
        emulator() as hydra,
        call(hydra, shape, settings=NO_GREETING, capacity=capacity, retry=QUICK) as first,
        call(hydra, shape, settings=NO_GREETING, capacity=capacity) as second,
    ):
        story, other = Story(first.llm), Story(second.llm)
        await first.say("hello")
        await first.until_pushed(LLMFullResponseEndFrame)
        await hydra.drop()
        await reconnected(first, story)
        await first.llm.renew_session()
        await first.until(lambda: len(configured(hydra)) == 3)
        assert capacity.waiting == capacity.holders == 1
        assert not other.of("on_connected")


@shapes
async def test_a_session_at_rest_gives_its_place_to_others_and_waits_to_have_it_again(
    shape: Shape,
):
    capacity = LocalCapacity(1)
    async with (
        emulator(max_sessions=1) as hydra,
        call(hydra, shape, settings=NO_GREETING, capacity=capacity, idle_timeout_secs=5.0) as first,
        call(hydra, shape, settings=NO_GREETING, capacity=capacity) as second,
    ):
        story = Story(first.llm)
        await first.say("hello")
        await first.until_pushed(LLMFullResponseEndFrame)
        await asyncio.sleep(12)
        await second.say("hello")
        await second.until_pushed(LLMFullResponseEndFrame)
        await first.say("question")
        assert story.of("on_capacity_position") == [(1,)]
        await second.worker.cancel()
        await first.until_pushed(LLMFullResponseEndFrame, 2)
        assert not errors(first)


@shapes
async def test_a_caller_who_gets_no_place_ends_with_one_permanent_error(shape: Shape):
    capacity = LocalCapacity(1)
    async with emulator() as hydra, call(hydra, shape, capacity=capacity) as first:
        await first.until(lambda: capacity.holders)
        async with call(hydra, shape, capacity=capacity, retry=QUICK) as second:
            story = Story(second.llm)
            await second.run_llm()
            capacity.refuse("all places are taken")
            await second.until(lambda: story.of("on_given_up"))
            (error,) = errors(second)
            assert error.error == "all places are taken"
            assert error.category is ErrorCategory.RATE_LIMIT
            assert not second.llm.is_usable
            assert story.of("on_given_up") == [("all places are taken",)]
            assert not story.of("on_reconnecting")
            # The application may have it try again.
            capacity.refusal = None
            await first.worker.cancel()
            await second.llm.set_usable(True)
            await second.run_llm()
            await second.until_pushed(LLMFullResponseEndFrame)
    assert capacity.holders == capacity.waiting == 0


@pytest.mark.parametrize("how", ["end", "cancel"])
async def test_a_caller_who_hangs_up_while_waiting_leaves_nothing_behind(how: str):
    capacity = LocalCapacity(1)
    async with emulator() as hydra, call(hydra, capacity=capacity) as first:
        await first.until(lambda: capacity.holders)
        async with call(hydra, capacity=capacity) as second:
            await second.until(lambda: capacity.waiting)
            if how == "end":
                await second.worker.queue_frame(EndFrame())
            else:
                await second.worker.cancel()
            await second.ended()
            assert capacity.waiting == 0
            assert capacity.holders == 1


def test_what_is_no_capacity_is_refused():
    given: Any = 8
    with pytest.raises(TypeError, match="capacity must be of type Capacity, not int"):
        HydraLLMService(api_key="k", capacity=given)


@pytest.mark.realtime
async def test_services_share_a_cap_by_redis(redis_server: RedisServer):
    async def hold_call(hydra: HydraEmulator) -> tuple[int, list[Any]]:
        capacity = RedisCapacity(redis_server.url, limit=2)
        async with call(hydra, "bare", capacity=capacity) as talk:
            story = Story(talk.llm)
            await talk.run_llm()
            await talk.until_pushed(LLMFullResponseEndFrame, within=120)
            await talk.until_quiet()
            return len(errors(talk)), story.of("on_capacity_position")

    async with emulator(max_sessions=2) as hydra:
        told = await asyncio.gather(*(hold_call(hydra) for _ in range(5)))
    assert [count for count, _ in told] == [0] * 5
    assert max(position for _, positions in told for (position,) in positions) == 3
    assert len(hydra.sessions) == 5
    assert len(configured(hydra)) == 5
