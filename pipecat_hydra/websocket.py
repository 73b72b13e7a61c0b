"""One WebSocket to Hydra: open it, send without waiting, read until it closes.

The key travels in the URL's query by default, and a URL is what libraries log. So
nothing in here logs it, the WebSocket library is given a logger that is silent below
INFO, and whatever goes wrong is told by a `HydraConnectionError` of our own, which
carries neither the library's exception nor its URL.

Protocol: §1.
"""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, Literal, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
)
from websockets.frames import CloseCode

from pipecat_hydra.effects import FailureKind
from pipecat_hydra.protocol import CLOSE_AT_CAPACITY, CLOSE_NORMAL

__all__ = ["AuthStyle", "Endpoint", "HydraConnectionError", "HydraWebSocket"]

AuthStyle = Literal["query", "header"]
"""Where the key goes: `api_key` in the URL's query, or an `Authorization` header."""

_CLOSE_TIMEOUT_SECS: Final = 2.0
_MAX_WAITING_AUDIO_SECS: Final = 5.0
_MAX_WAITING_EVENTS: Final = 1_000

_library_logger = logging.getLogger("pipecat_hydra.websocket.library")
# The library logs the request line and the headers at DEBUG, and with them the key.
_library_logger.setLevel(logging.INFO)
_library_logger.addFilter(lambda record: record.levelno >= logging.INFO)


class HydraConnectionError(Exception):
    """No connection to Hydra could be made, or it broke.

    Attributes:
        kind: Why.
        message: For a person; holds neither the key nor the URL's query.
    """

    def __init__(self, kind: FailureKind, message: str):
        """Make the error.

        Args:
            kind: Why.
            message: For a person.
        """
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where Hydra is and how to be let in.

    Parameters:
        base_url: The endpoint, `ws://` or `wss://`, without the key.
        model: Value of the `model` query parameter.
        api_key: The key.
        auth: Where the key goes.
    """

    base_url: str
    model: str
    api_key: SecretStr
    auth: AuthStyle = "query"

    def __post_init__(self) -> None:
        """Check the URL.

        Raises:
            ValueError: If it is no WebSocket URL, or carries a key.
        """
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            message = f"base_url must be a ws:// or wss:// URL, not {parts.scheme or 'nothing'}://"
            raise ValueError(message)
        if {"api_key", "model"} & dict(parse_qsl(parts.query)).keys() or parts.password:
            raise ValueError("base_url must not carry the key or the model: pass them as arguments")

    @property
    def host(self) -> str:
        """Host and port, which may be shown."""
        return urlsplit(self.base_url).netloc

    def url(self) -> str:
        """The URL to connect to, with the key if it goes there. Never log it."""
        parts = urlsplit(self.base_url)
        query = [*parse_qsl(parts.query, keep_blank_values=True), ("model", self.model)]
        if self.auth == "query":
            query.append(("api_key", self.api_key.get_secret_value()))
        return urlunsplit(parts._replace(query=urlencode(query)))

    def headers(self) -> dict[str, str]:
        """The headers to add. Never log them."""
        if self.auth == "query":
            return {}
        return {"Authorization": f"Bearer {self.api_key.get_secret_value()}"}


class HydraWebSocket:
    """One open WebSocket. After making one you must `close` it."""

    def __init__(
        self, connection: ClientConnection, host: str, on_congested: Callable[[float], None]
    ):
        """Wrap an open connection; use `open` instead."""
        self._connection = connection
        self._host = host
        self._on_congested = on_congested
        # Each entry: the message and, for audio, its length in seconds.
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._waiting_audio = 0.0
        self._dropped_audio = 0.0
        self._wake = asyncio.Event()
        self._sender = asyncio.create_task(self._send_waiting(), name="hydra-websocket-sender")

    @classmethod
    async def open(
        cls, endpoint: Endpoint, *, timeout_secs: float, on_congested: Callable[[float], None]
    ) -> Self:
        """Connect and authenticate.

        Args:
            endpoint: Where to, and with which key.
            timeout_secs: For DNS, TCP, TLS and the upgrade together, in seconds.
            on_congested: Called with the seconds of audio lost, once each time that
                the server stops taking audio for so long that some must be dropped.

        Raises:
            HydraConnectionError: If it cannot be had.
        """
        connection, failure = None, None
        try:
            connection = await connect(
                endpoint.url(),
                additional_headers=endpoint.headers(),
                # Deflating base64 audio costs four times what all else does.
                compression=None,
                max_size=None,
                open_timeout=timeout_secs,
                close_timeout=_CLOSE_TIMEOUT_SECS,
                logger=_library_logger,
            )
        except Exception as error:
            # Whatever it is, for instance a proxy's package that is missing.
            failure = _describe_failure(error, endpoint.host, timeout_secs)
        # Raised out here, so that the library's exception is not even its context.
        if connection is None:
            raise failure or HydraConnectionError(FailureKind.CONNECTIVITY, "no connection")
        return cls(connection, endpoint.host, on_congested)

    def send(self, message: bytes, *, audio_secs: float = 0.0) -> None:
        """Send a text message, in order, without ever waiting.

        Args:
            message: UTF-8 text.
            audio_secs: Length of the audio in it. When more than five seconds of
                audio wait for a server that does not read, the oldest are dropped;
                other messages never are.
        """
        self._waiting.append((message, audio_secs))
        self._waiting_audio += audio_secs
        if self._waiting_audio > _MAX_WAITING_AUDIO_SECS:
            self._drop_oldest_audio()
        elif len(self._waiting) > _MAX_WAITING_EVENTS:
            self.abort()
        self._wake.set()

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield what the server sends until the connection closes, however it does."""
        while True:
            try:
                yield await self._connection.recv(decode=False)
            except ConnectionClosed:
                return

    def outcome(self) -> HydraConnectionError:
        """Why the connection closed, after `messages` has ended."""
        code, reason = self._connection.close_code, self._connection.close_reason
        kind = {
            CLOSE_NORMAL: FailureKind.ENDED,
            CLOSE_AT_CAPACITY: FailureKind.CAPACITY,
            CloseCode.INTERNAL_ERROR: FailureKind.SERVER,
        }.get(code or CloseCode.ABNORMAL_CLOSURE, FailureKind.CONNECTIVITY)
        reason = f", {reason[:120]!r}" if reason else ""
        message = f"Hydra at {self._host} closed the connection (code {code}{reason})"
        if code in (None, CloseCode.ABNORMAL_CLOSURE):
            message = f"the connection to Hydra at {self._host} broke"
        return HydraConnectionError(kind, message)

    def abort(self) -> None:
        """Drop the connection at once; `messages` then ends."""
        self._connection.transport.abort()

    async def close(self) -> None:
        """Close, politely if the server answers, and leave nothing behind."""
        if not self._sender.done():
            self._sender.cancel()
        try:
            await asyncio.wait({self._sender})
            await self._connection.close()
        finally:
            # Also when the closing is itself cancelled: a socket left open stays for ever.
            self.abort()

    async def _send_waiting(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                message, audio_secs = self._waiting.popleft()
                self._waiting_audio -= audio_secs
                try:
                    await self._connection.send(message, text=True)
                except ConnectionClosed:
                    return
            self._waiting_audio = self._dropped_audio = 0.0

    def _drop_oldest_audio(self) -> None:
        for index, (_, audio_secs) in enumerate(self._waiting):
            if audio_secs:
                del self._waiting[index]
                self._waiting_audio -= audio_secs
                if not self._dropped_audio:
                    self._on_congested(self._waiting_audio)
                self._dropped_audio += audio_secs
                return


def _describe_failure(error: Exception, host: str, timeout_secs: float) -> HydraConnectionError:
    """Say what went wrong, without the library's exception, which may hold the URL."""
    if isinstance(error, InvalidStatus):
        return _describe_status(error.response.status_code, host)
    if isinstance(error, TimeoutError):
        message = f"Hydra at {host} did not answer within {timeout_secs:g} s"
        return HydraConnectionError(FailureKind.TIMEOUT, message)
    if isinstance(error, ssl.SSLCertVerificationError):
        message = f"the TLS certificate of {host} cannot be verified: {error.verify_message}"
        return HydraConnectionError(FailureKind.CONNECTIVITY, message)
    if isinstance(error, OSError):
        reason = error.strerror or type(error).__name__
        message = f"Hydra at {host} cannot be reached: {reason}. Check the network and base_url"
        return HydraConnectionError(FailureKind.CONNECTIVITY, message)
    if isinstance(error, InvalidProxy):
        message = "the proxy named in the environment is not usable"
        return HydraConnectionError(FailureKind.CONNECTIVITY, message)
    if isinstance(error, InvalidHandshake | EOFError):
        message = f"{host} does not speak the WebSocket protocol as Hydra does. Check base_url"
        return HydraConnectionError(FailureKind.CONNECTIVITY, message)
    reason = f": {error}" if isinstance(error, ImportError) else ""
    message = f"Hydra at {host} cannot be reached ({type(error).__name__}{reason})"
    return HydraConnectionError(FailureKind.CONNECTIVITY, message)


def _describe_status(status: int, host: str) -> HydraConnectionError:
    if status in (401, 403):
        message = (
            f"Hydra at {host} refused the API key (HTTP {status}). Check that SMALLEST_API_KEY "
            "holds a valid key with access to Hydra"
        )
        return HydraConnectionError(FailureKind.AUTHENTICATION, message)
    message = f"Hydra at {host} refused the connection with HTTP {status}"
    if status == 429:
        return HydraConnectionError(FailureKind.CAPACITY, message)
    if status >= 500:
        return HydraConnectionError(FailureKind.SERVER, message)
    return HydraConnectionError(
        FailureKind.CONFIGURATION, f"{message}. Check the model and base_url"
    )
