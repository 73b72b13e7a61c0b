"""Serves a bot to telephones, over WebSockets, and ends without cutting a call.

    python server.py --port 7860 --drain-seconds 600

| route      | what                                                                            |
|------------|---------------------------------------------------------------------------------|
| `/ws`      | a call: a WebSocket of Twilio, Telnyx, Plivo or Exotel                          |
| `/health`  | 200 while the process lives                                                     |
| `/ready`   | 200 while it takes another call, else 503                                       |
| `/metrics` | the number of calls, in the text format of Prometheus                           |

At SIGTERM the process takes no new call: `/ready` answers 503, and so does `/ws`. The running calls
go on until they end, but no longer than `--drain-seconds`. Then the process exits with 0. A second
SIGTERM, or Ctrl-C, ends it at once.
"""

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable
from importlib import import_module
from types import FrameType

import uvicorn
from fastapi import FastAPI, Response, WebSocket
from loguru import logger
from pipecat.runner.types import WebSocketRunnerArguments

from pipecat_hydra import ActiveCalls

Bot = Callable[[WebSocketRunnerArguments], Awaitable[None]]


def make_app(bot: Bot, calls: ActiveCalls) -> FastAPI:
    """Make the application.

    Args:
        bot: Holds one call.
        calls: Counts the calls.
    """
    app = FastAPI()

    @app.get("/health")
    async def health() -> Response:
        return Response("alive\n", media_type="text/plain")

    @app.get("/ready")
    async def ready() -> Response:
        if calls.is_ready:
            return Response("ready\n", media_type="text/plain")
        return refusal()

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(
            "# HELP hydra_calls_active Calls that this process holds.\n"
            "# TYPE hydra_calls_active gauge\n"
            f"hydra_calls_active {calls.count}\n"
            "# HELP hydra_calls_ready Whether this process takes another call.\n"
            "# TYPE hydra_calls_ready gauge\n"
            f"hydra_calls_ready {int(calls.is_ready)}\n",
            media_type="text/plain; version=0.0.4",
        )

    @app.websocket("/ws")
    async def call(websocket: WebSocket) -> None:
        if not calls.is_ready:
            await websocket.send_denial_response(refusal())
            return
        with calls.call():
            await websocket.accept()
            await bot(WebSocketRunnerArguments(websocket=websocket))

    def refusal() -> Response:
        why = "draining" if calls.is_draining else "full"
        return Response(f"{why}\n", 503, {"Retry-After": "5"}, "text/plain")

    return app


class DrainingServer(uvicorn.Server):
    """A server that at SIGTERM waits for its calls; uvicorn's own would close their WebSockets."""

    def __init__(self, config: uvicorn.Config, calls: ActiveCalls, drain_secs: float):
        super().__init__(config)
        self._calls = calls
        self._drain_secs = drain_secs
        self._draining: asyncio.Task[None] | None = None

    async def serve(self, sockets=None) -> None:
        """Serve until the process is to end."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain at the first SIGTERM; end at once at any other signal."""
        if sig == signal.SIGTERM and not self._calls.is_draining:
            self._calls.drain()
            self._loop.call_soon_threadsafe(self._begin)
        else:
            super().handle_exit(sig, frame)

    def _begin(self) -> None:
        self._draining = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        logger.info(f"SIGTERM: no new calls; {self._calls.count} go on")
        if left := await self._calls.ended(timeout_secs=self._drain_secs):
            logger.warning(f"{left} calls are cut: they go on after {self._drain_secs:g} s")
        self.should_exit = True


def serve(bot: Bot) -> None:
    """Serve a bot, as the command line says."""
    parser = argparse.ArgumentParser(description="Serve a bot over WebSockets.")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--max-calls", type=int, help="refuse more calls at a time (default: none)")
    parser.add_argument(
        "--drain-seconds",
        type=float,
        default=600.0,
        help="how long calls may go on after SIGTERM (default: 600)",
    )
    given = parser.parse_args()
    calls = ActiveCalls(limit=given.max_calls)
    # Once it is to exit, what is cut has so many seconds to end.
    config = uvicorn.Config(
        make_app(bot, calls), host=given.host, port=given.port, timeout_graceful_shutdown=10
    )
    DrainingServer(config, calls, given.drain_seconds).run()


if __name__ == "__main__":
    # `bot.py` beside this file, which is `voice_agent.py` in the image.
    serve(import_module("bot").bot)
