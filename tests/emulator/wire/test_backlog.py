"""The queue that is bounded by bytes."""

import asyncio
from typing import cast

from pipecat_hydra.emulator.wire.backlog import Backlog


async def test_backlog() -> None:
    backlog: Backlog[str] = Backlog(10)
    backlog.put("a", 9)
    await backlog.room()
    backlog.put("b", 9)  # over the limit, but never refused
    waiting = asyncio.create_task(backlog.room())
    await asyncio.sleep(0)
    assert (backlog.size, waiting.done()) == (18, False)
    assert await backlog.get() == "a"
    await waiting
    taking = [await backlog.get(), asyncio.create_task(backlog.get())]
    await asyncio.sleep(0)
    backlog.put("c")
    assert (taking[0], await cast("asyncio.Task[str]", taking[1])) == ("b", "c")
    backlog.put("d", 100)
    backlog.close()
    backlog.put("e", 100)
    assert backlog.size == 0
    await backlog.room()
