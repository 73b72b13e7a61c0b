"""Messages that are handed on in the step in which they arrive, and sent in the step that sends."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from support.sockets import server
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection

from pipecat_hydra.session.direct_connection import DirectConnection


@asynccontextmanager
async def connection(url: str) -> AsyncGenerator[DirectConnection]:
    opened = await connect(url, create_connection=DirectConnection, compression=None)
    assert isinstance(opened, DirectConnection)
    async with opened:
        yield opened


async def test_messages_are_handed_on_without_a_task_in_order_and_whole():
    async def handler(socket: ServerConnection):
        await socket.recv()
        await socket.send("first")
        await socket.send(["in ", "three ", "parts"])
        await socket.send(b"last")

    taken: list[tuple[bytes, asyncio.Task[None] | None]] = []
    async with server(handler) as url, connection(url) as opened:
        reading = asyncio.ensure_future(
            opened.read(lambda message, _: taken.append((bytes(message), asyncio.current_task())))
        )
        await asyncio.sleep(0)
        await opened.send("go on")
        await reading
    assert taken == [(b"first", None), (b"in three parts", None), (b"last", None)]
    assert opened.traffic.received_bytes == len("firstin three partslast")


async def test_what_came_before_anybody_reads_is_kept():
    async def handler(socket: ServerConnection):
        for text in ("a", "b", "c"):
            await socket.send(text)

    taken: list[bytes] = []
    async with server(handler) as url, connection(url) as opened:
        await asyncio.sleep(0.1)
        await opened.read(lambda message, _: taken.append(bytes(message)))
    assert taken == [b"a", b"b", b"c"]


async def test_no_message_is_handed_on_in_a_pause():
    async def handler(socket: ServerConnection):
        for number in range(50):
            await socket.send(str(number))

    taken: list[int] = []
    in_pause = False

    async def pause() -> None:
        nonlocal in_pause
        in_pause = True
        assert not opened.is_listening
        await asyncio.sleep(0.01)
        in_pause = False

    def take(message: bytes | bytearray, now: float):
        assert not in_pause
        taken.append(int(message))
        return pause if taken[-1] % 7 == 0 else None

    async with server(handler) as url, connection(url) as opened:
        await opened.read(take)
    assert taken == list(range(50))


async def test_after_they_are_dropped_no_message_is_handed_on():
    async def handler(socket: ServerConnection):
        await socket.send("one")
        await socket.recv()
        await socket.send("two")

    taken: list[bytes] = []
    went_on = asyncio.Event()
    async with server(handler) as url, connection(url) as opened:

        def take(message: bytes | bytearray, now: float) -> None:
            taken.append(bytes(message))
            opened.drop_messages()
            went_on.set()

        reading = asyncio.ensure_future(opened.read(take))
        await went_on.wait()
        await opened.send("go on")
        await reading
    assert taken == [b"one"]
