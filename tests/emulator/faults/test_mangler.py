"""Faults of single events: what is sent twice, late, cut, or besides."""

import base64
import json

from emulator.caller import DELTA, called, greeted, kinds
from emulator.client import eventually

from pipecat_hydra.emulator import (
    Binary,
    Drop,
    Duplicate,
    FaultPlan,
    Garbage,
    Giant,
    Jitter,
    Missing,
    Reorder,
    Say,
    Unknown,
)


async def test_duplicate() -> None:
    fault = Duplicate(1.0, "response.done")
    async with called(fault) as (emulator, caller):
        await greeted(caller)
        first, second = await caller.got("response.done"), await caller.got("response.done", 2)
        assert first == second
        assert caller.types.count("response.created") == 1
        assert [record.detail for record in emulator.injected] == ["response.done"]
        assert [record.type for record in emulator.sessions[0].sent] == caller.types


async def test_duplicated_audio_is_on_record_as_it_went_out() -> None:
    async with called(Duplicate(0.5)) as (emulator, caller):
        await greeted(caller)
        await caller.sync()
        session = emulator.sessions[0]
        assert session.sent_audio() == caller.audio
        audio = [record for record in session.injected_of("duplicate") if record.detail == DELTA]
        assert caller.types.count(DELTA) == len(audio) + len(
            {event["event_id"] for event in caller.events if event["type"] == DELTA}
        )


async def test_reorder() -> None:
    async with called(Reorder(1.0, "response.created")) as (emulator, caller):
        await greeted(caller)
        at = caller.types.index("response.created")
        assert caller.types[at - 1] == "conversation.item.added"
        assert kinds(emulator) == ["reorder"]
        assert [record.type for record in emulator.sessions[0].sent] == caller.types


async def test_an_event_that_nothing_overtakes_comes_all_the_same() -> None:
    async with called(Reorder(1.0)) as (emulator, caller):
        await caller.got("session.created")
        await greeted(caller)
        await eventually(lambda: len(caller.frames) == len(emulator.sessions[0].sent))
        assert sorted(caller.types) == sorted(r.type for r in emulator.sessions[0].sent)


async def test_an_event_to_be_overtaken_comes_before_the_end() -> None:
    async with called(Reorder(1.0), Drop(1011, sent=1)) as (_, caller):
        assert await caller.closed() == 1011
        assert caller.types == ["session.created"]


async def test_missing() -> None:
    async with called(Missing(1.0)) as (emulator, caller):
        await greeted(caller)
        await caller.sync()
        assert all("type" in event for event in caller.events)
        for event in caller.events:
            if event["type"].startswith("response.output_audio"):
                assert "response_id" in event
        usual = {"event_id", "item_id", "output_index", "content_index"}
        deltas = [event for event in caller.events if event["type"] == DELTA]
        assert {name for name in usual for delta in deltas if name not in delta} == usual
        assert all("delta" in delta for delta in deltas)
        told = emulator.sessions[0].injected[0].detail
        assert told.startswith("session.created: ")


async def test_missing_fields_may_be_named() -> None:
    fields = ("response_id", "response.usage", "delta")
    async with called(Missing(1.0, fields=fields)) as (emulator, caller):
        await greeted(caller)
        session = emulator.sessions[0]
        assert "event_id" in caller.events[0]
        assert not [record for record in session.injected if "session" in record.detail]
        assert "usage" not in (await caller.got("response.done"))["response"]
        deltas = [event for event in caller.events if event["type"] == DELTA]
        left = [base64.b64decode(event["delta"]) for event in deltas if "delta" in event]
        assert 0 < len(left) < len(deltas)
        assert session.sent_audio() != b""
        assert len(session.sent_audio()) == len(b"".join(left))


async def test_unknown() -> None:
    async with called(Unknown(1.0)) as (emulator, caller):
        await greeted(caller)
        await caller.sync()
        session = emulator.sessions[0]
        strange = [kind for kind in caller.types if kind.startswith("response.unheard_of")]
        assert len(strange) >= len(session.injected_of("unknown")) - 1 > 10


async def test_garbage() -> None:
    async with called(Garbage(1.0), responder=[Say.tones(3)]) as (emulator, caller):
        await greeted(caller)
        count = len(emulator.sessions[0].injected_of("garbage"))
        await caller.until(lambda: len(caller.frames) >= 2 * count)
        strange = caller.frames[1::2]
        assert all(isinstance(frame, str) for frame in strange)
        assert not any(frame in strange for frame in caller.frames[::2])
        assert len(set(strange)) > 5
        assert caller.frames[0] not in strange
        # What is no event is not on record as one.
        assert [record.type for record in emulator.sessions[0].sent] == [
            json.loads(frame)["type"] for frame in caller.frames[::2]
        ]


async def test_binary() -> None:
    async with called(Binary(1.0, "session.created", 1_000)) as (emulator, caller):
        await caller.configure()
        assert [len(frame) for frame in caller.frames if isinstance(frame, bytes)] == [1_000]
        assert kinds(emulator) == ["binary"]


async def test_giant() -> None:
    async with called(Giant(1_000_000, sent=2)) as (emulator, caller):
        await greeted(caller)
        assert len(caller.frames[2]) == 1_000_000
        assert caller.events[2]["type"] == "response.giant"
        assert kinds(emulator) == ["giant"]


async def test_jitter() -> None:
    fault = Jitter(1.0, "response.created", 0.5)
    rng = FaultPlan((fault,), 3).connection(1).rng
    rng.random()  # whether
    stall = rng.uniform(0, 0.5)
    async with called(fault, seed=3, delivery_speed=float("inf")) as (emulator, caller):
        await greeted(caller)
        assert kinds(emulator) == ["jitter"]
        at = caller.types.index("response.created")
        assert caller.times[at] - caller.times[at - 1] >= stall - 0.05
        assert stall > 0.1
        # The rest was generated meanwhile.
        done = emulator.sessions[0].sent_of("response.done")[0].time
        created = emulator.sessions[0].sent_of("response.created")[0].time
        assert done - created < stall
