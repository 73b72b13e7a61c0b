"""A plain WebSocket server, and a `HydraWebSocket` to it."""

import contextlib
import ssl
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from websockets.asyncio.server import Server, ServerConnection, serve

from pipecat_hydra.session.endpoint import Endpoint
from pipecat_hydra.session.websocket import HydraWebSocket

KEY = SecretStr("sk-1 2&3")
SELF_SIGNED = Path(__file__).parent / "self_signed.pem"


def url_of(server: Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"ws://{host}:{port}/s2s"


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


@contextlib.asynccontextmanager
async def tls_server(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[str]:
    async def handler(connection: ServerConnection):
        await connection.wait_closed()

    # What switches verification off elsewhere.
    monkeypatch.setenv("PYTHONHTTPSVERIFY", "0")
    monkeypatch.setattr(ssl, "_create_default_https_context", ssl._create_unverified_context)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SELF_SIGNED)
    async with server(handler, ssl=context) as url:
        yield url.replace("ws://", "wss://")
