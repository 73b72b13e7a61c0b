"""Clients that do not read, and audio that comes faster than it is processed."""

import asyncio
import json
import random
from typing import Any

import pytest
from emulator.caller import DELTA, Caller, blocked, called, hydra, url
from emulator.client import eventually
from websockets.asyncio.client import connect

from pipecat_hydra.emulator import (
    Say,
)
from pipecat_hydra.emulator.model.turn_detection import TurnDetector


async def test_a_response_waits_for_a_client_that_does_not_read() -> None:
    audio = random.Random(0).randbytes(48_000 * 400)
    emulator = hydra(
        responder=[Say(audio, 24_000)], delivery_speed=float("inf"), idle_timeout_secs=60
    )
    async with emulator, connect(url(emulator), max_queue=1, max_size=None) as websocket:
        caller = Caller(websocket)
        await caller.send("session.configure", session={})
        session = await emulator.wait_for_session()
        await session.wait_for_sent("session.configured")
        await caller.send("response.create")
        await session.wait_for_sent(DELTA, count=1_000)
        last = -1
        while last != (last := len(session.sent)):
            await asyncio.sleep(0.3)
        assert len(session.sent_audio()) < len(audio) * 2 / 3
        assert not session.sent_of("response.done")
        reader = asyncio.create_task(caller.read())
        await eventually(lambda: session.sent[-1].type == "response.done")
        await eventually(lambda: len(caller.frames) == len(session.sent))
        assert caller.audio == audio
        await websocket.close()
        await reader


async def test_no_more_is_read_of_a_client_that_does_not_read() -> None:
    async with hydra() as emulator, connect(url(emulator), max_queue=1, close_timeout=0) as deaf:
        event = {"type": "no.such.event", "event_id": "x" * 10_000}  # each error repeats it
        await blocked(deaf, json.dumps(event))
        deaf.transport.abort()  # what it has to say before a close would never get out
        sent = sum(len(json.dumps(record.event)) for record in emulator.sessions[0].sent)
        assert 4_000_000 < sent < 40_000_000


async def test_no_more_is_read_than_turn_detection_can_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = asyncio.Event()
    feed = TurnDetector.feed

    async def wait(self: TurnDetector, pcm: bytes) -> Any:
        await gate.wait()
        return await feed(self, pcm)

    monkeypatch.setattr(TurnDetector, "feed", wait)
    async with called(uplink_speed=1e9, uplink_burst_secs=1.0) as (emulator, caller):
        await caller.configure()

        async def say() -> None:
            for _ in range(200):
                await caller.say(bytes(3_200))
                await asyncio.sleep(0.01)  # at one instant it would be a file sent at once

        saying = asyncio.create_task(say())
        session = emulator.sessions[0]
        await eventually(lambda: len(session.received_audio) >= 11 * 32_000)
        await asyncio.sleep(0.2)
        assert len(session.received_audio) <= 11 * 32_000 + 3 * 3_200
        gate.set()
        await saying
        await caller.sync()
        assert len(session.received_audio) == 20 * 32_000
