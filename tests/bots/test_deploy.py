"""What is deployed: a server that ends at SIGTERM without cutting a call, and its manifests."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.bots import EXAMPLES, until
from support.call import emulator
from support.command import LONG_SECS
from support.telephone import telephone
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from pipecat_hydra.emulator import Say, Script

DEPLOY = EXAMPLES / "deploy"
MANIFESTS = sorted(DEPLOY.glob("kubernetes*.yaml"))

needs_sigterm = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")

# Holds a session of the emulator as long as the call lasts, and counts up once in a while.
LIGHT_BOT = """
import asyncio
import os

from websockets.asyncio.client import connect


async def bot(runner_args):
    key = {"Authorization": f"Bearer {os.environ['SMALLEST_API_KEY']}"}
    async with connect(os.environ["HYDRA_BASE_URL"], additional_headers=key) as hydra:
        await hydra.recv()
        for number in range(int(os.environ["TICKS"])):
            await runner_args.websocket.send_text(str(number))
            await asyncio.sleep(0.1)
    await runner_args.websocket.close()
"""


def unused_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


class Served:
    """A server in a process of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path):
        self.process = process
        self.port = port
        self._log = log

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def calls(self) -> str:
        return f"{self.url}/ws"

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8")

    async def get(self, route: str) -> tuple[int, str]:
        return await asyncio.to_thread(self._get, route)

    async def active(self) -> int:
        _, text = await self.get("metrics")
        (line,) = (line for line in text.splitlines() if line.startswith("hydra_calls_active "))
        return int(line.split()[1])

    async def exit_code(self) -> int:
        await until(lambda: self.process.poll() is not None, within=LONG_SECS)
        return self.process.wait()

    def _get(self, route: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{route}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


def started(folder: Path, *options: str, **environment: str) -> Served:
    """Start the server with the `bot.py` in a folder, as a container does."""
    port = unused_port()
    shutil.copy(EXAMPLES / "deploy" / "server.py", folder)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "server.py", "--host", "127.0.0.1", "--port", str(port), *options],
            cwd=folder,
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=log,
            stderr=log,
        )
    return Served(process, port, folder / "log")


@asynccontextmanager
async def served(folder: Path, *options: str, **environment: str) -> AsyncGenerator[Served]:
    """Serve until the end of the context."""
    made = started(folder, *options, **environment)
    process = made.process
    try:
        await until(lambda: "Uvicorn running on" in made.log, within=LONG_SECS)
        yield made
    finally:
        process.kill()
        process.wait()


async def refused_with(url: str) -> int:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url):
            pass
    return refused.value.response.status_code


@needs_sigterm
@pytest.mark.realtime
async def test_forty_calls_on_a_process_that_gets_sigterm_end_by_themselves(tmp_path: Path):
    (tmp_path / "bot.py").write_text(LIGHT_BOT)
    heard: list[list[str]] = []
    codes: list[int | None] = []

    async def call(url: str) -> None:
        said: list[str] = []
        heard.append(said)
        async with connect(url) as line:
            async for text in line:
                said.append(str(text))
        codes.append(line.close_code)

    async with (
        emulator() as hydra,
        served(
            tmp_path, HYDRA_BASE_URL=hydra.url, SMALLEST_API_KEY=hydra.api_key, TICKS="60"
        ) as server,
    ):
        assert await server.get("ready") == (200, "ready\n")
        running = [asyncio.create_task(call(server.calls)) for _ in range(40)]
        await until(lambda: len(heard) == 40 and all(heard), within=LONG_SECS)
        assert await server.active() == 40
        server.process.send_signal(signal.SIGTERM)
        await until(lambda: "no new calls; 40 go on" in server.log, within=LONG_SECS)
        assert await server.get("ready") == (503, "draining\n")
        assert (await server.get("health"))[0] == 200
        assert await refused_with(server.calls) == 503
        assert await server.active() == 40
        await asyncio.gather(*running)
        assert await server.exit_code() == 0
    assert heard == [[str(number) for number in range(60)]] * 40
    assert codes == [1000] * 40
    assert len(hydra.sessions) == 40


@needs_sigterm
@pytest.mark.realtime
async def test_calls_that_go_on_for_too_long_are_cut_and_the_process_ends_well(tmp_path: Path):
    (tmp_path / "bot.py").write_text(LIGHT_BOT)
    async with (
        emulator() as hydra,
        served(
            tmp_path,
            "--drain-seconds=1",
            "--max-calls=1",
            HYDRA_BASE_URL=hydra.url,
            SMALLEST_API_KEY=hydra.api_key,
            TICKS="36000",
        ) as server,
        connect(server.calls) as line,
    ):
        await line.recv()
        assert await server.get("ready") == (503, "full\n")
        assert await refused_with(server.calls) == 503
        server.process.send_signal(signal.SIGTERM)
        assert await server.exit_code() == 0
        assert "1 calls are cut: they go on after 1 s" in server.log


@needs_sigterm
@pytest.mark.realtime
async def test_a_telephone_call_with_the_whole_service_goes_on_after_sigterm(tmp_path: Path):
    shutil.copy(EXAMPLES / "voice_agent.py", tmp_path / "bot.py")
    replies = Script([Say.tones(0.5)], greeting=Say.tones(0.5), then="repeat")
    async with (
        emulator(replies) as hydra,
        served(
            tmp_path,
            HYDRA_BASE_URL=hydra.url,
            SMALLEST_API_KEY=hydra.api_key,
            TWILIO_ACCOUNT_SID="AC00",
            TWILIO_AUTH_TOKEN="token",
        ) as server,
    ):
        async with telephone(server.url, "twilio") as caller:
            await until(lambda: caller.heard, within=LONG_SECS)
            server.process.send_signal(signal.SIGTERM)
            await until(lambda: "no new calls; 1 go on" in server.log, within=LONG_SECS)
            assert await refused_with(server.calls) == 503
            (session,) = hydra.sessions
            replies_before = len([e for e in session.sent if e.type == "response.done"])
            caller.say("hello")
            await until(
                lambda: (
                    len([e for e in session.sent if e.type == "response.done"]) > replies_before
                ),
                within=LONG_SECS,
            )
            assert server.process.poll() is None
        assert await server.exit_code() == 0


def manifests() -> dict[str, Any]:
    """The objects of Kubernetes, by kind."""
    objects = [one for path in MANIFESTS for one in yaml.safe_load_all(path.read_text("utf-8"))]
    return {one["kind"]: one for one in objects}


def test_the_manifests_are_what_kubernetes_takes():
    validate = pytest.importorskip(
        "kubernetes_validate", reason="the schemas are missing: pip install kubernetes-validate"
    )
    checked = manifests()
    assert len(checked) == 5
    for one in checked.values():
        validate.validate(one, validate.latest_version(), strict=True)


def test_the_manifests_fit_the_server_and_each_other():
    found = manifests()
    pod = found["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    arguments = container["args"]
    drain_secs = float(arguments[arguments.index("--drain-seconds") + 1])
    sleep_secs = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    # The end of what is cut takes 10 s more.
    assert pod["spec"]["terminationGracePeriodSeconds"] > drain_secs + sleep_secs + 10
    server = (DEPLOY / "server.py").read_text("utf-8")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert f'@app.get("{container[probe]["httpGet"]["path"]}")' in server
    assert f'@app.get("{pod["metadata"]["annotations"]["prometheus.io/path"]}")' in server
    (metric,) = found["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert f"{metric['pods']['metric']['name']} {{calls.count}}" in server
    most = int(arguments[arguments.index("--max-calls") + 1])
    assert int(metric["pods"]["target"]["averageValue"]) < most
    labels = pod["metadata"]["labels"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert found[kind]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    target = found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target["name"] == found["Deployment"]["metadata"]["name"]
    (secret,) = container["envFrom"]
    assert secret["secretRef"]["name"] == found["Secret"]["metadata"]["name"]
    dockerfile = (DEPLOY / "kubernetes.Dockerfile").read_text("utf-8")
    assert f"\nUSER {pod['spec']['securityContext']['runAsUser']}\n" in dockerfile


@pytest.mark.parametrize("name", ["kubernetes.Dockerfile", "self-hosted.Dockerfile"])
def test_an_image_of_ours_runs_as_no_root_and_tells_its_health(name: str):
    dockerfile = (DEPLOY / name).read_text("utf-8")
    assert "\nUSER 10001\n" in dockerfile
    assert "\nHEALTHCHECK " in dockerfile
