"""The places and the queue that a `RedisCapacity` keeps in Redis.

Four keys, by their names behind the prefix:

- `alive`: a sorted set, each ticket with the time at which it expires, in milliseconds;
- `holders`: a set, the tickets that have a place;
- `queue`: a sorted set, the tickets that wait, each with its number;
- `last`: the number of the last ticket that began to wait.

A *ticket* is one caller, in one process, who wants or has a place. It has to say again and again
that it is alive: with `enter` as long as it waits, with `renew` once it has a place. A ticket that
does not is removed by the next script that anybody runs, from wherever it is. So the place of a
process that was killed is free when its ticket has expired, and a dead caller in the queue lets
the next one pass.

Each command is one Lua script, which Redis runs as a whole, by the clock of Redis. Each script that
may free a place gives it to the first in the queue, who finds that out when it next says that it is
alive. So the order of the queue does not depend on who asks when.

`renew` gives the ticket a place even where there is none: its session is open, whatever Redis has
forgotten meanwhile, and has to be counted.

The prefix stands in braces in the keys, so that a Redis Cluster keeps them on one node.
"""

import os
import socket
from typing import Any, Final, cast
from uuid import uuid4

from pydantic import SecretStr

from pipecat_hydra.session.time_limits import time_limit

__all__ = ["RedisPlaces", "RedisTroubleError", "new_ticket"]

# How long Redis may take for one command, connecting included. A caller waits meanwhile.
_ANSWER_SECS: Final = 2.0

_BEGIN: Final = """
local alive, holders, queue, last = unpack(KEYS)
local ticket, limit, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function say_alive()
    redis.call('ZADD', alive, now + lease, ticket)
end

local function remove(gone)
    redis.call('ZREM', alive, gone)
    redis.call('SREM', holders, gone)
    redis.call('ZREM', queue, gone)
end

local function settle()
    for _, dead in ipairs(redis.call('ZRANGEBYSCORE', alive, '-inf', now)) do
        remove(dead)
    end
    while redis.call('SCARD', holders) < limit do
        local first = redis.call('ZPOPMIN', queue)[1]
        if not first then break end
        redis.call('SADD', holders, first)
    end
    for _, key in ipairs(KEYS) do
        redis.call('PEXPIRE', key, 3600000)
    end
end
"""

# Returns 0 for a place, else the position in the queue.
_ENTER: Final = (
    _BEGIN
    + """
say_alive()
if redis.call('SISMEMBER', holders, ticket) == 0 and not redis.call('ZSCORE', queue, ticket) then
    redis.call('ZADD', queue, redis.call('INCR', last), ticket)
end
settle()
local rank = redis.call('ZRANK', queue, ticket)
return rank and rank + 1 or 0
"""
)

# Returns how many have a place.
_RENEW: Final = (
    _BEGIN
    + """
say_alive()
redis.call('ZREM', queue, ticket)
redis.call('SADD', holders, ticket)
settle()
return redis.call('SCARD', holders)
"""
)

_LEAVE: Final = (
    _BEGIN
    + """
remove(ticket)
settle()
return 0
"""
)


class RedisTroubleError(Exception):
    """Redis did not do what it was asked to; the text says why, without the URL."""


def new_ticket() -> str:
    """Return a ticket that nobody else has, and that tells a person whose it is."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex}"


class RedisPlaces:
    """Asks Redis. Connects when it is first used; after that you must `close` it."""

    def __init__(self, url: SecretStr, *, prefix: str, limit: int, lease_secs: float):
        """Make the places without connecting.

        Args:
            url: The URL of the Redis server.
            prefix: What the names of the keys begin with.
            limit: How many places there are.
            lease_secs: How long a ticket is taken to be alive, in seconds.
        """
        self._url = url
        self._keys = [f"{{{prefix}}}:{name}" for name in ("alive", "holders", "queue", "last")]
        self._terms = (limit, round(lease_secs * 1000))
        self._client: Any = None

    async def enter(self, ticket: str) -> int:
        """Say that a ticket that wants a place is alive.

        Returns:
            0 if it has a place, else its position in the queue, from 1.
        """
        return await self._run(_ENTER, ticket)

    async def renew(self, ticket: str) -> int:
        """Say that a ticket that has a place is alive.

        Returns:
            How many have a place, with this one.
        """
        return await self._run(_RENEW, ticket)

    async def leave(self, ticket: str) -> None:
        """Remove a ticket from the places and from the queue."""
        await self._run(_LEAVE, ticket)

    async def close(self) -> None:
        """Close the connections to Redis; the next command opens another. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _run(self, script: str, ticket: str) -> int:
        from redis.exceptions import RedisError

        trouble = ""
        try:
            async with time_limit(_ANSWER_SECS):
                run = self._connected().register_script(script)
                return cast(int, await run(keys=self._keys, args=[ticket, *self._terms]))
        except (RedisError, OSError) as error:
            # `TimeoutError` is an `OSError`.
            trouble = _describe(error)
        # Raised out here, so that the library's exception is not even its context.
        raise RedisTroubleError(trouble)

    def _connected(self) -> Any:
        if self._client is None:
            from redis.asyncio import from_url
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff

            # One retry, for a connection that was closed while nobody used it.
            connect = cast(Any, from_url)
            self._client = connect(self._url.get_secret_value(), retry=Retry(NoBackoff(), 1))
        return self._client


def _describe(error: Exception) -> str:
    """Say what is wrong with Redis, in words that hold neither the URL nor the password."""
    from redis import exceptions

    # While it connects, the library wraps the error of which we want to tell.
    refused = (exceptions.AuthenticationError, exceptions.AuthorizationError)
    if isinstance(error, refused) or isinstance(error.__cause__, refused):
        return "refuses the user or the password of the URL"
    if isinstance(error, exceptions.ResponseError):
        return f"refuses a command: {error}"
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return f"does not answer within {_ANSWER_SECS:g} s"
    return f"cannot be reached ({type(error).__name__})"
