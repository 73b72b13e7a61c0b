"""A plain WebSocket server, and a `HydraWebSocket` to it."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr
from websockets.asyncio.server import Server, ServerConnection, serve

from pipecat_hydra.session.endpoint import Endpoint
from pipecat_hydra.session.websocket import HydraWebSocket

KEY = SecretStr("sk-1 2&3")


def url_of(server: Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"ws://{host}:{port}/s2s"


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


async def until_closed(connection: ServerConnection) -> None:
    """Handle a connection that the client closes."""
    await connection.wait_closed()


@contextlib.asynccontextmanager
async def server(handler: Any, **options: Any) -> AsyncGenerator[str]:
    async with serve(handler, "127.0.0.1", 0, **options) as running:
        yield url_of(running)


@contextlib.asynccontextmanager
async def websocket(url: str, **options: Any) -> AsyncGenerator[HydraWebSocket]:
    options = {"timeout_secs": 5.0, "on_congested": lambda secs: None, **options}
    opened = await HydraWebSocket.open(Endpoint(url, "hydra-v1.1", KEY), **options)
    try:
        yield opened
    finally:
        await opened.close()
