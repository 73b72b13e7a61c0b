"""Clients without a pipeline: a socket, and the least that can be done with what comes.

They send as much audio as a service and decode what is sent to them, either as JSON or in one pass
over the bytes, which finds the audio without reading the rest. They are the floor of any client on
this machine, in this language and with this library.
"""

import asyncio
import base64
import binascii
import itertools
import json
import time
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from benchmarks.call import FRAME_SECS, Probe

__all__ = ["BareClient"]

_INPUT_RATE = 16_000
_AUDIO = b'{"type": "response.output_audio.delta"'
_DELTA = b'"delta": "'


class BareClient:
    """Holds a session; speaks Hydra's protocol."""

    def __init__(self, url: str, *, one_pass: bool):
        """Start unconnected.

        Args:
            url: Of the server.
            one_pass: Whether to look for audio in the bytes, instead of parsing JSON.
        """
        self.probe = Probe()
        self.started = 0.0
        self._url = url
        self._one_pass = one_pass
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Hold the session in a task."""
        self.started = time.monotonic()
        self._running = asyncio.create_task(self._run())

    async def end(self) -> None:
        """Close the connection."""
        assert self._running is not None
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running

    @property
    def has_ended(self) -> bool:
        """Whether the session is over."""
        return self._running is not None and self._running.done()

    async def _run(self) -> None:
        async with connect(self._url, compression=None, max_size=None) as websocket:
            session = {"voice": "aria", "generate_initial_response": True}
            await _send(websocket, "session.configure", session=session)
            speaking = asyncio.create_task(_speak(websocket))
            try:
                while True:
                    await self._receive(websocket, await websocket.recv(decode=False))
            except ConnectionClosed:
                pass
            finally:
                speaking.cancel()

    async def _receive(self, websocket: ClientConnection, message: bytes) -> None:
        """Do the least that any client does with a message."""
        if self._one_pass and message.startswith(_AUDIO):
            begin = message.index(_DELTA) + len(_DELTA)
            self.probe.take(binascii.a2b_base64(message[begin : message.index(b'"', begin)]))
            return
        event: dict[str, Any] = json.loads(message)
        kind = event["type"]
        if kind == "response.output_audio.delta":
            self.probe.take(base64.b64decode(event["delta"]))
        elif kind == "input_audio_buffer.speech_started":
            self.probe.interruptions.append(time.monotonic())
        elif kind == "response.function_call_arguments.done":
            output = {"type": "function_call_output", "call_id": event["call_id"], "output": "{}"}
            await _send(websocket, "conversation.item.create", item=output)
            await _send(websocket, "response.create")


async def _speak(websocket: ClientConnection) -> None:
    """Send silence at real time."""
    silence = bytes(2 * round(_INPUT_RATE * FRAME_SECS))
    began = time.monotonic()
    with suppress(ConnectionClosed):
        for number in itertools.count(1):
            await asyncio.sleep(began + number * FRAME_SECS - time.monotonic())
            audio = base64.b64encode(silence).decode()
            await _send(websocket, "input_audio_buffer.append", audio=audio)


async def _send(websocket: ClientConnection, kind: str, **fields: Any) -> None:
    await websocket.send(json.dumps({"type": kind, **fields}))
