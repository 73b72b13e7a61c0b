"""What each refusal, error and close of a connection means, and what is told of it."""

import asyncio
import contextlib
import copy
import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

import pytest
from support.messages import messages_of
from support.sockets import server, websocket
from support.tls import SELF_SIGNED, tls_server
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus, ProxyError
from websockets.http11 import Request, Response

from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.session.failures import HydraConnectionError, describe_failure


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, FailureKind.AUTHENTICATION),
        (403, FailureKind.AUTHENTICATION),
        (400, FailureKind.CONFIGURATION),
        (404, FailureKind.CONFIGURATION),
        (408, FailureKind.SERVER),
        (425, FailureKind.SERVER),
        (429, FailureKind.CAPACITY),
        (500, FailureKind.SERVER),
        (503, FailureKind.SERVER),
    ],
)
async def test_a_refusal_tells_its_status(status: int, kind: FailureKind):
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(HTTPStatus(status), "no")

    async def handler(connection: ServerConnection):
        raise AssertionError("it was refused")

    async with server(handler, process_request=refuse) as url:
        with pytest.raises(HydraConnectionError, match=str(status)) as raised:
            async with websocket(url):
                pass
    assert raised.value.kind is kind
    assert raised.value.retry_after_secs is None


IN_AN_HOUR = "the date that it is in an hour"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "secs"),
    [
        ("7", 7.0),
        ("0", 0.0),
        (" 7 ", 7.0),
        (IN_AN_HOUR, 3600.0),
        ("86400", 3600.0),
        ("9" * 5_000, 3600.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("Sun Nov  6 08:49:37 1994", None),
        ("-1", None),
        ("1.5", None),
        ("nan", None),
        ("soon", None),
        ("", None),
    ],
)
async def test_when_to_come_back_is_told_if_it_makes_sense(
    status: int, header: str, secs: float | None
):
    def refuse(connection: ServerConnection, request: Request) -> Response:
        response = connection.respond(HTTPStatus(status), "later")
        date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
        response.headers["Retry-After"] = date if header == IN_AN_HOUR else header
        return response

    async with server(lambda connection: None, process_request=refuse) as url:
        with pytest.raises(HydraConnectionError) as raised:
            async with websocket(url):
                pass
    told = raised.value.retry_after_secs
    # A date has whole seconds, and a busy machine takes some to read it.
    assert told == (secs if secs is None else pytest.approx(secs, abs=30 if secs == 3600 else 0))


@pytest.mark.parametrize("secs", [None, 7.0])
def test_an_error_survives_pickling_and_copying(secs: float | None):
    error = HydraConnectionError(FailureKind.CAPACITY, "full", secs)
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(copied) is HydraConnectionError
        assert vars(copied) == vars(error)
        assert str(copied) == "full"


async def test_a_certificate_that_nobody_vouches_for_is_refused(monkeypatch: pytest.MonkeyPatch):
    async with tls_server(monkeypatch) as url:
        with pytest.raises(HydraConnectionError, match=r"certificate of 127\.0\.0\.1") as raised:
            async with websocket(url):
                pass
    assert raised.value.kind is FailureKind.CONNECTIVITY


async def test_a_certificate_of_another_host_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(SELF_SIGNED))
    async with tls_server(monkeypatch) as url:
        async with websocket(url):
            pass
        with pytest.raises(HydraConnectionError, match="certificate of localhost") as raised:
            async with websocket(url.replace("127.0.0.1", "localhost")):
                pass
    assert raised.value.kind is FailureKind.CONNECTIVITY


async def test_a_server_that_accepts_and_says_nothing_times_out():
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        with contextlib.closing(writer):
            await reader.read()

    running = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with running:
        port = running.sockets[0].getsockname()[1]
        with pytest.raises(HydraConnectionError) as raised:
            async with websocket(f"ws://127.0.0.1:{port}/", timeout_secs=0.1):
                pass
    assert raised.value.kind is FailureKind.TIMEOUT


async def test_a_server_that_speaks_something_else_is_told_so():
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        with contextlib.closing(writer):
            writer.write(b"220 smtp ready\r\n")
            await writer.drain()

    running = await asyncio.start_server(other, "127.0.0.1", 0)
    async with running:
        port = running.sockets[0].getsockname()[1]
        with pytest.raises(HydraConnectionError, match="WebSocket") as raised:
            async with websocket(f"ws://127.0.0.1:{port}/"):
                pass
    assert raised.value.kind is FailureKind.CONNECTIVITY


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (1000, FailureKind.ENDED, "ended the session and closed"),
        (1013, FailureKind.CAPACITY, "has no room at the moment and closed"),
        (1011, FailureKind.SERVER, "failed and closed"),
        (1012, FailureKind.SERVER, "is being restarted and closed"),
        (1001, FailureKind.CONNECTIVITY, "is going away and closed"),
        (1009, FailureKind.CONNECTIVITY, "closed"),
        (4000, FailureKind.CONNECTIVITY, "closed"),
    ],
)
async def test_a_close_tells_why(code: int, kind: FailureKind, words: str):
    async def handler(connection: ServerConnection):
        await connection.close(code, "be\x1b[31mcause\n")

    async with server(handler) as url, websocket(url) as opened:
        assert [message async for message in messages_of(opened)] == []
        outcome = opened.outcome()
    assert outcome.kind is kind
    host = urlsplit(url).netloc
    reason = r"'be\x1b[31mcause\n'"
    told = f"Hydra at {host} {words} the connection (code {code}, {reason})"
    assert outcome.message == told
    assert outcome.retry_after_secs is None


async def test_a_close_without_a_code_tells_so():
    async def handler(connection: ServerConnection):
        connection.transport.write(b"\x88\x00")
        await connection.wait_closed()

    async with server(handler) as url, websocket(url) as opened:
        assert [message async for message in messages_of(opened)] == []
        assert opened.outcome().kind is FailureKind.CONNECTIVITY
        assert "closed the connection (code 1005)" in opened.outcome().message


async def test_a_connection_that_breaks_tells_so():
    async def handler(connection: ServerConnection):
        connection.transport.abort()

    async with server(handler) as url, websocket(url) as opened:
        assert [message async for message in messages_of(opened)] == []
        assert opened.outcome().kind is FailureKind.CONNECTIVITY
        assert "broke" in opened.outcome().message


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ProxyError("secret"), "proxy named in the environment"),
        (EOFError(), "does not speak the WebSocket protocol"),
        (OSError("secret"), "cannot be reached: OSError"),
        (OSError(113, "No route to host"), "cannot be reached: No route to host"),
        (ImportError("python-socks is required"), "(ImportError: python-socks is required)"),
        (ValueError("secret"), "cannot be reached (ValueError)"),
    ],
)
def test_what_keeps_a_connection_from_opening_is_told_without_the_url(error: Exception, told: str):
    failure = describe_failure(error, "example.com", 5.0)
    assert failure.kind is FailureKind.CONNECTIVITY
    assert told in failure.message
    assert "secret" not in failure.message


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"Unknown model\n", "HTTP 400, 'Unknown model'. "),
        (b"no model for secret", "HTTP 400, 'no model for [REDACTED]'. "),
        (b"x" * 115 + b" secret", "x [RED'. "),
        (b"<html>Bad request</html>", "HTTP 400. "),
        (b"", "HTTP 400. "),
    ],
)
def test_a_refusal_names_the_model_and_what_the_server_says(body: bytes, told: str):
    refused = InvalidStatus(Response(400, "Bad Request", Headers(), body))
    failure = describe_failure(
        refused,
        "example.com",
        5.0,
        model="hydra-v11",
        mask=lambda text: text.replace("secret", "[REDACTED]"),
    )
    assert failure.kind is FailureKind.CONFIGURATION
    assert told in failure.message
    assert failure.message.endswith("Check the model 'hydra-v11' and base_url")
    assert "secret" not in failure.message
