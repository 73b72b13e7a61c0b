"""The examples, and a bot that was written for another realtime service."""

import asyncio
import inspect
import json
import os
import queue
import re
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import pytest
import soxr
import yaml
from numpy.typing import NDArray
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import Frame, LLMContextFrame, LLMRunFrame, LLMSetToolsFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
)
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.runner import run as pipecat_runner
from pipecat.runner.types import RunnerArguments, WebSocketRunnerArguments
from pipecat.services.llm_service import FunctionCallParams, LLMService
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.services.smallest.stt import SmallestSTTService
from pipecat.transports.base_transport import BaseTransport
from pipecat.workers.runner import WorkerRunner
from support.bots import EXAMPLES, example, talking, until, until_ended, until_heard
from support.call import RECORDINGS, emulator, recording, session
from support.command import LONG_SECS, default_sigint
from support.webrtc import Browser, needs_network
from typing_extensions import override
from websockets.asyncio.server import Server, ServerConnection, serve

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import Call, HydraEmulator, Pause, Say, Script
from pipecat_hydra.testing import VirtualTransport, read_recording

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


README = EXAMPLES.parent / "README.md"


def unused_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@contextmanager
def started(name: str, port: int, folder: Path) -> Generator["subprocess.Popen[bytes]"]:
    """Start an example without any key; its log is in the folder."""
    with (folder / "log").open("w") as log:
        program = subprocess.Popen(
            [sys.executable, EXAMPLES / f"{name}.py", "--port", str(port)],
            cwd=folder,
            env={key: value for key, value in os.environ.items() if "API_KEY" not in key},
            stdout=log,
            stderr=log,
            preexec_fn=None if os.name == "nt" else default_sigint,
        )
    try:
        yield program
    finally:
        program.kill()
        program.wait()


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def tool_names(tools: list[dict[str, Any]]) -> list[str]:
    return [tool["name"] for tool in tools]


class TestFunctionCalling:
    async def test_both_functions_are_called_and_what_they_give_is_told(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        bot = example("function_calling")
        monkeypatch.setattr(bot, "SEARCH_SECS", 0.3)
        script = Script(
            [
                [
                    Call("get_weather", {"city": "Paris"}, "weather"),
                    Call("find_restaurant", {"city": "Paris", "cuisine": "French"}, "table"),
                    Say.tones(0.6, "The weather, and a search that is under way"),
                ],
                Say.tones(0.4, "The restaurant"),
            ]
        )
        line = VirtualTransport()
        async with emulator(script) as hydra:
            run = bot.run_bot(
                line,
                RunnerArguments(),
                api_key=hydra.api_key,
                base_url=hydra.url,
            )
            async with talking(run, line):
                told = await hydra.wait_for_session()
                await until_heard(line, told, 1)  # the greeting
                await line.microphone.say(recording("hello"))
                await until_heard(line, told, 3)

            assert told.configuration is not None
            assert told.configuration["generate_initial_response"] is True
            assert "for travellers" in told.configuration["instructions"]
            assert tool_names(told.tools) == ["get_weather", "find_restaurant"]
            weather, search = told.call("weather"), told.call("table")
            assert json.loads(weather.output or "")["sky"] == "clear"
            assert json.loads(search.output or "")["status"] == "running"
            (narration,) = told.narrations
            assert not narration.missing
            (found,) = told.messages
            assert "The Golden Lion" in found.text
            assert len(told.create_times) == 2
            assert told.errors == []


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
        assert f"\npython examples/{name}.py " in README.read_text("utf-8")
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
        with started("voice_agent", port, tmp_path) as program:
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


class TestVoiceAgent:
    @pytest.mark.parametrize(
        ("transport_type", "rates"),
        [("websocket", (16_000, 24_000)), ("twilio", (8_000, 8_000)), ("telnyx", (8_000, 8_000))],
    )
    def test_the_pipeline_has_the_rates_of_the_device(
        self, transport_type: str, rates: tuple[int, int]
    ):
        arguments = WebSocketRunnerArguments(cast("Any", None), transport_type)
        assert example("voice_agent").sample_rates(arguments) == rates
        assert example("voice_agent").sample_rates(RunnerArguments()) == (16_000, 24_000)

    async def test_a_key_that_is_refused_ends_the_call(self, warnings: list[str]):
        bot = example("voice_agent")
        async with emulator() as hydra:
            run = bot.run_bot(
                VirtualTransport(), RunnerArguments(), api_key="sk-wrong", base_url=hydra.url
            )
            await until_ended(asyncio.create_task(run))
        logged = "".join(warnings)
        assert "key" in logged
        assert "sk-wrong" not in logged
        assert "Traceback" not in logged

    # Pipecat's transport for evals imports what websockets has deprecated.
    @pytest.mark.filterwarnings("ignore:websockets.* is deprecated:DeprecationWarning")
    @pytest.mark.parametrize("transport", ["webrtc", "websocket", "twilio", "plivo", "eval"])
    def test_a_transport_is_configured_when_it_is_chosen(self, transport: str):
        params = example("voice_agent").transport_params[transport]()
        assert params.audio_in_enabled
        assert params.audio_out_enabled


class TestMinimal:
    async def test_it_greets_answers_and_can_be_interrupted(self):
        line = VirtualTransport()
        script = Script([Say.tones(5.0), Say.tones(0.4)], greeting=Say.tones(0.4))
        async with emulator(script) as hydra:
            endpoint = {"api_key": hydra.api_key, "base_url": hydra.url}
            run = example("minimal").run_bot(line, RunnerArguments(), **endpoint)
            async with talking(run, line):
                told = await hydra.wait_for_session()
                await until_heard(line, told, 1)
                await line.microphone.say(recording("hello"))
                await told.wait_for_sent("response.output_audio.done", count=2)
                await until(lambda: line.timeline.secs - line.heard_until_secs < 0.1)
                await line.microphone.say(recording("interrupt"))
                await told.wait_for_sent("response.output_audio.done", count=3, within=10)
                await until(lambda: line.timeline.secs - line.heard_until_secs > 0.3)
            assert len(line.heard_pcm) < 0.6 * len(told.sent_audio())
            assert told.errors == []


class FakeAudio(ModuleType):
    """PyAudio with a microphone and a speaker that run at real time, as devices do."""

    paInt16 = 8  # noqa: N815
    paContinue = 0  # noqa: N815

    def __init__(self, *, missing: str = ""):
        super().__init__("pyaudio")
        self.missing = missing
        self.to_say: queue.Queue[bytes] = queue.Queue()
        self.heard = bytearray()
        self.PyAudio = lambda: self

    def say(self, name: str) -> None:
        pcm = recording(name).tobytes()
        for start in range(0, len(pcm), 640):
            self.to_say.put(pcm[start : start + 640].ljust(640, b"\0"))

    def get_format_from_width(self, width: int) -> int:
        assert width == 2
        return self.paInt16

    def terminate(self) -> None: ...

    def open(self, rate: int, **options: Any) -> "FakeStream":
        for side in ("input", "output"):
            if options.get(side) and side == self.missing:
                raise OSError(-9996, f"Invalid {side} device (no default {side} device)")
        return FakeStream(self, rate, options.get("stream_callback"))


class FakeStream:
    def __init__(self, audio: FakeAudio, rate: int, callback: Callable[..., Any] | None):
        self._audio = audio
        self._rate = rate
        self._callback = callback
        self._running = False
        self._thread: threading.Thread | None = None

    def start_stream(self) -> None:
        self._running = True
        if self._callback is not None:
            self._thread = threading.Thread(target=self._capture)
            self._thread.start()

    def _capture(self) -> None:
        assert self._callback is not None
        while self._running:
            time.sleep(0.02)
            try:
                pcm = self._audio.to_say.get_nowait()
            except queue.Empty:
                pcm = bytes(640)
            self._callback(pcm, 320, {}, 0)

    def write(self, pcm: bytes) -> None:
        time.sleep(len(pcm) / 2 / self._rate)
        self._audio.heard += pcm

    def stop_stream(self) -> None:
        self._running = False
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None: ...


class TestLocalAudio:
    @pytest.fixture(autouse=True)
    def _not_imported(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delitem(sys.modules, "pipecat.transports.local.audio", raising=False)

    @pytest.mark.realtime
    async def test_the_microphone_is_heard_and_the_speaker_speaks(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        devices = FakeAudio()
        monkeypatch.setitem(sys.modules, "pyaudio", devices)
        bot = example("local_audio")
        script = Script([Say.tones(0.4)], greeting=Say.tones(0.4))
        async with emulator(script) as hydra:
            endpoint = {"api_key": hydra.api_key, "base_url": hydra.url}
            running = asyncio.create_task(bot.run_bot(bot.local_transport(), **endpoint))
            await until(lambda: len(devices.heard) >= 2 * 0.4 * bot.OUT_RATE)
            devices.say("hello")
            told = session(hydra)
            await told.wait_for_sent("response.done", count=2, within=20)
            await until(lambda: len(devices.heard) >= 2 * 0.8 * bot.OUT_RATE)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await until(lambda: told.closed)
            assert told.errors == []

    @pytest.mark.parametrize("missing", ["input", "output"])
    async def test_a_missing_device_is_told_in_one_line(
        self, missing: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setitem(sys.modules, "pyaudio", FakeAudio(missing=missing))
        with pytest.raises(SystemExit) as ended:
            await example("local_audio").main()
        assert f"This machine has no audio {missing} to use" in str(ended.value.code)
        assert "\n" not in str(ended.value.code)

    async def test_missing_pyaudio_is_told_in_one_line(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(sys.modules, "pyaudio", cast("ModuleType", None))
        with pytest.raises(SystemExit) as ended:
            await example("local_audio").main()
        assert 'pip install "pipecat-ai[local]"' in str(ended.value.code)
        assert "\n" not in str(ended.value.code)


class TestReplayWav:
    async def test_the_recording_of_the_conversation_has_both(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        bot = example("replay_wav")
        monkeypatch.delenv("SMALLEST_API_KEY", raising=False)
        monkeypatch.setattr(bot, "QUIET_SECS", 0.9)
        conversation = tmp_path / "conversation.wav"
        arguments = ["replay_wav.py", str(RECORDINGS / "hello.wav"), str(conversation)]
        monkeypatch.setattr(sys, "argv", arguments)
        await bot.main()
        both, rate = read_recording(conversation)
        assert both.shape[1] == 2
        greeting_begins, greeting_ends, echo_begins, *_, echo_ends = runs(both[:, 1], rate)
        hello_begins, *_, hello_ends = runs(both[:, 0], rate)
        assert greeting_begins < greeting_ends < hello_begins < hello_ends < echo_begins
        # The echo is never shorter than what was said.
        assert echo_ends - echo_begins > hello_ends - hello_begins - 0.2
        assert "user left, bot right; answered after" in capsys.readouterr().out

    async def test_the_test_that_it_contains_finds_a_bot_that_is_slow(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        bot = example("replay_wav")
        monkeypatch.setattr(bot, "QUIET_SECS", 1.2)
        script = Script([[Pause(1.0), Say.tones(0.4)]], greeting=Say.tones(0.4))
        async with emulator(script) as hydra:
            line = await bot.replay(
                RECORDINGS / "hello.wav", api_key=hydra.api_key, base_url=hydra.url
            )
        (waited,) = bot.pauses(line)
        assert waited > 1.5

    async def test_a_bot_that_says_nothing_fails_it(self, monkeypatch: pytest.MonkeyPatch):
        bot = example("replay_wav")
        monkeypatch.setattr(bot, "LIMIT_SECS", 1.0)
        async with emulator(Script([Say.tones(0.4)], greeting=[Pause(0.1)])) as hydra:
            with pytest.raises(RuntimeError, match="says nothing"):
                await bot.replay(
                    RECORDINGS / "hello.wav", api_key=hydra.api_key, base_url=hydra.url
                )

    @pytest.mark.parametrize(
        "arguments",
        [[], ["question.wav"], ["nothing.wav", "out.wav"], ["hello.wav", "out.mp3"]],
    )
    async def test_a_wrong_command_is_told_in_one_line(
        self, arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ):
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("SMALLEST_API_KEY", raising=False)
        monkeypatch.setattr(sys, "argv", ["replay_wav.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            await example("replay_wav").main()
        assert "\n" not in str(ended.value.code)

    async def test_a_bot_that_ends_fails_it(self):
        async with emulator() as hydra:
            with pytest.raises(RuntimeError, match="has ended"):
                await example("replay_wav").replay(
                    RECORDINGS / "hello.wav", api_key="sk-wrong", base_url=hydra.url
                )


class FakePulse:
    """Writes down one sentence, whenever somebody has spoken and is silent again."""

    def __init__(self, text: str):
        self.text = text
        self.url = ""
        self._server: Server | None = None

    async def __aenter__(self) -> "FakePulse":
        self._server = await serve(self._listen, "127.0.0.1", 0)
        port = next(iter(self._server.sockets)).getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _listen(self, connection: ServerConnection) -> None:
        voiced = silent = 0
        async for message in connection:
            if isinstance(message, str):
                continue
            loud = np.abs(np.frombuffer(message, "<i2").astype(np.int32)).max() > 500
            voiced, silent = (voiced + 1, 0) if loud else (voiced, silent + 1)
            if voiced > 10 and silent > 15:
                final = {"transcript": self.text, "is_final": True, "language": "en"}
                await connection.send(json.dumps(final))
                voiced = 0


class TestTranscripts:
    async def test_both_sides_are_written_down(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ):
        bot = example("transcripts")
        monkeypatch.setattr(bot, "TRANSCRIPTS", tmp_path / "calls")
        line = VirtualTransport()
        script = Script([Say.tones(0.6, "I am well.")], greeting=Say.tones(0.4, "Hello!"))
        async with emulator(script, transcripts=True) as hydra, FakePulse("How are you?") as pulse:
            endpoint = {"api_key": hydra.api_key, "base_url": hydra.url}
            stt = SmallestSTTService(api_key="sk-any", base_url=pulse.url)
            run = bot.run_bot(line, RunnerArguments(), **endpoint, stt=stt)
            async with talking(run, line):
                told = await hydra.wait_for_session()
                await until_heard(line, told, 1)
                await line.microphone.say(recording("hello"))
                await until_heard(line, told, 2)
                await until(lambda: "I am well." in markdown(tmp_path))
            # Hydra has heard it, and is not told it once more.
            assert told.messages == []
            assert len(told.sent_of("response.created")) == 2
        assert markdown(tmp_path) == (
            "**Assistant:** Hello!\n\n**User:** How are you?\n\n**Assistant:** I am well.\n"
        )
        (path,) = tmp_path.glob("calls/*.json")
        lines = json.loads(path.read_text())
        assert [line["role"] for line in lines] == ["assistant", "user", "assistant"]
        assert [line["interrupted"] for line in lines] == [False] * 3


def markdown(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("calls/*.md"))


class LateLine(VirtualTransport):
    """A line whose client connects some time after the pipeline has started, as a browser does."""

    def __init__(self, late_secs: float):
        super().__init__()
        self._late_secs = late_secs

    @override
    async def _call_event_handler(self, event_name: str, *args: Any, **kwargs: Any) -> None:
        if event_name == "on_client_connected":
            await asyncio.sleep(self._late_secs)
        await super()._call_event_handler(event_name, *args, **kwargs)


class TestFailover:
    @pytest.mark.parametrize("late_secs", [0.0, 1.0])
    async def test_the_cascade_takes_over_at_once_when_hydra_refuses(self, late_secs: float):
        line = LateLine(late_secs)
        bot = example("failover")
        llm = listening(bot.StandInLLM())
        async with emulator() as hydra:
            run = bot.run_bot(
                line,
                RunnerArguments(),
                api_key="sk-wrong",
                base_url=hydra.url,
                cascade=(bot.StandInSTT(), llm.processor, bot.StandInTTS()),
            )
            async with talking(run, line):
                greeting = await heard_in_all(line)
                assert len(llm.contexts) == 1  # it was asked to speak once, whoever was first
                await line.microphone.say(recording("hello"))
                assert await heard_in_all(line, after=greeting) == 2 * greeting
            assert hydra.sessions == []
        assert [message["role"] for message in llm.contexts[1]] == [
            "developer",
            "assistant",
            "user",
        ]

    async def test_the_cascade_knows_what_hydra_has_said(self):
        line = VirtualTransport()
        bot = example("failover")
        llm = listening(bot.StandInLLM())
        script = Script([Say.tones(0.4, "I am well.")], greeting=Say.tones(0.4, "Hello!"))
        async with AsyncExitStack() as stack:
            hydra = await stack.enter_async_context(emulator(script, transcripts=True))
            run = bot.run_bot(
                line,
                RunnerArguments(),
                api_key=hydra.api_key,
                base_url=hydra.url,
                cascade=(bot.StandInSTT(), llm.processor, bot.StandInTTS()),
            )
            async with talking(run, line):
                told = await hydra.wait_for_session()
                await until_heard(line, told, 1)
                await line.microphone.say(recording("hello"))
                await until_heard(line, told, 2)
                assert llm.contexts == []
                said = len(line.heard_pcm)
                await stack.aclose()
                said = await heard_in_all(line, after=said)
                await line.microphone.say(recording("hello"))
                await heard_in_all(line, after=said)
        first, second = llm.contexts
        assert [message["content"] for message in first[:2]] == ["Hello!", "I am well."]
        assert [message["role"] for message in first[2:]] == ["developer"]
        assert second[: len(first)] == first
        assert [message["role"] for message in second[3:]] == ["assistant", "user"]

    async def test_the_cascade_has_its_own_key(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("SMALLEST_API_KEY", "sk-of-hydra")
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        with pytest.raises(ValueError, match="OPENAI_API_KEY"):
            async with example("failover").hydra():
                pass
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-cascade")
        async with example("failover").hydra() as given:
            assert not given.keys() & {"api_key", "base_url"}
            names = [type(service).__name__ for service in given["cascade"]]
            assert names == ["OpenAISTTService", "OpenAILLMService", "OpenAITTSService"]


class TestMultiAgent:
    async def test_the_caller_is_handed_over_and_back_and_never_hears_two_at_once(self):
        line = VirtualTransport()
        handing_over = [Call("hand_over", {"note": "The caller is Bob."}), Say.tones(2.0)]
        script = Script([handing_over] * 2, greeting=Say.tones(0.5))
        async with emulator(script, honour_messages=True) as hydra:
            run = example("multi_agent").run_bot(
                line, RunnerArguments(), api_key=hydra.api_key, base_url=hydra.url
            )
            async with talking(run, line):
                await until(lambda: any(told.sent_audio() for told in hydra.sessions))
                reception = next(told for told in hydra.sessions if told.sent_audio())
                await until(lambda: line.timeline.secs - line.heard_until_secs > 0.5)
                assert loud_secs(line.heard_pcm) == pytest.approx(0.5, abs=0.1)
                await line.microphone.say(recording("hello"))
                await until(lambda: len([t for t in hydra.sessions if t.sent_audio()]) == 2)
                sales = next(t for t in hydra.sessions if t.sent_audio() and t is not reception)
                # All that the reception says was heard before sales is told to speak.
                assert loud_secs(line.heard_pcm) == pytest.approx(2.5, abs=0.2)
                assert "The caller is Bob." in str(sales.received)
                await until(lambda: line.timeline.secs - line.heard_until_secs > 0.5)
                await line.microphone.say(recording("hello"))
                await sales.wait_for_sent("response.function_call_arguments.done", within=10)
                told = len(reception.received_of("response.create"))
                await until(lambda: len(reception.received_of("response.create")) > told)
            voices = [(told.configuration or {})["voice"] for told in (reception, sales)]
            assert voices == ["aria", "leo"]

    async def test_a_farewell_is_heard_before_the_call_ends(self):
        line = VirtualTransport()
        script = Script([[Call("hang_up"), Say.tones(2.0)]], greeting=Say.tones(0.5))
        async with emulator(script) as hydra:
            run = example("multi_agent").run_bot(
                line, RunnerArguments(), api_key=hydra.api_key, base_url=hydra.url
            )
            running = asyncio.create_task(run)
            await line.timeline.started()
            await until(lambda: line.heard_until_secs > 0)
            await until(lambda: line.timeline.secs - line.heard_until_secs > 0.5)
            await line.microphone.say(recording("hello"))
            await until_ended(running)
            assert loud_secs(line.heard_pcm) == pytest.approx(2.5, abs=0.2)


def loud_secs(pcm: bytes) -> float:
    """How much sound there is in what was heard at 24 kHz, in seconds."""
    return sum(0.02 for at in range(0, len(pcm), 960) if any(pcm[at : at + 960]))


@dataclass
class Listening:
    """A processor, and the messages of the contexts that came to it."""

    processor: FrameProcessor
    contexts: list[list[Any]] = field(default_factory=list)


def listening(processor: FrameProcessor) -> Listening:
    """Note what contexts come to a processor."""
    told = Listening(processor)

    @processor.event_handler("on_before_process_frame")
    async def note(processor: FrameProcessor, frame: Frame):
        if isinstance(frame, LLMContextFrame):
            told.contexts.append(list(frame.context.get_messages()))

    return told


async def heard_in_all(line: VirtualTransport, *, after: int = 0) -> int:
    """Wait until more is heard, and it is over; tell how many bytes were heard by then."""
    await until(lambda: len(line.heard_pcm) > after)
    heard = 0
    while len(line.heard_pcm) > heard:
        heard = len(line.heard_pcm)
        await asyncio.sleep(0.3)
    return heard


class TestFlows:
    async def test_each_step_has_its_task_and_its_functions(self):
        line = VirtualTransport()
        script = Script(
            [
                [Call("choose_size", {"size": "large"}, "size"), Say.tones(0.4)],
                [Call("place_order", {"address": "Main Street 1"}, "order"), Say.tones(0.4)],
            ],
            greeting=Say.tones(0.4),
        )
        async with emulator(script) as hydra:
            endpoint = {"api_key": hydra.api_key, "base_url": hydra.url}
            run = example("flows").run_bot(line, RunnerArguments(), **endpoint)
            async with talking(run, line):
                told = await hydra.wait_for_session()
                await until_heard(line, told, 1)
                assert tool_names(told.tools) == ["choose_size"]
                await line.microphone.say(recording("hello"))
                await until_heard(line, told, 2)
                assert tool_names(told.tools) == ["place_order"]
                assert [m.text for m in told.messages] == [
                    "Ask where the large pizza goes, and order it."
                ]
                await line.microphone.say(recording("hello"))
                await until_heard(line, told, 3)
            assert json.loads(told.call("order").output or "") == {"minutes": 30}
            assert told.errors == []


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


class TestRecording:
    async def test_the_file_has_both_sides_as_they_were_heard(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ):
        bot = example("recording")
        monkeypatch.setattr(bot, "RECORDINGS", tmp_path / "calls")
        line = VirtualTransport(sample_rate=bot.RATE)
        script = Script([Say.tones(4.0)], greeting=Say.tones(0.4))
        async with emulator(script) as hydra:
            endpoint = {"api_key": hydra.api_key, "base_url": hydra.url}
            async with talking(bot.run_bot(line, RunnerArguments(), **endpoint), line):
                await until(lambda: line.heard_until_secs > 0.4)
                await line.microphone.say(at_rate("hello", bot.RATE))
                await until(lambda: line.heard_until_secs > 2.5)
                await line.microphone.say(at_rate("interrupt", bot.RATE))
                await asyncio.sleep(0.5)
        (path,) = (tmp_path / "calls").iterdir()
        recorded, rate = read_recording(path)
        assert rate == bot.RATE
        user, bot_side = recorded.T
        # The user's side is exact. On a machine that is busy there may be pauses in it.
        said = [at_rate("hello", rate)[at : at + rate // 4] for at in range(0, rate, rate // 4)]
        assert any(part.tobytes() in user.tobytes() for part in said)
        # The bot's has the greeting, and of the reply what was heard until the user interrupted.
        heard = np.count_nonzero(np.abs(bot_side.astype(np.int32)) > 150) / rate
        assert 0.5 < heard < 0.4 + 3.0
        # One begins where the other has stopped, as it was heard.
        assert runs(bot_side, rate)[0] < runs(user, rate)[0]


def at_rate(name: str, rate: int) -> NDArray[np.int16]:
    return soxr.resample(recording(name), 16_000, rate)


def runs(samples: NDArray[np.int16], rate: int) -> list[float]:
    """When somebody began and stopped to speak, alternately, in seconds."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 150)
    gaps = np.flatnonzero(np.diff(loud) > 0.6 * rate)
    edges = [loud[0], *np.stack([loud[gaps], loud[gaps + 1]], 1).ravel(), loud[-1]]
    return [float(edge) / rate for edge in edges]


# A bot as Pipecat's own example for OpenAI's realtime service has it
# (examples/realtime/realtime-openai.py): only the service is put in from outside.


async def fetch_weather(params: FunctionCallParams):
    await params.result_callback({"conditions": "nice", "location": params.arguments["location"]})


async def get_news(params: FunctionCallParams):
    await params.result_callback({"news": ["Stock markets reach all-time highs"]})


async def get_restaurant(params: FunctionCallParams, location: str):
    """Get a restaurant recommendation.

    Args:
        location: The city and state, e.g. San Francisco, CA.
    """
    await params.result_callback({"name": "The Golden Dragon", "location": location})


weather_function = FunctionSchema(
    name="get_current_weather",
    description="Get the current weather",
    properties={"location": {"type": "string", "description": "The city and state"}},
    required=["location"],
)
news_function = FunctionSchema(
    name="get_news", description="Get the current news.", properties={}, required=[]
)


def assembled(llm: LLMService[Any], transport: BaseTransport) -> PipelineWorker:
    llm.register_function("get_current_weather", fetch_weather)
    llm.register_function("get_news", get_news)
    context = LLMContext(
        [{"role": "developer", "content": "Say hello!"}],
        ToolsSchema(standard_tools=[weather_function, get_restaurant]),
    )
    user_aggregator, assistant_aggregator = LLMContextAggregatorPair(
        context, realtime_service_mode=True
    )
    worker = PipelineWorker(
        Pipeline(
            [
                transport.input(),
                user_aggregator,
                llm,
                transport.output(),
                assistant_aggregator,
            ]
        ),
        params=PipelineParams(enable_metrics=True, enable_usage_metrics=True),
    )

    @transport.event_handler("on_client_connected")
    async def on_client_connected(transport: BaseTransport, client: Any):
        await worker.queue_frames([LLMRunFrame()])

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: BaseTransport, client: Any):
        await worker.cancel()

    return worker


async def run(worker: PipelineWorker) -> None:
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


def of_openai(hydra: HydraEmulator) -> LLMService[Any]:
    return OpenAIRealtimeLLMService(
        api_key=hydra.api_key,
        settings=OpenAIRealtimeLLMService.Settings(system_instruction="Be friendly."),
    )


def of_hydra(hydra: HydraEmulator) -> LLMService[Any]:
    return HydraLLMService(
        api_key=hydra.api_key,
        base_url=hydra.url,
        settings=HydraLLMService.Settings(system_instruction="Be friendly."),
    )


class TestABotOfAnotherService:
    async def test_it_runs_when_the_service_is_exchanged(self):
        script = Script(
            [
                [
                    Call("get_current_weather", {"location": "Paris"}, "weather"),
                    Call("get_restaurant", {"location": "Paris"}, "restaurant"),
                    Say.tones(0.4, "The weather and a restaurant"),
                ],
                [Call("get_news", {}, "news"), Say.tones(0.4, "The news")],
            ]
        )
        line = VirtualTransport()
        async with emulator(script) as hydra:
            worker = assembled(of_hydra(hydra), line)
            async with talking(run(worker), line):
                told = await hydra.wait_for_session()
                await until_heard(line, told, 1)
                assert told.configuration is not None
                assert told.configuration["generate_initial_response"] is True
                assert "Be friendly." in told.configuration["instructions"]
                assert "Say hello!" in told.configuration["instructions"]
                assert tool_names(told.tools) == ["get_current_weather", "get_restaurant"]

                await line.microphone.say(recording("hello"))
                await until_heard(line, told, 2)
                assert json.loads(told.call("weather").output or "")["conditions"] == "nice"
                assert "Golden Dragon" in (told.call("restaurant").output or "")

                new_tools = ToolsSchema([weather_function, get_restaurant, news_function])
                await worker.queue_frames([LLMSetToolsFrame(tools=new_tools)])
                await told.wait_for_received("session.update")
                assert tool_names(told.tools)[2:] == ["get_news"]

                await line.microphone.say(recording("hello"))
                await until_heard(line, told, 3)
                assert "all-time highs" in (told.call("news").output or "")
            assert len(hydra.sessions) == 1
            assert len(session(hydra).create_times) == 2
            assert session(hydra).errors == []

    @pytest.mark.parametrize("service", [of_hydra, of_openai])
    async def test_it_is_put_together_the_same_with_either_service(
        self, service: Callable[[HydraEmulator], LLMService[Any]]
    ):
        async with emulator() as hydra:
            assert assembled(service(hydra), VirtualTransport())
