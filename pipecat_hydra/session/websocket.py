"""One WebSocket to Hydra: open it, send without waiting, read until it closes.

The key travels in the URL's query by default, and a URL is what libraries log. So
nothing in here logs it, the WebSocket library is given a logger that is silent below
INFO, and whatever goes wrong is told by a `HydraConnectionError` of our own, which
carries neither the library's exception nor its URL.

A connection that is gone without a word is noticed too: by pings that nobody answers,
and by a server that takes nothing any more. What either side may pile up is bounded.

Protocol: §1.
"""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Final, Literal, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from loguru import logger
from pydantic import SecretStr
from typing_extensions import override
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    ProxyError,
)
from websockets.frames import CloseCode
from websockets.http11 import Response

from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.wire.protocol import CLOSE_AT_CAPACITY, CLOSE_NORMAL

__all__ = ["AuthStyle", "Endpoint", "HydraConnectionError", "HydraWebSocket"]

AuthStyle = Literal["query", "header"]
"""Where the key goes: `api_key` in the URL's query, or an `Authorization` header."""

_CLOSE_TIMEOUT_SECS: Final = 2.0

# A network that goes away closes nothing, and TCP alone notices after a quarter of an hour.
# This takes 12 to 15 s: longer than a phone needs to find its network again.
_PING_INTERVAL_SECS: Final = 3.0
_MAX_UNANSWERED_PINGS: Final = 4

# How long one message may wait for room in the socket. By then all the audio that may
# wait has been dropped twice.
_STALL_TIMEOUT_SECS: Final = 10.0

_MAX_WAITING_AUDIO_SECS: Final = 5.0
_MAX_WAITING_BYTES: Final = 16 * 2**20

# More than four minutes of reply audio, at 24 kHz, in one event.
_MAX_EVENT_MIB: Final = 16

# Beyond it the server is not read, which slows it: what it may pile up in here is this
# many events, and the one that is being read.
_MAX_UNREAD_EVENTS: Final = 1

# A longer wait is either a mistake or of no use to a call.
_MAX_RETRY_AFTER_SECS: Final = 3600.0

_CLOSINGS: Final = {
    CLOSE_NORMAL: (FailureKind.ENDED, "ended the session"),
    CloseCode.GOING_AWAY: (FailureKind.CONNECTIVITY, "is going away"),
    CloseCode.INTERNAL_ERROR: (FailureKind.SERVER, "failed"),
    CloseCode.SERVICE_RESTART: (FailureKind.SERVER, "is being restarted"),
    CLOSE_AT_CAPACITY: (FailureKind.CAPACITY, "has no room at the moment"),
}

_hosts_warned_about: set[str] = set()

_library_logger = logging.getLogger("pipecat_hydra.session.websocket.library")
# The library logs the request line and the headers at DEBUG, and with them the key.
_library_logger.setLevel(logging.INFO)
_library_logger.addFilter(lambda record: record.levelno >= logging.INFO)


class HydraConnectionError(Exception):
    """No connection to Hydra could be made, or it broke.

    Attributes:
        kind: Why.
        message: For a person; holds neither the key nor the URL's query.
        retry_after_secs: How long the server asks to wait before the next attempt,
            in seconds; None if it does not say.
    """

    def __init__(self, kind: FailureKind, message: str, retry_after_secs: float | None = None):
        """Make the error.

        Args:
            kind: Why.
            message: For a person.
            retry_after_secs: How long the server asks to wait, in seconds.
        """
        super().__init__(kind, message, retry_after_secs)
        self.kind = kind
        self.message = message
        self.retry_after_secs = retry_after_secs

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
        """Check the URL and the key.

        Raises:
            ValueError: If it is no WebSocket URL, or carries a key.
            HydraConnectionError: If the key holds a control character, as no key does.
        """
        try:
            parts = urlsplit(self.base_url)
            _ = parts.port
        except ValueError:
            # Its text quotes the URL.
            raise ValueError("base_url is malformed: check its host and port") from None
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            message = f"base_url must be a ws:// or wss:// URL, not {parts.scheme or 'nothing'}://"
            raise ValueError(message)
        keys = {"api_key", "model"} & dict(parse_qsl(parts.query)).keys()
        if keys or parts.username is not None:
            raise ValueError("base_url must not carry the key or the model: pass them as arguments")
        if not self.api_key.get_secret_value().isprintable():
            # The last line break of a file, for instance; in a header it would begin another.
            message = "the API key holds a line break or another control character"
            raise HydraConnectionError(FailureKind.AUTHENTICATION, message)

    @property
    def host(self) -> str:
        """Host and port, which may be shown."""
        return urlsplit(self.base_url).netloc

    @property
    def insecure_host(self) -> str | None:
        """The host that is reached unencrypted over a network; None if there is none such."""
        parts = urlsplit(self.base_url)
        host = parts.hostname or ""
        name = host.rstrip(".")
        if parts.scheme == "wss" or name == "localhost" or name.endswith(".localhost"):
            return None
        try:
            return None if ip_address(name).is_loopback else host
        except ValueError:
            return host

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


class _Connect(connect):
    """Follows no redirect: no server may have the key, or the call, taken elsewhere.

    `websockets` 15.0 takes the headers along to another host.
    """

    @override
    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


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
        self._waiting_bytes = 0
        self._dropped_audio = 0.0
        self._failure: HydraConnectionError | None = None
        self._heard_at = self._now
        self._refused_with: int | None = None
        self._listening = False
        self._unanswered_pings = 0
        self._wake = asyncio.Event()
        self._sender = asyncio.create_task(self._send_waiting(), name="hydra-websocket-sender")
        self._pinger = asyncio.create_task(self._ping(), name="hydra-websocket-pinger")

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
        _warn_if_insecure(endpoint)
        connection, failure = None, None
        try:
            connection = await _Connect(
                endpoint.url(),
                additional_headers=endpoint.headers(),
                # Deflating base64 audio costs four times what all else does.
                compression=None,
                max_size=_MAX_EVENT_MIB * 2**20,
                max_queue=_MAX_UNREAD_EVENTS,
                open_timeout=timeout_secs,
                close_timeout=_CLOSE_TIMEOUT_SECS,
                # Its pings wait behind what cannot be sent, and count for lost the
                # answers that we have not read.
                ping_interval=None,
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
                other messages never are. When too many of those wait, or nothing at
                all can be sent for ten seconds, the connection is given up.
        """
        if self._failure is not None or self._sender.done():
            return
        self._waiting.append((message, audio_secs))
        self._wake.set()
        if audio_secs:
            self._waiting_audio += audio_secs
            if self._waiting_audio > _MAX_WAITING_AUDIO_SECS:
                self._drop_oldest_audio()
        elif self._waiting_bytes > _MAX_WAITING_BYTES:
            self._give_up("takes no data: too much waits to be sent")
        else:
            self._waiting_bytes += len(message)

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield what the server sends until the connection closes, however it does."""
        while True:
            self._listening = True
            try:
                message = await self._connection.recv(decode=False)
            except ConnectionClosed as closed:
                if closed.sent is not None and not closed.rcvd_then_sent:
                    self._refused_with = closed.sent.code
                return
            self._listening = False
            self._take_sign_of_life()
            yield message

    @property
    def unheard_since(self) -> float | None:
        """When the server was last heard from, in the event loop's time, if it went away.

        None unless the connection was given up because nothing came or could be sent.
        """
        return self._heard_at if self._failure is not None else None

    def outcome(self) -> HydraConnectionError:
        """Why the connection closed, after `messages` has ended."""
        if self._failure is not None:
            return self._failure
        server = f"Hydra at {self._host}"
        if self._refused_with == CloseCode.MESSAGE_TOO_BIG:
            message = f"{server} sent an event larger than {_MAX_EVENT_MIB} MiB, which was refused"
            return HydraConnectionError(FailureKind.SERVER, message)
        code, reason = self._connection.close_code, self._connection.close_reason
        if code in (None, CloseCode.ABNORMAL_CLOSURE):
            message = f"the connection to {server} broke"
            return HydraConnectionError(FailureKind.CONNECTIVITY, message)
        kind, words = _CLOSINGS.get(code, (FailureKind.CONNECTIVITY, ""))
        reason = f", {reason[:120]!r}" if reason else ""
        words = f"{words} and " if words else ""
        message = f"{server} {words}closed the connection (code {code}{reason})"
        return HydraConnectionError(kind, message)

    def abort(self) -> None:
        """Drop the connection at once; `messages` then ends."""
        self._connection.transport.abort()

    async def close(self) -> None:
        """Close, politely if the server answers, and leave nothing behind."""
        tasks = {self._sender, self._pinger}
        for task in tasks:
            task.cancel()
        try:
            await asyncio.wait(tasks)
            # The library's own limit does not hold while it cannot send.
            async with asyncio.timeout(_CLOSE_TIMEOUT_SECS):
                await asyncio.gather(self._connection.close(), self._read_out())
        except TimeoutError:
            pass
        finally:
            # Also when the closing is itself cancelled: a socket left open stays for ever.
            self.abort()

    async def _read_out(self) -> None:
        """Drop what is unread: the answer to our close stands behind it."""
        # Unless somebody else is reading.
        with suppress(ConnectionClosed, ConcurrencyError):
            while True:
                await self._connection.recv(decode=False)

    def _give_up(self, why: str) -> None:
        """Drop a connection that is of no use any more."""
        message = f"Hydra at {self._host} {why}"
        self._failure = HydraConnectionError(FailureKind.TIMEOUT, message)
        self.abort()

    async def _send_waiting(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                message, audio_secs = self._waiting.popleft()
                if audio_secs:
                    self._waiting_audio -= audio_secs
                else:
                    self._waiting_bytes -= len(message)
                try:
                    async with asyncio.timeout(_STALL_TIMEOUT_SECS):
                        await self._connection.send(message, text=True)
                except ConnectionClosed:
                    return
                except TimeoutError:
                    secs = f"{_STALL_TIMEOUT_SECS:g} s"
                    self._heard_at = min(self._heard_at, self._now - _STALL_TIMEOUT_SECS)
                    self._give_up(f"takes no data: nothing could be sent for {secs}")
                    return
            self._waiting_audio = self._dropped_audio = 0.0

    async def _ping(self) -> None:
        """Notice that the server is gone: neither pong nor event, though we listen."""
        while True:
            await asyncio.sleep(_PING_INTERVAL_SECS)
            if self._unanswered_pings >= _MAX_UNANSWERED_PINGS:
                secs = f"{_MAX_UNANSWERED_PINGS * _PING_INTERVAL_SECS:g} s"
                self._give_up(f"does not answer any more: nothing came for {secs}")
                return
            try:
                pong = asyncio.ensure_future(await self._connection.ping())
            except ConnectionClosed:
                return
            pong.add_done_callback(self._take_sign_of_life)
            # Counted, not timed: time passes also while our own event loop stands still,
            # and what a slow pipeline leaves unread may be the pong.
            self._unanswered_pings += self._listening

    def _take_sign_of_life(self, pong: asyncio.Future[float] | None = None) -> None:
        # When the connection closes, the pongs that did not come are cancelled or failed.
        if pong is None or not (pong.cancelled() or pong.exception()):
            self._unanswered_pings = 0
            self._heard_at = self._now

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


def _warn_if_insecure(endpoint: Endpoint) -> None:
    """Warn of a connection that anybody on the way can listen to, once for each host."""
    host = endpoint.insecure_host
    if host is None or host in _hosts_warned_about:
        return
    _hosts_warned_about.add(host)
    logger.warning(
        f"Hydra: the connection to {host} is not encrypted: whoever is on the way can read the "
        "API key and hear the call. Use wss://"
    )


def _describe_failure(error: Exception, host: str, timeout_secs: float) -> HydraConnectionError:
    """Say what went wrong, without the library's exception, which may hold the URL."""
    if isinstance(error, InvalidStatus):
        return _describe_status(error.response, host)
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
    if isinstance(error, InvalidProxy | ProxyError):
        message = "the proxy named in the environment is not usable"
        return HydraConnectionError(FailureKind.CONNECTIVITY, message)
    if isinstance(error, InvalidHandshake | EOFError):
        message = f"{host} does not speak the WebSocket protocol as Hydra does. Check base_url"
        return HydraConnectionError(FailureKind.CONNECTIVITY, message)
    reason = f": {error}" if isinstance(error, ImportError) else ""
    message = f"Hydra at {host} cannot be reached ({type(error).__name__}{reason})"
    return HydraConnectionError(FailureKind.CONNECTIVITY, message)


def _describe_status(response: Response, host: str) -> HydraConnectionError:
    status = response.status_code
    if status in (401, 403):
        message = (
            f"Hydra at {host} refused the API key (HTTP {status}). Check that SMALLEST_API_KEY "
            "holds a valid key with access to Hydra"
        )
        return HydraConnectionError(FailureKind.AUTHENTICATION, message)
    message = f"Hydra at {host} refused the connection with HTTP {status}"
    if status == 429:
        return HydraConnectionError(FailureKind.CAPACITY, message, _retry_after(response))
    if status >= 500 or status in (408, 425):
        return HydraConnectionError(FailureKind.SERVER, message, _retry_after(response))
    return HydraConnectionError(
        FailureKind.CONFIGURATION, f"{message}. Check the model and base_url"
    )


def _retry_after(response: Response) -> float | None:
    """How long to wait, in seconds, if the server says so and it makes sense (RFC 9110 §10.2.3)."""
    text = ", ".join(response.headers.get_all("Retry-After")).strip()
    try:
        if text.isdecimal():
            secs = float(text)
        else:
            secs = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        # No date; or one without a time zone, which cannot be compared.
        return None
    return min(secs, _MAX_RETRY_AFTER_SECS) if secs >= 0 else None
