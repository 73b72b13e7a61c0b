"""A time limit on a wait for a server that a stall of the event loop does not use up.

An event loop stands still while somebody blocks it: a model that loads, a long computation, a
machine that is suspended. The answer of the server has then come and is not read, so the server
is not late. Asyncio's own limits fire all the same, in the turn of the loop in which the answer
is seen. The limit here is counted in parts: each part is over when a timer has fired, however
late that was. A stall costs the part in which it falls, and the rest of the limit remains.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

__all__ = ["time_limit"]

_PARTS: Final = 10


@asynccontextmanager
async def time_limit(secs: float) -> AsyncGenerator[None]:
    """Cancel the body after so many seconds in which the event loop ran.

    Raises:
        TimeoutError: If the body was cancelled for that.
    """
    loop = asyncio.get_running_loop()
    part = secs / _PARTS
    async with asyncio.timeout(None) as limit:
        left = _PARTS

        def count() -> None:
            nonlocal left, timer
            left -= 1
            if left:
                timer = loop.call_later(part, count)
            else:
                limit.reschedule(loop.time())

        timer = loop.call_later(part, count)
        try:
            yield
        finally:
            timer.cancel()
