"""The calls of a server: begins a call when a page has connected, and ends all with the server.

An offer is cheap to make and need not come from anybody who wants to talk, so it opens no session.
It takes up one of the places for calls. The call, with its pipeline and its session, begins when
the page that has made the offer has connected over WebRTC. If it does not in time, the place is
free again.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

from fastapi import HTTPException
from loguru import logger
from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection
from pipecat.transports.smallwebrtc.request_handler import (
    SmallWebRTCPatchRequest,
    SmallWebRTCRequest,
    SmallWebRTCRequestHandler,
)

from pipecat_hydra.cli.talk.errors import without_key
from pipecat_hydra.cli.web.call import Call
from pipecat_hydra.cli.web.disturbances import Disturbances
from pipecat_hydra.cli.web.recordings import Recordings
from pipecat_hydra.cli.web.service import Service

__all__ = ["Calls"]


_MOST_CALLS: Final = 8

_CONNECT_LIMIT_SECS: Final = 15.0
"""How long the page may take to connect; the page gives up after the same time."""

_POLL_SECS: Final = 0.02


class Calls:
    """Begins a call for each offer whose page connects. `end` must be called at the end."""

    def __init__(
        self,
        service: Service,
        announce: Callable[[str], None],
        recordings: Recordings,
        *,
        can_disturb: bool = False,
    ):
        """Create the object, without any call.

        Args:
            service: The service that calls talk to; a page may choose another model, voice and
                instructions.
            announce: Called with a line when a call starts, when it has ended, and for each problem
                between.
            recordings: Records the calls.
            can_disturb: Whether the service is an emulator, whose calls a page may disturb.
        """
        self._service = service
        self._recordings = recordings
        self._can_disturb = can_disturb
        self._announce = announce
        # No STUN server is needed: the page is on this machine or on its network.
        self._handler = SmallWebRTCRequestHandler()
        self._count = 0
        self._answering = 0
        self._held: dict[SmallWebRTCConnection, asyncio.Task[None]] = {}
        self._calls: dict[SmallWebRTCConnection, Call] = {}

    def __len__(self) -> int:
        """Return the number of places taken: calls, and offers whose page has yet to connect."""
        return len(self._held) + self._answering

    async def answer(self, offer: SmallWebRTCRequest) -> dict[str, str] | None:
        """Answer an offer, for a new call or to renegotiate one in progress.

        Args:
            offer: The page's offer.

        Returns:
            The answer, in the form that Pipecat's clients expect.

        Raises:
            HTTPException: No place is free.
            ChoiceError: What the page has chosen for the call is not valid.
        """
        service = self._service.chosen(offer.request_data)

        async def hold_soon(connection: SmallWebRTCConnection) -> None:
            # The answer waits for this coroutine, and the page waits for the answer.
            self._held[connection] = holding = asyncio.create_task(self._hold(connection, service))
            holding.add_done_callback(lambda _: self._held.pop(connection))

        if any(connection.pc_id == offer.pc_id for connection in self._held):
            return await self._handler.handle_web_request(offer, hold_soon)
        if len(self) >= _MOST_CALLS:
            raise HTTPException(
                503,
                f"The server holds {_MOST_CALLS} calls, and takes no more at a time. Hang up one, "
                "or try again later.",
            )
        self._answering += 1
        try:
            return await self._handler.handle_web_request(offer, hold_soon)
        finally:
            self._answering -= 1

    async def add_candidates(self, candidates: SmallWebRTCPatchRequest) -> None:
        """Add ICE candidates of the page to a call."""
        await self._handler.handle_patch_request(candidates)

    async def end(self) -> None:
        """End all calls; returns when all their tasks have ended."""
        held = dict(self._held)
        for connection, holding in held.items():
            if connection not in self._calls:
                holding.cancel()
        await asyncio.gather(*(call.end() for call in self._calls.values()), return_exceptions=True)
        await asyncio.gather(*held.values(), return_exceptions=True)
        await self._handler.close()

    async def _hold(self, connection: SmallWebRTCConnection, service: Service) -> None:
        """Wait for the page to connect, and hold the call; close a connection that never is."""
        is_connected = False
        try:
            is_connected = await _connects(connection)
        finally:
            if not is_connected:
                await connection.disconnect()
        if is_connected:
            await self._talk(connection, service)
        else:
            logger.warning("a page has made an offer, but never connected")

    async def _talk(self, connection: SmallWebRTCConnection, service: Service) -> None:
        self._count += 1
        number, began = self._count, time.monotonic()
        self._announce(f"call {number} began")
        recorded = self._recordings.begin()
        try:
            async with AsyncExitStack() as stack:
                disturbances = None
                if self._can_disturb:
                    disturbances = await stack.enter_async_context(Disturbances(service.base_url))
                    service = replace(service, base_url=disturbances.line.url)
                call = self._calls[connection] = Call(
                    connection,
                    service,
                    recorded=recorded,
                    disturbances=disturbances,
                    announce=lambda problem: self._announce_problem(number, problem),
                )
                await call.run()
        except Exception as error:
            message = without_key(f"{type(error).__name__}: {error}", service.api_key)
            logger.error(f"call {number} failed: {message}")
        finally:
            self._calls.pop(connection, None)
            recorded.end()
            where = self._recordings.place_of(recorded)
            self._announce(f"call {number} ended after {time.monotonic() - began:.0f} s{where}")

    def _announce_problem(self, number: int, problem: str) -> None:
        # The server's words may contain terminal escapes.
        shown = problem if problem.isprintable() else ascii(problem)
        self._announce(f"call {number}: {shown}")


async def _connects(connection: SmallWebRTCConnection) -> bool:
    """Wait until the page has connected; return whether it has."""
    until = time.monotonic() + _CONNECT_LIMIT_SECS
    # Polled, because a page that restarts its connection gets another peer behind `pc`.
    while (state := connection.pc.connectionState) != "connected":
        if state in ("failed", "closed") or time.monotonic() > until:
            return False
        await asyncio.sleep(_POLL_SECS)
    return True
