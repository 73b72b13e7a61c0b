"""A bot behind Pipecat's own runner: its WebSocket routes, served in this event loop."""

import argparse
import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from types import ModuleType

import pytest
import uvicorn
from fastapi import FastAPI
from pipecat.runner import run as runner
from typing_extensions import override


class _Server(uvicorn.Server):
    @override
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@asynccontextmanager
async def served(bot: ModuleType, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[str]:
    """Serve a bot as the runner does; gives the URL of its WebSocket."""
    # The runner looks for `bot` in the program that was started, which here is pytest.
    monkeypatch.setattr(runner, "_get_bot_module", lambda: bot)
    arguments = argparse.Namespace(
        transport=None, proxy=None, ws_auth="none", allowed_origins=[], runner_body=None
    )
    app = FastAPI()
    runner._setup_telephony_routes(app, arguments, set())
    runner._setup_websocket_routes(app, arguments, set())
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=2)
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        listener.close()
