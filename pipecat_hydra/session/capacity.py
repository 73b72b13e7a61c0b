"""The place that a call takes under a cap on sessions, and keeps until it has no session any more.

Hydra limits how many sessions an organisation has open at a time. A `Capacity` is an application's
own account of that limit: it gives places, in order, and lets callers wait who find none. The
session layer asks for a place before it opens a WebSocket.

`Admission` owns the place of one call. It enters once and stays: a lost session that is opened
again, and a session that is replaced, keep the place, and a cancelled attempt to connect keeps its
place in the queue. The place is given back when there is no session and none is due: at a rest,
when the session is given up, at the end of the call.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from pipecat_hydra.conversation.effects import FailureKind, Queued
from pipecat_hydra.session.failures import HydraConnectionError
from pipecat_hydra.session.supervision import Supervised

__all__ = ["Admission", "Capacity", "NoPlaceError"]


class NoPlaceError(Exception):
    """A `Capacity` gives a caller no place, now and after any further wait.

    The service is then given up. The text is logged and pushed in an error frame, so it must hold
    no secret.
    """


class Capacity(ABC):
    """A cap on sessions that are open at a time, shared by those who are given the same one."""

    @abstractmethod
    def place(self, on_position: Callable[[int], None]) -> AbstractAsyncContextManager[object]:
        """Hold a place while the body of the context runs.

        Entering waits for a place, and leaving gives it back. A caller that is cancelled while it
        waits must leave nothing behind. The body runs for as long as the session lasts, so the
        holder of a place must be known to be alive by other means than its coming back.

        Args:
            on_position: To be called with the position in the queue, from 1, when the caller has to
                wait, and again each time it changes.

        Raises:
            NoPlaceError: On entering, if the caller gets no place.
        """


class Admission:
    """The place of one call. After `enter` you must `close` it."""

    def __init__(self, capacity: Capacity | None, tell: Callable[[Queued], None]):
        """Start outside.

        Args:
            capacity: Gives the place; None if there is no cap.
            tell: Called when the call has to wait, and with each change of its position.
        """
        self._capacity = capacity
        self._tell = tell
        self._stay: _Stay | None = None
        self._leaving: set[_Stay] = set()

    async def enter(self) -> None:
        """Wait until the call has a place; it may have one already.

        A caller that is cancelled keeps its place in the queue until `leave`.

        Raises:
            NoPlaceError: If the call gets no place.
            HydraConnectionError: If the `Capacity` has failed.
        """
        if self._capacity is None:
            return
        if self._stay is None or self._stay.has_ended:
            self._stay = _Stay(self._capacity, self._tell)
        await self._stay.admitted()

    def leave(self) -> None:
        """Give the place back, in the background, or stop waiting for one."""
        stay, self._stay = self._stay, None
        if stay is not None:
            stay.end()
            self._leaving = {each for each in self._leaving if not each.has_ended} | {stay}

    async def close(self) -> None:
        """Give the place back, and wait until that is done. Idempotent."""
        self.leave()
        for stay in self._leaving:
            await stay.wait()


class _Stay:
    """One place, from asking for it to giving it back."""

    def __init__(self, capacity: Capacity, tell: Callable[[Queued], None]):
        """Ask for the place, in the background.

        Args:
            capacity: Gives it.
            tell: Called with each position in the queue.
        """
        self._capacity = capacity
        self._tell = tell
        self._has_waited = False
        self._has_place = False
        self._refusal: str | None = None
        self._decided: Final = asyncio.Event()
        self._over: Final = asyncio.Event()
        self._task = Supervised(self._hold(), name="hydra-place", on_end=self._decided.set)

    @property
    def has_ended(self) -> bool:
        """Whether the place was given back, or there was none."""
        return self._task.has_ended

    async def admitted(self) -> None:
        """Wait for the place."""
        await self._decided.wait()
        if self._refusal is not None:
            raise NoPlaceError(self._refusal)
        if not self._has_place:
            message = f"the capacity failed ({self._task.death})"
            raise HydraConnectionError(FailureKind.SERVER, message)

    def end(self) -> None:
        """Give the place back, in the background, or stop waiting for it."""
        self._over.set()
        if not self._has_place:
            self._task.stop()

    async def wait(self) -> None:
        """Wait until the place was given back."""
        await self._task.wait()

    async def _hold(self) -> None:
        try:
            async with self._capacity.place(self._on_position):
                self._has_place = True
                self._decided.set()
                await self._over.wait()
        except NoPlaceError as error:
            self._refusal = str(error)

    def _on_position(self, position: int) -> None:
        begins, self._has_waited = not self._has_waited, True
        self._tell(Queued(position, begins=begins))
