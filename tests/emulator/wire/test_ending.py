"""The ways in which the server ends a connection, as the client sees them."""

import asyncio

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError

from pipecat_hydra.emulator import Ending
from pipecat_hydra.emulator.wire.ending import end


class Seen:
    """What a client saw of the end, and when the server's call returned."""

    code: int | None = None
    cause: BaseException | None = None
    returned = False


async def ended(how: Ending, *, twice: bool = False) -> Seen:
    seen = Seen()

    async def handler(websocket: ServerConnection) -> None:
        await websocket.send("last words")
        await end(websocket, how)
        if twice:
            await end(websocket, how)
        seen.returned = True
        await websocket.wait_closed()

    async with serve(handler, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}") as client:
            try:
                while True:
                    await asyncio.wait_for(client.recv(), 10)
            except ConnectionClosedError as closed:
                seen.cause = closed.__cause__
            except Exception:
                pass
            await client.wait_closed()
            seen.code = client.close_code
    return seen


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 4000])
async def test_a_number_is_a_close_code(code: int) -> None:
    seen = await ended(code)
    assert seen.code == code
    assert seen.returned


async def test_a_reset_comes_without_a_close_frame() -> None:
    seen = await ended("reset")
    assert seen.code == 1006
    assert isinstance(seen.cause, ConnectionResetError)


async def test_the_end_of_a_stream_is_no_reset() -> None:
    seen = await ended("eof")
    assert seen.code == 1006
    assert not isinstance(seen.cause, ConnectionResetError)
    assert seen.returned


async def test_a_connection_that_is_being_reset_may_be_reset_again() -> None:
    seen = await ended("reset", twice=True)
    assert seen.code == 1006
    assert seen.returned
