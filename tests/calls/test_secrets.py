"""The key is in no log line, exception, frame or `repr`, at any level (S4)."""

import asyncio
import contextlib
import copy
import gc
import io
import json
import logging
import pickle
import subprocess
import sys
import traceback
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from loguru import logger
from pipecat.frames.frames import ErrorFrame, LLMFullResponseEndFrame, StartFrame
from pipecat.processors.frame_processor import FrameDirection
from pydantic import SecretStr
from support.call import Call, call, emulator, session
from support.tls import tls_server
from support.virtual_time import VirtualTimeLoop
from websockets.asyncio.server import ServerConnection, serve

from pipecat_hydra import HydraLLMService, HydraRecorder
from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.emulator import EmulatorSettings, HydraEmulator
from pipecat_hydra.recording import Recording
from pipecat_hydra.session.endpoint import AuthStyle, Endpoint
from pipecat_hydra.session.failures import HydraConnectionError
from pipecat_hydra.session.websocket import HydraWebSocket

KEY = "sk-5ecret/with+odd=char acters&%41{0}'t4il-9d2"
SPELLINGS = {
    *(spell(KEY) for spell in (str, quote, quote_plus, repr, ascii)),
    # Whoever cuts it short, or at a character that is special, shows some of it.
    "5ecret",
    "t4il",
}

both_styles = pytest.mark.parametrize("auth", ["query", "header"])


def key() -> str:
    """The key, where a traceback that shows variables would find it in the test itself."""
    return KEY


def assert_clean(text: str) -> None:
    for spelling in SPELLINGS:
        assert spelling not in text


def errors_of(talk: Call) -> list[ErrorFrame]:
    return talk.frames.of(ErrorFrame, direction=FrameDirection.UPSTREAM)


@pytest.fixture
def logs() -> Generator[io.StringIO]:
    """All that loguru logs at TRACE and the standard library at DEBUG, locals included."""
    written = io.StringIO()
    sink = logger.add(written, level="TRACE", backtrace=True, diagnose=True)
    handler = logging.StreamHandler(written)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    for name in ("websockets", "websockets.client", "websockets.server", "asyncio"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield written
    for name in ("websockets", "websockets.client", "websockets.server", "asyncio"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    root.removeHandler(handler)
    root.setLevel(level)
    logger.remove(sink)


def test_the_check_would_see_a_key(logs: io.StringIO):
    logging.getLogger("websockets.client").debug("GET /s2s?api_key=%s", quote_plus(KEY))
    with pytest.raises(AssertionError):
        assert_clean(logs.getvalue())


@both_styles
async def test_a_call_leaves_no_trace_of_the_key(logs: io.StringIO, auth: AuthStyle):
    async with HydraEmulator(api_key=KEY) as hydra, call(hydra, auth=auth) as talk:
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame)
        for thing in (talk.llm, vars(talk.llm), vars(talk.llm._run.connection), talk.llm.settings):
            assert_clean(repr(thing))
        # Showing a StartFrame reads fields that Pipecat has deprecated.
        frames = [frame for frame, _ in talk.frames.pushed if not isinstance(frame, StartFrame)]
        assert_clean(repr(frames))
        assert_clean(repr(session(hydra)) + repr(hydra))
    assert "Hydra is ready" in logs.getvalue()
    assert_clean(logs.getvalue())


@both_styles
async def test_a_refused_key_is_not_told(logs: io.StringIO, auth: AuthStyle):
    async with emulator() as hydra, call(hydra, api_key=KEY, auth=auth) as talk:
        await talk.until(lambda: errors_of(talk))
        (error,) = errors_of(talk)
        assert_clean(repr(error) + repr(vars(error)))
    assert "refused the API key" in logs.getvalue()
    assert_clean(logs.getvalue())


@both_styles
@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("refusing", FailureKind.AUTHENTICATION),
        ("elsewhere", FailureKind.CONFIGURATION),
        ("unreachable", FailureKind.CONNECTIVITY),
        ("unknown", FailureKind.CONNECTIVITY),
    ],
)
async def test_an_exception_holds_no_key_however_it_is_printed(
    logs: io.StringIO, auth: AuthStyle, target: str, kind: FailureKind
):
    async with emulator() as hydra:
        url = {
            "refusing": hydra.url,
            "elsewhere": hydra.url.replace("/waves", "/other"),
            "unreachable": "ws://127.0.0.1:9/s2s",
            "unknown": "ws://no-such-host.invalid/s2s",
        }[target]
        secret = SecretStr(hydra.api_key if target == "elsewhere" else KEY)
        endpoint = Endpoint(url, "hydra-v1.1", secret, auth)
        with pytest.raises(HydraConnectionError) as raised:
            await HydraWebSocket.open(endpoint, timeout_secs=5, on_congested=print)
    error = raised.value
    assert error.kind is kind
    assert error.__cause__ is None
    assert error.__context__ is None
    assert pickle.loads(pickle.dumps(error)).message == error.message
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert_clean("".join(report.format()) + repr(error) + str(error) + repr(vars(error)))
    logger.opt(exception=error).error("it went wrong")
    assert_clean(logs.getvalue())


async def test_nothing_that_is_public_shows_the_key():
    endpoint = Endpoint("wss://example.com/s2s", "hydra-v1.1", SecretStr(KEY))
    llm = HydraLLMService(api_key=KEY)
    failure = HydraConnectionError(FailureKind.CAPACITY, "full", 7.0)
    async with HydraEmulator(api_key=KEY) as hydra:
        there = Endpoint(hydra.url, "hydra-v1.1", SecretStr(KEY))
        websocket = await HydraWebSocket.open(there, timeout_secs=5, on_congested=print)
        await websocket.close()
        things = [
            *(endpoint, endpoint.host, llm, llm.settings, llm._run.connection, websocket),
            *(hydra, EmulatorSettings(), failure, copy.copy(failure), websocket.outcome()),
        ]
        for thing in things:
            assert_clean(repr(thing) + str(thing))
        # Nor does whoever looks inside, as a debugger or an error tracker does.
        for thing in (llm, llm._run.connection, websocket):
            assert_clean(repr(vars(thing)))
    assert quote_plus(KEY) in endpoint.url()


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "https://example.com"},
        {"base_url": "wss://example.com:port"},
        {"tools": 1},
    ],
)
def test_a_service_that_cannot_be_made_does_not_show_the_key(
    logs: io.StringIO, wrong: dict[str, Any]
):
    with pytest.raises((ValueError, TypeError)) as raised:
        HydraLLMService(api_key=key(), **wrong)
    report = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
    assert_clean("".join(report.format()))
    logger.opt(exception=raised.value).error("it went wrong")
    assert_clean(logs.getvalue())


@both_styles
async def test_a_recording_does_not_hold_the_key(auth: AuthStyle, tmp_path: Path):
    async def handler(connection: ServerConnection):
        told = {"type": "error", "error": {"message": f"not a valid key: {KEY}"}}
        await connection.send('{"type": "session.created"}')
        await connection.send(json.dumps(told))
        await connection.send(f"debug: {quote_plus(KEY)}")
        await connection.wait_closed()

    async with serve(handler, "127.0.0.1", 0) as running:
        url = f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/s2s"
        recorder = HydraRecorder(tmp_path)
        async with call(Target(url, KEY), auth=auth, recorder=recorder) as talk:
            await talk.worker.queue_frame(ErrorFrame(f"a function has failed with {KEY}"))
            await asyncio.sleep(1)
    (folder,) = tmp_path.iterdir()
    written = (folder / "call.jsonl").read_text()
    assert_clean(written)
    told = Recording.open(folder)
    assert {"error", "malformed"} <= {record.type for record in told.records}
    assert "not a valid key: [key]" in written
    assert told.header["url"] == url


@dataclass(frozen=True)
class Target:
    """Where a call goes that fails."""

    url: str
    api_key: str


@contextlib.asynccontextmanager
async def dropping_server() -> AsyncGenerator[str]:
    async def handler(connection: ServerConnection):
        await connection.send('{"type": "session.created"}')
        await connection.recv()
        connection.transport.abort()

    async with serve(handler, "127.0.0.1", 0) as running:
        yield f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/s2s"


async def fail_in_each_way(auth: AuthStyle) -> None:
    """Hold calls that fail, and print what they report."""
    asyncio.get_running_loop().slow_callback_duration = 0

    async def mint() -> str:
        await asyncio.sleep(0)
        return KEY

    with pytest.MonkeyPatch.context() as monkeypatch:
        async with emulator() as hydra, dropping_server() as dropping, tls_server(monkeypatch) as t:
            urls = (hydra.url, dropping, t, "ws://no-such-host.invalid/s2s")
            for given, url in [*((key(), url) for url in urls), (mint, hydra.url)]:
                async with call(Target(url, hydra.api_key), api_key=given, auth=auth) as talk:
                    await talk.run_llm()
                    await talk.until(lambda: errors_of(talk))
                    for error in errors_of(talk):
                        print(error, vars(error), talk.llm)
    try:
        HydraLLMService(api_key=key(), base_url="wss://example.com:port")
    except ValueError:
        logger.exception("it went wrong")
        logging.getLogger().exception("it went wrong")
    gc.collect()


def fail_verbosely() -> None:
    """Fail, with all logs that there are. Run in a process of its own."""
    logger.remove()
    logger.add(sys.stderr, level="TRACE", backtrace=True, diagnose=True)
    logging.basicConfig(level=logging.DEBUG)
    # The servers in here, which are not ours, log what they are sent.
    logging.getLogger("websockets.server").setLevel(logging.INFO)
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(fail_in_each_way("query"))
        runner.run(fail_in_each_way("header"))


def test_calls_that_fail_in_development_mode_leave_no_trace_of_the_key():
    run = subprocess.run(
        [
            sys.executable,
            "-X",
            "dev",
            "-c",
            "from calls import test_secrets; test_secrets.fail_verbosely()",
        ],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )
    shown = run.stdout + run.stderr
    assert run.returncode == 0, shown[-3_000:]
    for proof in (
        "refused the API key",
        " broke",
        "certificate of 127.0.0.1",
        "no-such-host.invalid",
        "base_url is malformed",
        "Executing <Task",
    ):
        assert proof in shown
    assert_clean(shown)
