"""The calls of a server: starts a call for each offer, and ends all with the server."""

import asyncio
import time
from collections.abc import Callable

from loguru import logger
from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection
from pipecat.transports.smallwebrtc.request_handler import (
    SmallWebRTCPatchRequest,
    SmallWebRTCRequest,
    SmallWebRTCRequestHandler,
)

from pipecat_hydra.cli.talk.errors import without_key
from pipecat_hydra.cli.web.call import Call, Service

__all__ = ["Calls"]


class Calls:
    """Starts a call for each offer. `end` must be called at the end."""

    def __init__(self, service: Service, announce: Callable[[str], None]):
        """Create the object, without any call.

        Args:
            service: The service that all calls talk to.
            announce: Called with a line when a call starts and when it has ended.
        """
        self._service = service
        self._announce = announce
        # No STUN server is needed: the page is on this machine or on its network.
        self._handler = SmallWebRTCRequestHandler()
        self._count = 0
        self._running: dict[Call, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        """Return the number of calls in progress."""
        return len(self._running)

    async def answer(self, offer: SmallWebRTCRequest) -> dict[str, str] | None:
        """Start a call, or renegotiate one in progress.

        Args:
            offer: The page's offer.

        Returns:
            The answer, in the form that Pipecat's clients expect.
        """
        return await self._handler.handle_web_request(offer, self._begin)

    async def add_candidates(self, candidates: SmallWebRTCPatchRequest) -> None:
        """Add ICE candidates of the page to a call."""
        await self._handler.handle_patch_request(candidates)

    async def end(self) -> None:
        """End all calls; returns when all their tasks have ended."""
        running = dict(self._running)
        await asyncio.gather(*(call.end() for call in running), return_exceptions=True)
        await asyncio.gather(*running.values(), return_exceptions=True)
        await self._handler.close()

    async def _begin(self, connection: SmallWebRTCConnection) -> None:
        # The answer waits for this coroutine, and the call waits for the answer.
        self._count += 1
        call = Call(connection, self._service)
        self._running[call] = asyncio.create_task(self._hold(call, self._count))

    async def _hold(self, call: Call, number: int) -> None:
        began = time.monotonic()
        self._announce(f"call {number} began")
        try:
            await call.run()
        except Exception as error:
            message = without_key(f"{type(error).__name__}: {error}", self._service.api_key)
            logger.error(f"call {number} failed: {message}")
        finally:
            del self._running[call]
            self._announce(f"call {number} ended after {time.monotonic() - began:.0f} s")
