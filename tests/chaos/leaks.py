"""What a call, or many of them, leaves behind."""

import asyncio
import ctypes
import gc
import os
import resource
import threading
import weakref
from contextvars import ContextVar
from typing import Any, Final

_GRACE_SECS: Final = 3.0

_owner: ContextVar["Owner | None"] = ContextVar("owner", default=None)


class Owner:
    """Knows the tasks and timers that began within it, other calls in the same loop apart.

    Whatever a task starts inherits its context, and that names the owner.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.get_task_factory() is not _new_task:
            assert loop.get_task_factory() is None
            loop.set_task_factory(_new_task)
        self._loop = loop
        self.tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()

    def __enter__(self) -> "Owner":
        self._token = _owner.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _owner.reset(self._token)

    async def left(self) -> list[str]:
        """Wait until all is gone, for a while, and say what is not."""
        deadline = self._loop.time() + _GRACE_SECS
        while (left := self._left()) and self._loop.time() < deadline:
            await asyncio.sleep(0.02)
        return left

    def _left(self) -> list[str]:
        me = asyncio.current_task()
        tasks = [task for task in self.tasks if not task.done() and task is not me]
        return [f"task {task.get_name()}: {task.get_coro()}" for task in tasks] + [
            f"timer {handle}" for handle in self._timers()
        ]

    def _timers(self) -> list[asyncio.TimerHandle]:
        # Asyncio tells nobody of its timers, but this is where they are.
        scheduled: list[Any] = getattr(self._loop, "_scheduled", [])
        mine = [h for h in scheduled if h._context.get(_owner, None) is self]
        # The one that wakes whoever asks.
        me = asyncio.current_task()
        return [h for h in mine if not h.cancelled() and not _wakes(h, me)]


def _wakes(handle: Any, task: object) -> bool:
    future = (handle._args or (None,))[0]
    return isinstance(future, asyncio.Future) and any(
        getattr(callback, "__self__", None) is task for callback, _ in future._callbacks or ()
    )


def _new_task(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
    task = asyncio.Task(coro, loop=loop, **kwargs)
    context = kwargs.get("context")
    owner = _owner.get() if context is None else context.get(_owner, None)
    if owner is not None:
        owner.tasks.add(task)
    return task


def open_files() -> list[str]:
    """What the file descriptors of this process are open on, sockets among them."""
    opened: list[str] = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            opened.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:
            continue  # the one that the listing itself was made through
    return sorted(opened)


def threads() -> list[str]:
    """Names of the threads of this process, but for those that asyncio keeps to use again."""
    names = [thread.name for thread in threading.enumerate()]
    return sorted(name for name in names if not name.startswith("asyncio_"))


def resident_mib() -> float:
    """Memory of this process in MiB, without what the C library keeps to use again."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
    if trim is not None:
        trim(0)
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return pages * resource.getpagesize() / 2**20
