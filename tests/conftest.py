"""What all tests share: the clock, the log, and a look at what a test leaves behind."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from inspect import iscoroutinefunction

import pytest
from hypothesis import HealthCheck, settings
from loguru import logger
from support.leftovers import ProcessState, left_in_loop

# Replaces the clocks of the process, so it comes before all that keeps one of them.
from support.virtual_time import VirtualTimeLoop

# isort: split
import support.newest_pipecat  # noqa: F401
from support.models import models_run_cheaply

# The tests' own clients reach this machine directly, whatever proxy the environment names.
for _name in ("NO_PROXY", "no_proxy"):
    os.environ[_name] = ",".join(
        filter(None, [os.environ.get(_name), "localhost", "127.0.0.1", "::1"])
    )

# How long an example takes says how busy the machine is, and not whether the code is right.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Elsewhere each run tries other sequences; where a change is judged, it is by the same ones.
settings.register_profile("ci", settings.get_profile("unhurried"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Have the event loop and the kind of its tasks chosen."""
    parser.addoption("--uvloop", action="store_true", help="run coroutines on uvloop")
    parser.addoption(
        "--eager-tasks", action="store_true", help="run tasks at once, as Python 3.12 and later can"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse what this Python cannot do."""
    if config.getoption("--eager-tasks") and sys.version_info < (3, 12):
        raise pytest.UsageError("--eager-tasks needs Python 3.12 or later")


@pytest.hookimpl
def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each coroutine in virtual time, unless its test is marked `realtime`."""
    real: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    virtual: Callable[[], asyncio.AbstractEventLoop] = VirtualTimeLoop
    if item.config.getoption("--uvloop"):
        import uvloop
        from support.virtual_uvloop import VirtualUvloop

        real, virtual = uvloop.new_event_loop, VirtualUvloop
    is_real = item.get_closest_marker("realtime") is not None
    name, chosen = ("realtime", real) if is_real else ("virtual", virtual)
    eager = item.config.getoption("--eager-tasks")
    return {name: _with_eager_tasks(chosen) if eager else chosen}


def _with_eager_tasks(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> Callable[[], asyncio.AbstractEventLoop]:
    def make() -> asyncio.AbstractEventLoop:
        loop = make_loop()
        loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009
        return loop

    return make


@pytest.fixture(autouse=True, scope="session")
def _libuv() -> None:
    """Have libuv open what it keeps open in a process: the pipe that signals come by."""
    if sys.platform != "win32":
        import uvloop

        uvloop.new_event_loop().close()


@pytest.fixture
def _process_is_as_before() -> Generator[None]:
    before = ProcessState()
    yield
    assert before.left_since() == []


@pytest.fixture
async def _loop_is_empty() -> AsyncGenerator[None]:
    yield
    assert await left_in_loop() == []


# The process is looked at last, when the loop is closed: fixtures end in reverse order.
@pytest.fixture(autouse=True)
def _nothing_is_left(_process_is_as_before: None, request: pytest.FixtureRequest) -> None:
    """Fail a test that leaves a task, a timer, a socket, a thread or a file behind."""
    if iscoroutinefunction(request.function):
        request.getfixturevalue("_loop_is_empty")


@pytest.fixture(autouse=True, scope="session")
def _models_run_cheaply() -> Generator[None]:
    """Save work on voice activity detection, which all sessions of the emulator do."""
    with models_run_cheaply():
        yield


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
