"""Which session is to be had: each state, what leads out of it, and what is told of it (S2, P2)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pipecat_hydra.conversation.effects import (
    FailureKind,
    GivenUp,
    Lost,
    PipelineEffect,
    Rested,
    Retrying,
)
from pipecat_hydra.session.retries import Retries, RetryPolicy
from pipecat_hydra.session.runner import Ending, SessionRunner, State

BROKEN = Ending(FailureKind.CONNECTIVITY, "it broke", created=True)
ENDED = Ending(FailureKind.ENDED, "it ended", created=True)
REFUSED = Ending(FailureKind.AUTHENTICATION, "refused")

QUICK = RetryPolicy(first_delay_secs=0.0, longest_delay_secs=0.0)
PATIENT = RetryPolicy(first_delay_secs=60.0, longest_delay_secs=60.0, secs_per_drop=600.0)


class Sessions:
    """Attempts that end when a test says so."""

    def __init__(self):
        self.endings: list[asyncio.Future[Ending]] = []
        self.stopped = 0
        self.told: list[PipelineEffect] = []
        self.runner: SessionRunner
        # Seconds that an attempt takes to end once it is stopped.
        self.cleanup_secs = 0.0
        self.stop_reasons: list[str | None] = []

    async def attempt(self) -> Ending:
        ending = asyncio.get_running_loop().create_future()
        self.endings.append(ending)
        try:
            return await ending
        except asyncio.CancelledError:
            self.stop_reasons.append(self.runner.stop_reason)
            await asyncio.sleep(self.cleanup_secs)
            self.stopped += 1
            raise

    async def begun(self, count: int) -> None:
        """Wait until so many attempts have begun."""
        async with asyncio.timeout(5):
            while len(self.endings) < count:
                await asyncio.sleep(0.001)
        assert len(self.endings) == count

    async def end(self, ending: Ending | BaseException) -> None:
        """End the attempt that runs."""
        if isinstance(ending, Ending):
            self.endings[-1].set_result(ending)
        else:
            self.endings[-1].set_exception(ending)
        await turns()

    def kinds(self) -> list[type[Any]]:
        return [type(effect) for effect in self.told]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@asynccontextmanager
async def sessions(policy: RetryPolicy = QUICK) -> AsyncGenerator[tuple[SessionRunner, Sessions]]:
    made = Sessions()
    made.runner = SessionRunner(
        made.attempt, retries=Retries(policy, draw=lambda: 1.0), tell=made.told.append
    )
    try:
        yield made.runner, made
    finally:
        await made.runner.close()
        assert not made.runner.is_open
        assert not [t for t in asyncio.all_tasks() if t.get_name() == "hydra-connection"]


async def in_state(state: State, runner: SessionRunner, made: Sessions) -> None:
    """Bring a runner that is new into a state."""
    match state:
        case State.IDLE:
            return
        case State.SPARE:
            runner.prewarm()
        case State.IN_USE:
            runner.open()
        case State.LOST:
            runner.open()
            await made.begun(1)
            await made.end(BROKEN)
            if runner.is_open and not made.runner._next:
                await made.begun(2)
        case State.RESTING | State.RECALLED:
            runner.open()
            await made.begun(1)
            runner.rest()
            if state is State.RECALLED:
                runner.open()
        case State.GIVEN_UP:
            runner.open()
            await made.begun(1)
            await made.end(REFUSED)
        case State.CLOSED:
            await runner.close()
    await turns()
    assert runner.state is state
    made.told.clear()


@pytest.mark.parametrize(
    ("state", "is_open", "is_wanted"),
    [
        (State.IDLE, False, False),
        (State.SPARE, True, False),
        (State.IN_USE, True, True),
        (State.LOST, True, True),
        (State.RESTING, True, False),
        (State.RECALLED, True, True),
        (State.GIVEN_UP, False, False),
        (State.CLOSED, False, False),
    ],
)
async def test_what_can_be_told_from_the_state(state: State, is_open: bool, is_wanted: bool):
    async with sessions() as (runner, made):
        await in_state(state, runner, made)
        assert runner.is_open is is_open
        assert runner.is_wanted is is_wanted
        assert runner.stop_reason is None


S = State


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        ("prewarm", {S.IDLE: S.SPARE}),
        ("open", {S.IDLE: S.IN_USE, S.SPARE: S.IN_USE, S.RESTING: S.RECALLED}),
        ("renew", {S.GIVEN_UP: S.IDLE}),
        ("ready", {S.LOST: S.IN_USE}),
        (
            "rest",
            {S.SPARE: S.RESTING, S.IN_USE: S.RESTING, S.LOST: S.RESTING, S.RECALLED: S.RESTING},
        ),
        ("replace", {S.IDLE: S.SPARE, S.GIVEN_UP: S.SPARE}),
        ("close", {state: S.CLOSED for state in S}),
    ],
)
@pytest.mark.parametrize("state", S)
async def test_each_step_leads_where_the_table_says(
    state: State, step: str, changes: dict[State, State]
):
    async with sessions() as (runner, made):
        await in_state(state, runner, made)
        begun = len(made.endings)
        done = getattr(runner, step)()
        if done is not None:
            await done
        assert runner.state is changes.get(state, state)
        await turns()
        begins = {
            "prewarm": [S.IDLE],
            "open": [S.IDLE],
            "replace": [S.IDLE, S.GIVEN_UP, S.SPARE, S.IN_USE, S.LOST],
        }
        assert len(made.endings) - begun == (state in begins.get(step, []))
        assert not made.told


@pytest.mark.parametrize(
    ("state", "ending", "after", "told"),
    [
        (S.SPARE, BROKEN, S.IDLE, [Rested("it broke", failed=True)]),
        (S.SPARE, ENDED, S.IDLE, [Rested("it ended", failed=False)]),
        (S.SPARE, REFUSED, S.GIVEN_UP, [GivenUp(REFUSED.kind, "refused")]),
        (S.IN_USE, REFUSED, S.GIVEN_UP, [GivenUp(REFUSED.kind, "refused")]),
        (S.LOST, REFUSED, S.GIVEN_UP, [GivenUp(REFUSED.kind, "refused")]),
        (
            S.IN_USE,
            BROKEN,
            S.LOST,
            [
                Lost(BROKEN.kind, "it broke", configured=False),
                Retrying(1, 0.0, BROKEN.kind, "it broke"),
            ],
        ),
        (S.IN_USE, ENDED, S.IN_USE, [Retrying(1, 0.0, ENDED.kind, "it ended")]),
        (S.LOST, BROKEN, S.LOST, [Retrying(2, 0.0, BROKEN.kind, "it broke")]),
        (S.RESTING, BROKEN, S.IDLE, [Rested("it broke", failed=False)]),
        (S.RECALLED, BROKEN, S.IN_USE, [Rested("it broke", failed=False)]),
    ],
)
async def test_the_end_of_an_attempt_leads_where_the_table_says(
    state: State, ending: Ending, after: State, told: list[PipelineEffect]
):
    async with sessions() as (runner, made):
        await in_state(state, runner, made)
        begun = len(made.endings)
        await made.end(ending)
        assert runner.state is after
        assert made.told == told
        goes_on = after in (S.IN_USE, S.LOST)
        assert runner.is_open is goes_on
        await asyncio.sleep(0.01)
        assert len(made.endings) - begun == goes_on


async def test_a_loss_is_told_once_until_a_session_is_ready_again():
    async with sessions() as (runner, made):
        runner.open()
        for count in range(1, 4):
            await made.begun(count)
            await made.end(BROKEN)
        await made.begun(4)
        runner.ready()
        await made.end(BROKEN)
        assert made.kinds() == [Lost, Retrying, Retrying, Retrying, Lost, Retrying]
        assert [e.configured for e in made.told if isinstance(e, Lost)] == [False, True]


async def test_an_idle_close_of_a_session_that_was_configured_is_a_loss():
    async with sessions() as (runner, made):
        runner.open()
        await made.begun(1)
        runner.ready()
        await made.end(ENDED)
        assert made.told[0] == Lost(FailureKind.ENDED, "it ended", configured=True)


async def test_a_spent_budget_gives_up():
    async with sessions(RetryPolicy(attempts_per_drop=1, first_delay_secs=0.0)) as (runner, made):
        runner.open()
        await made.begun(1)
        await made.end(BROKEN)
        await made.begun(2)
        await made.end(BROKEN)
        assert made.kinds() == [Lost, Retrying, GivenUp]
        assert runner.state is State.GIVEN_UP
        runner.renew()
        runner.open()
        await made.begun(3)
        # The budget is whole again.
        await made.end(BROKEN)
        assert made.told[-1] == Retrying(1, 0.0, BROKEN.kind, "it broke")


async def test_a_loss_tells_of_the_session_that_was_lost_and_not_of_the_one_before():
    async with sessions() as (runner, made):
        runner.open()
        await made.begun(1)
        runner.ready()
        await runner.replace()
        await made.begun(2)
        await made.end(BROKEN)
        assert made.told[0] == Lost(BROKEN.kind, "it broke", configured=False)


async def test_while_an_attempt_is_due_there_is_no_task():
    async with sessions(PATIENT) as (runner, made):
        runner.open()
        await made.begun(1)
        await made.end(BROKEN)
        assert runner.is_open
        assert not [t for t in asyncio.all_tasks() if t.get_name() == "hydra-connection"]
        # Nor does anybody make another attempt meanwhile.
        runner.open()
        runner.prewarm()
        await turns()
        assert len(made.endings) == 1


async def test_a_replacement_does_not_wait_for_an_attempt_that_is_due():
    async with sessions(PATIENT) as (runner, made):
        runner.open()
        await made.begun(1)
        await made.end(BROKEN)
        await runner.replace()
        await made.begun(2)
        assert runner.state is State.LOST
        assert runner._next is None


async def test_the_delay_that_the_server_asks_for_is_kept():
    ending = Ending(FailureKind.CAPACITY, "full", retry_after_secs=7.0)
    async with sessions() as (runner, made):
        runner.open()
        await made.begun(1)
        await made.end(ending)
        assert made.told[-1] == Retrying(1, 7.0, FailureKind.CAPACITY, "full")


async def test_a_replacement_follows_once_the_old_session_has_ended():
    async with sessions() as (runner, made):
        made.cleanup_secs = 0.02
        runner.open()
        await made.begun(1)
        replacing = asyncio.create_task(runner.replace())
        await turns()
        assert runner.stop_reason == "replaced by another"
        # Whoever asks for a session meanwhile gets none beside it.
        assert runner.is_open
        runner.open()
        await replacing
        assert made.stopped == 1
        await made.begun(2)
        assert runner.state is State.IN_USE
        assert runner.stop_reason is None
        assert made.stop_reasons == ["replaced by another"]
        assert not made.told


async def test_a_replacement_follows_though_whoever_asked_for_it_is_gone():
    async with sessions() as (runner, made):
        made.cleanup_secs = 0.02
        runner.open()
        await made.begun(1)
        replacing = asyncio.create_task(runner.replace())
        await turns()
        replacing.cancel()
        await asyncio.wait({replacing})
        assert replacing.cancelled()
        await made.begun(2)
        assert made.stopped == 1


async def test_a_session_that_nobody_uses_is_replaced_by_such_a_one():
    async with sessions() as (runner, made):
        runner.prewarm()
        await made.begun(1)
        await runner.replace()
        await made.begun(2)
        assert runner.state is State.SPARE


async def test_a_close_in_the_middle_of_a_replacement_ends_all():
    async with sessions() as (runner, made):
        made.cleanup_secs = 0.02
        runner.open()
        await made.begun(1)
        replacing = asyncio.create_task(runner.replace())
        await turns()
        await runner.close()
        await replacing
        await turns()
        assert len(made.endings) == 1
        assert not runner.is_open


async def test_a_close_says_why_and_tells_nothing():
    async with sessions() as (runner, made):
        runner.open()
        await made.begun(1)
        await runner.close()
        await runner.close()
        assert made.stop_reasons == ["the pipeline has ended"]
        assert not made.told


@pytest.mark.parametrize("state", [S.SPARE, S.IN_USE, S.LOST, S.RESTING, S.RECALLED])
@pytest.mark.parametrize("how", ["cancelled by somebody else", "RuntimeError"])
async def test_an_attempt_that_dies_is_one_that_failed(state: State, how: str):
    async with sessions() as (runner, made):
        await in_state(state, runner, made)
        begun = len(made.endings)
        if how == "RuntimeError":
            await made.end(RuntimeError("what a user said"))
        else:
            (task,) = (t for t in asyncio.all_tasks() if t.get_name() == "hydra-connection")
            task.cancel()
            await turns(10)
        message = f"the session with Hydra failed ({how})"
        effect: Any = made.told[0]
        assert effect.message == message
        if state in (S.IN_USE, S.LOST):
            assert effect.kind is FailureKind.SERVER
        await asyncio.sleep(0.01)
        assert len(made.endings) - begun == (state in (S.IN_USE, S.LOST, S.RECALLED))
