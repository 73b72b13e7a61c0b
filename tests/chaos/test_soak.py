"""Long calls, many calls, and calls in which nobody says anything for long; `make soak` is long."""

import asyncio

from support.call import SHAPES

from chaos.soak import MUTES, Result, long_call, many_calls, muted_call


def assert_right(*results: Result) -> None:
    for result in results:
        assert not result.problems, str(result)


async def test_calls_leave_nothing_behind():
    """No task, timer, file, socket or thread; the loop's own threads are kept by asyncio."""
    assert_right(await many_calls(12, tell=lambda _: None))


async def test_a_call_that_is_lost_again_and_again():
    """All that the user says reaches Hydra, each reply is heard, each drop costs one error."""
    calls = [long_call(shape, secs=8.0, every_secs=2.5) for shape in SHAPES]
    assert_right(*await asyncio.gather(*calls))


async def test_a_muted_call_stays_alive():
    """A turn that was spoken just before is answered, and the next one after."""
    calls = [muted_call(how, secs=2.0, idle_secs=1.0) for how in MUTES]
    assert_right(*await asyncio.gather(*calls))
