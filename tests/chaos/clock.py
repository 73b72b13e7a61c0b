"""Runs coroutines in virtual time, and so that the same seed gives the same call.

`VirtualTimeLoop` leaves one thing to the machine: how many turns the loop takes, and what it
does in them, while a job runs in another thread. `ReproducibleLoop` runs jobs in its own
thread. Then the order of events depends on nothing but the seed. What is random beside the
seed is the content of ids and of WebSocket masks, and the numbers of ports; no order depends
on them. One thing is left to the operating system: when a connection whose buffers are full
takes data again. So where the server stops reading (`SlowReader`) or sends frames of megabytes
(`Giant`), events may change places that are microseconds apart.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from support.virtual_time import VirtualTimeLoop

INTERRUPTED: Final = 130
"""The exit code of a command that was interrupted from the keyboard, as shells have it."""

T = TypeVar("T")


class ReproducibleLoop(VirtualTimeLoop):
    """A loop in virtual time that runs the jobs of executors in its own thread."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Run a function at the loop's next turn."""
        future: asyncio.Future[Any] = self.create_future()
        self.call_soon(_run, future, func, args)
        return future


def _run(future: "asyncio.Future[Any]", func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if future.cancelled():
        return
    try:
        future.set_result(func(*args))
    except Exception as error:
        future.set_exception(error)


def run(
    coroutine: Coroutine[Any, Any, T],
    *,
    longest_run_secs: float,
    loop: type[VirtualTimeLoop] = ReproducibleLoop,
) -> T:
    """Run a coroutine in a loop of its own.

    Args:
        coroutine: What to run.
        longest_run_secs: How long it may take, in seconds of processor time.
        loop: The kind of loop.

    Raises:
        HangError: It took longer, or nothing is scheduled that could end it.
    """
    with asyncio.Runner(loop_factory=lambda: loop(longest_run_secs=longest_run_secs)) as runner:
        return runner.run(coroutine)
