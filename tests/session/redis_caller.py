"""One process that wants a session, for `test_redis_processes.py`; it imports nothing of Pipecat.

    python redis_caller.py REDIS_URL LIMIT LEASE_SECS HYDRA_URL HOLD_SECS

It asks for a place when a line comes, opens a session at the emulator once it has one, holds both
for a while, or until another line comes where HOLD_SECS is 0, and gives them back. It prints what
happens.
"""

import asyncio
import sys

from loguru import logger
from websockets.asyncio.client import connect

from pipecat_hydra.session.redis_capacity import RedisCapacity


def tell(*what: object) -> None:
    print(*what, flush=True)


async def main() -> None:
    redis_url, limit, lease_secs, hydra_url, hold_secs = sys.argv[1:]
    logger.remove()
    logger.add(sys.stdout, format="{message}", level="WARNING")
    capacity = RedisCapacity(
        redis_url, limit=int(limit), lease_secs=float(lease_secs), max_wait_secs=None
    )
    tell("ready")
    await asyncio.to_thread(sys.stdin.readline)
    tell("asks")
    async with (
        capacity.place(lambda position: tell("waits", position)),
        connect(hydra_url) as hydra,
    ):
        assert "session.created" in str(await hydra.recv())
        tell("holds")
        if secs := float(hold_secs):
            await asyncio.sleep(secs)
        else:
            await asyncio.to_thread(sys.stdin.readline)
        tell("goes")


asyncio.run(main())
