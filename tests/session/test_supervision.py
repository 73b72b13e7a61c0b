"""A task that ends unexpectedly is logged and reported (P2)."""

import ast
import asyncio
from pathlib import Path

import pytest

import pipecat_hydra.session
from pipecat_hydra.session.supervision import Supervised, log_bug

SESSION = Path(pipecat_hydra.session.__file__).parent


class Owner:
    """Keeps what it was told of the ends of its task."""

    def __init__(self):
        self.ends = 0

    def __call__(self) -> None:
        self.ends += 1


async def test_a_task_that_returns_has_a_result_and_did_not_die(warnings: list[str]):
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    owner = Owner()
    task = Supervised(work(), name="hydra-test", on_end=owner)
    assert not task.has_ended
    assert task.result is None
    await task.wait()
    assert (task.result, task.death, task.is_stopped, task.has_ended) == (7, None, False, True)
    assert owner.ends == 1
    assert not warnings


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_task_that_is_stopped_did_not_die(at_once: bool, warnings: list[str]):
    owner = Owner()
    task = Supervised(asyncio.Event().wait(), name="hydra-test", on_end=owner)
    if not at_once:
        await asyncio.sleep(0)
    task.stop()
    await task.wait()
    assert (task.result, task.death, task.is_stopped) == (None, None, True)
    assert owner.ends == 1
    assert not warnings


async def test_a_second_stop_does_not_cut_short_the_cleaning_up():
    cleaned = False

    async def work() -> None:
        nonlocal cleaned
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            cleaned = True

    task = Supervised(work(), name="hydra-test")
    await asyncio.sleep(0)
    task.stop()
    await asyncio.sleep(0)
    task.stop()
    await task.wait()
    assert cleaned


async def test_an_exception_is_a_death_whose_text_is_not_shown(warnings: list[str]):
    async def work() -> None:
        raise RuntimeError("the user said: my PIN is 7341")

    owner = Owner()
    task = Supervised(work(), name="hydra-test", on_end=owner)
    await task.wait()
    assert task.death == "RuntimeError"
    assert task.result is None
    assert owner.ends == 1
    (line,) = warnings
    assert "the task hydra-test died: RuntimeError at" in line
    assert "test_supervision.py" in line
    assert "7341" not in line


async def test_an_exception_while_it_cleans_up_is_a_death(warnings: list[str]):
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError

    task = Supervised(work(), name="hydra-test")
    await asyncio.sleep(0)
    task.stop()
    await task.wait()
    assert task.death == "RuntimeError"
    assert len(warnings) == 1


@pytest.mark.parametrize("whose", ["its own", "another's"])
async def test_a_cancellation_that_the_owner_did_not_ask_for_is_a_death(
    whose: str, warnings: list[str]
):
    async def work() -> None:
        if whose == "its own":
            raise asyncio.CancelledError
        await asyncio.Event().wait()

    owner = Owner()
    task = Supervised(work(), name="hydra-test", on_end=owner)
    await asyncio.sleep(0)
    if whose == "another's":
        (found,) = (task for task in asyncio.all_tasks() if task.get_name() == "hydra-test")
        found.cancel()
    await task.wait()
    assert task.death == "cancelled by somebody else"
    assert owner.ends == 1
    (line,) = warnings
    assert "the task hydra-test died: cancelled by somebody else" in line


async def test_whoever_waits_goes_on_after_the_owner_was_told():
    order: list[str] = []

    async def work() -> None:
        pass

    task = Supervised(work(), name="hydra-test", on_end=lambda: order.append("told"))
    await asyncio.sleep(0)
    # The task is done by now, and its end not yet told.
    assert task.has_ended
    await task.wait()
    order.append("waited")
    assert order == ["told", "waited"]


async def test_a_task_knows_whether_it_is_the_one_that_runs():
    seen: list[bool] = []

    async def work() -> None:
        await asyncio.sleep(0)
        seen.append(task.is_current)

    task = Supervised(work(), name="hydra-test")
    assert not task.is_current
    await task.wait()
    assert seen == [True]


async def test_a_bug_is_logged_by_its_type_and_place(warnings: list[str]):
    try:
        raise KeyError("what a user said")
    except KeyError as error:
        log_bug("something was not done", error)
    (line,) = warnings
    assert "something was not done: KeyError at" in line
    assert "what a user said" not in line


def test_every_task_of_a_session_is_supervised():
    """The one exception is awaited, with a limit, where it is made: `keys.py`."""
    makers = {
        path.name
        for path in SESSION.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("create_task", "TaskGroup")
    }
    assert makers == {"supervision.py", "keys.py"}
