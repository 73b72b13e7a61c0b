"""The page's server for tests, and pages that call it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
from pipecat.frames.frames import (
    InputTransportMessageFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
)
from support.bots import until
from support.webrtc import CLIENT_READY, Browser

import pipecat_hydra.cli.web.call
from pipecat_hydra.cli.web import DEFAULT_INSTRUCTIONS, WebOptions
from pipecat_hydra.cli.web.call import Call
from pipecat_hydra.cli.web.disturbances import Disturbances
from pipecat_hydra.cli.web.server import WebServer
from pipecat_hydra.cli.web.service import Service
from pipecat_hydra.emulator import HydraEmulator
from pipecat_hydra.testing import VirtualTransport
from pipecat_hydra.wire.protocol import DEFAULT_MODEL

T = TypeVar("T")


def options(hydra: HydraEmulator | None = None, **more: Any) -> WebOptions:
    """Options of a server that talks to an emulator: this one, or one of its own."""
    if hydra:
        more = {"api_key": hydra.api_key, "base_url": hydra.url, **more}
    return WebOptions(**more)


@asynccontextmanager
async def calling(web: WebServer, **more: Any) -> AsyncGenerator[Browser]:
    """Call a server over WebRTC."""
    browser = Browser(web.url, **more)
    try:
        await browser.call()
        yield browser
    finally:
        await browser.hang_up()


class Page(VirtualTransport):
    """A page without WebRTC: the transport of one call, and what the page was told.

    Attributes:
        messages: The messages that the page was told.
        announced: The problems that the terminal was told.
        is_disconnected: Whether the call has closed the connection to the page.
    """

    def __init__(self):
        super().__init__()
        self.messages: list[Any] = []
        self.announced: list[str] = []
        self.is_disconnected = False
        self._output.send_message = self._keep

    async def introduce(self) -> None:
        """Tell the call that the page is ready, as Pipecat's clients do."""
        await self.input().broadcast_frame(InputTransportMessageFrame, message=CLIENT_READY)

    async def send(self, kind: str, data: Any) -> None:
        """Send the call a message of the page's own."""
        own = {"t": kind, "d": data}
        message = {"label": "rtvi-ai", "type": "client-message", "id": "2", "data": own}
        await self.input().broadcast_frame(InputTransportMessageFrame, message=message)

    async def disconnect(self) -> None:
        """Take the part of the WebRTC connection, which the call closes at its end."""
        self.is_disconnected = True

    def types(self) -> list[str]:
        return [message["type"] for message in self.messages]

    def data(self, kind: str) -> list[Any]:
        return [message["data"] for message in self.messages if message["type"] == kind]

    def told(self, *types: str) -> list[Any]:
        """Messages of the call's own, of some types."""
        return [told for told in self.data("server-message") if told["type"] in types]

    async def until(self, kind: str, count: int = 1) -> None:
        await until(lambda: self.types().count(kind) >= count, self.types)

    async def _keep(
        self, frame: OutputTransportMessageFrame | OutputTransportMessageUrgentFrame
    ) -> None:
        self.messages.append(frame.message)


@asynccontextmanager
async def holding(
    hydra: HydraEmulator,
    monkeypatch: pytest.MonkeyPatch,
    *,
    api_key: str | None = None,
    disturbances: Disturbances | None = None,
) -> AsyncGenerator[tuple[Page, "asyncio.Task[None]"]]:
    """Hold a call with a page that needs no WebRTC; gives the page and the call's task."""
    page: Any = Page()
    monkeypatch.setattr(pipecat_hydra.cli.web.call, "SmallWebRTCTransport", lambda *_: page)
    service = Service(
        api_key=api_key or hydra.api_key,
        base_url=disturbances.line.url if disturbances else hydra.url,
        model=DEFAULT_MODEL,
        voice=None,
        instructions=DEFAULT_INSTRUCTIONS,
    )
    call = Call(page, service, disturbances=disturbances, announce=page.announced.append)
    running = asyncio.create_task(call.run())
    try:
        await page.timeline.started()
        yield page, running
    finally:
        await call.end()
        await running


async def run_in_executor(function: Callable[..., T], *args: Any, **_: Any) -> T:
    """Take the place of `anyio.to_thread.run_sync`, whose threads a virtual clock outruns."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)
