"""What the server does in a session: the scenarios by name.

Each begins when the session is configured and ends when the client goes away. In all of them the
client asks the model for the first words, as most applications do, but in `"user first"`.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Final

from benchmarks.marks import is_loud
from benchmarks.server import PAUSE_SECS, Session

__all__ = ["CYCLE_SECS", "REPLY_DELTAS", "SCENARIOS"]

REPLY_DELTAS: Final = 25
CYCLE_SECS: Final = 1.1
"""A turn of the user and the reply, in which he breaks in."""

_ASKED_SECS: Final = 3.0
_NARRATION_SECS: Final = 1.5


async def turns(session: Session) -> None:
    """The user speaks, is answered with a second of audio, and interrupts it, again and again."""
    await _first_words(session)
    # Sessions that begin together do not speak together.
    await asyncio.sleep(0.137 * session.number % CYCLE_SECS)
    for number in itertools.count():
        await session.user_turn(number, 0.3)
        await asyncio.sleep(0.2)
        await session.reply(REPLY_DELTAS)
        await asyncio.sleep(0.5)


async def late_audio(session: Session) -> None:
    """The user breaks in after a fifth of a reply, of which the rest comes all the same."""
    session.marks_all = True
    await _first_words(session)
    for number in itertools.count():
        await session.user_turn(2 * number, 0.3)
        await asyncio.sleep(0.2)
        replying = asyncio.create_task(session.reply(REPLY_DELTAS))
        await asyncio.sleep((REPLY_DELTAS // 5 - 0.5) * PAUSE_SECS)
        await session.user_turn(2 * number + 1, 0.3)
        await replying
        await asyncio.sleep(0.5)


async def tools(session: Session) -> None:
    """The model calls a function in each turn, and is to be asked to go on."""
    await _first_words(session)
    order = session.plan.orders[session.number % len(session.plan.orders)]
    for number in itertools.count():
        await asyncio.sleep(0.3)
        await session.user_turn(number, 0.1)
        await session.tool_turn(number, order, timeout_secs=_NARRATION_SECS)


async def deltas(session: Session) -> None:
    """Nobody speaks for four seconds, and then the model alone."""
    await _first_words(session)
    await asyncio.sleep(4.0)
    while True:
        await session.reply(4 * REPLY_DELTAS)


async def listen(session: Session) -> None:
    """The server notes when it hears clicks."""

    def on_audio(audio: bytes, now: float) -> None:
        if is_loud(audio):
            session.noted.clicks.append(now)

    session.on_audio = on_audio
    await _first_words(session)


async def start(session: Session) -> None:
    """The model speaks when it is asked to."""
    while True:
        await session.wait_for("response.create", None)
        await session.reply(REPLY_DELTAS // 5)


async def user_first(session: Session) -> None:
    """Nobody asks the model to speak; what counts is when the session is configured."""


async def _first_words(session: Session) -> None:
    await session.wait_for("response.create", _ASKED_SECS)
    await session.reply(REPLY_DELTAS // 5)
    await asyncio.sleep(0.2)


SCENARIOS: Final[dict[str, Callable[[Session], Awaitable[None]]]] = {
    "turns": turns,
    "late audio": late_audio,
    "tools": tools,
    "deltas": deltas,
    "listen": listen,
    "start": start,
    "user first": user_first,
}
