"""A cap on sessions that many processes share: `RedisCapacity`.

Each caller has a *lease*: a ticket in Redis (redis_places.py) and a task that says for the ticket
that it is alive, first in the queue and then with a place. The task lives as long as its process,
so a lease ends with the process, however that ends.

Calls do not depend on Redis. When Redis is lost, open sessions go on, and their leases try again
until it is back: then they have their places again. Callers who come meanwhile are admitted, unless
the application says otherwise, because Hydra knows the limit too. Hydra refuses a session too many
as `server_full`, and the service tries again. So without Redis there is no order among those who
wait, and nothing else is lost. One warning tells of each outage, and the log says when it is over.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from numbers import Real
from typing import Final, Literal, TypeAlias, TypeVar, get_args
from urllib.parse import urlsplit

from loguru import logger
from pydantic import SecretStr
from typing_extensions import override

from pipecat_hydra.session.capacity import Capacity, NoPlaceError
from pipecat_hydra.session.redis_places import RedisPlaces, RedisTroubleError, new_ticket
from pipecat_hydra.session.supervision import Supervised

__all__ = ["RedisCapacity", "WithoutRedis"]

T = TypeVar("T")

WithoutRedis: TypeAlias = Literal["admit", "refuse"]
"""What becomes of a caller who finds no Redis."""

# How often a caller in the queue asks for its position.
_ASK_SECS: Final = 0.5

# How long Redis may be away until a caller who waits is told: a restart is shorter.
_PATIENCE_SECS: Final = 3.0

_SCHEMES: Final = ("redis", "rediss", "unix")


class RedisCapacity(Capacity):
    """At most `limit` sessions at a time in all processes that use the same Redis and prefix.

    Give one to each service, or the same one to all services of an event loop::

        capacity = RedisCapacity("redis://redis:6379", limit=8)
        llm = HydraLLMService(capacity=capacity)

    Callers who find no place wait, and are served in the order in which they came. The service's
    event `on_capacity_position` tells each of them its position. A place is free again when its
    call ends or its session is closed for want of use, and `lease_secs` after its process was
    killed or its machine was cut off.

    All processes must give the same `limit`. It needs the `redis` client, and Redis 5 or newer.
    """

    def __init__(
        self,
        url: str,
        *,
        limit: int,
        prefix: str = "hydra:capacity",
        lease_secs: float = 10.0,
        max_wait_secs: float | None = 60.0,
        without_redis: WithoutRedis = "admit",
    ):
        """Make a capacity; Redis is connected to when the first caller comes.

        Args:
            url: `redis://`, `rediss://` (with TLS) or `unix://`; it may hold a user and a password,
                which no log shows.
            limit: How many sessions may be open at a time, which is what Smallest AI gives to the
                organisation.
            prefix: What the names of the keys in Redis begin with. Organisations that share a Redis
                need one each.
            lease_secs: How long a process may be silent, in seconds, until the places of its calls
                are given to others; from 2 to 600.
            max_wait_secs: How long a caller waits for a place, in seconds. Then the service is
                given up, with one permanent error. None for ever.
            without_redis: What becomes of a caller who finds Redis gone for three seconds.
                `"admit"`: it is let through, as without a capacity. `"refuse"`: the service is
                given up. Calls that have a session go on either way.

        Raises:
            ImportError: If the `redis` client is not installed.
            TypeError: If an argument is of the wrong type.
            ValueError: If an argument is out of its bounds, or `url` is no URL of a Redis server.
        """
        self.host: Final = _checked_host(url)
        """Host and port of Redis, which may be shown."""
        secret = SecretStr(url)
        # Of what fails below, a traceback that shows local variables must show no password.
        del url
        _check(limit, prefix, lease_secs, max_wait_secs, without_redis)
        if find_spec("redis") is None:
            raise ImportError("RedisCapacity needs the Redis client: pip install redis")
        self.limit: Final = limit
        """How many sessions may be open at a time."""
        self.lease_secs: Final = float(lease_secs)
        """How long a process may be silent, in seconds."""
        self.max_wait_secs: Final = max_wait_secs
        """How long a caller waits for a place, in seconds; None for ever."""
        self.without_redis: Final[WithoutRedis] = without_redis
        """What becomes of a caller who finds no Redis."""
        self.places: Final = RedisPlaces(secret, prefix=prefix, limit=limit, lease_secs=lease_secs)
        """The places in Redis."""
        self._leases = 0
        self._is_down = self._is_exceeded = False

    def __repr__(self) -> str:
        return f"RedisCapacity(redis at {self.host}, limit={self.limit})"

    @property
    def is_down(self) -> bool:
        """Whether Redis did not do what it was asked to do last."""
        return self._is_down

    @override
    @asynccontextmanager
    async def place(self, on_position: Callable[[int], None]) -> AsyncGenerator[None]:
        self._leases += 1
        try:
            lease = _Lease(self, on_position)
            try:
                await lease.admitted()
                yield
            finally:
                await lease.end()
        finally:
            self._leases -= 1
            if not self._leases:
                await self.places.close()

    def on_trouble(self, trouble: RedisTroubleError) -> None:
        """Record that Redis did not do what it was asked to; warn once for each outage."""
        if not self._is_down:
            self._is_down = True
            others = "let through" if self.without_redis == "admit" else "refused"
            logger.warning(
                f"Hydra: Redis at {self.host} {trouble}. Calls that have a session go on; new ones "
                f"are {others}, and the limit of {self.limit} sessions is not kept until it is back"
            )

    def on_answer(self) -> None:
        """Record that Redis did what it was asked to."""
        if self._is_down:
            self._is_down = False
            logger.info(f"Hydra: Redis at {self.host} is back; calls have their places again")

    def on_count(self, holders: int) -> None:
        """Warn, once until that is over, of more sessions than there may be."""
        exceeds, was_exceeded = holders > self.limit, self._is_exceeded
        self._is_exceeded = exceeds
        if exceeds and not was_exceeded:
            logger.warning(
                f"Hydra: {holders} sessions are open, more than the limit of {self.limit}: Redis "
                "was away, a process was silent for too long, or processes give different limits. "
                "Nobody is admitted until calls have ended"
            )


class _Lease:
    """A ticket, and the task that says for it that it is alive.

    The task is told to end, and not cancelled, so that what it last says to Redis is that the
    ticket is over: a command that is cut off may reach Redis after the next one.
    """

    def __init__(self, capacity: RedisCapacity, on_position: Callable[[int], None]):
        """Begin to wait for a place, in the background.

        Args:
            capacity: Whose place it is.
            on_position: Called with each position in the queue.
        """
        self._capacity = capacity
        self._on_position = on_position
        self._ticket = new_ticket()
        self._refusal: str | None = None
        self._decided: Final = asyncio.Event()
        self._over: Final = asyncio.Event()
        self._task = Supervised(self._run(), name="hydra-lease", on_end=self._decided.set)

    async def admitted(self) -> None:
        """Wait for the place."""
        await self._decided.wait()
        if self._refusal is not None:
            raise NoPlaceError(self._refusal)

    async def end(self) -> None:
        """Give the ticket back; that goes on if the caller is cancelled."""
        self._over.set()
        await self._task.wait()

    async def _run(self) -> None:
        try:
            self._refusal = await self._queue()
            self._decided.set()
            if self._refusal is None:
                await self._hold()
        finally:
            await self._ask(self._capacity.places.leave)

    async def _queue(self) -> str | None:
        """Wait for a place; return why there is none, or None if there is."""
        capacity = self._capacity
        now = asyncio.get_running_loop().time
        began_at = answered_at = now()
        # Who finds Redis gone that was gone before does not wait for it.
        patience = 0.0 if capacity.is_down else _PATIENCE_SECS
        told = 0
        while not self._over.is_set():
            position = await self._ask(capacity.places.enter)
            if position == 0:
                return None
            if position is not None:
                answered_at, patience = now(), _PATIENCE_SECS
                if position != told:
                    told = position
                    self._on_position(position)
            elif now() - answered_at >= patience:
                if capacity.without_redis == "admit":
                    return None
                return f"Redis at {capacity.host} is away, so no session may be opened"
            longest = capacity.max_wait_secs
            if longest is not None and now() - began_at >= longest:
                return f"none of the {capacity.limit} sessions became free within {longest:g} s"
            await self._is_over_within(_ASK_SECS)
        return None

    async def _hold(self) -> None:
        """Say that the ticket is alive until it is over."""
        while not await self._is_over_within(self._capacity.lease_secs / 3):
            holders = await self._ask(self._capacity.places.renew)
            if holders is not None:
                self._capacity.on_count(holders)

    async def _ask(self, command: Callable[[str], Awaitable[T]]) -> T | None:
        """Have Redis carry out a command; return None if it does not."""
        try:
            answer = await command(self._ticket)
        except RedisTroubleError as trouble:
            self._capacity.on_trouble(trouble)
            return None
        self._capacity.on_answer()
        return answer

    async def _is_over_within(self, secs: float) -> bool:
        try:
            async with asyncio.timeout(secs):
                await self._over.wait()
        except TimeoutError:
            return False
        return True


def _checked_host(url: object) -> str:
    """Return host and port of a URL, without user and password.

    Raises:
        TypeError: If it is no string.
        ValueError: If it is no URL of a Redis server. The text does not show it.
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be a string, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        # Its text may hold what stands in the place of the port: a password with a slash.
        parts, host, port = None, None, None
    if parts is not None and parts.scheme == "unix" and parts.path:
        return parts.path
    if parts is None or parts.scheme not in _SCHEMES or not host:
        raise ValueError(
            "url must be the URL of a Redis server, as in redis://host:6379, rediss://host:6380 or "
            "unix:///run/redis.sock. Special characters of a password are written as %2F is for /"
        )
    return f"{host}:{port or 6379}"


def _check(
    limit: object, prefix: object, lease_secs: object, max_wait_secs: object, without_redis: object
) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"limit must be a whole number, not {limit!r}")
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a string, not {prefix!r}")
    if not prefix or "{" in prefix or "}" in prefix:
        raise ValueError(f"prefix must be a name without braces, not {prefix!r}")
    if not 2 <= _number("lease_secs", lease_secs) <= 600:
        raise ValueError(f"lease_secs must be from 2 to 600, not {lease_secs}")
    if max_wait_secs is not None and not _number("max_wait_secs", max_wait_secs) >= 0:
        raise ValueError(
            f"max_wait_secs must be at least 0, not {max_wait_secs} (None is no limit)"
        )
    if without_redis not in get_args(WithoutRedis):
        choices = ", ".join(map(repr, get_args(WithoutRedis)))
        raise ValueError(f"without_redis must be one of {choices}, not {without_redis!r}")


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    return float(value)
