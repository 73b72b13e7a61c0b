"""A server that says what the test tells it to, many events in one TCP segment if need be."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode


class Puppet:
    """A Hydra on strings: it answers the handshake, and else says what it is told to."""

    api_key = "sk-puppet"

    def __init__(self, url: str):
        self.url = url
        self.received: list[dict[str, Any]] = []
        self.configured = asyncio.Event()
        self.connections: list[ServerConnection] = []
        self.answer_configure = True

    def of(self, type_: str) -> list[dict[str, Any]]:
        return [event for event in self.received if event["type"] == type_]

    def burst(self, *events: dict[str, Any]) -> None:
        """Send events in one segment, as they come after the network has stalled."""
        frames = [Frame(Opcode.TEXT, json.dumps(event).encode()) for event in events]
        data = b"".join(frame.serialize(mask=False, extensions=[]) for frame in frames)
        self.connections[-1].transport.write(data)

    async def serve(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        await connection.send(json.dumps({"type": "session.created", "session_id": "s"}))
        with suppress(ConnectionClosed):
            async for message in connection:
                await self._take(connection, json.loads(message))

    async def _take(self, connection: ServerConnection, event: dict[str, Any]) -> None:
        self.received.append(event)
        if event["type"] == "session.configure" and self.answer_configure:
            session = {"output_audio_sample_rate": 24_000}
            await connection.send(json.dumps({"type": "session.configured", "session": session}))
            self.configured.set()


@asynccontextmanager
async def puppet() -> AsyncGenerator[Puppet]:
    made = Puppet("")
    async with serve(made.serve, "127.0.0.1", 0, close_timeout=0.2) as server:
        host, port = server.sockets[0].getsockname()[:2]
        made.url = f"ws://{host}:{port}/s2s"
        yield made


def started(item: str) -> dict[str, Any]:
    return {"type": "input_audio_buffer.speech_started", "item_id": item}


def stopped(item: str) -> dict[str, Any]:
    return {"type": "input_audio_buffer.speech_stopped", "item_id": item}


def item_done(status: str, item: str) -> dict[str, Any]:
    body = {"id": item, "type": "message", "role": "user", "status": status}
    return {"type": "conversation.item.done", "item": body}


def created(response: str) -> dict[str, Any]:
    return {"type": "response.created", "response": {"id": response}}


def audio(response: str, pcm: bytes) -> dict[str, Any]:
    delta = base64.b64encode(pcm).decode()
    return {"type": "response.output_audio.delta", "response_id": response, "delta": delta}


def called(response: str, call: str, name: str) -> dict[str, Any]:
    event = {"response_id": response, "call_id": call, "name": name, "arguments": "{}"}
    return {"type": "response.function_call_arguments.done", **event}


def done(response: str, status: str = "completed") -> dict[str, Any]:
    return {"type": "response.done", "response": {"id": response, "status": status}}
