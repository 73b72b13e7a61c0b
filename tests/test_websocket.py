"""One WebSocket: where it connects to, how it fails, and that sending never waits."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from pipecat_hydra.effects import FailureKind
from pipecat_hydra.websocket import AuthStyle, Endpoint, HydraConnectionError, HydraWebSocket

KEY = SecretStr("sk-1 2&3")


def url_of(server: Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"ws://{host}:{port}/s2s"


@contextlib.asynccontextmanager
async def server(handler: Any, **options: Any) -> AsyncGenerator[str]:
    async with serve(handler, "127.0.0.1", 0, **options) as running:
        yield url_of(running)


@contextlib.asynccontextmanager
async def websocket(url: str, **options: Any) -> AsyncGenerator[HydraWebSocket]:
    options = {"timeout_secs": 5.0, "on_congested": lambda secs: None, **options}
    opened = await HydraWebSocket.open(Endpoint(url, "hydra-v1.1", KEY), **options)
    try:
        yield opened
    finally:
        await opened.close()


@pytest.mark.parametrize("auth", ["query", "header"])
async def test_the_key_goes_where_it_is_to_go(auth: AuthStyle):
    requests: list[Request] = []

    async def handler(connection: ServerConnection):
        assert connection.request is not None
        requests.append(connection.request)

    async with server(handler) as url:
        endpoint = Endpoint(f"{url}?region=eu", "hydra-v1.0", KEY, auth)
        opened = await HydraWebSocket.open(endpoint, timeout_secs=5, on_congested=print)
        assert [message async for message in opened.messages()] == []
        await opened.close()
    (request,) = requests
    query = parse_qs(urlsplit(request.path).query)
    assert query["model"] == ["hydra-v1.0"]
    assert query["region"] == ["eu"]
    if auth == "query":
        assert query["api_key"] == ["sk-1 2&3"]
        assert "Authorization" not in request.headers
    else:
        assert "api_key" not in query
        assert request.headers["Authorization"] == "Bearer sk-1 2&3"
    assert "Sec-WebSocket-Extensions" not in request.headers


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.smallest.ai/waves/v1/s2s",
        "api.smallest.ai",
        "",
        "wss://",
        "wss://example.com/s2s?api_key=k",
        "wss://example.com/s2s?model=hydra",
        "wss://user:secret@example.com/s2s",
    ],
)
def test_a_url_that_cannot_be_right_is_refused(base_url: str):
    with pytest.raises(ValueError, match="base_url") as raised:
        Endpoint(base_url, "hydra-v1.1", KEY)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, FailureKind.AUTHENTICATION),
        (403, FailureKind.AUTHENTICATION),
        (400, FailureKind.CONFIGURATION),
        (404, FailureKind.CONFIGURATION),
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


async def test_messages_arrive_whole_whatever_their_size_or_kind():
    large = "x" * 3_000_000

    async def handler(connection: ServerConnection):
        await connection.send("text")
        await connection.send(b"binary")
        await connection.send(large)

    async with server(handler) as url, websocket(url) as opened:
        messages = [message async for message in opened.messages()]
    assert messages == [b"text", b"binary", large.encode()]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1000, FailureKind.ENDED),
        (1013, FailureKind.CAPACITY),
        (1011, FailureKind.SERVER),
        (1001, FailureKind.CONNECTIVITY),
        (4000, FailureKind.CONNECTIVITY),
    ],
)
async def test_a_close_tells_why(code: int, kind: FailureKind):
    async def handler(connection: ServerConnection):
        await connection.close(code, "because")

    async with server(handler) as url, websocket(url) as opened:
        assert [message async for message in opened.messages()] == []
        assert opened.outcome().kind is kind
        assert str(code) in opened.outcome().message
        assert "because" in opened.outcome().message


async def test_a_connection_that_breaks_tells_so():
    async def handler(connection: ServerConnection):
        connection.transport.abort()

    async with server(handler) as url, websocket(url) as opened:
        assert [message async for message in opened.messages()] == []
        assert opened.outcome().kind is FailureKind.CONNECTIVITY
        assert "broke" in opened.outcome().message


async def test_what_is_sent_arrives_as_text_and_in_order():
    received: list[str | bytes] = []
    enough = asyncio.Event()

    async def handler(connection: ServerConnection):
        async for message in connection:
            received.append(message)
            if len(received) == 100:
                enough.set()

    async with server(handler) as url, websocket(url) as opened:
        for n in range(100):
            opened.send(f"message {n}".encode())
        await asyncio.wait_for(enough.wait(), 5)
    assert received == [f"message {n}" for n in range(100)]


async def test_a_server_that_does_not_read_costs_the_oldest_audio_and_nothing_else():
    received: list[str] = []
    read = asyncio.Event()
    done = asyncio.Event()

    async def handler(connection: ServerConnection):
        await read.wait()
        async for message in connection:
            received.append(str(message))
            if "last" in received[-1]:
                done.set()

    dropped: list[float] = []
    padding = "." * 100_000
    async with (
        server(handler, max_queue=1) as url,
        websocket(url, on_congested=dropped.append) as opened,
    ):
        opened.send(b"first")
        await asyncio.sleep(0.05)
        for n in range(200):
            if n % 40 == 20:
                opened.send(f"event {n}".encode())
            opened.send(f"audio {n} {padding}".encode(), audio_secs=0.1)
            await asyncio.sleep(0)
        opened.send(b"last")
        assert len(dropped) == 1
        assert opened._waiting_audio <= 5.0
        read.set()
        await asyncio.wait_for(done.wait(), 10)
    assert received[0] == "first"
    assert received[-1] == "last"
    events = [message for message in received if message.startswith("event")]
    assert events == [f"event {n}" for n in range(20, 200, 40)]
    audio = [int(m.split()[1]) for m in received if m.startswith("audio")]
    assert audio == sorted(audio)
    assert audio[-50:] == list(range(150, 200))
    assert len(audio) < 200


async def test_a_server_that_reads_nothing_at_all_is_left():
    over = asyncio.Event()

    async def handler(connection: ServerConnection):
        await over.wait()

    async with server(handler, max_queue=1, close_timeout=0.1) as url:
        async with websocket(url) as opened:
            for _ in range(1_100):
                opened.send(b"." * 50_000)
            assert [message async for message in opened.messages()] == []
            assert opened.outcome().kind is FailureKind.CONNECTIVITY
        over.set()


async def test_closing_twice_does_no_harm():
    async def handler(connection: ServerConnection):
        await connection.wait_closed()

    async with server(handler) as url:
        async with websocket(url) as opened:
            opened.send(b"x")
            await opened.close()
        opened.send(b"y")
        assert opened.outcome().kind is FailureKind.ENDED
