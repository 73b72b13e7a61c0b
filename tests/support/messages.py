"""The messages of a `HydraWebSocket`, one at a time."""

import asyncio
from collections.abc import AsyncIterator

from pipecat_hydra.session.websocket import HydraWebSocket

__all__ = ["messages_of"]


async def messages_of(socket: HydraWebSocket) -> AsyncIterator[bytes]:
    """Yield the messages until the connection closes; each is read when the next is asked for."""
    arrived: asyncio.Queue[tuple[bytes, asyncio.Event] | None] = asyncio.Queue()

    def take(message: bytes | bytearray, now: float):
        taken = asyncio.Event()
        arrived.put_nowait((bytes(message), taken))

        async def pause() -> None:
            await taken.wait()

        return pause

    reading = asyncio.create_task(socket.read(take))
    reading.add_done_callback(lambda _: arrived.put_nowait(None))
    try:
        while (next_one := await arrived.get()) is not None:
            message, taken = next_one
            yield message
            taken.set()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
