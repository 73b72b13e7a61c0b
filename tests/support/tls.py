"""Servers whose certificates Python does not trust."""

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

SELF_SIGNED = Path(__file__).parent / "self_signed.pem"
INTERCEPTED = Path(__file__).parent / "intercepted.pem"
INTERCEPTING_AUTHORITY = Path(__file__).parent / "intercepting_authority.pem"


@asynccontextmanager
async def tls_server(
    monkeypatch: pytest.MonkeyPatch, certificate: Path = SELF_SIGNED, **options: Any
) -> AsyncGenerator[str]:
    """Serve WebSockets over TLS; gives the URL.

    Verification is switched off by what switches it off elsewhere: it must not do so here.
    """

    async def handler(connection: ServerConnection):
        await connection.wait_closed()

    monkeypatch.setenv("PYTHONHTTPSVERIFY", "0")
    monkeypatch.setattr(ssl, "_create_default_https_context", ssl._create_unverified_context)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with serve(handler, "127.0.0.1", 0, ssl=context, **options) as running:
        yield f"wss://127.0.0.1:{running.sockets[0].getsockname()[1]}/s2s"
