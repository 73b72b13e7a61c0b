"""Forty processes share a cap of eight by Redis, with the emulator as a witness."""

import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from pydantic import SecretStr
from support.call import emulator
from support.capacity import RedisServer

from pipecat_hydra.session.endpoint import Endpoint

pytestmark = pytest.mark.realtime

CALLER = Path(__file__).parent / "redis_caller.py"
PROCESSES = 40
LIMIT = 8
LEASE_SECS = 3.0


class CallerProcess:
    """A process that runs `redis_caller.py`, and what it has said."""

    def __init__(self, process: asyncio.subprocess.Process):
        self.pid = process.pid
        self.said: list[str] = []
        self._process = process
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @property
    def positions(self) -> list[int]:
        """The positions in the queue that it was told."""
        return [int(line.split()[1]) for line in self.said if line.startswith("waits ")]

    async def has_said(self, *any_of: str) -> None:
        async with asyncio.timeout(240):
            while not any(line.split()[0] in any_of for line in self.said):
                assert not self._reading.done(), f"it has ended: {self.said}"
                self._news.clear()
                await self._news.wait()

    def tell(self) -> None:
        """Have it go on to its next step."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self.ended()

    async def ended(self) -> None:
        await self._reading
        await self._process.wait()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.said.append(line.decode().rstrip())
            self._news.set()
        self._news.set()


@asynccontextmanager
async def processes(*arguments: list[str]) -> AsyncGenerator[list[CallerProcess]]:
    """Processes that are ready to ask."""
    made: list[CallerProcess] = []
    try:
        for each in arguments:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(CALLER), *each),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
            )
            made.append(CallerProcess(process))
        for caller in made:
            await caller.has_said("ready")
        yield made
    finally:
        for caller in made:
            await caller.kill()


class Monitor:
    """Who got a place and who gave it back, in the order in which Redis did it."""

    def __init__(self, server: RedisServer):
        self._client = server.client()
        self._monitor = self._client.monitor()
        self._monitor.__enter__()

    def history(self) -> list[tuple[str, int, float]]:
        """`("in", pid, time)` and `("out", pid, time)`, in order."""
        told: list[tuple[str, int, float]] = []
        inside: set[int] = set()
        with self._client as client:
            client.echo("the end")
            for each in self._monitor.listen():
                assert each is not None
                command: str = each["command"]
                if command.startswith("ECHO"):
                    break
                if found := re.match(r"(SADD|SREM) \S+:holders \S*?:(\d+):", command):
                    pid = int(found[2])
                    if found[1] == "SADD" and pid not in inside:
                        told.append(("in", pid, each["time"]))
                        inside.add(pid)
                    elif found[1] == "SREM" and pid in inside:
                        told.append(("out", pid, each["time"]))
                        inside.remove(pid)
        self._monitor.__exit__(None, None, None)
        return told


async def test_forty_processes_on_a_cap_of_eight(redis_server: RedisServer):
    """Never more than eight, none starved, in the order of coming; two holders are killed."""
    monitor = Monitor(redis_server)
    async with emulator(max_sessions=LIMIT) as hydra:
        key = SecretStr(hydra.api_key)
        url = Endpoint(hydra.url, "hydra-v1.1", key, "query", None, None).url()
        common = [redis_server.url, str(LIMIT), str(LEASE_SECS), url]
        holds = [[*common, "0" if n < LIMIT else "0.2"] for n in range(PROCESSES)]
        async with processes(*holds) as callers:
            for caller in callers:
                caller.tell()
                await caller.has_said("waits", "holds")
            assert [caller.positions[:1] for caller in callers] == [
                *([] for _ in range(LIMIT)),
                *([n] for n in range(1, PROCESSES - LIMIT + 1)),
            ]
            victims = callers[2:4]
            for caller in callers[:LIMIT]:
                await caller.has_said("holds")
            for victim in victims:
                await victim.kill()
            killed_at = time.time()
            for caller in [*callers[:2], *callers[4:LIMIT]]:
                caller.tell()
            others = [caller for caller in callers if caller not in victims]
            for caller in others:
                await caller.ended()

    assert [caller.said[-1] for caller in others] == ["goes"] * (PROCESSES - 2)
    for caller in others:
        assert caller.positions == sorted(set(caller.positions), reverse=True)
    history = monitor.history()
    assert [pid for how, pid, _ in history if how == "in"] == [caller.pid for caller in callers]
    inside = list(accumulate(1 if how == "in" else -1 for how, _, _ in history))
    assert max(inside) == LIMIT
    assert inside[-1] == 0
    # Hydra saw one session of each process, and never one too many.
    assert len(hydra.sessions) == PROCESSES
    assert not [one for one in hydra.sessions if any(event.type == "error" for event in one.sent)]
    times = {(how, pid): at for how, pid, at in history}
    free_after = [times["out", victim.pid] - killed_at for victim in victims]
    assert max(free_after) < LEASE_SECS + 2.0
    with redis_server.client() as client:
        names: Any = client.keys("*")
    assert [name.split(":")[-1] for name in names] == ["last"]
    served_in = times["in", callers[-1].pid] - killed_at
    logger.info(f"free {max(free_after):.2f} s after the kill, last one in {served_in:.2f} s")
