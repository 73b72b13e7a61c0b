"""A bare client for tests of faults: it keeps each frame that came, and when."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from emulator.client import fast
from pipecat_hydra.emulator import (
    EmulatorSettings,
    Ending,
    Fault,
    FaultPlan,
    HydraEmulator,
)

DELTA = "response.output_audio.delta"
ENDINGS: list[Ending] = ["reset", "eof", 1000, 1001, 1011, 1012, 1013, 4000]


class Caller:
    """A bare client: it keeps each frame that came, and when."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self.frames: list[str | bytes] = []
        self.times: list[float] = []
        self.cause: BaseException | None = None
        self._changed = asyncio.Event()

    @property
    def events(self) -> list[dict[str, Any]]:
        """What of it are events."""
        events: list[Any] = []
        for frame in self.frames:
            with suppress(ValueError, RecursionError):
                events.append(json.loads(frame))
        return [e for e in events if isinstance(e, dict) and isinstance(e.get("type"), str)]

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def audio(self) -> bytes:
        deltas = [event["delta"] for event in self.events if event["type"] == DELTA]
        return b"".join(base64.b64decode(delta) for delta in deltas)

    async def read(self) -> None:
        try:
            async for frame in self.websocket:
                self.frames.append(frame)
                self.times.append(time.monotonic())
                self._changed.set()
        except ConnectionClosed as closed:
            self.cause = closed.__cause__

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def got(self, kind: str, count: int = 1) -> dict[str, Any]:
        await self.until(lambda: self.types.count(kind) >= count)
        return [event for event in self.events if event["type"] == kind][count - 1]

    async def send(self, kind: str, **fields: Any) -> None:
        await self.websocket.send(json.dumps({"type": kind, **fields}))

    async def configure(self, **session: Any) -> dict[str, Any]:
        await self.send("session.configure", session={"voice": "aria", **session})
        return (await self.got("session.configured"))["session"]

    async def say(self, pcm: bytes) -> None:
        for start in range(0, len(pcm), 3_200):
            audio = base64.b64encode(pcm[start : start + 3_200].ljust(320, b"\0")).decode()
            await self.send("input_audio_buffer.append", audio=audio)

    async def sync(self) -> None:
        """Wait until the server has taken all that was sent."""
        errors = self.types.count("error")
        await self.send("no.such.event")
        await self.got("error", errors + 1)

    async def closed(self) -> int:
        async with asyncio.timeout(20):
            await self.websocket.wait_closed()
        assert self.websocket.close_code is not None
        return self.websocket.close_code


def url(hydra: HydraEmulator) -> str:
    return f"{hydra.url}?api_key={hydra.api_key}"


@asynccontextmanager
async def dialled(hydra: HydraEmulator) -> AsyncGenerator[Caller]:
    async with connect(url(hydra), compression=None, max_size=None, close_timeout=1) as websocket:
        caller = Caller(websocket)
        reader = asyncio.create_task(caller.read())
        try:
            yield caller
        finally:
            await websocket.close()
            await reader


def hydra(*faults: Fault, responder: Any = "echo", seed: int = 0, **settings: Any) -> HydraEmulator:
    """An emulator with these faults, which answers at once."""
    return HydraEmulator(
        responder,
        settings=EmulatorSettings(**fast(**settings)),
        faults=FaultPlan(faults, seed),
    )


@asynccontextmanager
async def called(
    *faults: Fault, responder: Any = "echo", seed: int = 0, **settings: Any
) -> AsyncGenerator[tuple[HydraEmulator, Caller]]:
    emulator = hydra(*faults, responder=responder, seed=seed, **settings)
    async with emulator, dialled(emulator) as caller:
        yield emulator, caller


async def blocked(websocket: ClientConnection, frame: str) -> None:
    """Send frames until the server takes no more, which has to be within 200 MB."""
    for _ in range(200_000_000 // len(frame)):
        try:
            async with asyncio.timeout(1):
                await websocket.send(frame)
        except TimeoutError:
            return
    raise AssertionError("the server takes everything")


async def greeted(caller: Caller) -> None:
    """Have a reply of tones, to the end."""
    await caller.configure(generate_initial_response=True)
    await caller.got("response.done")


def kinds(hydra: HydraEmulator) -> list[str]:
    return [record.kind for record in hydra.injected]
