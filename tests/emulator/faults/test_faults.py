"""Faults of the emulator, as a bare WebSocket client meets them."""

import asyncio
import base64
import json
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any, cast

import pytest
from emulator.client import SILENCE, eventually, fast, recording
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from pipecat_hydra.emulator import (
    Activity,
    Binary,
    Call,
    Drop,
    Duplicate,
    EmulatorSettings,
    Ending,
    Fault,
    FaultError,
    FaultPlan,
    Full,
    Garbage,
    Giant,
    HandshakeStep,
    Hang,
    HydraEmulator,
    Jitter,
    LateAudio,
    Missing,
    OddSplits,
    Rate,
    Refuse,
    RejectVoice,
    Reorder,
    Say,
    SlowReader,
    Unknown,
    parse_fault,
)
from pipecat_hydra.emulator.faults.kinds import FAULTS, OPTIONAL_FIELDS
from pipecat_hydra.emulator.faults.random_faults import MAX_FAILURES_IN_A_ROW
from pipecat_hydra.emulator.model.turn_detection import TurnDetector
from pipecat_hydra.emulator.wire.backlog import Backlog

DELTA = "response.output_audio.delta"
ENDINGS: list[Ending] = ["reset", "eof", 1000, 1001, 1011, 1012, 1013, 4000]


class Caller:
    """A bare client: it keeps each frame that came, and when."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self.frames: list[str | bytes] = []
        self.times: list[float] = []
        self.cause: BaseException | None = None
        self._changed = asyncio.Event()

    @property
    def events(self) -> list[dict[str, Any]]:
        """What of it are events."""
        events: list[Any] = []
        for frame in self.frames:
            with suppress(ValueError, RecursionError):
                events.append(json.loads(frame))
        return [e for e in events if isinstance(e, dict) and isinstance(e.get("type"), str)]

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def audio(self) -> bytes:
        deltas = [event["delta"] for event in self.events if event["type"] == DELTA]
        return b"".join(base64.b64decode(delta) for delta in deltas)

    async def read(self) -> None:
        try:
            async for frame in self.websocket:
                self.frames.append(frame)
                self.times.append(time.monotonic())
                self._changed.set()
        except ConnectionClosed as closed:
            self.cause = closed.__cause__

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def got(self, kind: str, count: int = 1) -> dict[str, Any]:
        await self.until(lambda: self.types.count(kind) >= count)
        return [event for event in self.events if event["type"] == kind][count - 1]

    async def send(self, kind: str, **fields: Any) -> None:
        await self.websocket.send(json.dumps({"type": kind, **fields}))

    async def configure(self, **session: Any) -> dict[str, Any]:
        await self.send("session.configure", session={"voice": "aria", **session})
        return (await self.got("session.configured"))["session"]

    async def say(self, pcm: bytes) -> None:
        for start in range(0, len(pcm), 3_200):
            audio = base64.b64encode(pcm[start : start + 3_200].ljust(320, b"\0")).decode()
            await self.send("input_audio_buffer.append", audio=audio)

    async def sync(self) -> None:
        """Wait until the server has taken all that was sent."""
        errors = self.types.count("error")
        await self.send("no.such.event")
        await self.got("error", errors + 1)

    async def closed(self) -> int:
        async with asyncio.timeout(20):
            await self.websocket.wait_closed()
        assert self.websocket.close_code is not None
        return self.websocket.close_code


def url(hydra: HydraEmulator) -> str:
    return f"{hydra.url}?api_key={hydra.api_key}"


@asynccontextmanager
async def dialled(hydra: HydraEmulator) -> AsyncGenerator[Caller]:
    async with connect(url(hydra), compression=None, max_size=None, close_timeout=1) as websocket:
        caller = Caller(websocket)
        reader = asyncio.create_task(caller.read())
        try:
            yield caller
        finally:
            await websocket.close()
            await reader


def hydra(*faults: Fault, responder: Any = "echo", seed: int = 0, **settings: Any) -> HydraEmulator:
    """An emulator with these faults, which answers at once."""
    return HydraEmulator(
        responder,
        settings=EmulatorSettings(**fast(**settings)),
        faults=FaultPlan(faults, seed),
    )


@asynccontextmanager
async def called(
    *faults: Fault, responder: Any = "echo", seed: int = 0, **settings: Any
) -> AsyncGenerator[tuple[HydraEmulator, Caller]]:
    emulator = hydra(*faults, responder=responder, seed=seed, **settings)
    async with emulator, dialled(emulator) as caller:
        yield emulator, caller


async def blocked(websocket: ClientConnection, frame: str) -> None:
    """Send frames until the server takes no more, which has to be within 200 MB."""
    for _ in range(200_000_000 // len(frame)):
        try:
            async with asyncio.timeout(1):
                await websocket.send(frame)
        except TimeoutError:
            return
    raise AssertionError("the server takes everything")


async def greeted(caller: Caller) -> None:
    """Have a reply of tones, to the end."""
    await caller.configure(generate_initial_response=True)
    await caller.got("response.done")


def kinds(hydra: HydraEmulator) -> list[str]:
    return [record.kind for record in hydra.injected]


# Before there is a session.


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_refuse(status: int) -> None:
    async with hydra(Refuse(status, times=2)) as emulator:
        for _ in range(2):
            with pytest.raises(InvalidStatus) as caught:
                await connect(url(emulator))
            assert caught.value.response.status_code == status
            assert "Retry-After" not in caught.value.response.headers
        assert emulator.sessions == []
        async with dialled(emulator) as caller:
            await caller.configure()
        assert kinds(emulator) == ["refuse", "refuse"]
        assert [record.connection for record in emulator.injected] == [1, 2]


async def test_refuse_may_say_when_to_come_again() -> None:
    async with hydra(Refuse(429, 7)) as emulator:
        for _ in range(3):  # for ever
            with pytest.raises(InvalidStatus) as caught:
                await connect(url(emulator))
            assert caught.value.response.headers["Retry-After"] == "7"


async def test_full() -> None:
    async with hydra(Full(times=1)) as emulator:
        async with dialled(emulator) as caller:
            assert await caller.closed() == 1013
            assert [event["error"]["code"] for event in caller.events] == ["server_full"]
        async with dialled(emulator) as caller:
            await caller.configure()
        assert kinds(emulator) == ["full"]
        assert emulator.sessions[0].injected_of("full") == emulator.injected


async def test_hang_at_the_upgrade() -> None:
    async with hydra(Hang(times=1)) as emulator:
        with pytest.raises(TimeoutError):
            await connect(url(emulator), open_timeout=0.2)
        assert emulator.sessions == []
        async with dialled(emulator) as caller:
            await caller.configure()
        assert kinds(emulator) == ["hang"]


async def test_hang_at_the_upgrade_may_end() -> None:
    began = time.monotonic()
    async with called(Hang(secs=0.2)) as (_, caller):
        assert time.monotonic() - began >= 0.2
        await caller.configure()


@pytest.mark.parametrize(("step", "before"), [("created", []), ("configured", ["session.created"])])
async def test_hang_in_the_handshake(step: HandshakeStep, before: list[str]) -> None:
    async with called(Hang(step, times=1)) as (emulator, caller):
        await caller.send("session.configure", session={})
        await eventually(lambda: kinds(emulator) == ["hang"])
        await asyncio.sleep(0.1)
        assert caller.types == before
        assert not emulator.sessions[0].configured


@pytest.mark.parametrize("step", ["created", "configured"])
async def test_hang_in_the_handshake_may_end(step: HandshakeStep) -> None:
    async with called(Hang(step, 0.2)) as (emulator, caller):
        await caller.configure()
        assert emulator.sessions[0].sent_of("session.configured")[0].time >= 0.2


async def test_reject_voice() -> None:
    async with called(RejectVoice()) as (emulator, caller):
        await caller.send("session.configure", event_id="mine", session={"voice": "aria"})
        error = (await caller.got("error"))["error"]
        assert error["code"] == "invalid_request_error"
        assert error["param"] == "session.configure.session.voice"
        assert error["event_id"] == "mine"
        assert not emulator.sessions[0].configured
        assert kinds(emulator) == ["reject_voice"]


@pytest.mark.parametrize("how", ["reset", "eof"])
async def test_drop_before_the_upgrade(how: Ending) -> None:
    async with hydra(Drop(how, "upgrade", times=1)) as emulator:
        with pytest.raises((InvalidMessage, ConnectionResetError)) as caught:
            await connect(url(emulator), open_timeout=5)
        cause = caught.value.__cause__
        if how == "eof":
            assert isinstance(cause, EOFError)
        assert emulator.sessions == []
        assert kinds(emulator) == ["drop"]
        async with dialled(emulator) as caller:
            await caller.configure()


# Connections that go.


@pytest.mark.parametrize("how", ENDINGS)
async def test_drop_when_so_many_events_were_sent(how: Ending) -> None:
    async with called(Drop(how, sent=5, times=1)) as (emulator, caller):
        await caller.send("session.configure", session={"generate_initial_response": True})
        assert await caller.closed() == (how if isinstance(how, int) else 1006)
        assert len(caller.events) == 5
        assert isinstance(caller.cause, ConnectionResetError) == (how == "reset")
        session = emulator.sessions[0]
        assert await session.wait_closed() == caller.websocket.close_code
        assert len(session.sent) == 5
        assert kinds(emulator) == ["drop"]
        async with dialled(emulator) as other:
            await greeted(other)


@pytest.mark.parametrize("how", ENDINGS)
async def test_drop_at_once(how: Ending) -> None:
    async with called(Drop(how)) as (_, caller):
        assert await caller.closed() == (how if isinstance(how, int) else 1006)
        assert caller.events == []


async def test_drop_counts_events_of_a_type() -> None:
    async with called(Drop(1011, sent=3, of=DELTA)) as (_, caller):
        await caller.send("session.configure", session={"generate_initial_response": True})
        assert await caller.closed() == 1011
        assert caller.types.count(DELTA) == 3
        assert caller.types[-1] == DELTA


async def test_drop_counts_what_came() -> None:
    fault = Drop("eof", received=2, of="response.cancel")
    async with called(fault) as (emulator, caller):
        await caller.configure()
        await caller.send("response.cancel")
        await caller.sync()
        await caller.send("response.cancel")
        assert await caller.closed() == 1006
        received = emulator.sessions[0].received
        assert [record.type for record in received][-3:] == [
            "response.cancel",
            "no.such.event",
            "response.cancel",
        ]


async def test_drop_after_some_time() -> None:
    async with called(Drop(secs=0.3)) as (emulator, caller):
        await caller.configure()
        assert await caller.closed() == 1006
        assert emulator.injected[0].time >= 0.3


async def test_a_connection_is_dropped_once() -> None:
    faults = [Drop(1011, sent=2), Drop("eof", sent=2), Drop(during="response"), Drop(secs=0.05)]
    async with called(*faults) as (emulator, caller):
        await caller.send("session.configure", session={"generate_initial_response": True})
        assert await caller.closed() == 1011
        await emulator.sessions[0].wait_closed()
        assert len(emulator.injected) == 1


async def test_drop_some_time_after_configured() -> None:
    async with called(Drop(during="configured", secs=0.2)) as (emulator, caller):
        await asyncio.sleep(0.4)
        assert not emulator.injected
        await caller.configure()
        assert await caller.closed() == 1006


async def test_drop_while_the_user_speaks() -> None:
    async with called(Drop(during="user_speech")) as (_, caller):
        await caller.configure()
        speaking = asyncio.create_task(caller.say(recording("hello") + SILENCE))
        assert await caller.closed() == 1006
        assert caller.types[-1] in ("input_audio_buffer.speech_started", "conversation.item.added")
        await asyncio.gather(speaking, return_exceptions=True)


@pytest.mark.parametrize("secs", [0.0, 0.2])
async def test_drop_while_a_response_is_delivered(secs: float) -> None:
    fault = Drop(during="response", secs=secs)
    async with called(fault, responder=[Say.tones(5)], delivery_speed=1) as (_, caller):
        await caller.configure()
        await caller.send("response.create")
        assert await caller.closed() == 1006
        assert "response.created" in caller.types
        assert "response.done" not in caller.types
        assert (DELTA in caller.types) == bool(secs)


async def test_a_moment_that_is_over_drops_nothing() -> None:
    faults = [
        Drop(during="response", secs=0.2),
        Drop(during="user_speech", secs=30),
        Drop(during="tool_call", secs=0.2),
    ]
    responder = [Call("look", call_id="call_1"), Say.tones()]
    async with called(*faults, responder=responder, delivery_speed=float("inf")) as (_, caller):
        await caller.configure()
        await caller.send("response.create")
        await caller.got("response.function_call_arguments.done")
        item = {"type": "function_call_output", "call_id": "call_1", "output": "{}"}
        await caller.send("conversation.item.create", item=item)
        await caller.say(recording("hello") + SILENCE)
        await caller.got("input_audio_buffer.speech_stopped")
        await asyncio.sleep(0.3)
        await caller.sync()


async def test_drop_while_a_call_is_open() -> None:
    async with called(Drop(during="tool_call", secs=0.1), responder=[Call("look")]) as (_, caller):
        await caller.configure()
        await caller.send("response.create")
        assert await caller.closed() == 1006
        assert "response.function_call_arguments.done" in caller.types


@pytest.mark.parametrize("how", ENDINGS)
async def test_a_test_may_drop_all_sessions(how: Ending) -> None:
    async with hydra() as emulator, dialled(emulator) as one, dialled(emulator) as other:
        await one.configure()
        await other.got("session.created")
        dropped = await emulator.drop(how)
        assert dropped == emulator.sessions
        assert emulator.open_sessions == []
        for caller in (one, other):
            assert await caller.closed() == (how if isinstance(how, int) else 1006)
        assert kinds(emulator) == ["drop", "drop"]
        assert await emulator.drop() == []


@pytest.mark.parametrize("how", ["reset", "eof", 1011])
async def test_a_client_that_does_not_read_is_dropped_all_the_same(how: Ending) -> None:
    emulator = hydra(responder=[Say.tones(300)], delivery_speed=float("inf"))
    async with emulator, connect(url(emulator), max_queue=1, close_timeout=0) as deaf:
        await deaf.send(json.dumps({"type": "session.configure", "session": {}}))
        session = await emulator.wait_for_session()
        await session.wait_for_sent("session.configured")
        await deaf.send(json.dumps({"type": "response.create"}))
        await session.wait_for_sent(DELTA, count=1_000)
        await emulator.drop(how)
        assert session.close_code == 1006


# Sessions that are other than usual.


async def test_slow_reader() -> None:
    async with called(SlowReader(0.3)) as (emulator, caller):
        await caller.configure()
        session = emulator.sessions[0]
        assert session.received[0].time >= 0.3
        assert kinds(emulator) == ["slow_reader"]
        await caller.sync()  # and then it is as fast as ever


async def test_slow_reader_may_begin_late_and_never_end() -> None:
    async with called(SlowReader(after_secs=0.3)) as (emulator, caller):
        await caller.configure()
        await asyncio.sleep(0.35)
        session = emulator.sessions[0]
        taken = len(session.received)
        await blocked(caller.websocket, "x" * 200_000)
        assert len(session.received) == taken
        began = time.monotonic()
        await emulator.stop()
        assert time.monotonic() - began < 5


async def test_rate() -> None:
    async with hydra(Rate(16_000), responder=[Say(bytes(4_800), 24_000)]) as emulator:
        for rate, size in ((24_000, 4_800), (16_000, 3_200), (16_000, 3_200)):
            async with dialled(emulator) as caller:
                assert (await caller.configure())["output_audio_sample_rate"] == rate
                await caller.send("response.create")
                await caller.got("response.done")
                assert len(caller.audio) == size
        assert kinds(emulator) == ["rate", "rate"]


async def test_late_audio() -> None:
    async with called(LateAudio(200), responder=[Say.tones(5)], delivery_speed=1) as (
        emulator,
        caller,
    ):
        await caller.configure()
        await caller.send("response.create")
        await caller.got(DELTA)
        await caller.send("response.cancel")
        await caller.got("response.done")
        await caller.sync()
        late = caller.types[caller.types.index("response.done") + 1 :]
        assert late[:-1] == [DELTA] * 5  # 40 ms each
        assert kinds(emulator) == ["late_audio"]


async def test_odd_splits() -> None:
    async with called(OddSplits(), responder=[Say.tones()]) as (emulator, caller):
        await caller.configure()
        await caller.send("response.create")
        await caller.got("response.done")
        sizes = [
            len(base64.b64decode(event["delta"]))
            for event in caller.events
            if event["type"] == DELTA
        ]
        assert any(size % 2 for size in sizes)
        assert caller.audio == emulator.sessions[0].sent_audio()


# Events that are other than usual.


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
    async with called(Giant(sent=2)) as (emulator, caller):
        await greeted(caller)
        assert len(caller.frames[2]) == 50_000_000
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


# Together.


async def test_faults_add_up() -> None:
    faults = [
        Refuse(times=1),
        Full(first=2, times=1),
        Drop(1012, sent=4, first=3, times=1),
        Duplicate(1.0, "session.created", first=3),
        Unknown(1.0, "session.configured", first=4, times=1),
    ]
    async with hydra(*faults) as emulator:
        with pytest.raises(InvalidStatus):
            await connect(url(emulator))
        for code, before in ((1013, ["error"]), (1012, ["session.created"] * 2)):
            async with dialled(emulator) as caller:
                with suppress(ConnectionClosed):
                    await caller.configure(generate_initial_response=True)
                assert await caller.closed() == code
                assert caller.types[:2] == before
        async with dialled(emulator) as caller:
            await greeted(caller)
        assert kinds(emulator) == ["refuse", "full", "duplicate", "drop", "duplicate", "unknown"]
        assert [record.connection for record in emulator.injected] == [1, 2, 3, 3, 4, 4]


async def test_the_same_seed_is_the_same_choice() -> None:
    faults = (
        Duplicate(0.3),
        Reorder(0.3),
        Missing(0.3),
        Unknown(0.3),
        Garbage(0.3),
        Binary(0.3),
        Jitter(0.1, secs=0.01),
    )

    async def seen(seed: int) -> list[list[tuple[str, str]]]:
        async with hydra(*faults, seed=seed, responder=[Say.tones()]) as emulator:
            for _ in range(2):
                async with dialled(emulator) as caller:
                    await caller.got("session.created")
                    await asyncio.sleep(0.1)  # whatever waits to be overtaken is out
                    await caller.send("session.configure", session={})
                    await caller.until(lambda: emulator.sessions[-1].configured)
            return [[(r.kind, r.detail) for r in s.injected] for s in emulator.sessions]

    once = await seen(1)
    assert once == await seen(1)
    assert once[0] != once[1]
    assert once != await seen(2)


async def test_faults_may_be_changed_while_it_runs() -> None:
    async with hydra(Refuse()) as emulator:
        with pytest.raises(InvalidStatus):
            await connect(url(emulator))
        emulator.faults = [Full(times=1)]
        assert emulator.faults == FaultPlan((Full(times=1),))
        async with dialled(emulator) as caller:  # counted from 1 again
            assert await caller.closed() == 1013
        async with dialled(emulator) as caller:
            emulator.faults = FaultPlan((Drop(during="response"),))
            await greeted(caller)  # the plan of its beginning stays


async def test_faults_are_told_as_they_happen() -> None:
    told: list[Activity] = []
    emulator = HydraEmulator(faults=[Duplicate(1.0, "session.created")], on_activity=told.append)
    async with emulator, dialled(emulator) as caller:
        await caller.got("session.created", 2)
        assert [a.kind for a in told] == ["opened", "injected", "sent", "sent"]
        assert told[1].fault == emulator.injected[0]


async def test_faults_are_not_kept_when_nothing_is() -> None:
    async with hydra(Refuse(times=1), Duplicate(1.0), record=False) as emulator:
        with pytest.raises(InvalidStatus):
            await connect(url(emulator))
        async with dialled(emulator) as caller:
            await caller.got("session.created", 2)
            assert emulator.injected == []


async def test_nothing_is_left_behind() -> None:
    before = asyncio.all_tasks()
    faults = [
        Hang(times=1),
        Hang("created", first=2, times=1),
        Hang("configured", first=3, times=1),
        SlowReader(first=4, times=1),
        Drop(secs=60, first=5),
        Reorder(1.0, first=5),
        Jitter(1.0, secs=60, first=6),
    ]
    async with hydra(*faults) as emulator:
        host, port = emulator.url.split("/")[2].split(":")
        _, silent = await asyncio.open_connection(host, int(port))
        hung = asyncio.create_task(connect(url(emulator)).__aenter__())
        await eventually(lambda: kinds(emulator) == ["hang"])
        callers = [await connect(url(emulator)) for _ in range(5)]
        for caller in callers:
            await caller.send(json.dumps({"type": "session.configure", "session": {}}))
        began = time.monotonic()
        await emulator.stop()
        assert time.monotonic() - began < 4.5  # a client that answers no close has its time
        assert asyncio.all_tasks() - before <= {hung, asyncio.current_task()}
        silent.close()
        for caller in callers:
            await caller.close()
        await asyncio.gather(hung, return_exceptions=True)
    await eventually(lambda: asyncio.all_tasks() == before)


# What waits is bounded.


async def test_a_response_waits_for_a_client_that_does_not_read() -> None:
    audio = random.Random(0).randbytes(48_000 * 400)
    emulator = hydra(
        responder=[Say(audio, 24_000)], delivery_speed=float("inf"), idle_timeout_secs=60
    )
    async with emulator, connect(url(emulator), max_queue=1, max_size=None) as websocket:
        caller = Caller(websocket)
        await caller.send("session.configure", session={})
        session = await emulator.wait_for_session()
        await session.wait_for_sent("session.configured")
        await caller.send("response.create")
        await session.wait_for_sent(DELTA, count=1_000)
        last = -1
        while last != (last := len(session.sent)):
            await asyncio.sleep(0.3)
        assert len(session.sent_audio()) < len(audio) * 2 / 3
        assert not session.sent_of("response.done")
        reader = asyncio.create_task(caller.read())
        await eventually(lambda: session.sent[-1].type == "response.done")
        await eventually(lambda: len(caller.frames) == len(session.sent))
        assert caller.audio == audio
        await websocket.close()
        await reader


async def test_no_more_is_read_of_a_client_that_does_not_read() -> None:
    async with hydra() as emulator, connect(url(emulator), max_queue=1, close_timeout=0) as deaf:
        event = {"type": "no.such.event", "event_id": "x" * 10_000}  # each error repeats it
        await blocked(deaf, json.dumps(event))
        deaf.transport.abort()  # what it has to say before a close would never get out
        sent = sum(len(json.dumps(record.event)) for record in emulator.sessions[0].sent)
        assert 4_000_000 < sent < 40_000_000


async def test_no_more_is_read_than_turn_detection_can_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = asyncio.Event()
    feed = TurnDetector.feed

    async def wait(self: TurnDetector, pcm: bytes) -> Any:
        await gate.wait()
        return await feed(self, pcm)

    monkeypatch.setattr(TurnDetector, "feed", wait)
    async with called(uplink_speed=1e9, uplink_burst_secs=1.0) as (emulator, caller):
        await caller.configure()
        saying = asyncio.create_task(caller.say(bytes(32_000 * 20)))
        session = emulator.sessions[0]
        await eventually(lambda: len(session.received_audio) >= 11 * 32_000)
        await asyncio.sleep(0.2)
        assert len(session.received_audio) <= 11 * 32_000 + 3 * 3_200
        gate.set()
        await saying
        await caller.sync()
        assert len(session.received_audio) == 20 * 32_000


async def test_backlog() -> None:
    backlog: Backlog[str] = Backlog(10)
    backlog.put("a", 9)
    await backlog.room()
    backlog.put("b", 9)  # over the limit, but never refused
    waiting = asyncio.create_task(backlog.room())
    await asyncio.sleep(0)
    assert (backlog.size, waiting.done()) == (18, False)
    assert await backlog.get() == "a"
    await waiting
    taking = [await backlog.get(), asyncio.create_task(backlog.get())]
    await asyncio.sleep(0)
    backlog.put("c")
    assert (taking[0], await cast("asyncio.Task[str]", taking[1])) == ("b", "c")
    backlog.put("d", 100)
    backlog.close()
    backlog.put("e", 100)
    assert backlog.size == 0
    await backlog.room()


# How faults are written.


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("full", Full()),
        ("refuse:status=429,retry_after=2", Refuse(429, 2)),
        ("hang:at=created,secs=0.5,times=2", Hang("created", 0.5, times=2)),
        ("drop:sent=3,how=reset,times=2", Drop("reset", sent=3, times=2)),
        ("drop:how=1011,during=response,secs=1.5", Drop(1011, "response", 1.5)),
        (f"drop:how=eof,received=2,of={DELTA}", Drop("eof", received=2, of=DELTA)),
        ("slow_reader:after_secs=1", SlowReader(after_secs=1.0)),
        ("rate:hz=48000,first=3", Rate(48_000, first=3)),
        (
            "missing:probability=1,fields=item_id+item.role",
            Missing(1, fields=("item_id", "item.role")),
        ),
        (" giant: size = 10 , sent=1 ", Giant(10, 1)),
    ],
)
def test_faults_are_read(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault
    assert parse_fault(str(fault)) == fault


@pytest.mark.parametrize("kind", FAULTS)
def test_every_fault_has_defaults_and_is_written_as_it_is_read(kind: str) -> None:
    fault = parse_fault(kind)
    assert (fault.kind, str(fault)) == (kind, kind)
    assert str(parse_fault(f"{kind}:first=3,times=2")) == f"{kind}:first=3,times=2"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "there is no fault ''; there are refuse, full"),
        ("explode", "there is no fault 'explode'"),
        ("drop:hows=1", "drop: no option 'hows=1'; there are first, times, how"),
        ("drop:how", "drop: no option 'how'"),
        ("drop:how=boom", "drop: how=boom: Input should be 'reset' or 'eof'; or: .* integer"),
        ("drop:how=1005", "drop: how cannot be 1005"),
        ("drop:how=70000", "drop: how cannot be 70000"),
        ("drop:during=lunch", "drop: during=lunch: Input should be 'upgrade', 'session'"),
        ("drop:sent=1,during=response", "an event is not counted during a moment"),
        ("drop:sent=1,received=1", "sent and received exclude each other"),
        ("drop:of=error", "of needs sent or received"),
        ("drop:how=1011,during=upgrade", "no close frame before the upgrade"),
        ("drop:sent=0", "sent cannot be 0"),
        ("full:times=0", "full: times cannot be 0"),
        ("full:first=0", "full: first cannot be 0"),
        ("full:times=many", "full: times=many: Input should be a valid integer"),
        ("refuse:status=200", "status cannot be 200"),
        ("refuse:status=599", "status cannot be 599"),
        ("hang:secs=-1", "secs cannot be -1"),
        ("hang:secs=nan", "secs cannot be nan"),
        ("duplicate:probability=1.1", "probability cannot be 1.1"),
        ("missing:fields=type", "fields cannot be type"),
        ("random:seed=1", "random: no option 'seed=1'"),
        ("random:violence=x", "random: no option 'violence=x'"),
        ("random:violence=2", "violence cannot be 2"),
    ],
)
def test_faults_that_cannot_be(text: str, problem: str) -> None:
    with pytest.raises(FaultError, match=problem):
        FaultPlan.parse([text])


def test_connections_are_chosen_by_number() -> None:
    def holders(fault: Fault) -> list[int]:
        return [number for number in range(1, 8) if fault.holds(number)]

    assert holders(Full()) == [1, 2, 3, 4, 5, 6, 7]
    assert holders(Full(times=2)) == [1, 2]
    assert holders(Full(first=6)) == [6, 7]
    assert holders(Full(first=3, times=2)) == [3, 4]


# Random plans.


@given(st.integers(), st.floats(0, 1), st.none() | st.sets(st.sampled_from(sorted(FAULTS))))
def test_a_random_plan_can_be_got_through(
    seed: int, violence: float, allowed: set[str] | None
) -> None:
    plan = FaultPlan.random(seed, violence=violence, kinds=allowed)
    assert plan == FaultPlan.random(seed, violence=violence, kinds=allowed)
    options = str(plan).split(" ")
    assert FaultPlan.parse(options[1:-2:2], seed=seed) == plan
    assert not plan.connection(9).faults
    failures = 0
    for number in range(1, 9):
        faults = plan.connection(number).faults
        for fault in faults:
            assert fault.times is not None
            assert not isinstance(fault, RejectVoice)
            if isinstance(fault, Refuse):
                assert fault.status == 429 or fault.status >= 500
            if isinstance(fault, SlowReader):
                assert fault.secs is not None
            if isinstance(fault, Missing):
                assert fault.fields == OPTIONAL_FIELDS
            if allowed is not None:
                assert fault.kind in allowed
        failures = failures + 1 if any(map(fails, faults)) else 0
        assert failures <= MAX_FAILURES_IN_A_ROW


def fails(fault: Fault) -> bool:
    """Whether a connection may not get to `session.configured`."""
    if isinstance(fault, Drop):
        return fault.during in ("upgrade", "session") and fault.of != DELTA and not fault.received
    return isinstance(fault, Refuse | Full | Hang)


def test_random_plans_differ_and_cover_everything() -> None:
    plans = [FaultPlan.random(seed, violence=1) for seed in range(200)]
    assert len({plan.faults for plan in plans}) > 150
    kinds = {fault.kind for plan in plans for fault in plan.faults}
    assert kinds == set(FAULTS) - {"reject_voice"}
    mild, wild = (
        sum(len(FaultPlan.random(seed, violence=violence).faults) for seed in range(100))
        for violence in (0.2, 1.0)
    )
    assert mild < wild
    assert FaultPlan.random(0, violence=0).faults == ()
    assert all(a != b for a, b in pairwise(plan.seed for plan in plans))


def test_a_random_plan_is_a_fault_on_the_command_line() -> None:
    plan = FaultPlan.parse(["full:times=1", "random:violence=1"], seed=5)
    assert plan.faults == (Full(times=1), *FaultPlan.random(5, violence=1).faults)
    assert FaultPlan.parse(["random"], seed=5) == FaultPlan.random(5)


def test_a_random_plan_of_unknown_kinds() -> None:
    with pytest.raises(FaultError, match="there is no fault 'explode'"):
        FaultPlan.random(0, kinds=["explode"])
