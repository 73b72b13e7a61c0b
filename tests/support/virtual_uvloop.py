"""uvloop with a virtual clock, so that the tests of calls run on it as well.

Theory
======

uvloop keeps its timers and its clock in C, where nothing can move them. So this loop keeps its
timers itself, and gives uvloop none. A callback of its own, `_turn`, runs once in each turn of
uvloop. It calls the timers that are due. When several turns have passed in which nothing was
scheduled, and no socket is ready, nothing can be done: then it sets the clock to the next timer
(virtual_time.py says why). Whether a socket is ready is asked of the descriptor by which libuv
waits for all of them. A call from another thread counts from the moment it is made until it is
called: libuv can have taken the wake-up already, and then the descriptor tells nothing of it.

What differs on uvloop stays as it is there: sockets, TLS, the order of callbacks, timers of whole
milliseconds, and the handle of a timer that is due at once, which is no timer handle. Two things
are exact here, because tests compare times. The clock is that of `VirtualClock`, by which the later
of two things has the later time; uvloop's has whole milliseconds, and the emulator can answer
within one. And timers are never early; on uvloop they are by up to a millisecond. Tests of the real
clock and of early timers are in `tests/session/test_uvloop.py` and `test_deadline.py`.
"""

import asyncio
import heapq
import math
import select
from collections.abc import Callable, Sequence
from contextvars import Context
from pathlib import Path
from typing import Any, Final

import uvloop
from support.virtual_time import HangError, VirtualClock

__all__ = ["VirtualUvloop"]

_TURN_SECS: Final = 1e-6
_LONGEST_IDLE_SECS: Final = 30.0

# libuv asks the system for what it newly watches once in a turn, and uvloop needs a turn each to
# connect a transport and to write what waits. None of that is seen here.
_QUIET_TURNS: Final = 5

_KERNEL_SECS: Final = 0.001


class VirtualUvloop(VirtualClock, uvloop.Loop):
    """A uvloop that sets its clock to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        """Make a loop whose clock begins at the present time."""
        VirtualClock.__init__(self)
        uvloop.Loop.__init__(self)
        # The descriptor by which libuv waits.
        self._waits_by: int = getattr(self, "_get_backend_id")()  # noqa: B009
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._made = 0
        self._scheduled = 0
        self._seen = 0
        self._from_threads: set[object] = set()
        self._quiet_turns = 0
        self._turns = False
        self._hang: HangError | None = None

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Call in the next turn."""
        self._scheduled += 1
        return super().call_soon(callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Call from any thread, and have no turn count as quiet until it is called."""
        call = object()
        self._from_threads.add(call)
        run = self._call_from_thread
        return super().call_soon_threadsafe(run, call, callback, args, context=context)

    def _call_from_thread(
        self, call: object, callback: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        self._from_threads.remove(call)
        callback(*args)

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        """Call after a time of whole milliseconds."""
        if delay < 0.0005:
            return self.call_soon(callback, *args, context=context)
        self._made += 1
        due = self.read("monotonic") + math.ceil(min(delay, 1e9) * 1e3) / 1e3
        timer = asyncio.TimerHandle(due, callback, args, self, context)
        heapq.heappush(self._timers, (due, self._made, timer))
        return timer

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        """Call at a time of this loop."""
        return self.call_later(when - self.time(), callback, *args, context=context)

    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
        """Resolve a name; the clock stands still until the thread that does it is done."""
        self._jobs += 1
        try:
            return await super().getaddrinfo(*args, **kwargs)
        finally:
            self._jobs -= 1

    def run_forever(self) -> None:
        """Run, and raise if what runs hangs."""
        if not self._turns:
            self._turns = True
            self._next_turn()
        super().run_forever()
        if self._hang is not None:
            hang, self._hang = self._hang, None
            raise hang

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Leave a cancelled timer until it would be due."""

    def _waiting_timers(self) -> Sequence[asyncio.TimerHandle]:
        return [timer for _, _, timer in self._timers]

    def _next_turn(self) -> None:
        uvloop.Loop.call_soon(self, self._turn, context=Context())

    def _turn(self) -> None:
        self._next_turn()
        self.advance(_TURN_SECS)
        self._call_due()
        is_quiet = self._scheduled == self._seen and not self._from_threads
        self._seen = self._scheduled
        self._quiet_turns = self._quiet_turns + 1 if is_quiet else 0
        if self._quiet_turns < _QUIET_TURNS:
            return
        try:
            self._idle()
        except HangError as error:
            # uvloop would only log it.
            self._hang = error
            self.stop()

    def _call_due(self) -> None:
        now = self.read("monotonic")
        while self._timers and self._timers[0][0] <= now:
            _, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled():
                self._scheduled += 1
                timer._run()

    def _idle(self) -> None:
        """Set the clock to the next timer, unless something comes from outside the loop."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        self.check_limit()
        if self.is_held:
            self._wait("a job in an executor does not end")
        elif not self._timers:
            self._wait("nothing is scheduled any more")
        elif not self._is_ready(_KERNEL_SECS if self._is_writing() else 0.0):
            self.advance(max(0.0, self._timers[0][0] - self.read("monotonic")))
            self._call_due()
        self._quiet_turns = 0

    def _wait(self, why: str) -> None:
        if not self._is_ready(_LONGEST_IDLE_SECS):
            self.report_hang(why)

    def _is_ready(self, within_secs: float) -> bool:
        return bool(select.select([self._waits_by], [], [], within_secs)[0])

    def _is_writing(self) -> bool:
        """Whether a socket waits to be written to, as far as the system tells."""
        watched = Path(f"/proc/self/fdinfo/{self._waits_by}")
        if not watched.exists():
            return True
        lines = (line.split() for line in watched.read_text().splitlines())
        return any(line[0] == "tfd:" and int(line[3], 16) & select.EPOLLOUT for line in lines)
