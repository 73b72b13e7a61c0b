"""A small Hydra client for tests: it sends what it is told to and keeps what comes."""

import asyncio
import base64
import json
import wave
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from pipecat_hydra.emulator import EmulatedSession, EmulatorSettings, HydraEmulator

RECORDINGS = Path(__file__).parent.parent / "recordings"
SILENCE = bytes(32_000)
"""One second at 16 kHz, more than the emulator needs to end a turn."""


def recording(name: str) -> bytes:
    with wave.open(str(RECORDINGS / f"{name}.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        return file.readframes(file.getnframes())


def burst() -> bytes:
    """Speech of some 260 ms: Silero starts on it, but it is no turn."""
    return recording("hello")[2_000:10_400]


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what tells nobody when it happens."""
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError("it did not happen")


class Client:
    """One connection. `events` holds all that came, audio decoded to bytes in `delta`."""

    def __init__(self, websocket: ClientConnection, hydra: HydraEmulator) -> None:
        self.websocket = websocket
        self.hydra = hydra
        self.events: list[dict[str, Any]] = []
        self._changed = asyncio.Event()

    @property
    def types(self) -> list[str]:
        """Types of all events, with successive equal ones told once."""
        types = [event["type"] for event in self.events]
        return [kind for at, kind in enumerate(types) if at == 0 or types[at - 1] != kind]

    @property
    def session(self) -> EmulatedSession:
        return self.hydra.sessions[-1]

    async def read(self) -> None:
        try:
            async for message in self.websocket:
                event = json.loads(message)
                if event["type"] == "response.output_audio.delta":
                    event["delta"] = base64.b64decode(event["delta"], validate=True)
                self.events.append(event)
                self._changed.set()
        except ConnectionClosed:
            pass

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    def audio(self, response_id: str | None = None) -> bytes:
        deltas = self.of("response.output_audio.delta")
        return b"".join(d["delta"] for d in deltas if response_id in (None, d["response_id"]))

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def got(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Wait for the nth event of a type."""
        await self.until(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]

    async def send(self, kind: str, **fields: Any) -> None:
        await self.websocket.send(json.dumps({"type": kind, **fields}))

    async def configure(self, **session: Any) -> dict[str, Any]:
        await self.send("session.configure", session={"voice": "aria", **session})
        return (await self.got("session.configured"))["session"]

    async def append(self, pcm: bytes, **fields: Any) -> None:
        audio = base64.b64encode(pcm).decode()
        await self.send("input_audio_buffer.append", audio=audio, **fields)

    async def say(self, *parts: bytes, speed: float | None = None) -> None:
        """Send audio in pieces of 100 ms: paced, or at once for a server that takes it."""
        pcm = b"".join(parts)
        for start in range(0, len(pcm), 3_200):
            await self.append(pcm[start : start + 3_200].ljust(320, b"\0"))
            if speed is not None:
                await asyncio.sleep(0.1 / speed)

    async def sync(self) -> None:
        """Wait until the server has taken all that was sent, and what it said to that came."""
        seen = len(self.of("error"))
        await self.send("no.such.event", event_id="sync")
        await self.until(
            lambda: any(e["error"].get("event_id") == "sync" for e in self.of("error")[seen:])
        )
        self.events = [
            event
            for event in self.events
            if event["type"] != "error" or event["error"].get("event_id") != "sync"
        ]

    async def closed(self) -> int:
        async with asyncio.timeout(10):
            await self.websocket.wait_closed()
        assert self.websocket.close_code is not None
        return self.websocket.close_code


async def first_audio(client: Client, response: int = 1) -> str:
    """Wait until the nth response sends audio, and return its id."""
    created = await client.got("response.created", response)
    response_id = created["response"]["id"]
    await client.until(lambda: client.audio(response_id))
    return response_id


@asynccontextmanager
async def connected(
    hydra: HydraEmulator, model: str = "hydra-v1.1", **options: Any
) -> AsyncGenerator[Client, None]:
    """Connect to an emulator; `connect` of websockets takes the options."""
    url = f"{hydra.url}?model={model}&api_key={hydra.api_key}"
    async with connect(url, compression=None, max_size=None, **options) as websocket:
        client = Client(websocket, hydra)
        reader = asyncio.create_task(client.read())
        try:
            yield client
        finally:
            await websocket.close()
            await reader


def fast(**settings: Any) -> dict[str, Any]:
    """Settings that take audio as fast as a test can send it; turns go by audio time alone."""
    return {"uplink_burst_secs": 600.0, "response_latency_secs": 0.0, **settings}


@asynccontextmanager
async def emulated(responder: Any = "echo", **settings: Any) -> AsyncGenerator[Client, None]:
    """Connect to an emulator of its own with `fast` settings."""
    hydra = HydraEmulator(responder, settings=EmulatorSettings(**fast(**settings)))
    async with hydra, connected(hydra) as client:
        yield client
