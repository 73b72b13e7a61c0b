"""Holds one call with a bot, from its begin to its result."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipecat_hydra.emulator import HydraEmulator
from pipecat_hydra.testing.calls.activity import BotActivity
from pipecat_hydra.testing.calls.bots import Bot, SetAttribute, run
from pipecat_hydra.testing.calls.caller import Caller, Line, NoAnswerError, Step, steps_of
from pipecat_hydra.testing.calls.errors import CallError
from pipecat_hydra.testing.calls.result import CallResult, Ending
from pipecat_hydra.testing.virtual_transport import VirtualTransport
from pipecat_hydra.wire.protocol import INPUT_SAMPLE_RATE

__all__ = ["CallPlan", "Surroundings", "hold"]

START_LIMIT_SECS: Final = 30.0
"""How long the bot may take to start; Pipecat itself gives up after 20 s."""

SESSION_LIMIT_SECS: Final = 5.0
"""How long to wait for the session that says whether the bot speaks first."""

END_LIMIT_SECS: Final = 5.0
"""How long the bot may take to end after the user has hung up."""

_LOOK_SECS: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a test has around its calls.

    Parameters:
        hydra: The emulator that the bot talks to.
        recordings: The folder in which the service keeps its recordings.
        base: The folder of the test.
        find: Returns the place of a recording that is given by name.
        set_attribute: Sets an attribute until the end of the test.
        update_courses: Whether courses are written that differ from their files.
    """

    hydra: HydraEmulator
    recordings: Path
    base: Path
    find: Callable[[str | Path], Path]
    set_attribute: SetAttribute
    update_courses: bool


@dataclass(frozen=True, kw_only=True)
class CallPlan:
    """What is to happen in a call.

    Parameters:
        steps: What the user says, and pauses.
        bot: The bot.
        greeting: Whether the bot speaks first; `None` if the emulator is to tell.
        limit_secs: How long to wait for an answer.
        body: The body of the bot's runner arguments.
    """

    steps: Sequence[Step]
    bot: Bot
    greeting: bool | None
    limit_secs: float
    body: Any


async def hold(plan: CallPlan, surroundings: Surroundings) -> CallResult:
    """Hold a call, and say what happened in it.

    Args:
        plan: What is to happen.
        surroundings: What the test has around it.

    Returns:
        What happened.

    Raises:
        CallError: The bot did not start, or did not answer within the limit.
        TypeError: The bot or a step is not what a call can use.
        ValueError: A step cannot be said.
        Exception: Whatever the bot raises.
    """
    lines = steps_of(plan.steps, surroundings.find)
    return await _Call(plan, lines, surroundings).hold()


class _Call:
    """One call."""

    def __init__(self, plan: CallPlan, lines: Sequence[Line], surroundings: Surroundings) -> None:
        self._plan = plan
        self._surroundings = surroundings
        self._transport = VirtualTransport(
            sample_rate=lines[0].speech.sample_rate if lines else INPUT_SAMPLE_RATE
        )
        self._activity = BotActivity()
        self._caller = Caller(self._transport, self._activity, lines, limit_secs=plan.limit_secs)
        self._sessions_before = len(surroundings.hydra.sessions)
        self._recordings_before = set(_folders(surroundings.recordings))

    async def hold(self) -> CallResult:
        bot = asyncio.create_task(
            run(
                self._plan.bot,
                self._transport,
                body=self._plan.body,
                set_attribute=self._surroundings.set_attribute,
            )
        )
        user = asyncio.create_task(self._talk())
        try:
            await asyncio.wait({bot, user}, return_when=asyncio.FIRST_COMPLETED)
            ending = await self._end(bot) if user.done() else Ending.BOT
        finally:
            user.cancel()
            bot.cancel()
            await asyncio.gather(bot, user, return_exceptions=True)
        return self._result(bot, user, ending)

    async def _talk(self) -> None:
        timeline = self._transport.timeline
        try:
            await asyncio.wait_for(timeline.started(), START_LIMIT_SECS)
        except TimeoutError:
            raise NoAnswerError(
                f"the bot's pipeline did not start within {START_LIMIT_SECS:g} s: does the "
                "bot use the transport that it is given?"
            ) from None
        self._transport.output().pipeline_worker.add_observer(self._activity)
        greeting = self._plan.greeting
        await self._caller.talk(
            after_greeting=await self._speaks_first() if greeting is None else greeting
        )

    async def _speaks_first(self) -> bool:
        """Return whether the bot has asked Hydra to speak first."""
        hydra = self._surroundings.hydra
        try:
            session = await hydra.wait_for_session(self._sessions_before, within=SESSION_LIMIT_SECS)
            await session.wait_until(lambda: session.configured, within=SESSION_LIMIT_SECS)
        except TimeoutError:
            return False
        configuration = session.configuration or {}
        return bool(configuration.get("generate_initial_response"))

    async def _end(self, bot: "asyncio.Task[None]") -> Ending:
        """Hang up, and wait until the bot has ended."""
        if not self._transport.timeline.has_started:
            return Ending.CANCELLED
        await self._transport.hang_up()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(bot), END_LIMIT_SECS)
        if bot.done():
            return Ending.USER
        await self._transport.output().pipeline_worker.cancel()
        await asyncio.wait({bot}, timeout=END_LIMIT_SECS)
        return Ending.CANCELLED

    def _result(
        self, bot: "asyncio.Task[None]", user: "asyncio.Task[None]", ending: Ending
    ) -> CallResult:
        raised = None if bot.cancelled() else bot.exception()
        if raised is not None:
            raise raised
        if not self._transport.timeline.has_started and ending is Ending.BOT:
            raise CallError(
                "the bot ended before its pipeline had started: does it wait until the pipeline "
                "has ended, and does it use the transport that it is given?"
            )
        new = [
            folder
            for folder in _folders(self._surroundings.recordings)
            if folder not in self._recordings_before
        ]
        result = CallResult.read(
            new,
            ending,
            base=self._surroundings.base,
            update_courses=self._surroundings.update_courses,
        )
        failure = None if user.cancelled() else user.exception()
        if isinstance(failure, NoAnswerError):
            raise CallError(result.explained(str(failure)))
        if failure is not None:
            raise failure
        return result


def _folders(recordings: Path) -> list[Path]:
    return sorted(recordings.iterdir()) if recordings.is_dir() else []
