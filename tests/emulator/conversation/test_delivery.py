"""Protocol §3, §5: how a response is delivered: pace, pieces, transcripts, usage, its end."""

import asyncio
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from emulator.client import SILENCE, emulated, first_audio, recording
from emulator.offline import outlet, types

from pipecat_hydra.emulator import (
    Call,
    EmulatedSession,
    EmulatorSettings,
    Pause,
    Reply,
    Say,
)
from pipecat_hydra.emulator.conversation.delivery import Delivery
from pipecat_hydra.emulator.conversation.function_call import FunctionCall


async def test_usage_goes_by_the_length_of_audio() -> None:
    async with emulated([Say(bytes(48_000), 24_000)]) as client:
        await client.configure()
        await client.say(recording("hello"), SILENCE)
        usage = (await client.got("response.done"))["response"]["usage"]
        assert 9 <= usage["input_tokens"] <= 16  # 10 a second of "hello there how are you"
        assert usage["output_tokens"] == 20  # 20 a second
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


async def test_late_audio_of_a_cancelled_response() -> None:
    reply = Say(np.arange(360_000, dtype="<u4").tobytes(), 24_000)
    async with emulated([reply], delivery_speed=1, late_audio_after_cancel_ms=200) as client:
        await client.configure()
        await client.say(recording("hello"), SILENCE)
        old = await first_audio(client)
        await client.send("response.cancel")
        done = await client.got("response.done")
        await client.sync()
        late = client.events[client.events.index(done) + 1 :]
        assert {event["response_id"] for event in late} == {old}
        assert sum(len(event["delta"]) for event in late) == 24_000 * 2 // 5
        assert reply.audio.startswith(client.audio())  # it goes on where it was


async def test_deltas_have_the_size_that_is_set() -> None:
    async with emulated([Say(bytes(12_000), 24_000)], delta_ms=100) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        sizes = [len(event["delta"]) for event in client.of("response.output_audio.delta")]
        assert sizes == [4_800, 4_800, 2_400]


async def test_odd_splits_lose_nothing() -> None:
    pcm = np.arange(12_000, dtype="<i2").tobytes()
    async with emulated([Say(pcm, 24_000)], odd_splits=True) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        sizes = {len(event["delta"]) for event in client.of("response.output_audio.delta")}
        assert sizes >= {1_921, 1_920, 3}
        assert client.audio() == pcm


async def test_delivery_speed_is_a_multiple_of_real_time() -> None:
    async with emulated([Say(bytes(24_000), 24_000)], delivery_speed=1) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        deltas = client.session.sent_of("response.output_audio.delta")
        assert deltas[-1].time - deltas[0].time >= 0.44  # 0.5 s but for the last delta


async def test_transcripts_come_in_phrases_without_the_spaces_between() -> None:
    reply: Reply = [Say(bytes(24_000), 24_000, "It is noon and the sun is out"), Pause(0.01)]
    for transcripts in (True, False):
        async with emulated([reply], transcripts=transcripts) as client:
            await client.configure()
            await client.send("response.create")
            await client.got("response.done")
            deltas = client.of("response.output_audio_transcript.delta")
            texts = [event["delta"] for event in deltas]
            wanted = ["It is noon", "and the sun", "is out"]
            assert texts == (wanted if transcripts else [])
            ids = {client.of("response.created")[0]["response"]["id"]}
            assert {event["response_id"] for event in deltas} == (ids if texts else set())


async def test_infinite_speed_sends_at_once() -> None:
    async with emulated([Say.tones(10)], delivery_speed=float("inf")) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        assert len(client.audio()) == 24_000 * 2 * 10


# Step by step, without a socket.

CREATED = "response.created"
DONE = "response.done"
DELTA = "response.output_audio.delta"


class Owner:
    """Keeps what it is told of a response."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.texts: list[str] = []

    def beginning(self) -> None:
        self.told.append("beginning")

    def began(self) -> None:
        self.told.append("began")

    def audio_began(self) -> None:
        self.told.append("audio")

    def said(self, text: str) -> None:
        self.told.append("said")
        self.texts.append(text)

    def tool_called(self, response_id: str, call: FunctionCall) -> None:
        self.told.append(f"called {call.name}")

    def delivered(self) -> None:
        self.told.append("delivered")


def delivery(
    reply: Reply, *, mute: bool = False, **settings: Any
) -> tuple[Delivery, Owner, EmulatedSession]:
    out, session = outlet()
    owner = Owner()
    made = EmulatorSettings(**{"delivery_speed": float("inf"), "call_items": False, **settings})
    it = Delivery(reply, out, owner, made, sample_rate=24_000, mute=mute, heard_secs=1.0)
    return it, owner, session


def response(session: EmulatedSession) -> dict[str, Any]:
    """What the one `response.done` says."""
    (done,) = session.sent_of(DONE)
    return done.event["response"]


async def stopped(it: Delivery, *, after_secs: float) -> None:
    """Let a response go on for a while, and stop its task."""
    task = asyncio.create_task(it.run(0.0))
    await asyncio.sleep(after_secs)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


HALF_A_SECOND = Say(bytes(range(1, 241)) * 100, 24_000, "It is noon and the sun is out")


async def test_the_owner_is_told_as_the_response_goes_on() -> None:
    reply: Reply = [HALF_A_SECOND, Call("look", {}, "call_1")]
    it, owner, session = delivery(reply)
    await it.run(0.0)
    assert owner.told == ["beginning", "began", "audio", "said", "called look", "delivered"]
    assert owner.texts == ["It is noon and the sun is out"]
    assert it.created
    assert it.done
    assert [item["type"] for item in response(session)["output"]] == ["message", "function_call"]


async def test_speech_that_a_pause_parts_is_one_item() -> None:
    it, owner, session = delivery([HALF_A_SECOND, Pause(1.0), HALF_A_SECOND])
    await it.run(0.0)
    assert owner.told.count("audio") == 1
    assert len(session.sent_of("conversation.item.added")) == 1
    times = [record.time for record in session.sent_of(DELTA)]
    assert times[-1] - times[0] == pytest.approx(1.0, abs=0.05)


async def test_a_response_begins_after_its_latency() -> None:
    it, _, session = delivery([HALF_A_SECOND])
    await it.run(0.7)
    assert session.sent_of(CREATED)[0].time == pytest.approx(0.7, abs=0.05)


async def test_speech_of_another_rate_is_resampled() -> None:
    it, _, session = delivery([Say(bytes(16_000), 16_000)])
    await it.run(0.0)
    assert len(session.sent_audio()) == pytest.approx(24_000, abs=200)


async def test_a_session_without_audio_has_the_rest() -> None:
    it, owner, session = delivery([HALF_A_SECOND], mute=True, transcripts=True)
    await it.run(0.0)
    assert session.sent_of(DELTA) == []
    assert "audio" not in owner.told
    texts = [r.event["delta"] for r in session.sent_of("response.output_audio_transcript.delta")]
    assert texts == ["It is noon", "and the sun", "is out"]
    assert response(session)["usage"]["output_tokens"] == 0


@pytest.mark.parametrize("late_ms", [0, 100])
async def test_a_cancelled_response_tells_what_was_said_and_ends_at_once(late_ms: int) -> None:
    it, owner, session = delivery(
        [HALF_A_SECOND], delivery_speed=1.0, late_audio_after_cancel_ms=late_ms
    )
    await stopped(it, after_secs=0.1)
    sent = len(session.sent_audio())
    assert 0 < sent < 12_000
    it.cancel("interrupted")
    assert owner.texts == ["It is noon"]
    assert response(session)["status"] == "cancelled"
    assert response(session)["status_details"] == {"type": "cancelled", "reason": "interrupted"}
    assert "response.output_audio.done" not in types(session)
    late = len(session.sent_audio()) - sent
    assert late == pytest.approx(late_ms * 48, abs=1_920)
    assert bool(late) == bool(late_ms)


@pytest.mark.parametrize("end", ["cancel", "fail"])
async def test_what_was_cut_off_is_an_incomplete_item_of_the_output(end: str) -> None:
    reply: Reply = [Call("look", {}, "call_1"), HALF_A_SECOND]
    it, _, session = delivery(reply, delivery_speed=1.0, item_texts=True)
    await stopped(it, after_secs=0.1)
    if end == "cancel":
        it.cancel("interrupted")
    else:
        it.fail()
    call, message = response(session)["output"]
    assert (call["call_id"], call["status"]) == ("call_1", "completed")
    added = session.sent_of("conversation.item.added")[-1].event["item"]
    assert (message["id"], message["status"]) == (added["id"], "incomplete")
    assert message["content"] == [{"type": "output_audio", "text": "It is noon"}]


async def test_a_call_that_was_cut_off_has_the_arguments_that_were_sent() -> None:
    call = Call("look", {"where": "here"}, "call_1")
    it, owner, session = delivery([call], arguments_delta_chars=4, arguments_delta_secs=1.0)
    await stopped(it, after_secs=1.5)
    it.cancel("interrupted")
    (item,) = response(session)["output"]
    assert (item["type"], item["status"]) == ("function_call", "incomplete")
    assert item["arguments"] == '{"where"'
    assert "called look" not in owner.told


@pytest.mark.parametrize("late_ms", [100, 60_000])
async def test_a_response_may_be_done_before_its_last_audio(late_ms: int) -> None:
    it, owner, session = delivery(
        [Pause(0.1), HALF_A_SECOND], late_audio_after_done_ms=late_ms, transcripts=True
    )
    await it.run(0.0)
    kinds = types(session)
    late = [r for r in session.sent[kinds.index(DONE) :] if r.type == DELTA]
    assert sum(record.audio_bytes for record in late) == min(late_ms * 48, 24_000)
    assert kinds.count(DONE) == 1
    assert kinds[-2:] == ["response.output_audio.done", "conversation.item.done"]
    assert session.sent_audio() == HALF_A_SECOND.audio
    assert response(session)["status"] == "completed"
    assert [item["status"] for item in response(session)["output"]] == ["completed"]
    assert owner.texts == ["It is noon and the sun is out"]


@pytest.mark.parametrize("end", ["cancel", "fail"])
async def test_a_response_that_is_done_early_is_done_once(end: str) -> None:
    it, owner, session = delivery(
        [HALF_A_SECOND], delivery_speed=1.0, late_audio_after_done_ms=60_000
    )
    await stopped(it, after_secs=0.1)
    if end == "cancel":
        it.cancel("interrupted")
    else:
        it.fail()
    assert types(session).count(DONE) == 1
    assert owner.texts == ["It is noon"]


async def test_a_response_that_is_abandoned_ends_without_a_word() -> None:
    it, owner, session = delivery([HALF_A_SECOND], delivery_speed=1.0)
    await stopped(it, after_secs=0.1)
    sent = len(session.sent)
    it.abandon()
    it.cancel("interrupted")
    assert len(session.sent) == sent
    assert owner.texts[0] == "It is noon"


async def test_late_transcripts_follow_the_end_of_the_response() -> None:
    it, _, session = delivery(
        [HALF_A_SECOND], transcripts=True, transcript_events="both", late_transcripts=True
    )
    await it.run(0.0)
    kinds = types(session)
    late = kinds[kinds.index(DONE) + 1 :]
    assert late == [
        *["response.output_audio_transcript.delta"] * 3,
        "response.output_audio_transcript.done",
    ]


@pytest.mark.parametrize("text", [True, False])
async def test_items_may_have_their_text(text: bool) -> None:
    it, _, session = delivery([HALF_A_SECOND, Pause(0.1)], item_texts=text)
    await it.run(0.0)
    item = session.sent_of("conversation.item.done")[0].event["item"]
    wanted = "It is noon and the sun is out" if text else None
    assert item["content"] == [{"type": "output_audio", "text": wanted}]


@pytest.mark.parametrize(("ids", "wanted"), [("reused", "resp_1"), ("absent", None)])
async def test_responses_may_have_no_id_of_their_own(ids: str, wanted: str | None) -> None:
    reply: Reply = [HALF_A_SECOND, Call("look", {}, "call_1")]
    it, _, session = delivery(reply, response_ids=ids, transcripts=True)
    await it.run(0.0)
    assert it.wire_id == wanted
    for record in session.sent:
        if record.type in (CREATED, DONE):
            assert record.event["response"].get("id") == wanted
        elif record.type.startswith("response."):
            assert record.event.get("response_id") == wanted
    if wanted is None:
        assert "response_id" not in str(session.sent)
    assert session.sent_audio() == HALF_A_SECOND.audio


async def test_a_delta_may_be_one_sample() -> None:
    it, _, session = delivery([Say(bytes(200), 24_000)], delta_ms=0.01)
    await it.run(0.0)
    assert [record.audio_bytes for record in session.sent_of(DELTA)] == [2] * 100


async def test_late_audio_is_no_more_than_there_is() -> None:
    it, _, session = delivery(
        [HALF_A_SECOND], delivery_speed=1.0, late_audio_after_cancel_ms=60_000
    )
    await stopped(it, after_secs=0.1)
    it.cancel("client_cancelled")
    assert session.sent_audio() == HALF_A_SECOND.audio


@pytest.mark.parametrize("end", ["cancel", "fail"])
async def test_a_response_that_has_not_begun_ends_without_a_word(end: str) -> None:
    it, owner, session = delivery([HALF_A_SECOND])
    await stopped(it, after_secs=0.0)
    if end == "cancel":
        it.cancel("interrupted")
    else:
        it.fail()
    assert types(session) == []
    assert owner.told == []
    assert not it.done


async def test_a_failed_response_says_why() -> None:
    it, owner, session = delivery([HALF_A_SECOND], delivery_speed=1.0)
    await stopped(it, after_secs=0.1)
    it.fail("internal_error")
    assert response(session)["status"] == "failed"
    assert response(session)["status_details"]["error"]["code"] == "internal_error"
    assert owner.told[-1] == "said"


@pytest.mark.parametrize(
    ("calls_done", "done_by_itself", "first"),
    [
        ("before_arguments_done", True, DONE),
        ("before_outputs", True, "response.function_call_arguments.done"),
        ("after_outputs", False, "response.function_call_arguments.done"),
        ("before_narration", False, "response.function_call_arguments.done"),
        ("after_narration_began", False, "response.function_call_arguments.done"),
    ],
)
async def test_when_a_response_with_calls_is_done(
    calls_done: str, done_by_itself: bool, first: str
) -> None:
    it, owner, session = delivery([Call("look", {}, "call_1")], calls_done=calls_done)
    await it.run(0.0)
    assert it.done is done_by_itself
    ends = [kind for kind in types(session) if kind.endswith("done")]
    assert ends[0] == first
    assert owner.told == ["beginning", "began", "called look", "delivered"]
    if not it.done:
        it.finish()
    assert response(session)["status"] == "completed"


async def test_speech_with_calls_done_late_is_done_at_once_without_calls() -> None:
    it, _, session = delivery([HALF_A_SECOND], calls_done="after_outputs")
    await it.run(0.0)
    assert it.done
    assert types(session)[-1] == DONE
