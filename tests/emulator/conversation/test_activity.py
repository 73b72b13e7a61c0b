"""The hook that is told what happens in sessions."""

from collections.abc import Generator

import pytest
from loguru import logger

from pipecat_hydra.emulator import Activity, EmulatedSession
from pipecat_hydra.emulator.conversation.activity import tell


@pytest.fixture
def log() -> Generator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), level="ERROR", diagnose=True)
    yield lines
    logger.remove(sink)


def activity() -> Activity:
    session = EmulatedSession("sess_1", "hydra-v1.1")
    return Activity("sent", session, session.note("sent", {"type": "error"}))


def test_the_hook_is_told() -> None:
    told: list[Activity] = []
    it = activity()
    tell(told.append, it)
    assert told == [it]
    assert it.fault is None


def test_without_a_hook_nobody_is_told(log: list[str]) -> None:
    tell(None, activity())
    assert not log


def test_a_hook_that_fails_is_logged_without_what_it_knew(log: list[str]) -> None:
    def hook(_: Activity) -> None:
        words = "".join(["what the ", "user said"])
        raise ValueError(len(words))

    tell(hook, activity())
    (line,) = log
    assert "The emulator's activity hook failed" in line
    assert "ValueError: 18" in line
    assert "what the user said" not in line
