"""The emulator itself: start and stop, what it shows of its sessions, what it never shows."""

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from emulator.client import SILENCE, connected, emulated, eventually, fast, recording
from loguru import logger
from websockets.asyncio.client import connect

import pipecat_hydra.emulator
from pipecat_hydra.emulator import (
    Activity,
    Echo,
    EmulatorPortInUseError,
    EmulatorSettings,
    HydraEmulator,
    Say,
    Script,
)


@pytest.fixture
def log() -> Iterator[list[str]]:
    """Everything that is logged, by loguru and by the standard library, at any level."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler, root = Handler(), logging.getLogger()
    level = root.level
    sink = logger.add(lines.append, level=0)
    root.addHandler(handler)
    root.setLevel(1)
    # The client's side of these tests is not what is tested.
    logging.getLogger("websockets.client").setLevel(logging.WARNING)
    yield lines
    logging.getLogger("websockets.client").setLevel(logging.NOTSET)
    root.setLevel(level)
    root.removeHandler(handler)
    logger.remove(sink)


def test_public_names_are_sorted_and_exist() -> None:
    names = pipecat_hydra.emulator.__all__
    assert names == sorted(names)
    assert all(hasattr(pipecat_hydra.emulator, name) for name in names)


async def test_url_is_known_once_started() -> None:
    hydra = HydraEmulator()
    with pytest.raises(RuntimeError, match="no url yet"):
        _ = hydra.url
    async with hydra:
        assert hydra.url.startswith("ws://127.0.0.1:")
        assert hydra.url.endswith("/waves/v1/s2s")
        with pytest.raises(RuntimeError, match="running already"):
            await hydra.start()
    async with hydra, connected(hydra) as client:  # it can be started again
        await client.configure()


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost"])
async def test_url_can_be_reached(host: str) -> None:
    async with HydraEmulator(host=host) as hydra, connected(hydra) as client:
        await client.configure()


async def test_a_port_in_use_is_told_clearly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmulatorPortInUseError, match="choose another port") as caught:
            await HydraEmulator(port=port).start()
        assert f"port {port} on 127.0.0.1 is in use" in str(caught.value)


async def test_a_host_that_is_not_ours_is_an_os_error() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1") as caught:
        await HydraEmulator(host="192.0.2.1").start()
    assert not isinstance(caught.value, EmulatorPortInUseError)


async def test_stop_closes_sessions_and_leaves_nothing_running() -> None:
    before, threads = asyncio.all_tasks(), set(threading.enumerate())
    settings = EmulatorSettings(**fast(delivery_speed=1))
    async with HydraEmulator([Say.tones(30)], settings=settings) as hydra:
        async with connected(hydra) as client:
            await client.configure()
            await client.say(recording("hello"), SILENCE)
            await client.got("response.output_audio.delta")
            await hydra.stop()
            await hydra.stop()
            assert await client.closed() == 1001
        assert client.session.close_code == 1001
    assert hydra.open_sessions == []
    assert asyncio.all_tasks() == before
    # The thread of the VAD ends by itself, in real time.
    for thread in set(threading.enumerate()) - threads:
        if thread.name.startswith("ThreadPool"):
            await asyncio.to_thread(thread.join, 10)
            assert not thread.is_alive()


@pytest.mark.parametrize("end", ["stop", "idle"])
async def test_a_client_that_does_not_read_is_closed_all_the_same(end: str) -> None:
    settings = EmulatorSettings(
        delivery_speed=float("inf"), idle_timeout_secs=30.0 if end == "stop" else 0.5
    )
    greeting = Script([Say.tones()], greeting=Say.tones(120))
    async with HydraEmulator(greeting, settings=settings) as hydra:
        url = f"{hydra.url}?api_key={hydra.api_key}"
        async with connect(url, max_queue=1, max_size=None, close_timeout=0) as deaf:
            session = {"generate_initial_response": True}
            await deaf.send(json.dumps({"type": "session.configure", "session": session}))
            served = await hydra.wait_for_session()
            await served.wait_for_sent("response.output_audio.delta", count=1_000)
            if end == "stop":
                async with asyncio.timeout(5):
                    await hydra.stop()
            assert await served.wait_closed() == 1006


async def test_serve_forever_serves_until_cancelled() -> None:
    opened = asyncio.Event()
    hydra = HydraEmulator(on_activity=lambda activity: opened.set())
    serving = asyncio.create_task(hydra.serve_forever())
    await eventually(lambda: hydra.running)
    async with connected(hydra) as client:
        await client.configure()
        serving.cancel()
        assert await client.closed() == 1001
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert opened.is_set()
    assert not hydra.running


async def test_a_lost_connection_is_1006() -> None:
    async with HydraEmulator() as hydra, connected(hydra) as client:
        await client.configure()
        client.websocket.transport.abort()
        assert await client.session.wait_closed() == 1006


async def test_activity_is_told_as_it_happens() -> None:
    told: list[Activity] = []
    settings = EmulatorSettings(**fast())
    async with HydraEmulator(settings=settings, on_activity=told.append) as hydra:
        async with connected(hydra) as client:
            await client.configure(generate_initial_response=True)
            await client.got("response.done")
            await client.append(bytes(640))
        session = await hydra.wait_for_session()
        await session.wait_closed()
    assert {activity.session for activity in told} == {session}
    assert (told[0].kind, told[-1].kind) == ("opened", "closed")
    assert [a.record for a in told if a.kind == "sent"] == session.sent
    assert [a.record for a in told if a.kind == "received"] == session.received


async def test_a_failing_hook_harms_nobody(log: list[str]) -> None:
    def fail(activity: Activity) -> None:
        raise RuntimeError("hook")

    async with HydraEmulator(on_activity=fail) as hydra, connected(hydra) as client:
        await client.configure()
    assert any("activity hook failed" in line for line in log)


async def test_sessions_can_be_waited_for() -> None:
    async with HydraEmulator() as hydra:
        with pytest.raises(TimeoutError):
            await hydra.wait_for_session(within=0.01)
        waiting = asyncio.create_task(hydra.wait_for_session(1))
        async with connected(hydra), connected(hydra) as client:
            session = await waiting
            assert session is client.session
            expected = asyncio.create_task(session.wait_for_received("response.cancel", count=2))
            await client.configure()
            await client.send("response.cancel")
            await client.send("response.cancel")
            assert len(await expected) == 2
            with pytest.raises(
                TimeoutError, match=r"2 x session\.created did not .*'session\.created': 1"
            ):
                await session.wait_for_sent("session.created", count=2, within=0.01)
            with pytest.raises(TimeoutError, match="the close"):
                await session.wait_closed(within=0.01)


async def test_recording_can_be_off() -> None:
    settings = EmulatorSettings(**fast(record=False))
    async with HydraEmulator(settings=settings) as hydra:
        async with connected(hydra) as client:
            session = client.session
            await client.configure()
            await client.say(recording("hello"), SILENCE)
            await client.got("response.done")
        await session.wait_closed()
        assert (session.sent, session.received, session.received_audio) == ([], [], b"")
        assert session.sent_audio() == b""
    assert hydra.sessions == []


async def test_records_hold_no_audio_twice() -> None:
    async with emulated([Say(bytes(4_800), 24_000)]) as client:
        await client.configure()
        await client.send("response.create")
        done = (await client.got("response.done"))["response"]
        deltas = client.session.sent_of("response.output_audio.delta")
        assert sum(record.audio_bytes for record in deltas) == 4_800
        assert all("delta" not in record.event for record in deltas)
        assert client.session.sent_audio(done["id"]) == bytes(4_800)
        assert client.session.sent_audio("resp_other") == b""
        times = [record.time for record in client.session.sent]
        assert times == sorted(times)


async def test_the_key_and_what_is_said_show_nowhere(log: list[str]) -> None:
    key = "sk-very-secret-key"
    async with HydraEmulator(api_key=key, settings=EmulatorSettings(**fast())) as hydra:
        async with connected(hydra) as client:
            await client.configure(instructions="the user's words")
            await client.say(recording("hello"), SILENCE)
            await client.got("response.done")
            await client.websocket.send("the user's words")
            await client.got("error")
        with pytest.raises(Exception, match="404") as caught:
            await connect(f"{hydra.url}/no?api_key={key}").__aenter__()
        assert key not in str(caught.value)
        with pytest.raises(Exception, match="401"):
            await connect(f"{hydra.url}?api_key={key}-wrong").__aenter__()
        assert any("HTTP 401: Invalid API key" in line for line in log)
        shown = [repr(hydra), repr(client.session), *log]
        assert log  # Pipecat tells that it loads its VAD, at least
        assert not any(key in line or "words" in line for line in shown)


@pytest.mark.parametrize(
    "name", ["delivery_speed", "delta_ms", "idle_timeout_secs", "arguments_delta_chars"]
)
def test_settings_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be greater than 0"):
        EmulatorSettings(**{name: 0})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("responder", "given", "sent"),
    [
        ("echo", None, False),
        ([Say.tones()], None, False),
        ([Say.tones(0.6, "It is noon.")], None, True),
        ([Say.tones(0.6, "It is noon.")], False, False),
        ("echo", True, True),
        (Echo(), None, False),
    ],
)
def test_transcripts_are_those_of_the_script(
    responder: Any, given: bool | None, sent: bool
) -> None:
    hydra = HydraEmulator(responder, settings=EmulatorSettings(transcripts=given))
    assert hydra.settings.transcripts is sent


def test_transcripts_of_a_script_file_are_sent(tmp_path: Path) -> None:
    path = tmp_path / "script.yaml"
    path.write_text("turns: [{tones: 0.6, transcript: It is noon.}]")
    assert HydraEmulator(str(path)).settings.transcripts is True
    assert HydraEmulator(path, settings=EmulatorSettings(delta_ms=20)).settings.transcripts is True
