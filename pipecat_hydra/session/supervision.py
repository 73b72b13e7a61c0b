"""Supervised tasks: a task whose unexpected end is logged and reported to its owner (P2).

A task ends as it should when it returns, or when its owner stops it. Any other end is a
*death*: an exception that nobody caught, or a `CancelledError` that the owner did not ask
for. The `CancelledError` may be raised inside the task, or by somebody who cancels the task
from outside; asyncio keeps silent about it. So every task of a session is a `Supervised` task.
It logs its death, and it tells its owner of each end; the owner ends the session in a way that
opens another one.
"""

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from loguru import logger

__all__ = ["Supervised", "log_bug"]

T = TypeVar("T")


class Supervised(Generic[T]):
    """A task that runs until it returns or is stopped, and reports any other end."""

    def __init__(
        self, work: Coroutine[Any, Any, T], *, name: str, on_end: Callable[[], None] = lambda: None
    ):
        """Start the task.

        Args:
            work: What to run.
            name: The task's name, for logs.
            on_end: Called once, when the task has ended in any way. `death` and `result`
                tell how.
        """
        self._on_end = on_end
        self._ended = asyncio.Event()
        self._is_stopped = False
        self._death: str | None = None
        self._task = asyncio.create_task(work, name=name)
        self._task.add_done_callback(self._conclude)

    @property
    def is_stopped(self) -> bool:
        """Whether the owner has stopped the task."""
        return self._is_stopped

    @property
    def has_ended(self) -> bool:
        """Whether the task has ended, in whatever way."""
        return self._task.done()

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in this task."""
        return asyncio.current_task() is self._task

    @property
    def death(self) -> str | None:
        """How the task died, in a few words; None while it runs and after a proper end."""
        return self._death

    @property
    def result(self) -> T | None:
        """What the task returned; None while it runs and after any other end."""
        task = self._task
        if not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()

    def stop(self) -> None:
        """Cancel the task, once: a second cancellation would cut short its cleaning up."""
        if not self._is_stopped:
            self._is_stopped = True
            self._task.cancel()

    async def wait(self) -> None:
        """Wait until the task has ended and `on_end` has returned."""
        await self._ended.wait()

    def _conclude(self, task: asyncio.Task[T]) -> None:
        try:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self._death = type(error).__name__
                log_bug(f"the task {task.get_name()} died", error)
            elif task.cancelled() and not self._is_stopped:
                self._death = "cancelled by somebody else"
                logger.error(f"Hydra: the task {task.get_name()} died: {self._death}")
            self._on_end()
        finally:
            self._ended.set()


def log_bug(what: str, error: BaseException) -> None:
    """Log an exception that should not happen: its type and place as an error.

    The exception's text may hold what a user said, so it is logged at TRACE only.
    """
    place = traceback.extract_tb(error.__traceback__)[-1]
    logger.error(f"Hydra: {what}: {type(error).__name__} at {place.filename}:{place.lineno}")
    logger.opt(exception=error).trace(f"Hydra: {what}")
