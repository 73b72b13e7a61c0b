"""A cap on sessions in one process, as an application may write it; and a Redis server."""

import asyncio
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, ConnectionError

from pipecat_hydra import Capacity, NoPlaceError


class LocalCapacity(Capacity):
    """So many places, in the order in which they are asked for."""

    def __init__(self, limit: int):
        self._limit = limit
        self._queue: list[tuple[asyncio.Event, Callable[[int], None]]] = []
        self.refusal: str | None = None
        """Why nobody gets a place any more."""
        self.holders = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    @asynccontextmanager
    async def place(self, on_position: Callable[[int], None]) -> AsyncGenerator[None]:
        told: list[int] = []

        def tell(position: int) -> None:
            if told[-1:] != [position]:
                told.append(position)
                on_position(position)

        me = (asyncio.Event(), tell)
        self._queue.append(me)
        self._settle()
        try:
            await me[0].wait()
            if self.refusal is not None:
                raise NoPlaceError(self.refusal)
            yield
        finally:
            if me in self._queue:
                self._queue.remove(me)
            else:
                self.holders -= 1
            self._settle()

    def refuse(self, reason: str) -> None:
        """Give nobody a place any more."""
        self.refusal = reason
        self._settle()

    def _settle(self) -> None:
        if self.refusal is not None:
            for admitted, _ in self._queue:
                admitted.set()
            return
        while self._queue and self.holders < self._limit:
            self._queue.pop(0)[0].set()
            self.holders += 1
        for position, (_, tell) in enumerate(self._queue, 1):
            tell(position)


class RedisServer:
    """A Redis server of its own for a test, on a Unix socket."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{folder / 'redis.sock'}"

    def start(self, *options: str) -> None:
        """Start it, with nothing in it."""
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("there is no redis-server: apt-get install redis-server")
        files = ["--port", "0", "--unixsocket", str(self._folder / "redis.sock")]
        keep = ["--save", "", "--appendonly", "no", "--dir", str(self._folder)]
        self._process = subprocess.Popen(
            [program, *files, *keep, *options], stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < deadline, "the Redis server does not start"
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill it, and forget all that it knows."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def freeze(self) -> None:
        """Have it answer nobody, with all connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> Redis:
        """A client to look into it; close it."""
        return Redis.from_url(self.url, decode_responses=True)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except AuthenticationError:
            return True
        except ConnectionError:
            return False
