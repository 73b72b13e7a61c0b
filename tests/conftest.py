"""What all tests share."""

import os
import sys
import threading
import time
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings
from loguru import logger

# Elsewhere each run tries other sequences; where a change is judged, it is by the same ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(autouse=True, scope="session")
def _quiet_pipecat() -> Generator[None]:
    """Pipecat logs each frame queue it links; only warnings help to read a failure."""
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    yield
    logger.remove()


@pytest.fixture
def warnings() -> Generator[list[str]]:
    """What is logged at WARNING or above, one string a line."""
    logged: list[str] = []
    handler = logger.add(lambda message: logged.append(str(message)), level="WARNING")
    yield logged
    logger.remove(handler)


class HeldUpError(Exception):
    """A test failed while the machine had no time for it, which tells nothing of the code.

    It is held again, three times in all: see `--only-rerun` in pyproject.toml.
    """


class _Clock(threading.Thread):
    """Notes when the machine lets this process wait."""

    def __init__(self):
        super().__init__(daemon=True, name="clock of the tests")
        self.waited_secs = 0.0

    def run(self) -> None:
        while True:
            began, worked = time.monotonic(), time.process_time()
            time.sleep(_TICK_SECS)
            late = time.monotonic() - began - _TICK_SECS
            # What this process did meanwhile is its own affair: code that blocks is at fault.
            self.waited_secs = max(self.waited_secs, late - (time.process_time() - worked))


_TICK_SECS = 0.02
_LONGEST_WAIT_SECS = 0.15
_clock = _Clock()


def pytest_sessionstart() -> None:
    """Begin to watch the machine, in each process that runs tests."""
    _clock.start()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, Any, Any]:
    """Tell failures at real time from those of a machine that had other things to do."""
    _clock.waited_secs = 0.0
    try:
        return (yield)
    except Exception as error:
        if _clock.waited_secs > _LONGEST_WAIT_SECS:
            raise HeldUpError(f"the machine let it wait for {_clock.waited_secs:.2f} s") from error
        raise
