"""One WebSocket to Hydra: open it, send without waiting, read until it closes.

Messages are handed on in the step in which they arrive, and sent at once while the network takes
them (direct_connection.py). When it does not, they wait here, and what waits is bounded.

A connection that is gone without a close is noticed by its heartbeat (heartbeat.py), or because
the server takes no data any more. One supervised task pings. If it dies, the connection is dropped
with that as its outcome, since a connection that only reads looks alive for ever.

Protocol: §1.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Self

from websockets.asyncio.server import broadcast
from websockets.frames import CloseCode

from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.session.deadline import DeadlineTimer
from pipecat_hydra.session.direct_connection import DirectConnection, Take, Traffic
from pipecat_hydra.session.endpoint import Endpoint
from pipecat_hydra.session.failures import HydraConnectionError, describe_close
from pipecat_hydra.session.heartbeat import Heartbeat
from pipecat_hydra.session.opening import open_connection
from pipecat_hydra.session.supervision import Supervised

__all__ = ["HydraWebSocket", "Traffic"]

_CLOSE_TIMEOUT_SECS: Final = 2.0

# How long one message may wait for room in the socket. By then all the audio that may
# wait has been dropped twice.
_STALL_TIMEOUT_SECS: Final = 10.0

_MAX_WAITING_AUDIO_SECS: Final = 5.0
_MAX_WAITING_BYTES: Final = 16 * 2**20

# More than four minutes of reply audio, at 24 kHz, in one event.
_MAX_EVENT_MIB: Final = 16


class HydraWebSocket:
    """One open WebSocket. After making one you must `close` it."""

    def __init__(
        self,
        connection: DirectConnection,
        host: str,
        on_congested: Callable[[float], None],
        traffic: Traffic,
    ):
        """Wrap an open connection; use `open` instead."""
        self._connection = connection
        self._host = host
        self._on_congested = on_congested
        self._traffic = traffic
        # Each entry: the message and, for audio, its length in seconds.
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._waiting_audio = 0.0
        self._waiting_bytes = 0
        self._dropped_audio = 0.0
        self._failure: HydraConnectionError | None = None
        self._heartbeat = Heartbeat(connection, self._give_up)
        self._stall = DeadlineTimer(self._on_stall)
        self._unheard_since: float | None = None
        self._is_closing = False
        self._pinger = Supervised(
            self._heartbeat.beat(), name="hydra-websocket-pinger", on_end=self._on_pinger_end
        )
        connection.traffic = traffic
        connection.on_room_change(self._on_room_change)

    @classmethod
    async def open(
        cls,
        endpoint: Endpoint,
        *,
        timeout_secs: float,
        on_congested: Callable[[float], None],
        traffic: Traffic | None = None,
    ) -> Self:
        """Connect and authenticate.

        Args:
            endpoint: Where to, and with which key.
            timeout_secs: For DNS, TCP, TLS and the upgrade together, in seconds.
            on_congested: Called with the seconds of audio lost, once each time that
                the server stops taking audio for so long that some must be dropped.
            traffic: Counts the bytes that are sent and received; None for none.

        Raises:
            HydraConnectionError: If no connection could be made.
        """
        connection = await open_connection(
            endpoint,
            timeout_secs=timeout_secs,
            max_size=_MAX_EVENT_MIB * 2**20,
            close_timeout=_CLOSE_TIMEOUT_SECS,
            # The library's pings wait behind messages that cannot be sent, and answers
            # that we have not read yet count as missing.
            ping_interval=None,
        )
        return cls(connection, endpoint.host, on_congested, traffic or Traffic())

    def send(self, message: bytes, *, audio_secs: float = 0.0) -> None:
        """Send a text message, in order, without ever waiting.

        Args:
            message: UTF-8 text.
            audio_secs: Length of the audio in it. When more than five seconds of
                audio wait for a server that does not read, the oldest are dropped;
                other messages never are. When too many of those wait, or nothing at
                all can be sent for ten seconds, the connection is given up.
        """
        if self._connection.has_room and not self._waiting:
            self._traffic.sent_bytes += len(message)
            # A `str` goes as text. Older versions of the library take no bytes for that.
            broadcast((self._connection,), message.decode())
            return
        if self._failure is not None or self._is_closing:
            return
        self._waiting.append((message, audio_secs))
        if audio_secs:
            self._waiting_audio += audio_secs
            if self._waiting_audio > _MAX_WAITING_AUDIO_SECS:
                self._drop_oldest_audio()
        elif self._waiting_bytes > _MAX_WAITING_BYTES:
            self._give_up("takes no data: too much waits to be sent")
        else:
            self._waiting_bytes += len(message)

    async def read(self, take: Take) -> None:
        """Hand on the server's messages until the connection closes, in whatever way.

        Args:
            take: Called with each message and the time in the step in which the message arrives. If
                it returns something to await, no message is read before that is done, which slows
                the server.
        """
        await self._connection.read(take)

    @property
    def unheard_since(self) -> float | None:
        """When the server was last heard from, in the event loop's time, if it went away.

        None unless the connection was given up because nothing came or could be sent.
        """
        return self._unheard_since

    def outcome(self) -> HydraConnectionError:
        """Return why the connection closed, after `messages` has ended."""
        if self._failure is not None:
            return self._failure
        connection = self._connection
        if connection.refused_with == CloseCode.MESSAGE_TOO_BIG:
            message = (
                f"Hydra at {self._host} sent an event larger than {_MAX_EVENT_MIB} MiB, "
                "which was refused"
            )
            return HydraConnectionError(FailureKind.SERVER, message)
        return describe_close(connection.close_code, connection.close_reason, self._host)

    def abort(self) -> None:
        """Drop the connection at once; no message is handed on any more, and `read` ends."""
        self._connection.drop_messages()
        self._connection.transport.abort()

    async def close(self) -> None:
        """Close, politely if the server answers, and leave nothing behind."""
        self._is_closing = True
        self._waiting.clear()
        self._pinger.stop()
        # The server's answer to the close comes behind its other messages.
        self._connection.drop_messages()
        try:
            await self._pinger.wait()
            # The library's own limit does not hold while it cannot send.
            async with asyncio.timeout(_CLOSE_TIMEOUT_SECS):
                await self._connection.close()
        except TimeoutError:
            pass
        finally:
            # Also when the closing is itself cancelled: a socket left open stays for ever.
            self.abort()
            self._stall.cancel()

    def _give_up(self, why: str) -> None:
        """Drop the connection to a server that does not answer pings or take data any more."""
        if self._failure is None:
            self._unheard_since = self._heartbeat.heard_at
        self._drop(FailureKind.TIMEOUT, f"Hydra at {self._host} {why}")

    def _drop(self, kind: FailureKind, message: str) -> None:
        if self._failure is None:
            self._failure = HydraConnectionError(kind, message)
        self.abort()

    def _on_pinger_end(self) -> None:
        if self._pinger.death is not None:
            message = f"the connection to Hydra at {self._host} failed ({self._pinger.death})"
            self._drop(FailureKind.SERVER, message)

    def _on_room_change(self) -> None:
        """Send what waits, now that there is room; or begin to wait for room."""
        while self._waiting and self._connection.has_room:
            message, audio_secs = self._waiting.popleft()
            if audio_secs:
                self._waiting_audio -= audio_secs
            else:
                self._waiting_bytes -= len(message)
            self._traffic.sent_bytes += len(message)
            broadcast((self._connection,), message.decode())
        if self._connection.has_room:
            self._waiting_audio = self._dropped_audio = 0.0
            self._stall.move(None)
        else:
            self._stall.move(self._now + _STALL_TIMEOUT_SECS)

    def _on_stall(self) -> None:
        secs = f"{_STALL_TIMEOUT_SECS:g} s"
        self._give_up(f"takes no data: nothing could be sent for {secs}")
        if self._unheard_since is not None:
            self._unheard_since = min(self._unheard_since, self._now - _STALL_TIMEOUT_SECS)

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _drop_oldest_audio(self) -> None:
        for index, (_, audio_secs) in enumerate(self._waiting):
            if audio_secs:
                del self._waiting[index]
                self._waiting_audio -= audio_secs
                if not self._dropped_audio:
                    self._on_congested(self._waiting_audio)
                self._dropped_audio += audio_secs
                return
