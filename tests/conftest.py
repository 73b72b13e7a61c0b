"""What all tests share."""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Generator
from pathlib import Path
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
    """Notes how long the machine lets the tests wait for a processor, and nothing else.

    What this process itself does meanwhile is not in it: code that blocks is at fault. Linux
    tells; elsewhere nothing is noted.
    """

    def __init__(self):
        super().__init__(daemon=True, name="clock of the tests")
        thread = threading.main_thread().native_id
        told = Path(f"/proc/self/task/{thread}/schedstat")
        # Open for good: some tests look at what files are.
        self._file = told.open() if told.exists() else None
        self._waits: deque[float] = deque([0.0], maxlen=round(_WINDOW_SECS / _TICK_SECS))
        self.longest_secs = 0.0

    def run(self) -> None:
        while self._file is not None:
            time.sleep(_TICK_SECS)
            self._file.seek(0)
            self._waits.append(int(self._file.read().split()[1]) / 1e9)
            self.longest_secs = max(self.longest_secs, self._waits[-1] - self._waits[0])


_TICK_SECS = 0.02
_WINDOW_SECS = 0.5
# Of half a second. With two processors for six tests at a time, a few hundredths are usual.
_LONGEST_WAIT_SECS = 0.15
_clock = _Clock()


def pytest_sessionstart() -> None:
    """Begin to watch the machine, in each process that runs tests."""
    _clock.start()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, Any, Any]:
    """Tell failures at real time from those of a machine that had other things to do."""
    _clock.longest_secs = 0.0
    try:
        return (yield)
    except Exception as error:
        waited = _clock.longest_secs
        if waited > _LONGEST_WAIT_SECS:
            message = f"of {_WINDOW_SECS} s it waited {waited:.2f} s for a processor"
            raise HeldUpError(message) from error
        raise


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what was held again, and why: a failure is to be read all the same."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"held again: {report.nodeid}", sep="-")
        terminalreporter.write_line(report.longreprtext)
