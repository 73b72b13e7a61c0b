"""The count of a process's calls, and when a drained process may end."""

import asyncio

import pytest

from pipecat_hydra import ActiveCalls


async def test_a_process_takes_calls_up_to_its_limit():
    calls = ActiveCalls(limit=2)
    assert calls.is_ready
    with calls.call():
        assert calls.is_ready
        with calls.call():
            assert calls.count == 2
            assert not calls.is_ready
        assert calls.is_ready
    assert calls.count == 0


async def test_a_drained_process_takes_no_call_and_waits_for_those_that_there_are():
    calls = ActiveCalls()
    ended: list[int] = []

    async def hold(secs: float) -> None:
        with calls.call():
            await asyncio.sleep(secs)
            ended.append(calls.count)

    async with asyncio.TaskGroup() as group:
        for secs in (5.0, 30.0):
            group.create_task(hold(secs))
        await asyncio.sleep(1)
        calls.drain()
        assert calls.is_draining
        assert not calls.is_ready
        assert await calls.ended(timeout_secs=10.0) == 1
        assert await calls.ended(timeout_secs=60.0) == 0
    assert ended == [2, 1]


async def test_a_process_without_calls_ends_at_once():
    calls = ActiveCalls()
    calls.drain()
    assert await calls.ended(timeout_secs=0.0) == 0


async def test_a_call_that_fails_is_over():
    calls = ActiveCalls()
    with pytest.raises(RuntimeError), calls.call():
        raise RuntimeError
    assert calls.count == 0


def test_a_limit_of_none_is_no_limit_and_a_limit_of_no_call_is_refused():
    with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
        ActiveCalls(limit=0)
