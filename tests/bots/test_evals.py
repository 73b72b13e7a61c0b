"""The voice agent as others see it: Pipecat's eval harness, and a client that speaks RTVI."""

import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.bots import example, until
from support.call import emulator, recording
from support.served import served
from websockets.asyncio.client import connect

from pipecat_hydra.emulator import Call, Say, Script

ROOT = Path(__file__).parent.parent.parent
EVALS = ROOT / "evals"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class TestTheHarness:
    @pytest.mark.realtime
    def test_the_suite_passes_without_a_key_a_model_or_a_network(self, tmp_path: Path):
        environment = {k: v for k, v in os.environ.items() if k != "SMALLEST_API_KEY"}
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pipecat.evals", "suite", EVALS / "suite.yaml"),
                *("--runs-dir", tmp_path, "--name", "run", "--base-port", str(free_port())),
            ],
            env=environment | {"LOGURU_LEVEL": "WARNING"},
            capture_output=True,
            text=True,
            check=False,
            timeout=140,
        )
        logs = "".join(path.read_text() for path in tmp_path.rglob("*.log"))
        assert done.returncode == 0, done.stdout + logs
        (result,) = map(json.loads, (tmp_path / "run" / "results.jsonl").read_text().splitlines())
        assert result["passed"]
        assert [turn["status"] for turn in result["turns"]] == ["passed"] * 4
        assert "SMALLEST_API_KEY is not set: talking to an emulator" in logs
        assert "Traceback" not in logs

    def test_each_scenario_is_run_and_each_recording_is_there(self):
        suite = yaml.safe_load((EVALS / "suite.yaml").read_text())
        listed = {name for entry in suite["suite"] for name in entry["scenarios"]}
        assert listed == {path.stem for path in EVALS.glob("*.yaml")} - {"suite"}
        for name in listed:
            scenarios = yaml.safe_load((EVALS / f"{name}.yaml").read_text())["scenarios"]
            turns = [turn for scenario in scenarios for turn in scenario["turns"]]
            assert all((EVALS / turn["audio"]).is_file() for turn in turns if "audio" in turn)


class Client:
    """A client that speaks RTVI, over the WebSocket on which evals are run."""

    def __init__(self, connection: Any):
        self._connection = connection
        self._to_say = b""
        self.messages: list[dict[str, Any]] = []

    async def send(self, kind: str, data: dict[str, Any]) -> None:
        message = {"label": "rtvi-ai", "type": kind, "id": "1", "data": data}
        await self._connection.send(json.dumps(message))

    async def listen(self) -> None:
        async for text in self._connection:
            self.messages.append(json.loads(text))

    async def speak(self) -> None:
        """Send what there is to say, and silence, at real time."""
        next_at = asyncio.get_running_loop().time()
        while True:
            pcm, self._to_say = self._to_say[:640].ljust(640, b"\0"), self._to_say[640:]
            audio = base64.b64encode(pcm).decode()
            data = {"base64Audio": audio, "sampleRate": 16_000, "numChannels": 1}
            await self.send("raw-audio", data)
            next_at += 0.02
            await asyncio.sleep(max(0.0, next_at - asyncio.get_running_loop().time()))

    def say(self, name: str) -> None:
        self._to_say += recording(name).tobytes()

    def types(self, *kinds: str) -> list[str]:
        return [m["type"] for m in self.messages if m["type"] in kinds]


# Pipecat's transport for evals imports what websockets has deprecated.
@pytest.mark.filterwarnings("ignore:websockets.* is deprecated:DeprecationWarning")
class TestRTVI:
    async def test_a_client_is_told_all_in_order(self, monkeypatch: pytest.MonkeyPatch):
        bot = example("voice_agent")
        turn = [Call("get_weather", {"city": "Paris"}), Say.tones(0.4, "In Paris: {output}")]
        script = Script([turn], greeting=Say.tones(0.4, "Hello"))
        async with emulator(script, transcripts=True) as hydra:
            monkeypatch.setenv("SMALLEST_API_KEY", hydra.api_key)
            monkeypatch.setenv("HYDRA_BASE_URL", hydra.url)
            async with served(bot, monkeypatch) as url, connect(f"{url}/ws") as connection:
                client = Client(connection)
                await client.send("client-message", {"t": "eval-connect", "d": {}})
                await client.send(
                    "client-ready", {"version": "1.0.0", "about": {"library": "of-this-test"}}
                )
                tasks = [asyncio.create_task(client.listen()), asyncio.create_task(client.speak())]
                await until(lambda: client.types("bot-stopped-speaking"))
                client.say("question")
                await until(lambda: len(client.types("bot-stopped-speaking")) == 2)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await hydra.sessions[0].wait_closed()
        assert client.types("bot-ready") == ["bot-ready"]
        assert client.types("error") == []
        told = client.types(
            "bot-llm-started",
            "bot-started-speaking",
            "bot-stopped-speaking",
            "user-started-speaking",
            "user-stopped-speaking",
            "llm-function-call-in-progress",
            "llm-function-call-stopped",
        )
        # What was told before the client was ready comes all at once, in either order.
        assert sorted(told[:2]) == ["bot-llm-started", "bot-started-speaking"]
        assert told[2:] == [
            "bot-stopped-speaking",
            *("user-started-speaking", "user-stopped-speaking"),
            *("bot-llm-started", "llm-function-call-in-progress", "llm-function-call-stopped"),
            *("bot-llm-started", "bot-started-speaking", "bot-stopped-speaking"),
        ]
        texts = [m["data"]["text"] for m in client.messages if m["type"] == "bot-llm-text"]
        assert "".join(texts).startswith("HelloIn Paris: {")
        assert any(m["data"].get("ttfb") for m in client.messages if m["type"] == "metrics")
