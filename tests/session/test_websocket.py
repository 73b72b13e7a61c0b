"""One WebSocket: sending never waits, what piles up is bounded, and a loss is noticed."""

import asyncio
import contextlib
import socket
import struct
import time
import tracemalloc
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from support.messages import messages_of
from support.network import HalfOpen
from support.sockets import server, url_of, websocket
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.session.websocket import Traffic

MIB = 2**20


def limit(monkeypatch: pytest.MonkeyPatch, **limits: float) -> None:
    """Have the module wait less long."""
    for name, value in limits.items():
        module = "heartbeat" if "PING" in name else "websocket"
        monkeypatch.setattr(f"pipecat_hydra.session.{module}._{name}", value)


async def test_a_close_is_polite_though_much_is_still_to_be_read():
    async def handler(connection: ServerConnection):
        with contextlib.suppress(ConnectionClosed):
            for _ in range(12):
                await connection.send("x" * 2**20)
        await connection.wait_closed()

    async with server(handler) as url, websocket(url) as made:
        async for _ in messages_of(made):
            break
    # Dropped without the server's answer, it would be CONNECTIVITY.
    assert made.outcome().kind is FailureKind.ENDED


async def test_messages_arrive_whole_whatever_their_size_or_kind():
    large = "x" * 3_000_000

    async def handler(connection: ServerConnection):
        await connection.send("text")
        await connection.send(b"binary")
        await connection.send(large)

    async with server(handler) as url, websocket(url) as opened:
        messages = [message async for message in messages_of(opened)]
    assert messages == [b"text", b"binary", large.encode()]


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


async def test_bytes_are_counted_over_one_connection_and_the_next():
    traffic = Traffic()

    async def handler(connection: ServerConnection):
        message = await connection.recv(decode=True)
        await connection.send(message * 3)

    async with server(handler) as url:
        for _ in range(2):
            async with websocket(url, traffic=traffic) as opened:
                opened.send("käse".encode())
                assert [message async for message in messages_of(opened)] == ["käse".encode() * 3]
    assert traffic == Traffic(sent_bytes=10, received_bytes=30)


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


@contextlib.asynccontextmanager
async def deaf_server() -> AsyncGenerator[str]:
    """A server that reads nothing, not even pings."""
    over = asyncio.Event()

    async def handler(connection: ServerConnection):
        connection.transport.pause_reading()
        await over.wait()
        connection.transport.abort()

    async with server(handler) as url:
        try:
            yield url
        finally:
            over.set()


async def test_a_server_that_takes_nothing_is_left(monkeypatch: pytest.MonkeyPatch):
    limit(monkeypatch, STALL_TIMEOUT_SECS=0.2)
    async with deaf_server() as url, websocket(url) as opened:
        for _ in range(200):
            opened.send(b"." * 100_000, audio_secs=0.001)
        async with asyncio.timeout(5):
            assert [message async for message in messages_of(opened)] == []
        assert opened.outcome().kind is FailureKind.TIMEOUT
        assert "takes no data" in opened.outcome().message
        assert "0.2 s" in opened.outcome().message


async def test_an_event_loop_that_stood_still_is_not_taken_for_a_server_that_takes_nothing():
    async def handler(connection: ServerConnection):
        connection.transport.pause_reading()
        await asyncio.sleep(1.0)
        time.sleep(30.0)  # noqa: ASYNC251
        connection.transport.resume_reading()
        for _ in range(200):
            await connection.recv()
        await connection.send("all of it")

    async with server(handler) as url, websocket(url) as opened:
        for _ in range(200):
            opened.send(b"." * 100_000)
            await asyncio.sleep(0)
        assert [message async for message in messages_of(opened)] == [b"all of it"]


async def test_what_waits_for_a_server_that_does_not_read_is_bounded():
    async with deaf_server() as url, websocket(url) as opened:
        for _ in range(1_000):
            opened.send(b"." * 100_000)
        assert sum(len(message) for message, _ in opened._waiting) < 17 * MIB
        async with asyncio.timeout(5):
            assert [message async for message in messages_of(opened)] == []
        assert opened.outcome().kind is FailureKind.TIMEOUT
        assert "too much waits" in opened.outcome().message


async def test_one_large_message_is_sent():
    received = asyncio.Event()

    async def handler(connection: ServerConnection):
        assert len(await connection.recv(decode=False)) == 20 * MIB
        received.set()

    async with server(handler, max_size=None) as url, websocket(url) as opened:
        opened.send(b"." * 20 * MIB)
        await asyncio.wait_for(received.wait(), 10)


async def test_closing_does_not_wait_for_what_cannot_be_sent(monkeypatch: pytest.MonkeyPatch):
    limit(monkeypatch, CLOSE_TIMEOUT_SECS=0.2)
    async with deaf_server() as url, websocket(url) as opened:
        for _ in range(100):
            opened.send(b"." * 100_000)
        await asyncio.sleep(0.1)
        assert opened._connection.transport.get_write_buffer_size()
        async with asyncio.timeout(5):
            await opened.close()


async def test_a_network_that_is_gone_is_noticed(monkeypatch: pytest.MonkeyPatch):
    limit(monkeypatch, PING_INTERVAL_SECS=0.05)

    async def handler(connection: ServerConnection):
        await connection.send("hello")
        await connection.wait_closed()

    async with (
        server(handler, close_timeout=0.1) as url,
        HalfOpen(url) as network,
        websocket(network.url) as opened,
    ):
        messages = messages_of(opened)
        assert await anext(messages) == b"hello"
        network.go_away()
        gone_at = asyncio.get_running_loop().time()
        async with asyncio.timeout(5):
            assert [message async for message in messages] == []
        assert opened.outcome().kind is FailureKind.TIMEOUT
        assert "does not answer any more: nothing came for 0.2 s" in str(opened.outcome())
        assert opened.unheard_since is not None
        assert gone_at - 1 < opened.unheard_since <= gone_at


async def test_a_server_that_only_answers_pings_is_kept(monkeypatch: pytest.MonkeyPatch):
    limit(monkeypatch, PING_INTERVAL_SECS=0.05)

    async def handler(connection: ServerConnection):
        await asyncio.sleep(0.5)
        await connection.send("at last")

    async with server(handler) as url, websocket(url) as opened:
        assert [message async for message in messages_of(opened)] == [b"at last"]


class Pongless(ServerConnection):
    """A server that answers no pings."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        send_frame = self.protocol.send_frame

        def send_frame_but_pongs(frame: Frame) -> None:
            if frame.opcode is not Opcode.PONG:
                send_frame(frame)

        self.protocol.send_frame = send_frame_but_pongs


@pytest.mark.parametrize("then", ["sends", "is silent"])
async def test_a_server_that_answers_no_pings_is_kept(then: str):
    async def handler(connection: ServerConnection):
        await asyncio.sleep(1.0)
        await connection.send("hello")
        for _ in range(6):
            await asyncio.sleep(10.0)
            if then == "sends":
                await connection.send("still here")
        await connection.send("bye")

    async with server(handler, create_connection=Pongless) as url, websocket(url) as opened:
        messages = [message async for message in messages_of(opened)]
        assert opened.outcome().kind is FailureKind.ENDED
    assert messages[0] == b"hello"
    assert messages[-1] == b"bye"


@pytest.mark.parametrize("line", ["silent from the start", "takes no data"])
async def test_a_server_that_answers_no_pings_is_left_when_it_is_gone(line: str):
    over = asyncio.Event()

    async def handler(connection: ServerConnection):
        if line == "takes no data":
            await asyncio.sleep(1.0)
            await connection.send("hello")
            connection.transport.pause_reading()
        await over.wait()
        connection.transport.abort()

    with socket.socket() as listening:
        # What is not read fills it soon, and then nothing more is acknowledged.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        listening.bind(("127.0.0.1", 0))
        async with (
            serve(
                handler,
                sock=listening,
                create_connection=Pongless,
                max_size=None,
                close_timeout=0.1,
            ) as running,
            websocket(url_of(running)) as opened,
        ):
            began = asyncio.get_running_loop().time()
            opened.send(b"." * 4_000_000 if line == "takes no data" else b".")
            messages = [message async for message in messages_of(opened)]
            took = asyncio.get_running_loop().time() - began
            outcome = opened.outcome()
            over.set()
    assert messages == ([b"hello"] if line == "takes no data" else [])
    assert outcome.kind is FailureKind.TIMEOUT
    assert took < 20.0
    assert opened.unheard_since is not None
    assert opened.unheard_since - began < 6.0


async def test_who_is_slow_to_read_is_not_taken_for_a_server_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
):
    limit(monkeypatch, PING_INTERVAL_SECS=0.02)

    async def handler(connection: ServerConnection):
        for n in range(100):
            await connection.send(f"{n}" + "." * 100_000)

    async with server(handler) as url, websocket(url) as opened:
        messages = messages_of(opened)
        received = [await anext(messages)]
        await asyncio.sleep(0.5)
        received += [message async for message in messages]
        assert opened.outcome().kind is FailureKind.ENDED
    assert len(received) == 100


async def test_an_event_loop_that_stood_still_is_not_taken_for_a_server_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
):
    limit(monkeypatch, PING_INTERVAL_SECS=0.02)

    async def handler(connection: ServerConnection):
        for _ in range(3):
            await asyncio.sleep(0.03)
            time.sleep(0.2)  # noqa: ASYNC251
        await connection.send("at last")

    async with server(handler) as url, websocket(url) as opened:
        assert [message async for message in messages_of(opened)] == [b"at last"]


def frames(size: int, total: int) -> tuple[bytes, bytes, int]:
    """Header of the first frame, header of each later one, and how many there are."""
    if size == total:
        return struct.pack("!BBQ", 0x81, 127, size), b"", 1
    return (
        struct.pack("!BBQ", 0x01, 127, size),
        struct.pack("!BBQ", 0x00, 127, size),
        total // size,
    )


@pytest.mark.parametrize("frame", [50 * MIB, MIB], ids=["whole", "in parts"])
async def test_a_giant_event_is_refused_in_bounded_memory(frame: int):
    part = b"x" * 65_536

    async def handler(connection: ServerConnection):
        first, later, count = frames(frame, 50 * MIB)
        for n in range(count):
            connection.transport.write(later if n else first)
            for _ in range(frame // len(part)):
                connection.transport.write(part)
                await connection.drain()
                # A client that reads without end must get a turn.
                await asyncio.sleep(0)

    async with server(handler, close_timeout=0.1) as url, websocket(url) as opened:
        tracemalloc.start()
        try:
            assert [message async for message in messages_of(opened)] == []
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert opened.outcome().kind is FailureKind.SERVER
        assert "an event larger than 16 MiB" in opened.outcome().message
    assert peak < 20 * MIB


async def test_a_giant_event_ends_also_when_the_server_goes_on_sending_it(
    monkeypatch: pytest.MonkeyPatch,
):
    limit(monkeypatch, PING_INTERVAL_SECS=0.05, CLOSE_TIMEOUT_SECS=0.2)

    async def handler(connection: ServerConnection):
        connection.transport.pause_reading()
        connection.transport.write(struct.pack("!BBQ", 0x81, 127, 2**40))
        while not connection.transport.is_closing():
            connection.transport.write(b"x" * 65_536)
            await connection.drain()
            await asyncio.sleep(0.001)

    async with server(handler, close_timeout=0.1) as url, websocket(url) as opened:
        async with asyncio.timeout(5):
            assert [message async for message in messages_of(opened)] == []
        assert "an event larger than 16 MiB" in opened.outcome().message


async def test_events_that_nobody_reads_slow_the_server():
    sent = 0

    async def handler(connection: ServerConnection):
        nonlocal sent
        with contextlib.suppress(ConnectionError):
            while True:
                await connection.send("." * MIB)
                sent += 1

    async with server(handler, close_timeout=0.1) as url, websocket(url) as opened:
        messages = messages_of(opened)
        await anext(messages)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)
        assert len(opened._connection._unread) <= 1
        opened.abort()


async def test_closing_twice_does_no_harm():
    async def handler(connection: ServerConnection):
        await connection.wait_closed()

    async with server(handler) as url:
        async with websocket(url) as opened:
            opened.send(b"x")
            await opened.close()
        opened.send(b"y")
        assert opened.outcome().kind is FailureKind.ENDED


async def test_a_task_that_dies_ends_the_connection(warnings: list[str]):
    name = "hydra-websocket-pinger"

    async def handler(connection: ServerConnection):
        await connection.wait_closed()

    async with server(handler) as url, websocket(url) as opened:
        (task,) = (task for task in asyncio.all_tasks() if task.get_name() == name)
        task.cancel()
        async with asyncio.timeout(5):
            assert [message async for message in messages_of(opened)] == []
        outcome = opened.outcome()
        opened.send(b"x")
    assert outcome.kind is FailureKind.SERVER
    assert "failed (cancelled by somebody else)" in outcome.message
    # The server is not gone, and has heard what was sent.
    assert opened.unheard_since is None
    assert f"the task {name} died" in warnings[0]
