"""An event loop with a virtual clock: tests of calls wait for no wall clock.

Theory
======

The clock of a `VirtualTimeLoop` stands still while anything can be done: a callback is
ready, a socket can be read or written, a job runs in an executor. When nothing can be done,
the loop does not wait for its next timer: it sets its clock to the time of that timer. So a
call of ten seconds takes as long as its computing does, and a slow or busy machine makes no
timer fire before the work that was to be done by then. Each turn of the loop takes a
microsecond and each reading of the clock a nanosecond, so that of two things that are noted
with their time the second is later than the first.

`time.monotonic`, `time.time`, `time.time_ns` and `time.perf_counter` follow the loop while it
runs, because Pipecat, `websockets` and the emulator read them. They are replaced when this
module is imported, which has to be before those are: some keep the function, such as the
default of a timestamp. `time.sleep` in the thread of the loop moves the clock by as much: the
loop was blocked for that long.

Sockets are real. The loopback interface hands over what is sent within the system call, so
what one end has sent is readable at the other end before the loop looks for it. That does not
hold where the buffers of a connection are full: when its reader makes room again, the system
tells the writer by a timer of its own. So while a socket waits to be written to, the loop
gives the system a millisecond before each jump.

The clock knows nothing of other processes, nor of threads that no executor of the loop runs.
Tests of those are marked `realtime` and have an ordinary loop.

A hang has two forms, and each ends with a `HangError`, which lists the tasks and the lines
where they wait. Timers fire for ever, and what the test waits for never comes: that costs
computing, so the limit is one of processor time, which a busy machine does not use up. Or
nothing happens at all, because nothing is scheduled or because a job in an executor does not
end: only there the limit is one of real time.
"""

import asyncio

# These keep the clock that they find, and what they do has to do with threads and processes.
import queue  # noqa: F401
import selectors
import subprocess  # noqa: F401
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, Final

__all__ = ["HangError", "VirtualClock", "VirtualTimeLoop", "real_monotonic"]

_TURN_SECS: Final = 1e-6
_READING_SECS: Final = 1e-9
_LONGEST_RUN_SECS: Final = 50.0
_LONGEST_IDLE_SECS: Final = 30.0
_KERNEL_SECS: Final = 0.001

real_monotonic = time.monotonic
"""The wall clock, also while a loop runs in virtual time."""


class HangError(Exception):
    """A test waits for what does not come."""


class VirtualClock(asyncio.AbstractEventLoop):
    """What event loops with a virtual clock share: the clock, and when it stands still."""

    def __init__(self, *, longest_run_secs: float = _LONGEST_RUN_SECS) -> None:
        """Make a clock that begins at the present time.

        Args:
            longest_run_secs: How long the loop may run, in seconds of processor time, before
                what it runs counts as hanging.
        """
        self._longest_run_secs = longest_run_secs
        self._elapsed = 0.0
        self._began = {name: real() for name, real in _REAL_CLOCKS.items()}
        self._jobs = 0
        self._must_end_by = 0.0
        self._thread = 0

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self.read("monotonic")

    def advance(self, secs: float) -> None:
        """Move the clock forward."""
        self._elapsed += secs

    @property
    def is_held(self) -> bool:
        """Whether an executor works, so that the clock stands still."""
        return self._jobs > 0

    @property
    def timers(self) -> list[asyncio.TimerHandle]:
        """The timers that wait, but for the one that wakes the task which asks."""
        me = asyncio.current_task(self)
        return [h for h in self._waiting_timers() if not h.cancelled() and not _wakes(h, me)]

    @property
    def sockets(self) -> list[str]:
        """The sockets that the loop watches, as far as it tells."""
        return []

    def _waiting_timers(self) -> Sequence[asyncio.TimerHandle]:
        raise NotImplementedError

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Run a function in an executor; the clock stands still until it is done."""
        future = super().run_in_executor(executor, func, *args)  # pyright: ignore[reportAbstractUsage]
        self._jobs += 1
        future.add_done_callback(self._on_job_done)
        return future

    async def shutdown_default_executor(
        self,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> None:
        """End the threads of the executor; the clock stands still until they have ended.

        Args:
            timeout: Without effect. From Python 3.12 on `asyncio.run` gives the threads five
                minutes, to which the clock would jump. `HangError` tells of a thread that hangs.
        """
        self._jobs += 1
        try:
            await super().shutdown_default_executor()  # pyright: ignore[reportAbstractUsage]
        finally:
            self._jobs -= 1

    def call_soon_threadsafe(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Call from any thread; the loop's own thread needs no socket to wake the loop."""
        own = threading.get_ident() == self._thread
        call = self.call_soon if own else super().call_soon_threadsafe
        return call(callback, *args, context=context)  # pyright: ignore[reportAbstractUsage]

    def _on_job_done(self, _: Any) -> None:
        self._jobs -= 1

    def read(self, clock: str) -> Any:
        """The virtual time of one of the clocks of the module `time`."""
        self._elapsed += _READING_SECS
        began = self._began[clock]
        return began + (round(self._elapsed * 1e9) if clock.endswith("_ns") else self._elapsed)

    def run_forever(self) -> None:
        """Run, with the functions of `time` following the loop's clock."""
        global _running
        self._must_end_by = time.process_time() + self._longest_run_secs
        self._thread = threading.get_ident()
        outer, _running = _running, self
        try:
            super().run_forever()  # pyright: ignore[reportAbstractUsage]
        finally:
            _running = outer

    def sleep(self, secs: float) -> None:
        """Take the time that a blocking sleep takes; threads but the loop's really sleep."""
        if threading.get_ident() == self._thread:
            self.advance(secs)
        else:
            _real_sleep(secs)

    def check_limit(self) -> None:
        """Raise if the loop has run for longer, in processor time, than any test takes."""
        if time.process_time() > self._must_end_by:
            self.report_hang(f"it ran for {self._longest_run_secs:g} s of processor time")

    def report_hang(self, what: str) -> None:
        """Raise, and say what each task waits for.

        Raises:
            HangError: Always.
        """
        # Ending the tasks takes time too.
        self._must_end_by = time.process_time() + self._longest_run_secs
        waiting = "\n".join(sorted(_place(task) for task in asyncio.all_tasks(self)))
        raise HangError(f"{what}, {self._elapsed:.1f} s of virtual time; tasks wait at:\n{waiting}")


class VirtualTimeLoop(VirtualClock, asyncio.SelectorEventLoop):
    """An event loop that sets its clock to the next timer instead of waiting for it."""

    def __init__(self, *, longest_run_secs: float = _LONGEST_RUN_SECS) -> None:
        """Make a loop whose clock begins at the present time.

        Args:
            longest_run_secs: See `VirtualClock`.
        """
        VirtualClock.__init__(self, longest_run_secs=longest_run_secs)
        self._selector_of_sockets = _JumpingSelector(self)
        asyncio.SelectorEventLoop.__init__(self, self._selector_of_sockets)

    def _waiting_timers(self) -> Sequence[asyncio.TimerHandle]:
        # Asyncio tells nobody of its timers, but this is where they are.
        return getattr(self, "_scheduled", ())

    @property
    def sockets(self) -> list[str]:
        """The sockets that the loop watches, but for the one by which threads wake it."""
        own: int = getattr(self, "_ssock").fileno()  # noqa: B009
        keys = self._selector_of_sockets.get_map().values()
        return [f"{key.fd}: {key.data}" for key in keys if key.fd != own]


class _JumpingSelector(selectors.DefaultSelector):
    """Looks for what is ready and, where nothing is, moves the clock instead of waiting."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop
        self._writing: set[int] = set()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._note(super().register(fileobj, events, data))

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._note(super().modify(fileobj, events, data))

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = super().unregister(fileobj)
        self._writing.discard(key.fd)
        return key

    def _note(self, key: selectors.SelectorKey) -> selectors.SelectorKey:
        (self._writing.add if key.events & selectors.EVENT_WRITE else self._writing.discard)(key.fd)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        self._loop.advance(_TURN_SECS)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        self._loop.check_limit()
        if self._loop.is_held:
            return self._select_while_idle("a job in an executor does not end")
        if self._writing and (ready := super().select(_KERNEL_SECS)):
            return ready
        if timeout is not None:
            self._loop.advance(timeout)
            return ready
        # A thread may still wake the loop.
        return self._select_while_idle("nothing is scheduled any more")

    def _select_while_idle(self, why: str) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait, in real time, for what comes from outside the loop."""
        ready = super().select(_LONGEST_IDLE_SECS)
        if not ready:
            self._loop.report_hang(why)
        return ready


def _place(task: "asyncio.Task[Any]") -> str:
    """The lines at which the coroutine of a task, and those that it awaits, wait."""
    lines: list[str] = []
    coroutine: Any = task.get_coro()
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        coroutine = coroutine.cr_await
    return f"  {task.get_name()}: " + " > ".join(lines[-3:])


def _wakes(handle: Any, task: object) -> bool:
    future = (handle._args or (None,))[0]
    return isinstance(future, asyncio.Future) and any(
        getattr(callback, "__self__", None) is task for callback, _ in future._callbacks or ()
    )


#
# The functions of the module `time`
#

_REAL_CLOCKS: Final[dict[str, Callable[[], Any]]] = {
    name: getattr(time, name) for name in ("monotonic", "perf_counter", "time", "time_ns")
}
_real_sleep = time.sleep
_running: VirtualClock | None = None


def _clock(name: str) -> Callable[[], Any]:
    """One of the clocks: the virtual one while a loop runs in virtual time."""
    real = _REAL_CLOCKS[name]

    def clock() -> Any:
        return real() if _running is None else _running.read(name)

    return clock


def _sleep(secs: float) -> None:
    (_real_sleep if _running is None else _running.sleep)(secs)


for _name in _REAL_CLOCKS:
    setattr(time, _name, _clock(_name))
time.sleep = _sleep
