"""What holds of every example, and how the one to copy is deployed."""

import inspect
import re
import runpy
import signal
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
import yaml
from pipecat.runner import run as pipecat_runner
from pipecat.runner.types import RunnerArguments
from pipecat.transports.base_transport import BaseTransport
from support.bots import (
    EXAMPLES,
    example,
    talking,
    until,
)
from support.call import emulator, recording
from support.command import LONG_SECS
from support.programs import is_listening, started, unused_port
from support.webrtc import Browser, needs_network

from pipecat_hydra.testing import VirtualTransport

ON_THE_RUNNER = [
    "announcements",
    "failover",
    "flows",
    "function_calling",
    "keypad",
    "minimal",
    "multi_agent",
    "recording",
    "still_there",
    "transcripts",
    "voice_agent",
]
OTHERS = ["local_audio", "replay_wav"]


EXAMPLES_PAGE = EXAMPLES.parent / "docs" / "examples.md"


class TestEveryExample:
    def test_there_is_no_other(self):
        files = {path.stem for path in EXAMPLES.glob("*.py")}
        assert files == {*ON_THE_RUNNER, *OTHERS}

    @pytest.mark.parametrize("name", ON_THE_RUNNER)
    async def test_without_a_key_it_talks_to_an_emulator_of_its_own(
        self,
        name: str,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        warnings: list[str],
    ):
        monkeypatch.chdir(tmp_path)  # some write files
        bot = example(name)
        monkeypatch.delenv("SMALLEST_API_KEY", raising=False)
        monkeypatch.setattr(bot, "SEARCH_SECS", 0.1, raising=False)
        line = VirtualTransport()
        asked_for: list[Any] = []

        async def create_transport(*arguments: Any) -> BaseTransport:
            asked_for.extend(arguments)
            return line

        monkeypatch.setattr(bot, "create_transport", create_transport)
        runner_args = RunnerArguments()
        async with talking(bot.bot(runner_args), line):
            await until(lambda: line.heard_pcm)
            greeting_secs = line.heard_until_secs
            await line.microphone.say(recording("hello"))
            await until(lambda: line.heard_until_secs > greeting_secs + 1.5)
        assert asked_for == [runner_args, bot.transport_params]
        told, *others = warnings
        assert "SMALLEST_API_KEY is not set: talking to an emulator" in told
        assert "SMALLEST_API_KEY is not set" not in "".join(others)

    @pytest.mark.parametrize("name", ON_THE_RUNNER)
    async def test_with_a_key_it_talks_to_the_endpoint_of_the_environment(
        self, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, warnings: list[str]
    ):
        monkeypatch.chdir(tmp_path)  # some write files
        bot = example(name)
        # What stands beside Hydra has servers of its own.
        for beside, nothing in (
            ("pulse", lambda: None),
            ("announcer", getattr(bot, "StandInTTS", None)),
        ):
            monkeypatch.setattr(bot, beside, nothing, raising=False)
        line = VirtualTransport()

        async def create_transport(*_: Any) -> BaseTransport:
            return line

        monkeypatch.setattr(bot, "create_transport", create_transport)
        async with emulator() as hydra:
            monkeypatch.setenv("SMALLEST_API_KEY", hydra.api_key)
            monkeypatch.setenv("HYDRA_BASE_URL", hydra.url)
            monkeypatch.setenv("OPENAI_API_KEY", "sk-of-cascade")  # failover.py needs it too
            async with talking(bot.bot(RunnerArguments()), line):
                await until(lambda: any(told.sent_audio() for told in hydra.sessions))
        assert "SMALLEST_API_KEY is not set" not in "".join(warnings)

    @pytest.mark.parametrize("name", [*ON_THE_RUNNER, *OTHERS])
    def test_the_emulator_stands_in_only_without_a_key(self, name: str):
        source = (EXAMPLES / f"{name}.py").read_text("utf-8")
        assert ("stand_in(" in source) != (name == "failover")

    @pytest.mark.parametrize("key", ["", "sk-mine"])
    def test_the_deployed_one_refuses_to_start_without_a_key(
        self, key: str, monkeypatch: pytest.MonkeyPatch
    ):
        for path in (EXAMPLES / "deploy").glob("*Dockerfile"):
            assert "\nENV HYDRA_KEY_REQUIRED=1\n" in path.read_text()
        monkeypatch.setenv("HYDRA_KEY_REQUIRED", "1")
        monkeypatch.setenv("SMALLEST_API_KEY", key)
        if key:
            assert example("voice_agent").bot
        else:
            with pytest.raises(SystemExit, match="SMALLEST_API_KEY is not set"):
                example("voice_agent")

    @pytest.mark.parametrize("name", ON_THE_RUNNER)
    def test_as_a_program_it_is_served_by_the_runner(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ):
        assert f"\npython examples/{name}.py " in EXAMPLES_PAGE.read_text("utf-8")
        served: list[str] = []
        monkeypatch.setattr(pipecat_runner, "main", lambda: served.append(name))
        program = runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        assert served == [name]
        assert inspect.iscoroutinefunction(program["bot"])
        assert program["transport_params"]["webrtc"]().audio_in_enabled

    @pytest.mark.parametrize("name", ON_THE_RUNNER)
    def test_a_missing_runner_is_told_in_one_line(self, name: str, monkeypatch: pytest.MonkeyPatch):
        # What the runner imports is missing, whether or not it is installed here.
        monkeypatch.delitem(sys.modules, "pipecat.runner.run", raising=False)
        monkeypatch.setitem(sys.modules, "fastapi", cast("ModuleType", None))
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        assert ended.value.code == (
            'The runner is missing: pip install "pipecat-ai[runner,webrtc]"'
        )

    @needs_network
    @pytest.mark.realtime
    async def test_one_of_them_talks_to_a_browser_until_ctrl_c(self, tmp_path: Path):
        port = unused_port()
        with started(EXAMPLES / "voice_agent.py", port, tmp_path) as program:
            await until(lambda: is_listening(port), within=LONG_SECS)
            browser = Browser(f"http://127.0.0.1:{port}")
            try:
                await browser.call()
                await browser.until("bot-stopped-speaking")
                assert browser.heard_peak > 1_000
                browser.heard_peak = 0
                browser.say("hello")
                await browser.until("bot-stopped-speaking", 2)
                assert browser.heard_peak > 1_000
            finally:
                await browser.hang_up()
            program.send_signal(signal.SIGINT)
            await until(lambda: program.poll() is not None, within=LONG_SECS)
        logged = (tmp_path / "log").read_text("utf-8")
        assert "SMALLEST_API_KEY is not set" in logged
        assert "Traceback" not in logged


class TestRooms:
    @pytest.mark.parametrize("name", ["voice_agent", "function_calling"])
    def test_daily_is_asked_for_one_mixed_stream(self, name: str, monkeypatch: pytest.MonkeyPatch):
        """Daily's own library need not be there."""
        daily = ModuleType("pipecat.transports.daily.transport")
        monkeypatch.setattr(daily, "DailyParams", dict, raising=False)
        monkeypatch.setitem(sys.modules, daily.__name__, daily)
        params = example(name).transport_params["daily"]()
        assert params == {
            "audio_in_enabled": True,
            "audio_out_enabled": True,
            "audio_in_user_tracks": False,
        }


class TestDeploy:
    def test_what_is_copied_is_there(self):
        for path in (EXAMPLES / "deploy").glob("*Dockerfile"):
            copied = re.findall(r"^COPY (.*) \S+$", path.read_text(), re.MULTILINE)
            assert copied
            for source in " ".join(copied).split():
                assert (EXAMPLES.parent / source).exists(), source

    def test_the_configurations_can_be_read(self):
        cloud = tomllib.loads((EXAMPLES / "deploy" / "pcc-deploy.toml").read_text())
        assert cloud["agent_profile"] == "agent-1x"
        assert cloud["scaling"]["min_agents"] <= cloud["scaling"]["max_agents"]
        compose = yaml.safe_load((EXAMPLES / "deploy" / "compose.yaml").read_text())
        build = compose["services"]["voice-agent"]["build"]
        assert (EXAMPLES / "deploy" / build["context"] / build["dockerfile"]).is_file()
