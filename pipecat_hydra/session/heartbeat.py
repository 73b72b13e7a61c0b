"""Finds out whether the server of a quiet connection is still there.

A network that goes away closes nothing, and TCP alone notices after a quarter of an hour. So a
ping goes out every few seconds. Each message of the server and each pong shows that it is there.
With several pings unanswered in a row, the server is gone.

Some servers answer no pings. Such a server is known by a message that comes well after a ping
which it has not answered. It counts as there as long as its machine acknowledges data, which the
operating system tells on Linux. Elsewhere only data that finds no room in the socket shows that
such a server is gone (websocket.py). One pong ends the special treatment.

Pings are counted, not timed: time passes also while our own event loop stands still. They count
only while somebody reads, because what a slow pipeline leaves unread may be the pong.
"""

import asyncio
import socket
import struct
import sys
from collections.abc import Callable
from typing import Final

from websockets.exceptions import ConnectionClosed

from pipecat_hydra.session.direct_connection import DirectConnection

__all__ = ["Heartbeat"]

# This takes 12 to 15 s: longer than a phone needs to find its network again.
_PING_INTERVAL_SECS: Final = 3.0
_MAX_UNANSWERED_PINGS: Final = 4

# Soon, to know soon whether the server answers pings, but not amidst the handshake.
_FIRST_PING_SECS: Final = 0.5

# A server that answers pings has done so by then. If it is slower, its pong corrects it.
_PONG_SECS: Final = 0.2

# Where `struct tcp_info` of Linux has the number of bytes that the other side acknowledged.
_BYTES_ACKNOWLEDGED: Final = struct.Struct("=120xQ")


class Heartbeat:
    """Pings a server while `beat` runs, and reports it when it is gone."""

    def __init__(self, connection: DirectConnection, on_gone: Callable[[str], None]):
        """Make a heartbeat of an open connection.

        Args:
            connection: The connection.
            on_gone: Called, once, with what the server fails to do, in words for a person.
        """
        self._connection = connection
        self._on_gone = on_gone
        # When an answer to a ping came, or something that shows that the server is there.
        self._answered_at = connection.heard_at
        self._unanswered = 0
        # None: not known yet.
        self._answers_pings: bool | None = None
        self._acknowledged = 0

    @property
    def heard_at(self) -> float:
        """When the server is known to have been there, in the event loop's time."""
        return max(self._answered_at, self._connection.heard_at)

    async def beat(self) -> None:
        """Ping until the connection closes or the server is gone."""
        connection = self._connection
        await asyncio.sleep(_FIRST_PING_SECS)
        pong_due_at = self._now + _PONG_SECS
        while True:
            pinged_at = self._now
            try:
                pong = asyncio.ensure_future(await connection.ping())
            except ConnectionClosed:
                return
            pong.add_done_callback(self._on_pong)
            self._unanswered += connection.is_listening
            await asyncio.sleep(_PING_INTERVAL_SECS)
            if self._answers_pings is None and connection.heard_at > pong_due_at:
                self._answers_pings = False
            if self._answers_pings is False and self._has_acknowledged_more():
                self._answered_at = max(self._answered_at, pinged_at)
            if self.heard_at >= pinged_at:
                self._unanswered = 0
            if self._unanswered >= _MAX_UNANSWERED_PINGS:
                secs = f"{_MAX_UNANSWERED_PINGS * _PING_INTERVAL_SECS:g} s"
                self._on_gone(f"does not answer any more: nothing came for {secs}")
                return

    def _on_pong(self, pong: asyncio.Future[float]) -> None:
        # When the connection closes, the pongs that did not come are cancelled or failed.
        if not (pong.cancelled() or pong.exception()):
            self._answers_pings = True
            self._answered_at = self._now

    def _has_acknowledged_more(self) -> bool:
        """Whether the server's machine has acknowledged data since the last call, or may have."""
        if sys.platform != "linux":
            return True
        tcp: socket.socket = self._connection.transport.get_extra_info("socket")
        told = tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKNOWLEDGED.size)
        before, (self._acknowledged,) = self._acknowledged, _BYTES_ACKNOWLEDGED.unpack(told)
        return self._acknowledged > before

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()
