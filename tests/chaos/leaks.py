"""Measures what many calls leave behind in their process."""

import asyncio
import ctypes
import gc
import os
import resource
import threading


def open_files() -> list[str]:
    """What the file descriptors of this process are open on, sockets among them."""
    opened: list[str] = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            opened.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:
            continue  # the one that the listing itself was made through
    return sorted(opened)


async def open_what_stays() -> None:
    """Have the event loop open what it keeps open until it is closed.

    From its first connection on, a loop of libuv keeps a descriptor in reserve, open on
    `/dev/null`: the one that it gives up to refuse a connection when there are no more.
    """
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1")
    server.close()
    await server.wait_closed()


def threads() -> list[str]:
    """Names of the threads of this process, but for those that asyncio keeps to use again."""
    names = [thread.name for thread in threading.enumerate()]
    return sorted(name for name in names if not name.startswith(("asyncio_", "uvloop_")))


def resident_mib() -> float:
    """Memory of this process in MiB, without what the C library keeps to use again."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
    if trim is not None:
        trim(0)
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return pages * resource.getpagesize() / 2**20
