"""A timer for one deadline that moves often, on any event loop.

The conversation's deadline moves with nearly every step, mostly to a later time. The timer
therefore keeps the deadline itself and leaves an armed event loop timer alone as long as
that fires early enough: it fires, finds that the deadline is still to come, and sleeps on.
Only an earlier deadline arms the event loop anew. The time that the event loop's timer is
armed for is kept here, because uvloop's handle of a timer that is due at once does not have it.

A deadline that is noticed late shows that the event loop stood still: somebody blocked it, or the
machine was suspended. What the deadline waits for may have come meanwhile and not be read. So it
is read first, and the deadline has passed a moment later.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Final

__all__ = ["DeadlineTimer"]

# Some event loops fire up to a millisecond early. A shorter sleep would be a busy loop.
_SHORTEST_SLEEP_SECS: Final = 0.001

# An event loop that has time is late by a few milliseconds at most.
_LATE_SECS: Final = 0.25
_READING_SECS: Final = 0.1


class DeadlineTimer:
    """Calls a function when its deadline has passed; the deadline may be moved at any time."""

    def __init__(self, on_due: Callable[[], None]):
        """Make a timer without a deadline.

        Args:
            on_due: Called when the deadline has passed, never before, and a moment later when
                the event loop stood still. There is no deadline any more by then; the function
                may set another.
        """
        self._on_due = on_due
        self.at: float = math.inf
        """The deadline; infinite if there is none."""
        self._handle: asyncio.TimerHandle | None = None
        self._armed_for = 0.0

    def move(self, deadline: float | None) -> None:
        """Set the deadline, in the event loop's time; None for no deadline."""
        if deadline is None:
            self.at = math.inf
            return
        self.at = deadline
        if self._handle is not None:
            if self._armed_for <= deadline:
                return
            self._handle.cancel()
        self._arm(deadline)

    def hasten(self, deadline: float | None) -> None:
        """Set the deadline if it is earlier than the one that is set, or if none is set."""
        if deadline is not None and deadline < self.at:
            self.move(deadline)

    def cancel(self) -> None:
        """Drop the deadline, and leave no timer in the event loop."""
        self.at = math.inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, when: float) -> None:
        self._armed_for = when
        self._handle = asyncio.get_running_loop().call_at(when, self._fire)

    def _fire(self) -> None:
        self._handle = None
        if self.at == math.inf:
            return
        now = asyncio.get_running_loop().time()
        if now > self.at + _LATE_SECS:
            self.at = now + _READING_SECS
        if now < self.at:
            self._arm(max(self.at, now + _SHORTEST_SLEEP_SECS))
            return
        self.at = math.inf
        self._on_due()
