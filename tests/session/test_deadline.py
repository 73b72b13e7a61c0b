"""A deadline that moves: never too early, never missed, and no timer made without need."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from pipecat_hydra.session.deadline import DeadlineTimer


class Armed:
    """Notes each timer that a deadline makes in the event loop, and can have it fire early."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, early_secs: float = 0.0):
        self.times: list[float] = []
        loop = asyncio.get_running_loop()
        call_at = loop.call_at

        def noting(when: float, callback: Callable[..., Any], *args: Any, **kwargs: Any):
            if isinstance(getattr(callback, "__self__", None), DeadlineTimer):
                self.times.append(when)
                when -= early_secs
            return call_at(when, callback, *args, **kwargs)

        monkeypatch.setattr(loop, "call_at", noting)


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_it_fires_once_and_not_before_its_time():
    fired: list[float] = []
    timer = DeadlineTimer(lambda: fired.append(now()))
    due = now() + 0.02
    timer.move(due)
    await asyncio.sleep(0.06)
    assert len(fired) == 1
    assert fired[0] >= due


async def test_a_later_deadline_makes_no_timer_until_the_old_one_fires(
    monkeypatch: pytest.MonkeyPatch,
):
    fired: list[float] = []
    timer = DeadlineTimer(lambda: fired.append(now()))
    first = now() + 0.05
    timer.move(first)
    armed = Armed(monkeypatch)
    for step in range(1, 101):
        timer.move(first + step / 1_000)
    assert not armed.times
    await asyncio.sleep(0.3)
    assert armed.times == [pytest.approx(first + 0.1)]
    assert len(fired) == 1
    assert fired[0] >= first + 0.1


async def test_an_earlier_deadline_is_met():
    fired: list[float] = []
    timer = DeadlineTimer(lambda: fired.append(now()))
    timer.move(now() + 60.0)
    due = now() + 0.02
    timer.move(due)
    await asyncio.sleep(0.06)
    assert len(fired) == 1
    assert fired[0] >= due
    # What is left of the first one does nothing.
    timer.cancel()


async def test_a_deadline_that_is_dropped_is_not_met():
    fired: list[float] = []
    timer = DeadlineTimer(lambda: fired.append(now()))
    timer.move(now() + 0.01)
    timer.move(None)
    await asyncio.sleep(0.04)
    assert not fired
    timer.move(now() + 0.01)
    await asyncio.sleep(0.04)
    assert len(fired) == 1


async def test_a_deadline_is_hastened_and_not_put_off():
    fired: list[float] = []
    timer = DeadlineTimer(lambda: fired.append(now()))
    timer.hasten(None)
    due = now() + 0.02
    for deadline in (now() + 60.0, due, due + 0.03, None):
        timer.hasten(deadline)
    await asyncio.sleep(0.03)
    assert len(fired) == 1
    assert due <= fired[0] < due + 0.03
    await asyncio.sleep(0.06)
    assert len(fired) == 1
    timer.cancel()


async def test_a_timer_that_is_cancelled_leaves_nothing_behind():
    fired: list[float] = []
    timer = DeadlineTimer(lambda: fired.append(now()))
    timer.cancel()
    timer.move(now() + 0.01)
    handle = timer._handle
    assert handle is not None
    timer.cancel()
    assert handle.cancelled()
    await asyncio.sleep(0.04)
    assert not fired


async def test_the_next_deadline_may_be_set_when_one_is_met():
    fired: list[float] = []

    def on_due() -> None:
        fired.append(now())
        if len(fired) < 3:
            timer.move(now() + 0.01)

    timer = DeadlineTimer(on_due)
    timer.move(now())
    await asyncio.sleep(0.1)
    assert len(fired) == 3


async def test_an_event_loop_that_fires_early_is_not_asked_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
):
    """Some round times to milliseconds."""
    armed = Armed(monkeypatch, early_secs=0.0005)
    fired: list[float] = []
    timer = DeadlineTimer(lambda: fired.append(now()))
    due = now() + 0.01
    timer.move(due)
    await asyncio.sleep(0.05)
    assert len(fired) == 1
    assert fired[0] >= due
    assert len(armed.times) <= 2


async def test_what_came_while_the_event_loop_stood_still_is_read_before_a_deadline_has_passed():
    fired: list[float] = []
    timer = DeadlineTimer(lambda: fired.append(now()))
    timer.move(now() + 0.05)
    time.sleep(10.0)  # noqa: ASYNC251
    await asyncio.sleep(0.05)
    assert not fired
    # This is what came.
    timer.move(now() + 1.0)
    await asyncio.sleep(0.9)
    assert not fired
    time.sleep(10.0)  # noqa: ASYNC251
    await asyncio.sleep(0.15)
    # Nothing came.
    assert len(fired) == 1
