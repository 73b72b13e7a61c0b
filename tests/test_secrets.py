"""The key is in no log line, exception, frame or `repr`, at any level (S4)."""

import io
import logging
import pickle
import traceback
from collections.abc import Generator
from urllib.parse import quote_plus

import pytest
from call import call, emulator, session
from loguru import logger
from pipecat.frames.frames import ErrorFrame, LLMFullResponseEndFrame, StartFrame
from pipecat.processors.frame_processor import FrameDirection
from pydantic import SecretStr

from pipecat_hydra.effects import FailureKind
from pipecat_hydra.emulator import HydraEmulator
from pipecat_hydra.websocket import AuthStyle, Endpoint, HydraConnectionError, HydraWebSocket

KEY = "sk-secret/with+odd=characters&0123456789"
SPELLINGS = (KEY, quote_plus(KEY), KEY[:20], quote_plus(KEY)[:20])

both_styles = pytest.mark.parametrize("auth", ["query", "header"])


def assert_clean(text: str) -> None:
    for spelling in SPELLINGS:
        assert spelling not in text


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
        for thing in (talk.llm, vars(talk.llm), vars(talk.llm._connection), talk.llm.settings):
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
        errors = lambda: talk.frames.of(ErrorFrame, direction=FrameDirection.UPSTREAM)  # noqa: E731
        await talk.until(errors)
        (error,) = errors()
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


def test_an_endpoint_does_not_show_its_key():
    endpoint = Endpoint("wss://example.com/s2s", "hydra-v1.1", SecretStr(KEY))
    assert_clean(repr(endpoint) + str(endpoint) + endpoint.host)
    assert quote_plus(KEY) in endpoint.url()
