"""The place of a call: when it is had, kept and given back."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
from support.capacity import LocalCapacity

from pipecat_hydra import Capacity, NoPlaceError
from pipecat_hydra.conversation.effects import Queued
from pipecat_hydra.session.capacity import Admission
from pipecat_hydra.session.failures import HydraConnectionError


@asynccontextmanager
async def admission(capacity: Capacity | None) -> AsyncGenerator[tuple[Admission, list[Queued]]]:
    told: list[Queued] = []
    made = Admission(capacity, told.append)
    try:
        yield made, told
    finally:
        await made.close()


async def settled() -> None:
    await asyncio.sleep(0.01)


async def test_without_a_cap_there_is_nothing_to_wait_for():
    async with admission(None) as (made, told):
        await made.enter()
        made.leave()
    assert not told


async def test_a_place_is_kept_until_it_is_given_back():
    capacity = LocalCapacity(1)
    async with admission(capacity) as (made, told):
        await made.enter()
        await made.enter()
        assert capacity.holders == 1
        made.leave()
        await settled()
        assert capacity.holders == 0
        await made.enter()
        assert capacity.holders == 1
    assert capacity.holders == 0
    assert not told


async def test_who_waits_is_told_each_position_and_which_is_the_first():
    capacity = LocalCapacity(1)
    async with (
        admission(capacity) as (first, _),
        admission(capacity) as (second, _),
        admission(capacity) as (third, told),
    ):
        await first.enter()
        waiting = [asyncio.create_task(each.enter()) for each in (second, third)]
        await settled()
        first.leave()
        await settled()
        assert told == [Queued(2, begins=True), Queued(1, begins=False)]
        second.leave()
        await asyncio.gather(*waiting)
        assert capacity.holders == 1


async def test_who_is_cancelled_while_waiting_keeps_the_place_in_the_queue():
    """An attempt to connect is cancelled when the session is replaced; the next goes on waiting."""
    capacity = LocalCapacity(1)
    async with admission(capacity) as (first, _), admission(capacity) as (second, _):
        await first.enter()
        waiting = asyncio.create_task(second.enter())
        await settled()
        waiting.cancel()
        await settled()
        assert capacity.waiting == 1
        async with admission(capacity) as (third, told):
            late = asyncio.create_task(third.enter())
            await settled()
            assert told == [Queued(2, begins=True)]
            first.leave()
            await second.enter()
            assert not late.done()
            late.cancel()


@pytest.mark.parametrize("how", ["leave", "close"])
async def test_who_goes_while_waiting_leaves_nothing_behind(how: str):
    capacity = LocalCapacity(1)
    async with admission(capacity) as (first, _), admission(capacity) as (second, _):
        await first.enter()
        waiting = asyncio.create_task(second.enter())
        await settled()
        waiting.cancel()
        if how == "leave":
            second.leave()
            await settled()
        else:
            await second.close()
        assert capacity.waiting == 0
        assert capacity.holders == 1


async def test_who_is_refused_may_ask_again():
    capacity = LocalCapacity(1)
    async with admission(capacity) as (made, _):
        capacity.refuse("none for you")
        for _ in range(2):
            with pytest.raises(NoPlaceError, match="none for you"):
                await made.enter()
        capacity.refusal = None
        await made.enter()
        assert capacity.holders == 1


class Broken(Capacity):
    """Fails with an exception that it should not raise."""

    @asynccontextmanager
    async def place(self, on_position: Callable[[int], None]) -> AsyncGenerator[None]:
        raise RuntimeError("secret")
        yield


async def test_a_capacity_that_fails_is_a_failure_of_the_attempt(warnings: list[str]):
    async with admission(Broken()) as (made, _):
        with pytest.raises(HydraConnectionError, match=r"the capacity failed \(RuntimeError\)"):
            await made.enter()
    (logged,) = warnings
    assert "the task hydra-place died: RuntimeError" in logged
    assert "secret" not in logged
