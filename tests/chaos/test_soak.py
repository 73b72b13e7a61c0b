"""Short forms of what `make soak` does: many calls, calls that lose sessions, muted calls."""

import pytest
from support.call import SHAPES, Shape

from chaos.soak import MUTES, Mute, Result, long_call, many_calls, muted_call


def assert_right(result: Result) -> None:
    assert not result.problems, str(result)


async def test_calls_leave_nothing_behind():
    """No task, timer, file, socket or thread; the loop's own threads are kept by asyncio."""
    assert_right(await many_calls(12, tell=lambda _: None))


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_call_that_is_lost_again_and_again(shape: Shape):
    """All that the user says reaches Hydra, each reply is heard, each drop costs one error."""
    assert_right(await long_call(shape, secs=8.0, every_secs=2.5))


@pytest.mark.parametrize("how", MUTES)
async def test_a_muted_call_stays_alive(how: Mute):
    """A turn that was spoken just before is answered, and the next one after."""
    assert_right(await muted_call(how, secs=2.0, idle_secs=1.0))
