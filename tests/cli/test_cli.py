"""The command: what it says, and what it exits with."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from support.call import emulator
from support.command import (
    KEY,
    LONG_SECS,
    Shell,
    assert_failed,
    command,
    default_sigint,
    next_line,
    run,
)
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

import pipecat_hydra.cli.talk as talking
from pipecat_hydra.emulator import FaultPlan, HydraEmulator
from pipecat_hydra.emulator.faults.kinds import FAULTS

HELLO = Path(__file__).parent.parent / "recordings" / "hello.wav"


def assert_nothing_is_said_to_nobody(process: "subprocess.Popen[str]") -> None:
    """Go away, as `head` does, and see the command end as it should."""
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=LONG_SECS) == 0


@pytest.fixture
def shell() -> Iterator[Shell]:
    with Shell() as opened:
        yield opened


@pytest.fixture
def hydra(shell: Shell) -> HydraEmulator:
    """An emulator that serves the commands of the shell."""
    return shell.serve(emulator())


def test_help_names_the_commands():
    result = run("--help")
    assert result.exit_code == 0
    assert "talk" in result.output
    assert "emulator" in result.output
    assert run().exit_code == 2  # no command


def test_help_of_talk_names_the_exit_codes():
    result = run("talk", "--help")
    assert result.exit_code == 0
    assert "3 no answer" in result.output
    assert "7 a limit exceeded" in result.output


@pytest.mark.parametrize("name", ["talk", "web", "emulator", "replay"])
def test_help_names_the_exit_code_of_ctrl_c(name: str):
    assert "130 ended with Ctrl-C" in " ".join(run(name, "--help").output.replace("│", "").split())


def test_ctrl_c_while_the_command_loads_is_no_traceback():
    code = (
        "import builtins, signal\n"
        "from pipecat_hydra.cli.start import main\n"
        "load = builtins.__import__\n"
        "def interrupted(name, *args, **more):\n"
        "    if name == 'typer': signal.raise_signal(signal.SIGINT)\n"
        "    return load(name, *args, **more)\n"
        "builtins.__import__ = interrupted\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=default_sigint
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "interrupted\n", 130)


def test_version():
    result = run("--version")
    assert result.exit_code == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", result.output)


class TestTalk:
    def test_no_such_file(self, tmp_path: Path):
        result = run("talk", tmp_path / "nope.wav", tmp_path / "out.wav")
        assert_failed(result, 2, f"no such file: {tmp_path / 'nope.wav'}")

    def test_not_audio(self, tmp_path: Path):
        path = tmp_path / "text.wav"
        path.write_text("no audio at all")
        assert_failed(run("talk", path, tmp_path / "out.wav"), 2, "is not audio")
        assert_failed(
            run("talk", tmp_path, tmp_path / "out.wav"), 2, "is a folder, and is not audio"
        )
        compressed = tmp_path / "memo.m4a"
        compressed.write_bytes(b"\0\0\0\x1cftypM4A \0\0\0\0M4A mp42isom")
        result = run("talk", compressed, tmp_path / "out.wav")
        assert_failed(result, 2, f"{compressed} is not audio that can be read")
        assert "convert another format, such as m4a, by `ffmpeg -i IN OUT.wav`" in result.stderr

    def test_no_audio_in_it(self, tmp_path: Path):
        path = tmp_path / "empty.wav"
        sf.write(path, np.zeros(0, np.int16), 8_000)
        assert_failed(run("talk", path, tmp_path / "out.wav"), 2, "holds no audio")

        headerless = tmp_path / "headerless.raw"
        headerless.write_bytes(bytes(320))
        assert_failed(run("talk", headerless, tmp_path / "out.wav"), 2, "is not audio")

    @pytest.mark.parametrize("output", ["nowhere/out.wav", "out.xyz", "out.raw", "."])
    def test_nowhere_to_write(self, tmp_path: Path, output: str):
        assert_failed(run("talk", HELLO, tmp_path / output), 2, "cannot write")

    def test_a_place_that_may_not_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        def is_allowed(path: Path, mode: int) -> bool:
            # Of a root, all is.
            return mode != os.W_OK or path not in (tmp_path, tmp_path / "there.wav")

        monkeypatch.setattr(os, "access", is_allowed)
        (tmp_path / "there.wav").touch()
        assert_failed(run("talk", HELLO, tmp_path / "there.wav"), 2, "may not be written")
        assert_failed(run("talk", HELLO, tmp_path / "new.wav"), 2, "no file may be made there")

    def test_the_recording_is_not_written_over(self, tmp_path: Path):
        recording = tmp_path / "conversation.wav"
        shutil.copy(HELLO, recording)
        other_name = tmp_path / "link.wav"
        other_name.symlink_to(recording)
        for output in (recording, other_name):
            assert_failed(run("talk", recording, output), 2, "is the recording")
        assert recording.read_bytes() == HELLO.read_bytes()

    def test_options_that_exclude_each_other(self):
        url = "ws://127.0.0.1:1/waves/v1/s2s"
        assert_failed(run("talk", HELLO, "--emulator", "--url", url), 2, "exclude each other")
        assert_failed(run("talk", HELLO, "--url", url), 2, "SMALLEST_API_KEY")
        result = run("talk", HELLO, "--script", "any.yaml", "--url", url, key=KEY)
        assert_failed(result, 2, "--script and --url exclude each other")

    def test_the_environment_names_an_endpoint(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("HYDRA_BASE_URL", "http://host-of-the-environment")
        assert_failed(run("talk", HELLO), 2, "HYDRA_BASE_URL needs a key: set SMALLEST_API_KEY")
        assert_failed(run("talk", HELLO, tmp_path / "out.wav", key=KEY), 2, "ws://")
        script = tmp_path / "script.yaml"
        script.write_text("turns: 3\n")
        result = run("talk", HELLO, tmp_path / "out.wav", "--script", script, key=KEY)
        assert_failed(result, 2, f"{script}: turns")

    def test_a_script_is_for_the_emulator_even_if_there_is_a_key(self, tmp_path: Path):
        script = tmp_path / "script.yaml"
        script.write_text("turns: 3\n")
        result = run("talk", HELLO, tmp_path / "out.wav", "--script", script, key=KEY)
        assert_failed(result, 2, f"{script}: turns")

    def test_no_such_url(self, tmp_path: Path):
        result = run("talk", HELLO, tmp_path / "out.wav", "--url", "http://host", key=KEY)
        assert_failed(result, 2, "ws://")

    def test_nothing_listens(self, tmp_path: Path):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"ws://127.0.0.1:{unused.getsockname()[1]}/waves/v1/s2s"
            result = run("talk", HELLO, tmp_path / "out.wav", "--url", url, key=KEY)
        assert_failed(result, 5, f"no connection to {url}")
        assert len(result.stderr.splitlines()) == 1

    @pytest.mark.parametrize("more", [[], ["--verbose"]])
    def test_bad_key(self, tmp_path: Path, shell: Shell, hydra: HydraEmulator, more: list[str]):
        result = shell.run("talk", HELLO, tmp_path / "o.wav", "--url", hydra.url, *more, key=KEY)
        assert KEY not in result.output
        assert "check SMALLEST_API_KEY" in result.stderr
        assert result.exit_code == 4
        assert ("Traceback" in result.stderr) == bool(more)

    def test_no_answer(self, tmp_path: Path, shell: Shell, hydra: HydraEmulator):
        path = tmp_path / "silence.wav"
        sf.write(path, np.zeros(1_600, np.int16), 8_000)
        options = ["--url", hydra.url, "--limit", "0.2"]
        result = shell.run("talk", path, tmp_path / "out.wav", *options, key=hydra.api_key)
        assert_failed(result, 3, "no answer within 0.2 s")

    def test_a_conversation_with_the_embedded_emulator(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.chdir(tmp_path)
        result = run("talk", HELLO)
        assert result.stderr == ""
        assert result.exit_code == 0
        assert "embedded emulator" in result.output.splitlines()[0]
        for what in ("user speaks", "user stopped", "bot answers", "bot stopped", "1 turn in"):
            assert what in result.output
        assert not re.search(r"[\x1b\r]", result.output)  # no terminal, no bar
        assert sf.info(tmp_path / "conversation.wav").channels == 2

    def test_ctrl_c_before_anything_is_said(self, tmp_path: Path):
        output = tmp_path / "conversation.wav"
        result = run("talk", HELLO, output, interrupt_after="embedded emulator")
        assert result.stderr == "interrupted\n"
        assert result.exit_code == 130
        assert not output.exists()

    def test_a_model_that_the_server_does_not_know(
        self, tmp_path: Path, shell: Shell, hydra: HydraEmulator
    ):
        options = ["--url", hydra.url, "--model", "hydra-v11"]
        result = shell.run("talk", HELLO, tmp_path / "o.wav", *options, key=hydra.api_key)
        assert_failed(result, 1, "HTTP 400, 'Unknown model'. Check the model 'hydra-v11'")

    @pytest.mark.realtime
    @pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
    def test_a_signal_keeps_what_was_heard(self, tmp_path: Path, name: str):
        script = tmp_path / "script.yaml"
        script.write_text("turns: [{tones: 20, transcript: twenty seconds}]", "utf-8")
        process = command("talk", HELLO, "--script", script, cwd=tmp_path)
        while not (line := next_line(process)).endswith("bot answers\n"):
            assert line, process.communicate()
        number = signal.Signals[name]
        process.send_signal(number)
        output, errors = process.communicate(timeout=LONG_SECS)
        assert errors == f"ended by {name}\n"
        assert process.returncode == 128 + number
        assert "1 turn in" in output
        assert sf.info(tmp_path / "conversation.wav").channels == 2

    @pytest.mark.realtime
    def test_ctrl_c_keeps_what_was_heard_on_a_terminal_that_cannot_show_it_all(
        self, tmp_path: Path
    ):
        script = tmp_path / "script.yaml"
        script.write_text("turns: [{tones: 20, transcript: \u201ctwenty seconds\u201d}]", "utf-8")
        process = command("talk", HELLO, "--script", script, cwd=tmp_path, PYTHONIOENCODING="ascii")
        while not (line := next_line(process)).endswith("bot answers\n"):
            assert line, process.communicate()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=LONG_SECS)
        assert errors == "interrupted\n"
        assert process.returncode == 130
        assert "1 turn in" in output
        assert sf.info(tmp_path / "conversation.wav").channels == 2

    @pytest.mark.realtime
    def test_who_reads_it_may_go_away(self, tmp_path: Path):
        with command("talk", HELLO, cwd=tmp_path) as process:
            next_line(process)
            assert_nothing_is_said_to_nobody(process)
        assert sf.info(tmp_path / "conversation.wav").channels == 2

    def test_limits_and_repetition_are_handed_on(self, monkeypatch: pytest.MonkeyPatch):
        given: dict[str, Any] = {}

        async def kept(_: object, limits: talking.Limits, **more: Any) -> None:
            given.update(more, limits=limits)

        monkeypatch.setattr(talking, "talk_repeatedly", kept)
        limits = ["--max-answer", "1", "--max-tool-turn", "2.5", "--max-barge-in", "0.4"]
        assert run("talk", HELLO, *limits, "--repeat", "3", "--json").exit_code == 0
        assert given.pop("limits") == talking.Limits(answer=1.0, tool_turn=2.5, barge_in=0.4)
        assert given == {"repeat": 3, "machine": True, "progress": True}
        for bad in (["--repeat", "0"], ["--max-answer", "-1"]):
            assert run("talk", HELLO, *bad).exit_code == 2

    @pytest.mark.parametrize("more", [[], ["--verbose"]])
    def test_a_bug_is_no_traceback(self, monkeypatch: pytest.MonkeyPatch, more: list[str]):
        async def broken(*_: object, **__: object) -> None:
            raise RuntimeError(f"two\nlines with {KEY}")

        monkeypatch.setattr(talking, "talk_repeatedly", broken)
        result = run("talk", HELLO, *more, key=KEY)
        assert result.exit_code == 1
        assert KEY not in result.output
        assert "unexpected error: RuntimeError: two lines with [REDACTED]" in result.stderr
        assert ("--verbose shows more" in result.stderr) != bool(more)
        assert ("Traceback" in result.stderr) == bool(more)


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("key", [None, "", KEY])
def test_the_demo_talks_to_hydra_if_there_is_a_key(key: str | None):
    environment = {name: value for name, value in os.environ.items() if "SMALLEST" not in name}
    if key is not None:
        environment["SMALLEST_API_KEY"] = key
    done = subprocess.run(
        ["make", "--dry-run", "demo"],
        cwd=Path(__file__).parent.parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    command_line = done.stdout[done.stdout.index("pipecat-hydra talk") :]
    assert "--sample-tools" in command_line
    assert ("--script" in command_line) == (not key)
    assert KEY not in done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("pip", [None, "exit 0", "exit 1"])
def test_a_virtual_environment_that_does_not_run_is_made_anew(tmp_path: Path, pip: str | None):
    project = Path(__file__).parent.parent.parent
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(project / name, tmp_path)
    commands = tmp_path / ".venv" / "bin"
    commands.mkdir(parents=True)
    if pip:
        (commands / "pip").write_text(f"#!/bin/sh\n{pip}\n")
        (commands / "pip").chmod(0o755)
    (tmp_path / ".venv" / "runtime.stamp").touch()
    done = subprocess.run(
        ["make", "--dry-run", "demo"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ("-m venv --clear" in done.stdout) == (pip != "exit 0")
    assert done.stderr == ""


class TestEmulator:
    def test_port_in_use(self, shell: Shell, hydra: HydraEmulator):
        port = hydra.url.split(":")[2].split("/")[0]
        said = f"cannot listen on 127.0.0.1, port {port}: address already in use; choose another"
        assert_failed(shell.run("emulator", "--port", port), 1, said)
        assert_failed(shell.run("web", "--port", port, "--emulator"), 1, said)

    def test_no_such_host(self):
        result = run("emulator", "--host", "no.such.host.invalid", "--port", 0)
        assert_failed(result, 2, "there is no address for the host")

    def test_a_library_that_is_missing(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(sys.modules, "pipecat_hydra.emulator", None)
        assert_failed(run("emulator", "--port", 0), 1, "unexpected error: ModuleNotFoundError")

    @pytest.mark.realtime
    def test_who_reads_it_may_go_away(self, tmp_path: Path):
        with command("emulator", "--port", 0, cwd=tmp_path) as process:
            url = re.search(r"ws://\S+(?=,)", next_line(process))
            assert url
            next_line(process)
            assert process.stdout is not None
            process.stdout.close()
            for _ in range(2):
                with connect(f"{url[0]}?api_key=sk-emulator", close_timeout=1) as websocket:
                    assert "session.created" in str(websocket.recv())
            process.send_signal(signal.SIGINT)
            assert_nothing_is_said_to_nobody(process)

    def test_bad_script(self, tmp_path: Path):
        script = tmp_path / "script.yaml"
        script.write_text("turns: 3\n")
        assert_failed(run("emulator", "--port", 0, "--script", script), 2, str(script))
        assert_failed(run("emulator", "--port", 0, "--script", tmp_path / "none.yaml"), 2, "none")

    def test_help_names_all_faults_and_its_examples_are_right(self):
        output = run("emulator", "--help").output
        listed = re.findall(r"• (.*)", output)
        kinds = {name for line in listed for name in re.findall(r"(\w+):\w+=|^(\w+) ", line)}
        assert {a or b for a, b in kinds} == {*FAULTS, "random"}
        examples = re.findall(r"\b[a-z_]+:\w+=[^ ]*[^ ,;]", output)
        assert len(examples) > 10
        FaultPlan.parse(examples)

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            ("explode", "there is no fault 'explode'; there are refuse, full, hang"),
            ("nonsense", "giant, random"),
            ("drop:when=now", "drop: no option 'when=now'; there are"),
            ("hang:secs=long", "hang: secs=long: Input should be a valid number"),
        ],
    )
    def test_bad_fault(self, fault: str, message: str):
        result = run("emulator", "--port", 0, "--fault", "full", "--fault", fault)
        assert_failed(result, 2, message)

    def test_bad_origin(self):
        result = run("emulator", "--port", 0, "--allow-origin", "localhost:3000")
        assert_failed(result, 2, "'localhost:3000' is no origin of a page")

    @pytest.mark.realtime
    def test_a_client_of_anybody_can_be_pointed_at_it(self, tmp_path: Path):
        options = ["--allow-origin", "http://localhost:3000", "--allow-origin", "null"]
        options += ["--voices", "any", "--requested-rate", "--gap-ends-turn", "0.5"]
        process = command("emulator", "--port", 0, *options, cwd=tmp_path)
        found = re.search(r"ws://\S+(?=,)", next_line(process))
        assert found
        url = f"{found[0]}?api_key=sk-emulator"
        with pytest.raises(InvalidStatus, match="403"):
            connect(url, additional_headers={"Origin": "http://localhost:3001"})
        for _ in range(2):
            next_line(process)
        assert "HTTP 403: Origin not allowed. " in next_line(process)
        origin = {"Origin": "http://localhost:3000"}
        with connect(url, additional_headers=origin, close_timeout=1) as websocket:
            session = {"voice": "wren", "output_audio_sample_rate": 16_000}
            websocket.send(json.dumps({"type": "session.configure", "session": session}))
            assert "session.created" in str(websocket.recv())
            session = json.loads(websocket.recv())["session"]
        assert (session["voice"], session["output_audio_sample_rate"]) == ("wren", 16_000)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=LONG_SECS)[1] == ""

    @pytest.mark.realtime
    def test_it_shows_what_happens_and_ctrl_c_ends_it(self, tmp_path: Path):
        options = ["--key", "sk-mine", "--fault", "refuse:status=403,times=1"]
        options += ["--fault", "drop:sent=1", "--fault-seed", "7"]
        process = command("emulator", "--port", 0, *options, cwd=tmp_path)
        line = next_line(process)
        assert "key sk-mine" in line
        found = re.search(r"ws://\S+(?=,)", line)
        assert found
        url = f"{found[0]}?api_key=sk-mine"
        assert "SMALLEST_API_KEY=sk-mine pipecat-hydra talk IN.wav --url ws:" in next_line(process)
        assert f"SMALLEST_API_KEY=sk-mine HYDRA_BASE_URL={found[0]} " in next_line(process)
        assert next_line(process) == (
            "faults: --fault refuse:status=403,times=1 --fault drop:sent=1 --fault-seed 7\n"
        )
        with pytest.raises(InvalidStatus, match="403"):
            connect(url)
        with connect(url, close_timeout=1) as websocket:
            assert "session.created" in str(websocket.recv())
            with pytest.raises(ConnectionClosedError):
                websocket.recv()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=LONG_SECS)
        assert re.search(r"[0-9a-f-]{36} +\d+\.\d\d s  !! drop:sent=1\n", output)
        assert "closed, code 1006" in output
        assert output.endswith("\nended\n")
        assert errors == ""
        assert process.returncode == 0

    def test_ctrl_c_ends_it_though_nobody_has_connected(self):
        result = run("emulator", "--port", 0, interrupt_after=" any_bot.py")
        assert result.output.endswith("\nended\n")
        assert len(result.output.splitlines()) == 4
        assert result.exit_code == 0
