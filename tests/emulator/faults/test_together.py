"""Several faults at once, and what the emulator tells of them."""

import asyncio
import json
import time
from contextlib import suppress

import pytest
from emulator.caller import dialled, greeted, hydra, kinds, url
from emulator.client import eventually
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pipecat_hydra.emulator import (
    Activity,
    Binary,
    Drop,
    Duplicate,
    FaultPlan,
    Full,
    Garbage,
    Hang,
    HydraEmulator,
    Jitter,
    Missing,
    Refuse,
    Reorder,
    Say,
    SlowReader,
    Unknown,
)


async def test_faults_add_up() -> None:
    faults = [
        Refuse(times=1),
        Full(first=2, times=1),
        Drop(1012, sent=4, first=3, times=1),
        Duplicate(1.0, "session.created", first=3),
        Unknown(1.0, "session.configured", first=4, times=1),
    ]
    async with hydra(*faults) as emulator:
        with pytest.raises(InvalidStatus):
            await connect(url(emulator))
        for code, before in ((1013, ["error"]), (1012, ["session.created"] * 2)):
            async with dialled(emulator) as caller:
                with suppress(ConnectionClosed):
                    await caller.configure(generate_initial_response=True)
                assert await caller.closed() == code
                assert caller.types[:2] == before
        async with dialled(emulator) as caller:
            await greeted(caller)
        assert kinds(emulator) == ["refuse", "full", "duplicate", "drop", "duplicate", "unknown"]
        assert [record.connection for record in emulator.injected] == [1, 2, 3, 3, 4, 4]


async def test_the_same_seed_is_the_same_choice() -> None:
    faults = (
        Duplicate(0.3),
        Reorder(0.3),
        Missing(0.3),
        Unknown(0.3),
        Garbage(0.3),
        Binary(0.3),
        Jitter(0.1, secs=0.01),
    )

    async def seen(seed: int) -> list[list[tuple[str, str]]]:
        async with hydra(*faults, seed=seed, responder=[Say.tones()]) as emulator:
            for _ in range(2):
                async with dialled(emulator) as caller:
                    await caller.got("session.created")
                    await asyncio.sleep(0.1)  # whatever waits to be overtaken is out
                    await caller.send("session.configure", session={})
                    await caller.until(lambda: emulator.sessions[-1].configured)
            return [[(r.kind, r.detail) for r in s.injected] for s in emulator.sessions]

    once = await seen(1)
    assert once == await seen(1)
    assert once[0] != once[1]
    assert once != await seen(2)


async def test_faults_may_be_changed_while_it_runs() -> None:
    async with hydra(Refuse()) as emulator:
        with pytest.raises(InvalidStatus):
            await connect(url(emulator))
        emulator.faults = [Full(times=1)]
        assert emulator.faults == FaultPlan((Full(times=1),))
        async with dialled(emulator) as caller:  # counted from 1 again
            assert await caller.closed() == 1013
        async with dialled(emulator) as caller:
            emulator.faults = FaultPlan((Drop(during="response"),))
            await greeted(caller)  # the plan of its beginning stays


async def test_faults_are_told_as_they_happen() -> None:
    told: list[Activity] = []
    emulator = HydraEmulator(faults=[Duplicate(1.0, "session.created")], on_activity=told.append)
    async with emulator, dialled(emulator) as caller:
        await caller.got("session.created", 2)
        assert [a.kind for a in told] == ["opened", "injected", "sent", "sent"]
        assert told[1].fault == emulator.injected[0]


async def test_faults_are_not_kept_when_nothing_is() -> None:
    async with hydra(Refuse(times=1), Duplicate(1.0), record=False) as emulator:
        with pytest.raises(InvalidStatus):
            await connect(url(emulator))
        async with dialled(emulator) as caller:
            await caller.got("session.created", 2)
            assert emulator.injected == []


async def test_nothing_is_left_behind() -> None:
    before = asyncio.all_tasks()
    faults = [
        Hang(times=1),
        Hang("created", first=2, times=1),
        Hang("configured", first=3, times=1),
        SlowReader(first=4, times=1),
        Drop(secs=60, first=5),
        Reorder(1.0, first=5),
        Jitter(1.0, secs=60, first=6),
    ]
    async with hydra(*faults) as emulator:
        host, port = emulator.url.split("/")[2].split(":")
        _, silent = await asyncio.open_connection(host, int(port))
        hung = asyncio.create_task(connect(url(emulator)).__aenter__())
        await eventually(lambda: kinds(emulator) == ["hang"])
        callers = [await connect(url(emulator)) for _ in range(5)]
        for caller in callers:
            await caller.send(json.dumps({"type": "session.configure", "session": {}}))
        began = time.monotonic()
        await emulator.stop()
        assert time.monotonic() - began < 4.5  # a client that answers no close has its time
        assert asyncio.all_tasks() - before <= {hung, asyncio.current_task()}
        silent.close()
        for caller in callers:
            await caller.close()
        await asyncio.gather(hung, return_exceptions=True)
    await eventually(lambda: asyncio.all_tasks() == before)
