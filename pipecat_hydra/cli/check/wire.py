"""One session for a scene: sends what the scene says, byte for byte, and logs all that comes.

It connects as the service does (`session/opening.py`: proxies, redirects, TLS, masked errors), but
reads and writes events itself, because a probe must see exactly the wire: which field audio is in,
whether an id is missing, what is sent although it should not be.
"""

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed

from pipecat_hydra.cli.check.log import Audio, Entry, SessionLog
from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.recording.writer import CallWriter
from pipecat_hydra.session.direct_connection import DirectConnection
from pipecat_hydra.session.endpoint import Endpoint
from pipecat_hydra.session.failures import HydraConnectionError
from pipecat_hydra.session.opening import open_connection
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE, INPUT_SAMPLE_RATE

__all__ = ["CREATED_SECS", "Wire", "is_full", "opened"]

OPEN_SECS: Final = 10.0
"""How long connecting may take, as in the service."""

CREATED_SECS: Final = 10.0
"""How long `session.created`, and the answer to `session.configure`, may take."""

_CHUNK_SECS: Final = 0.04
_CLOSE_SECS: Final = 2.0
_MAX_EVENT_BYTES: Final = 16 * 2**20
_AUDIO_FIELDS: Final = ("delta", "audio")
_AUDIO_DELTA: Final = "response.output_audio.delta"


class Wire:
    """An open session, and its log."""

    def __init__(self, connection: DirectConnection, log: SessionLog, writer: CallWriter | None):
        """Wrap an open connection; use `opened` instead.

        Args:
            connection: The connection.
            log: Where what passes is logged.
            writer: Where it is recorded; None for nowhere.
        """
        self.log = log
        self._connection = connection
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._changed = asyncio.Event()
        self._is_closing = False
        self._reader = asyncio.create_task(self._read(), name="hydra-check-reader")

    @property
    def is_open(self) -> bool:
        """Whether the connection is there."""
        return not self._reader.done()

    @property
    def now(self) -> float:
        """Seconds since the session was opened."""
        return self._loop.time() - self._began

    def mark(self, step: str) -> Entry:
        """Log that a step of the scene begins."""
        return self.log.add(self.now, "scene", step)

    async def send(self, kind: str, **fields: Any) -> Entry:
        """Send an event, unless the connection is gone."""
        entry = self.log.add(self.now, "client", kind, fields)
        await self._write({"type": kind, **fields}, b"")
        return entry

    async def append(self, pcm: bytes) -> None:
        """Send audio in one event, which is not logged, since it says nothing."""
        audio = base64.b64encode(pcm).decode()
        await self._write({"type": "input_audio_buffer.append", "audio": audio}, pcm)

    async def speak(self, pcm: bytes, *, speed: float = 1.0) -> None:
        """Send audio in small pieces at a multiple of real time, while the connection is there."""
        size = round(_CHUNK_SECS * INPUT_SAMPLE_RATE) * BYTES_PER_SAMPLE
        began = self._loop.time()
        for number, start in enumerate(range(0, len(pcm), size)):
            await asyncio.sleep(began + number * _CHUNK_SECS / speed - self._loop.time())
            if not self.is_open:
                return
            await self.append(pcm[start : start + size].ljust(size, b"\0"))

    async def configure(self, **session: Any) -> Entry | None:
        """Configure the session; return the first answer: `session.configured` or an error."""
        if await self.got("session.created", within=CREATED_SECS) is None:
            return None
        sent = await self.send("session.configure", session=session)
        return await self.got("session.configured", "error", after=sent, within=CREATED_SECS)

    async def got(self, *types: str, after: Entry | None = None, within: float) -> Entry | None:
        """Wait for an event of some types.

        Args:
            types: The types.
            after: Only one that comes after this entry.
            within: How long to wait, in seconds.

        Returns:
            The event; None if it has not come, also because the connection is gone.
        """
        await self.until(lambda: self.log.first(*types, after=after) is not None, within=within)
        return self.log.first(*types, after=after)

    async def until(self, condition: Callable[[], bool], *, within: float) -> bool:
        """Wait until a condition holds, for so many seconds, or until the connection is gone."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while not condition() and self.is_open:
                    self._changed.clear()
                    await self._changed.wait()
        return condition()

    async def wait(self, secs: float) -> None:
        """Let some seconds pass, or less if the connection is lost."""
        await self.until(lambda: False, within=secs)

    async def ping(self, within: float) -> None:
        """Send a WebSocket ping, and log how long its answer takes."""
        began = self._loop.time()
        with suppress(TimeoutError, ConnectionClosed):
            async with asyncio.timeout(within):
                await (await self._connection.ping())
                self.log.pong_secs = self._loop.time() - began

    async def close(self) -> None:
        """Close the connection, and leave nothing behind."""
        self._is_closing = True
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECS):
                    await self._connection.close()
        finally:
            self._connection.transport.abort()
            await self._reader

    async def _write(self, event: dict[str, Any], audio: bytes) -> None:
        message = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
        if self._writer is not None:
            self._writer.sent(message.encode(), audio)
        with suppress(ConnectionClosed):
            await self._connection.send(message)

    async def _read(self) -> None:
        await self._connection.read(self._take)
        if not self._is_closing:
            self.log.closed_at = self.now
            code = self._connection.close_code
            self.log.close_code = None if code in (None, 1006) else code
        self._changed.set()

    def _take(self, message: bytes | bytearray, _: float) -> None:
        try:
            event = json.loads(message)
        except (ValueError, RecursionError):
            event = None
        if isinstance(event, dict):
            data: dict[str, Any] = event
            kind = data.get("type")
            audio, pcm = _audio_of(data)
            self.log.add(self.now, "server", str(kind), data, audio)
        else:
            self.log.add(self.now, "server", "(no JSON object)")
            pcm = b""
        if self._writer is not None:
            self._writer.received(message, pcm)
        self._changed.set()


@asynccontextmanager
async def opened(
    endpoint: Endpoint, log: SessionLog, writer: CallWriter | None = None
) -> AsyncGenerator[Wire]:
    """Open a session for a scene, and close it at the end.

    Args:
        endpoint: Where to, and with which key.
        log: Where what passes is logged, a failure to connect included.
        writer: Where it is recorded; None for nowhere.

    Raises:
        HydraConnectionError: If no connection could be made.
    """
    if writer is not None:
        writer.note("call", "session_opening", model=endpoint.model)
    try:
        connection = await open_connection(
            endpoint,
            timeout_secs=OPEN_SECS,
            max_size=_MAX_EVENT_BYTES,
            close_timeout=_CLOSE_SECS,
            ping_interval=None,
        )
    except HydraConnectionError as error:
        log.failure, log.failure_kind = str(error), error.kind
        raise
    asked, base = connection.request, urlsplit(endpoint.base_url)
    log.is_redirected = asked is not None and asked.path.partition("?")[0] != (base.path or "/")
    wire = Wire(connection, log, writer)
    try:
        yield wire
    finally:
        log.secs = wire.now
        await wire.close()
        if writer is not None:
            reason = log.close or "closed by the check"
            writer.note("call", "session_closed", reason=reason, secs=round(wire.now, 3))


def is_full(log: SessionLog) -> bool:
    """Return whether the server had no room for a session."""
    return log.failure_kind is FailureKind.CAPACITY or any(
        error.get("error", "code") == "server_full" for error in log.errors
    )


def _audio_of(event: dict[str, Any]) -> tuple[Audio | None, bytes]:
    """Take the audio out of an event."""
    if event.get("type") != _AUDIO_DELTA:
        return None, b""
    for name in _AUDIO_FIELDS:
        text = event.get(name)
        if isinstance(text, str):
            event[name] = ""
            lines = text.split()
            try:
                pcm = base64.b64decode("".join(lines))
            except (binascii.Error, ValueError):
                pcm = b""
            return Audio(name, len(pcm), has_lines=len(lines) > 1 or lines[:1] != [text]), pcm
    return None, b""
