"""A cap that many share by Redis: order, limit, outages; what is asked of a real server."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from loguru import logger
from support.capacity import RedisServer

from pipecat_hydra import NoPlaceError, RedisCapacity

PASSWORD = "correct-horse-battery"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits asks often, and is patient with Redis for less long."""
    monkeypatch.setattr("pipecat_hydra.session.redis_capacity._ASK_SECS", 0.02)
    monkeypatch.setattr("pipecat_hydra.session.redis_capacity._PATIENCE_SECS", 0.3)
    monkeypatch.setattr("pipecat_hydra.session.redis_places._ANSWER_SECS", 0.5)


pytestmark = [pytest.mark.realtime, pytest.mark.usefixtures("quick")]


class Caller:
    """Wants a place, and keeps it until told to go."""

    def __init__(self, capacity: RedisCapacity):
        self.positions: list[int] = []
        self.placed = asyncio.Event()
        self._over = asyncio.Event()
        self._task = asyncio.create_task(self._call(capacity))

    async def go(self) -> None:
        self._over.set()
        await self._task

    async def cancel(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def had(self, *positions: int) -> None:
        """Wait for these positions in the queue."""
        await until(lambda: self.positions == [*positions])

    async def has_place(self) -> None:
        async with asyncio.timeout(60):
            await self.placed.wait()

    async def ended(self) -> None:
        await self._task

    async def _call(self, capacity: RedisCapacity) -> None:
        async with capacity.place(self.positions.append):
            self.placed.set()
            await self._over.wait()


@asynccontextmanager
async def callers(*capacities: RedisCapacity) -> AsyncGenerator[list[Caller]]:
    """Callers who come one after the other."""
    async with AsyncExitStack() as stack:
        made: list[Caller] = []
        for capacity in capacities:
            caller = Caller(capacity)
            stack.push_async_callback(caller.cancel)
            await until(lambda caller=caller: caller.positions or caller.placed.is_set())
            made.append(caller)
        yield made


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def keys(server: RedisServer, prefix: str = "hydra:capacity") -> dict[str, int]:
    """How many tickets stand where in Redis."""
    with server.client() as client:
        sizes: dict[str, Any] = {
            "alive": client.zcard(f"{{{prefix}}}:alive"),
            "holders": client.scard(f"{{{prefix}}}:holders"),
            "queue": client.zcard(f"{{{prefix}}}:queue"),
        }
    return {name: size for name, size in sizes.items() if size}


async def test_who_finds_no_place_is_served_in_the_order_of_coming(redis_server: RedisServer):
    ours, theirs = (RedisCapacity(redis_server.url, limit=2) for _ in range(2))
    async with callers(ours, theirs, ours, theirs, ours) as (first, second, third, fourth, fifth):
        assert first.placed.is_set()
        assert second.placed.is_set()
        assert (third.positions, fourth.positions, fifth.positions) == ([1], [2], [3])
        await second.go()
        await third.has_place()
        await fifth.had(3, 2)
        await first.go()
        await fourth.has_place()
        await fifth.had(3, 2, 1)
        assert not fifth.placed.is_set()
        await fourth.go()
        await fifth.has_place()
        assert keys(redis_server) == {"alive": 2, "holders": 2}
    assert keys(redis_server) == {}


async def test_who_is_cancelled_while_waiting_lets_the_next_one_pass(redis_server: RedisServer):
    capacity = RedisCapacity(redis_server.url, limit=1)
    async with callers(capacity, capacity, capacity) as (first, second, third):
        await second.cancel()
        assert keys(redis_server) == {"alive": 2, "holders": 1, "queue": 1}
        await third.had(2, 1)
        await first.go()
        await third.has_place()


async def test_who_is_cancelled_while_asking_leaves_nothing_behind(redis_server: RedisServer):
    """At whichever of its steps: before the server is asked, meanwhile, and after."""
    capacity = RedisCapacity(redis_server.url, limit=1)
    for steps in range(40):
        caller = Caller(capacity)
        for _ in range(steps):
            await asyncio.sleep(0)
        await caller.cancel()
        assert keys(redis_server) == {}, steps


async def test_another_prefix_is_another_cap(redis_server: RedisServer):
    mine = RedisCapacity(redis_server.url, limit=1)
    yours = RedisCapacity(redis_server.url, limit=1, prefix="acme")
    async with callers(mine, yours) as (first, second):
        assert first.placed.is_set()
        assert second.placed.is_set()
        assert keys(redis_server) == keys(redis_server, "acme") == {"alive": 1, "holders": 1}
        with redis_server.client() as client:
            names: Any = client.keys("*")
            assert {name.split("}")[0] for name in names} == {"{hydra:capacity", "{acme"}
            assert all(0 < client.ttl(name) <= 3600 for name in names)


async def test_a_place_outlives_its_lease_while_its_holder_lives(redis_server: RedisServer):
    capacity = RedisCapacity(redis_server.url, limit=1, lease_secs=2)
    async with callers(capacity, capacity) as (_, second):
        await asyncio.sleep(4)
        assert not second.placed.is_set()
        assert second.positions == [1]


async def test_who_waits_too_long_is_refused(redis_server: RedisServer):
    capacity = RedisCapacity(redis_server.url, limit=1, max_wait_secs=0.2)
    async with callers(capacity, capacity) as (_, second):
        with pytest.raises(NoPlaceError, match=r"none of the 1 sessions became free within 0\.2 s"):
            await second.ended()
        assert keys(redis_server) == {"alive": 1, "holders": 1}


# Without Redis


async def test_who_finds_no_redis_is_let_through_with_one_warning(
    redis_server: RedisServer, warnings: list[str]
):
    redis_server.stop()
    capacity = RedisCapacity(redis_server.url, limit=1)
    async with callers(capacity, capacity, capacity) as made:
        for caller in made:
            await caller.has_place()
            assert caller.positions == []
    (warning,) = warnings
    assert "cannot be reached (ConnectionError)" in warning
    assert "new ones are let through" in warning


async def test_who_finds_no_redis_is_refused_where_the_application_says_so(
    redis_server: RedisServer, warnings: list[str]
):
    redis_server.stop()
    capacity = RedisCapacity(redis_server.url, limit=1, without_redis="refuse")
    caller = Caller(capacity)
    with pytest.raises(NoPlaceError, match="is away, so no session may be opened"):
        await caller.ended()
    (warning,) = warnings
    assert "new ones are refused" in warning


async def test_a_redis_that_is_back_soon_is_not_missed(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pipecat_hydra.session.redis_capacity._PATIENCE_SECS", 60)
    redis_server.stop()
    capacity = RedisCapacity(redis_server.url, limit=1)
    first = Caller(capacity)
    await until(lambda: capacity.is_down)
    redis_server.start()
    await first.has_place()
    assert keys(redis_server) == {"alive": 1, "holders": 1}
    await first.go()


@pytest.mark.parametrize("how", ["stop", "freeze"])
async def test_a_call_goes_on_without_redis_and_has_its_place_again(
    redis_server: RedisServer, how: str, warnings: list[str]
):
    said: list[str] = []
    handler = logger.add(lambda message: said.append(str(message)), level="INFO")
    capacity = RedisCapacity(redis_server.url, limit=1, lease_secs=2)
    async with callers(capacity) as (first,):
        if how == "stop":
            redis_server.stop()
        else:
            redis_server.freeze()
        await until(lambda: capacity.is_down)
        await asyncio.sleep(1.5)
        if how == "stop":
            redis_server.start()
        else:
            redis_server.thaw()
        await until(lambda: not capacity.is_down)
        assert keys(redis_server) == {"alive": 1, "holders": 1}
        async with callers(capacity) as (second,):
            await second.had(1)
            await first.go()
            await second.has_place()
    (warning,) = warnings
    words = "cannot be reached" if how == "stop" else "does not answer within 0.5 s"
    assert f"{words}" in warning
    assert "Calls that have a session go on" in warning
    assert "is back; calls have their places again" in said[-1]
    logger.remove(handler)


async def test_more_sessions_than_there_may_be_are_counted_and_reported_once(
    redis_server: RedisServer, warnings: list[str]
):
    """They were let through while Redis was away."""
    redis_server.stop()
    capacity = RedisCapacity(redis_server.url, limit=1, lease_secs=2)
    async with callers(capacity, capacity) as (first, second):
        redis_server.start()
        await until(lambda: keys(redis_server) == {"alive": 2, "holders": 2})
        await until(lambda: len(warnings) == 2)
        assert "2 sessions are open, more than the limit of 1" in warnings[1]
        async with callers(capacity) as (third,):
            await first.go()
            await asyncio.sleep(1)
            assert not third.placed.is_set()
            await second.go()
            await third.has_place()
    assert len(warnings) == 2


# Errors and secrets


async def test_a_password_that_is_refused_is_not_shown(redis_server: RedisServer):
    redis_server.stop()
    redis_server.start("--requirepass", PASSWORD)
    said: list[str] = []
    handler = logger.add(
        lambda message: said.append(str(message)), level=0, backtrace=True, diagnose=True
    )
    path = redis_server.url.removeprefix("unix://")
    wrong = RedisCapacity(f"unix://:{PASSWORD}-not@{path}", limit=1)
    async with callers(wrong):
        pass
    refusing = RedisCapacity(f"unix://:{PASSWORD}-not@{path}", limit=1, without_redis="refuse")
    with pytest.raises(NoPlaceError) as refused:
        await Caller(refusing).ended()
    logger.remove(handler)
    assert any("refuses the user or the password of the URL" in each for each in said)
    chain: list[BaseException | None] = [refused.value]
    while (error := chain[-1]) is not None:
        chain.append(error.__cause__ or error.__context__)
    shown = [*said, repr(wrong), str(vars(wrong)), *map(repr, chain)]
    assert not any(PASSWORD in each for each in shown)
    right = RedisCapacity(f"unix://:{PASSWORD}@{path}", limit=1)
    async with callers(right):
        assert not right.is_down


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"url": 6379}, TypeError, "url must be a string"),
        ({"url": "localhost:6379"}, ValueError, "as in redis://host:6379"),
        ({"url": "http://host"}, ValueError, "as in redis://host:6379"),
        ({"url": f"redis://:{PASSWORD}/x@host:1"}, ValueError, "written as %2F"),
        ({"url": "unix://"}, ValueError, "unix:///run/redis.sock"),
        ({"limit": 0}, ValueError, "limit must be at least 1"),
        ({"limit": True}, TypeError, "limit must be a whole number"),
        ({"limit": 2.0}, TypeError, "limit must be a whole number"),
        ({"prefix": ""}, ValueError, "prefix must be a name without braces"),
        ({"prefix": "{a}"}, ValueError, "prefix must be a name without braces"),
        ({"prefix": None}, TypeError, "prefix must be a string"),
        ({"lease_secs": 1}, ValueError, "lease_secs must be from 2 to 600"),
        ({"lease_secs": float("nan")}, ValueError, "lease_secs must be from 2 to 600"),
        ({"lease_secs": "10"}, TypeError, "lease_secs must be a number of seconds"),
        ({"max_wait_secs": -1}, ValueError, "max_wait_secs must be at least 0"),
        ({"without_redis": "wait"}, ValueError, "without_redis must be one of 'admit', 'refuse'"),
    ],
)
def test_what_is_wrong_is_said_when_the_capacity_is_made(
    given: dict[str, Any], error: type[Exception], words: str
):
    with pytest.raises(error, match=words) as raised:
        RedisCapacity(**{"url": "redis://host", "limit": 8, **given})
    assert PASSWORD not in str(raised.value)
    assert PASSWORD not in repr(raised.value.__context__)


def test_a_missing_client_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImportError, match="pip install redis"):
        RedisCapacity("redis://host", limit=8)
