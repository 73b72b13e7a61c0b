"""Measures what many calls leave behind in their process."""

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
