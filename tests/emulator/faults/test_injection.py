"""Faults of a session: when it is dropped, what it holds back, which settings it changes."""

import asyncio
import base64
import json
import time

import pytest
from emulator.caller import DELTA, ENDINGS, blocked, called, dialled, greeted, hydra, kinds, url
from emulator.client import SILENCE, eventually, recording
from websockets.asyncio.client import connect

from pipecat_hydra.emulator import (
    Call,
    Drop,
    Encoding,
    Ending,
    Full,
    HandshakeStep,
    Hang,
    LateAudio,
    LateEnd,
    OddSplits,
    Rate,
    RejectConfiguration,
    RejectVoice,
    Say,
    SlowReader,
)


async def test_full() -> None:
    async with hydra(Full(times=1)) as emulator:
        async with dialled(emulator) as caller:
            assert await caller.closed() == 1013
            assert [event["error"]["code"] for event in caller.events] == ["server_full"]
        async with dialled(emulator) as caller:
            await caller.configure()
        assert kinds(emulator) == ["full"]
        assert emulator.sessions[0].injected_of("full") == emulator.injected


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


async def test_reject_configuration() -> None:
    async with called(RejectConfiguration("session.tools"), after_rejection="close") as (
        emulator,
        caller,
    ):
        await caller.send("session.configure", event_id="mine", session={"voice": "aria"})
        error = (await caller.got("error"))["error"]
        assert error["code"] == "invalid_request_error"
        assert error["param"] == "session.tools"
        assert error["event_id"] == "mine"
        assert await caller.closed() == 1000
        assert kinds(emulator) == ["reject_configuration"]


@pytest.mark.parametrize("how", ["session_ended", "internal_error"])
async def test_a_session_may_end_by_mere_words(how: Ending) -> None:
    async with called(Drop(how, sent=2)) as (emulator, caller):
        await caller.send("session.configure", session={})
        assert (await caller.got("error"))["error"]["code"] == how
        await caller.send("no event")
        await caller.send("response.create")
        await asyncio.sleep(0.2)
        assert caller.types == ["session.created", "session.configured", "error"]
        assert emulator.open_sessions
        assert kinds(emulator) == ["drop"]


async def test_late_end() -> None:
    responder = [Say.tones(2.0, "That is all.")]
    fault = LateEnd(200)
    async with called(fault, responder=responder, transcripts=True) as (emulator, caller):
        await caller.configure()
        await caller.send("response.create")
        await caller.got("response.output_audio.done")
        await caller.got("conversation.item.done")
        await caller.sync()
        late = caller.types[caller.types.index("response.done") + 1 :]
        assert late.count(DELTA) == 5  # 40 ms each
        assert late.count("response.output_audio_transcript.delta") == 1
        assert kinds(emulator) == ["late_end"]


async def test_encoding() -> None:
    async with called(Encoding(), responder=[Say.tones()]) as (emulator, caller):
        await caller.configure()
        await caller.send("response.create")
        await caller.got("response.done")
        deltas = [event for event in caller.events if event["type"] == DELTA]
        assert all("delta" not in event and "\n" in event["audio"] for event in deltas)
        audio = b"".join(base64.b64decode(event["audio"]) for event in deltas)
        assert audio == emulator.sessions[0].sent_audio()


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
