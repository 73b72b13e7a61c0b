"""What a test leaves behind: tasks, timers, sockets in its loop; threads and files in the process.

A test that leaves something running disturbs the next one, and shows that the package does
not clean up. What is told here is read off the loop and the operating system, so it costs a
test some tens of microseconds.
"""

import asyncio
import os
import threading
from typing import Any, Final

from support.virtual_time import VirtualClock

__all__ = ["ProcessState", "left_in_loop"]

_GRACE_SECS: Final = 3.0
_GRACE_OF_THREADS_SECS: Final = 20.0
_LOOK_SECS: Final = 0.05
# Executors keep their threads to use them again, and end them with the interpreter.
_REUSED_THREADS: Final = ("asyncio_", "uvloop_", "ThreadPoolExecutor-")


async def left_in_loop() -> list[str]:
    """Wait a moment for the end of what runs, and name what does not end."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + _GRACE_SECS
    while (left := _left(loop)) and loop.time() < ends_at:
        await asyncio.sleep(_LOOK_SECS)
    return left


def _left(loop: asyncio.AbstractEventLoop) -> list[str]:
    tasks = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    left = [f"task {task.get_name()}: {task.get_coro()}" for task in tasks]
    if isinstance(loop, VirtualClock):
        left += [f"timer {handle}" for handle in loop.timers]
        left += [f"socket {socket}" for socket in loop.sockets]
    return left


class ProcessState:
    """The threads and open files of this process at one moment."""

    def __init__(self) -> None:
        """Look at the process."""
        self._threads = {t for t in threading.enumerate() if not t.name.startswith(_REUSED_THREADS)}
        self._files = _open_files()

    def left_since(self) -> list[str]:
        """Name the threads and files that there are now and were not then.

        A thread that waits for what has ended, such as a process, gets a moment to end too.
        """
        for thread in ProcessState()._threads - self._threads:
            thread.join(_GRACE_OF_THREADS_SECS)
        now = ProcessState()
        threads = [f"thread {thread.name}" for thread in now._threads - self._threads]
        return threads + [
            f"file {number}: {target}"
            for number, target in now._files.items()
            if self._files.get(number) != target
        ]


def _open_files() -> dict[str, str]:
    """What each file descriptor is open on; nothing where the system does not tell."""
    opened: dict[str, Any] = {}
    folder = "/proc/self/fd"
    for number in os.listdir(folder) if os.path.isdir(folder) else ():
        try:
            opened[number] = os.readlink(f"{folder}/{number}")
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    return opened
