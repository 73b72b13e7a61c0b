"""Faults of the upgrade: refused, unanswered and dropped connections."""

import time

import pytest
from emulator.caller import called, dialled, hydra, kinds, url
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidMessage, InvalidStatus

from pipecat_hydra.emulator import (
    Drop,
    Ending,
    Hang,
    Refuse,
)


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_refuse(status: int) -> None:
    async with hydra(Refuse(status, times=2)) as emulator:
        for _ in range(2):
            with pytest.raises(InvalidStatus) as caught:
                await connect(url(emulator))
            assert caught.value.response.status_code == status
            assert "Retry-After" not in caught.value.response.headers
        assert emulator.sessions == []
        async with dialled(emulator) as caller:
            await caller.configure()
        assert kinds(emulator) == ["refuse", "refuse"]
        assert [record.connection for record in emulator.injected] == [1, 2]


async def test_refuse_may_say_when_to_come_again() -> None:
    async with hydra(Refuse(429, 7)) as emulator:
        for _ in range(3):  # for ever
            with pytest.raises(InvalidStatus) as caught:
                await connect(url(emulator))
            assert caught.value.response.headers["Retry-After"] == "7"


async def test_hang_at_the_upgrade() -> None:
    async with hydra(Hang(times=1)) as emulator:
        with pytest.raises(TimeoutError):
            await connect(url(emulator), open_timeout=0.2)
        assert emulator.sessions == []
        async with dialled(emulator) as caller:
            await caller.configure()
        assert kinds(emulator) == ["hang"]


async def test_hang_at_the_upgrade_may_end() -> None:
    began = time.monotonic()
    async with called(Hang(secs=0.2)) as (_, caller):
        assert time.monotonic() - began >= 0.2
        await caller.configure()


@pytest.mark.parametrize("how", ["reset", "eof"])
async def test_drop_before_the_upgrade(how: Ending) -> None:
    async with hydra(Drop(how, "upgrade", times=1)) as emulator:
        with pytest.raises((InvalidMessage, ConnectionResetError)) as caught:
            await connect(url(emulator), open_timeout=5)
        cause = caught.value.__cause__
        if how == "eof":
            assert isinstance(cause, EOFError)
        assert emulator.sessions == []
        assert kinds(emulator) == ["drop"]
        async with dialled(emulator) as caller:
            await caller.configure()
