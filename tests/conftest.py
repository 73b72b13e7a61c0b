"""What all tests share: the clock, the log, and a look at what a test leaves behind."""

import asyncio
import os
import sys
from collections.abc import Callable, Generator, Mapping

import pytest
from hypothesis import settings
from loguru import logger
from support.virtual_time import VirtualTimeLoop

# Elsewhere each run tries other sequences; where a change is judged, it is by the same ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.hookimpl
def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each coroutine in virtual time, unless its test is marked `realtime`."""
    if item.get_closest_marker("realtime") is not None:
        return {"realtime": asyncio.new_event_loop}
    return {"virtual": VirtualTimeLoop}


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
