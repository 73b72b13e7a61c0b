"""The calls of a process: how many there are, and that a process ends without cutting one.

A supervisor ends a process by SIGTERM: Kubernetes at each deployment, Docker at `docker stop`. A
process that serves calls is then *drained*: it takes no new call, the running ones end by
themselves, and the process ends after the last one. `ActiveCalls` keeps count of that. It knows
nothing of signals, of HTTP or of Pipecat, so any server can use it.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress

__all__ = ["ActiveCalls"]


class ActiveCalls:
    """Counts the calls of a process, and tells when a drained process may end.

    A server that has a call asks `is_ready`, and refuses the call if it is not; else it holds the
    call within `call`. When the process is to end, it calls `drain` and awaits `ended`::

        calls = ActiveCalls(limit=20)

        with calls.call():
            await bot(runner_args)

        calls.drain()
        left = await calls.ended(timeout_secs=600)
    """

    def __init__(self, *, limit: int | None = None):
        """Start without a call.

        Args:
            limit: How many calls the process takes at a time; None for any number.

        Raises:
            ValueError: If the limit is less than 1.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit} (None is no limit)")
        self._limit = limit
        self._count = 0
        self._is_draining = False
        self._none_left = asyncio.Event()
        self._none_left.set()

    @property
    def count(self) -> int:
        """How many calls there are."""
        return self._count

    @property
    def is_draining(self) -> bool:
        """Whether the process takes no new call any more."""
        return self._is_draining

    @property
    def is_ready(self) -> bool:
        """Whether the process takes another call now."""
        return not self._is_draining and (self._limit is None or self._count < self._limit)

    @contextmanager
    def call(self) -> Generator[None]:
        """Count a call while the body of the context holds it."""
        self._count += 1
        self._none_left.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._none_left.set()

    def drain(self) -> None:
        """Take no new call from now on. Idempotent."""
        self._is_draining = True

    async def ended(self, *, timeout_secs: float) -> int:
        """Wait until no call is left.

        Args:
            timeout_secs: How long to wait, in seconds.

        Returns:
            How many calls are left then.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_secs):
                await self._none_left.wait()
        return self._count
