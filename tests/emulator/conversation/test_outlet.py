"""The outlet: ids, the chain of items, and one order of all that is written."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from emulator.offline import outlet, types
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from pipecat_hydra.emulator import Activity, Binary, Ending, Jitter, Reorder
from pipecat_hydra.emulator.conversation.outlet import Outlet
from pipecat_hydra.emulator.wire.events import ProtocolError

DELTA = "response.output_audio.delta"


@asynccontextmanager
async def written(out: Outlet) -> AsyncGenerator[ClientConnection]:
    """Connect a client to which the outlet writes."""

    async def run(websocket: ServerConnection) -> None:
        await out.run(websocket)

    async with serve(run, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", compression=None) as client:
            yield client


async def read(client: ClientConnection) -> list[Any]:
    """All that comes until the end: events, and frames that are none."""
    frames: list[Any] = []
    try:
        async for frame in client:
            frames.append(json.loads(frame) if isinstance(frame, str) else frame)
    except ConnectionClosed:
        pass
    return frames


def test_events_get_ids_of_their_own() -> None:
    out, session = outlet()
    out.send({"type": "a"})
    out.send({"type": "a"})
    out.send({"type": "a", "event_id": "sv_given"})
    first, second, third = (record.event["event_id"] for record in session.sent)
    assert first.startswith("sv_")
    assert first != second
    assert third == "sv_given"


def test_items_form_a_chain() -> None:
    out, session = outlet()
    user, reply = ({"id": name, "type": "message"} for name in ("item_1", "item_2"))
    out.item_added(user)
    out.item_added(reply)
    out.item_done(user)
    out.item_done(reply)
    out.item_done({"id": "item_never_added"})
    chain = [(r.event["item"]["id"], r.event["previous_item_id"]) for r in session.sent]
    assert chain == [
        ("item_1", None),
        ("item_2", "item_1"),
        ("item_1", None),
        ("item_2", "item_1"),
        ("item_never_added", None),
    ]


@pytest.mark.parametrize(
    ("settings", "key"), [({}, "delta"), ({"audio_key": "audio"}, "audio")], ids=["delta", "audio"]
)
@pytest.mark.parametrize("lines", [False, True])
async def test_audio_is_written_in_the_form_that_is_set(
    settings: dict[str, Any], key: str, lines: bool
) -> None:
    out, session = outlet(base64_lines=lines, **settings)
    pcm = bytes(range(256))
    async with written(out) as client:
        out.send({"type": DELTA}, audio=pcm)
        out.close(1000)
        (event,) = await read(client)
    assert set(event) == {"event_id", "type", key}
    assert ("\n" in event[key]) == lines
    assert base64.b64decode(event[key]) == pcm
    assert session.sent[0].audio_bytes == len(pcm)


def test_a_problem_is_sent_as_an_error() -> None:
    out, session = outlet()
    out.error(ProtocolError("invalid_frame", "no JSON", param="a.b", event_id="ev_1"))
    (error,) = session.errors
    assert error["code"] == "invalid_frame"
    assert error["param"] == "a.b"
    assert error["event_id"] == "ev_1"


def test_the_hook_is_told_of_each_event() -> None:
    told: list[Activity] = []
    out, session = outlet(hook=told.append)
    out.send({"type": "a"})
    assert [(activity.kind, activity.record) for activity in told] == [("sent", session.sent[0])]


async def test_audio_is_encoded_on_the_wire_and_counted_in_the_record() -> None:
    out, session = outlet()
    out.send({"type": DELTA, "response_id": "resp_1"}, audio=b"\1\2\3")
    out.close(1000)
    async with written(out) as client:
        (event,) = await read(client)
    assert base64.b64decode(event["delta"]) == b"\1\2\3"
    (record,) = session.sent
    assert record.audio_bytes == 3
    assert "delta" not in record.event
    assert session.sent_audio("resp_1") == b"\1\2\3"


@pytest.mark.parametrize(("how", "code"), [(1000, 1000), (4000, 4000), ("eof", 1006)])
async def test_the_end_comes_after_all_that_was_sent_before(how: Ending, code: int) -> None:
    out, session = outlet()
    for number in range(20):
        out.send({"type": f"event_{number}"})
    out.close(how)
    out.close(1011)  # only the first counts
    out.send({"type": "too late"})
    assert out.closing
    async with written(out) as client:
        events = await read(client)
        assert [event["type"] for event in events] == types(session)
        assert len(events) == 20
        assert client.close_code == code


async def test_a_pause_holds_back_what_follows_it() -> None:
    out, _ = outlet(Jitter(probability=1.0, secs=10.0))
    out.send({"type": "a"})
    began = time.monotonic()
    async with written(out) as client:
        await client.recv()
        assert 0.1 < time.monotonic() - began < 10.0
        assert out.last_sent == pytest.approx(time.monotonic(), abs=0.1)
        out.close(1000)
        await read(client)


async def test_frames_that_are_no_events_are_written_and_not_recorded() -> None:
    out, session = outlet(Binary(probability=1.0, size=7))
    out.send({"type": "a"})
    out.close(1000)
    async with written(out) as client:
        event, binary = await read(client)
    assert event["type"] == "a"
    assert len(binary) == 7
    assert types(session) == ["a"]


async def test_an_event_that_is_held_back_goes_before_the_end() -> None:
    out, session = outlet(Reorder(probability=1.0))
    out.send({"type": "held"})
    assert types(session) == []
    out.close(1000)
    async with written(out) as client:
        assert [event["type"] for event in await read(client)] == ["held"]


async def test_what_was_abandoned_is_not_written() -> None:
    out, session = outlet(Reorder(probability=1.0))
    out.send({"type": "held"})
    out.abandon()
    out.send({"type": "later"})
    assert types(session) == []
    assert out.closing


async def test_producers_wait_for_a_client_that_does_not_read() -> None:
    out, _ = outlet()
    await out.room()
    out.send({"type": DELTA}, audio=bytes(4 * 2**20))
    waiting = asyncio.create_task(out.room())
    await asyncio.sleep(1)
    assert not waiting.done()
    out.abandon()
    await waiting


async def test_a_client_that_goes_away_ends_the_writing() -> None:
    out, _ = outlet()
    async with written(out) as client:
        client.transport.abort()
        async with asyncio.timeout(10):
            while not out.closing:
                out.send({"type": "a"})
                await asyncio.sleep(0.1)
    await out.room()
