"""The pytest plugin: the fixtures `hydra` and `call` for tests of a bot.

`docs/testing.md` describes it. Every run of pytest imports this module, so it imports nothing of
Pipecat: what takes time is imported when a test uses a fixture.

The emulator runs in the event loop of the test. Plugins for coroutines differ in whose loop that
is, so there is a fixture for each loop that a test of pytest-asyncio may choose, and one for
anyio. `hydra` takes the one that fits its test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import pytest

from pipecat_hydra.wire.protocol import BASE_URL_VARIABLE, KEY_VARIABLE

if TYPE_CHECKING:
    from pipecat_hydra.emulator import EmulatorSettings, HydraEmulator
    from pipecat_hydra.testing.calls.bots import Bot
    from pipecat_hydra.testing.calls.caller import Step
    from pipecat_hydra.testing.calls.result import CallResult

__all__ = ["HoldCall"]


_NO_PLUGIN: Final = (
    "the fixture `hydra` is for coroutine tests: pip install pytest-asyncio, and put "
    'asyncio_mode = "auto" in the section [tool.pytest.ini_options] of pyproject.toml'
)

_OTHER_LOOP: Final = (
    "the call is held in another event loop than that of the fixture `hydra`: let the test be a "
    "coroutine (async def), and await the call"
)


@dataclass(frozen=True, slots=True)
class _Running:
    """An emulator, and the event loop in which it runs."""

    emulator: HydraEmulator
    loop: asyncio.AbstractEventLoop


class HoldCall(Protocol):
    """What the fixture `call` is: `await call("question.wav", bot=my_bot)`."""

    async def __call__(
        self,
        *steps: Step,
        bot: Bot,
        greeting: bool | None = None,
        limit_secs: float = 10.0,
        body: Any = None,
    ) -> CallResult:
        """Hold a call with a bot.

        Args:
            *steps: What the user says: recordings (files, found beside the test or in the root of
                the project, or samples), each when the bot has answered the one before; `BargeIn`
                for a recording that interrupts; and a number of seconds behind a recording, to
                wait so long instead of for the answer.
            bot: The bot: a function of a transport that runs its pipeline or returns it, or the
                function `bot(runner_args)` that Pipecat's runner calls.
            greeting: Whether the bot speaks first, so that the user waits for it; by default the
                emulator tells.
            limit_secs: How long to wait for an answer.
            body: `runner_args.body` for the bot.

        Returns:
            What happened in the call.

        Raises:
            CallError: The bot did not start, or did not answer within the limit.
        """
        ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--hydra-update`."""
    group = parser.getgroup("hydra", "pipecat-hydra")
    group.addoption(
        "--hydra-update",
        action="store_true",
        help="write the files of assert_course anew, as the calls go now",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker `hydra`."""
    config.addinivalue_line(
        "markers",
        "hydra(script, faults=..., **settings): what the fixture `hydra` answers, what goes wrong "
        "there, and fields of EmulatorSettings",
    )


@pytest.fixture
def hydra_script(request: pytest.FixtureRequest) -> Any:
    """What the emulator answers, as `HydraEmulator` takes it: to be overridden; else an echo."""
    marker = request.node.get_closest_marker("hydra")
    script = marker.args[0] if marker is not None and marker.args else "echo"
    is_file = isinstance(script, str | Path) and script != "echo"
    return _find(script, request) if is_file else script


@pytest.fixture
def hydra_settings(request: pytest.FixtureRequest) -> EmulatorSettings:
    """The settings of the emulator: to be overridden."""
    from pipecat_hydra.emulator import EmulatorSettings

    marker = request.node.get_closest_marker("hydra")
    named = dict(marker.kwargs) if marker is not None else {}
    named.pop("faults", None)
    return EmulatorSettings(**named)


@pytest.fixture
def hydra_faults(request: pytest.FixtureRequest) -> Any:
    """The faults of the emulator: to be overridden."""
    marker = request.node.get_closest_marker("hydra")
    return marker.kwargs.get("faults", ()) if marker is not None else ()


@pytest.fixture
def _hydra_to_start(
    hydra_script: Any, hydra_settings: EmulatorSettings, hydra_faults: Any
) -> HydraEmulator:
    from pipecat_hydra.emulator import HydraEmulator

    return HydraEmulator(hydra_script, settings=hydra_settings, faults=hydra_faults)


async def _run_emulator(_hydra_to_start: HydraEmulator) -> AsyncGenerator[_Running]:
    async with _hydra_to_start as emulator:
        yield _Running(emulator, asyncio.get_running_loop())


def _in_loop_of(scope: Any) -> object:
    """Make the fixture of an emulator that runs in a loop of pytest-asyncio."""

    # The plugin notes the loop at the function, so each fixture needs one of its own.
    async def run_emulator(_hydra_to_start: HydraEmulator) -> AsyncGenerator[_Running]:
        async for running in _run_emulator(_hydra_to_start):
            yield running

    return pytest_asyncio.fixture(run_emulator, loop_scope=scope, name=_name_of(scope))


def _name_of(scope: str) -> str:
    return f"_hydra_in_{scope}_loop"


try:
    import pytest_asyncio
except ImportError:
    pass
else:
    _in_function_loop = _in_loop_of("function")
    _in_class_loop = _in_loop_of("class")
    _in_module_loop = _in_loop_of("module")
    _in_package_loop = _in_loop_of("package")
    _in_session_loop = _in_loop_of("session")

_in_anyio_loop = pytest.fixture(_run_emulator, name=_name_of("anyio"))


@pytest.fixture
def _hydra_running(request: pytest.FixtureRequest) -> _Running:
    config = request.config
    if "anyio_backend" in request.fixturenames:
        scope = "anyio"
    elif config.pluginmanager.hasplugin("asyncio"):
        marker = request.node.get_closest_marker("asyncio")
        chosen = marker.kwargs if marker is not None else {}
        scope = chosen.get("loop_scope") or config.getini("asyncio_default_test_loop_scope")
    else:
        pytest.fail(_NO_PLUGIN, pytrace=False)
    return request.getfixturevalue(_name_of(scope))


@pytest.fixture
def hydra(_hydra_running: _Running, monkeypatch: pytest.MonkeyPatch) -> HydraEmulator:
    """A running `HydraEmulator`, to which the service talks that is given no key and no URL.

    `SMALLEST_API_KEY` and `HYDRA_BASE_URL` are set for the test, so a bot needs no edit.
    """
    emulator = _hydra_running.emulator
    monkeypatch.setenv(KEY_VARIABLE, emulator.api_key)
    monkeypatch.setenv(BASE_URL_VARIABLE, emulator.url)
    return emulator


@pytest.fixture
def call(
    request: pytest.FixtureRequest,
    hydra: HydraEmulator,
    _hydra_running: _Running,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> HoldCall:
    """Holds a call with a bot, through its own pipeline; see `HoldCall`."""
    from pipecat_hydra.recording.recorder import RECORD_VARIABLE
    from pipecat_hydra.testing.calls.holding import CallPlan, Surroundings, hold

    recordings = tmp_path / "calls"
    monkeypatch.setenv(RECORD_VARIABLE, str(recordings))
    surroundings = Surroundings(
        hydra=hydra,
        recordings=recordings,
        base=request.path.parent,
        find=lambda name: _find(name, request),
        set_attribute=monkeypatch.setattr,
        update_courses=bool(request.config.getoption("--hydra-update")),
    )

    async def hold_call(
        *steps: Step,
        bot: Bot,
        greeting: bool | None = None,
        limit_secs: float = 10.0,
        body: Any = None,
    ) -> CallResult:
        if asyncio.get_running_loop() is not _hydra_running.loop:
            raise RuntimeError(_OTHER_LOOP)
        plan = CallPlan(steps=steps, bot=bot, greeting=greeting, limit_secs=limit_secs, body=body)
        return await hold(plan, surroundings)

    return hold_call


def _find(name: str | Path, request: pytest.FixtureRequest) -> Path:
    """Find a file: beside the test, else in the root of the project."""
    places = [request.path.parent, request.config.rootpath]
    for place in places:
        if (found := place / name).is_file():
            return found
    told = " nor in ".join(str(place) for place in dict.fromkeys(places))
    raise FileNotFoundError(f"there is no file {name} in {told}")
