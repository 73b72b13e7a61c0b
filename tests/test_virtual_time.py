"""The virtual clock that the tests run by: what it does with a test that hangs."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import virtual_time, virtual_uvloop
from support.virtual_time import HangError, VirtualTimeLoop
from support.virtual_uvloop import VirtualUvloop


async def poll_for_ever() -> None:
    while True:
        await asyncio.sleep(1)


async def wait_for_nothing() -> None:
    await asyncio.Event().wait()


async def wait_for_a_job() -> None:
    end = threading.Event()
    job = asyncio.get_running_loop().run_in_executor(None, end.wait, 20)
    try:
        await job
    finally:
        end.set()


@pytest.mark.parametrize(
    ("hang", "why"),
    [
        (poll_for_ever, "it ran for 0.1 s of processor time"),
        (wait_for_nothing, "nothing is scheduled any more"),
        (wait_for_a_job, "a job in an executor does not end"),
    ],
)
def test_a_hang_is_told_with_the_line_that_waits(
    hang: Callable[[], Awaitable[None]], why: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(virtual_time, "_LONGEST_IDLE_SECS", 0.05)

    async def main() -> None:
        await hang()

    def loop() -> VirtualTimeLoop:
        return VirtualTimeLoop(longest_run_secs=0.1)

    with (
        asyncio.Runner(loop_factory=loop) as runner,
        pytest.raises(HangError, match=why) as raised,
    ):
        runner.run(main())
    assert "test_virtual_time.py" in str(raised.value)


def test_no_timer_fires_while_the_threads_of_the_executor_end():
    async def main() -> None:
        loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor()
        loop.set_default_executor(executor)
        # The loop does not know of this job.
        executor.submit(threading.Event().wait, 0.05)
        timer = loop.call_later(300, fired.append, True)
        await loop.shutdown_default_executor()
        timer.cancel()

    fired: list[bool] = []
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
    assert fired == []


def test_a_call_from_a_thread_is_awaited_though_its_wake_up_is_taken_already(
    monkeypatch: pytest.MonkeyPatch,
):
    class DeafUvloop(VirtualUvloop):
        is_called = False

        def _is_ready(self, within_secs: float) -> bool:
            return self.is_called

    monkeypatch.setattr(virtual_uvloop, "_QUIET_TURNS", 1)
    loop = DeafUvloop()

    async def call_from_a_thread() -> None:
        # Called by a timer, this goes on behind the loop's look at what is scheduled.
        await asyncio.sleep(0.01)
        answer = loop.create_future()
        call = threading.Thread(target=loop.call_soon_threadsafe, args=(answer.set_result, None))
        call.start()
        call.join()
        await answer
        loop.is_called = True

    try:
        loop.run_until_complete(call_from_a_thread())
    finally:
        loop.close()
