"""Protocol §5: turns, barge-in, discarded turns."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from emulator.client import SILENCE, burst, emulated, first_audio, recording

from pipecat_hydra.emulator import Echo, Heard, Pause, Reply, Say, Script, ToolOutput

TURN = [
    "input_audio_buffer.speech_started",
    "conversation.item.added",
    "input_audio_buffer.speech_stopped",
    "conversation.item.done",
    "response.created",
    "conversation.item.added",
    "response.output_audio.delta",
    "response.output_audio.done",
    "conversation.item.done",
    "response.done",
]
HANDSHAKE = ["session.created", "session.configured"]


async def test_a_turn_has_the_documented_order() -> None:
    async with emulated() as client:
        await client.configure()
        await client.say(recording("hello"), SILENCE)
        done = await client.got("response.done")
        assert client.types == [*HANDSHAKE, *TURN]

        started, user_added, stopped, user_done = client.events[2:6]
        item_id = started["item_id"]
        assert item_id == stopped["item_id"] == user_added["item"]["id"] == user_done["item"]["id"]
        assert 0 <= started["audio_start_ms"] < 300
        assert 800 < stopped["audio_end_ms"] < 1_400
        assert user_added["previous_item_id"] is None
        assert user_added["item"]["status"] == "in_progress"
        assert user_done["item"]["status"] == "completed"
        assert user_done["item"]["content"] == [{"type": "input_audio", "text": None}]

        added = client.of("conversation.item.added")[1]
        assert added["previous_item_id"] == item_id
        assert added["item"]["role"] == "assistant"
        response = client.of("response.created")[0]["response"]
        assert response["status"] == "in_progress"
        for delta in client.of("response.output_audio.delta"):
            assert delta["response_id"] == response["id"]
            assert delta["item_id"] == added["item"]["id"]
        assert done["response"]["id"] == response["id"]
        assert done["response"]["status"] == "completed"
        assert [item["id"] for item in done["response"]["output"]] == [added["item"]["id"]]


async def test_the_echo_is_what_was_said() -> None:
    said = recording("hello")
    async with emulated(output_sample_rate=16_000) as client:
        await client.configure()
        await client.say(SILENCE, said, SILENCE)
        await client.got("response.done")
        assert client.audio() in SILENCE + said + SILENCE
        assert len(client.audio()) > 0.9 * len(said)
        assert client.audio() == client.session.sent_audio()


async def test_a_second_turn_is_a_turn_of_its_own() -> None:
    async with emulated() as client:
        await client.configure()
        for count in (1, 2):
            await client.say(recording("hello"), SILENCE)
            await client.got("response.done", count)
        assert client.types == [*HANDSHAKE, *TURN, *TURN]
        starts = client.of("input_audio_buffer.speech_started")
        assert starts[1]["audio_start_ms"] > 2_000  # from the start of the session


async def test_silence_is_no_turn() -> None:
    async with emulated() as client:
        await client.configure()
        await client.say(SILENCE, SILENCE)
        await client.say(recording("hello"), SILENCE)
        await client.got("response.done")
        assert len(client.of("input_audio_buffer.speech_started")) == 1


async def test_barge_in_during_generation_cancels() -> None:
    replies = [Say.tones(30), Say.tones(0.1)]
    async with emulated(replies, delivery_speed=1) as client:
        await client.configure()
        await client.say(recording("hello"), SILENCE)
        old = await first_audio(client)
        await client.say(recording("interrupt"), SILENCE)
        await client.got("response.done", 2)

        at = client.events.index(client.of("input_audio_buffer.speech_started")[1])
        cancelled = client.events[at + 1]["response"]
        assert client.events[at + 1]["type"] == "response.done"
        assert cancelled["id"] == old
        assert cancelled["status"] == "cancelled"
        assert cancelled["status_details"]["reason"] == "interrupted"
        types = [event["type"] for event in client.events[at + 2 :]]
        assert types[:3] == TURN[1:4]
        assert not any(event.get("response_id") == old for event in client.events[at:])
        assert client.of("response.done")[1]["response"]["status"] == "completed"


async def test_barge_in_after_generation_is_only_a_start() -> None:
    async with emulated() as client:
        await client.configure()
        await client.say(recording("hello"), SILENCE)
        await client.got("response.done")
        await client.say(recording("interrupt"))
        await client.got("conversation.item.added", 3)
        assert client.types == [*HANDSHAKE, *TURN, *TURN[:2]]


async def test_barge_in_before_the_response_drops_it() -> None:
    async with emulated(response_latency_secs=0.8) as client:
        await client.configure()
        await client.say(recording("hello"), SILENCE, recording("interrupt"), SILENCE)
        await client.got("response.done")
        assert client.types == [*HANDSHAKE, *TURN[:4], *TURN]


async def test_noise_is_discarded() -> None:
    async with emulated(min_turn_ms=600) as client:
        await client.configure()
        await client.say(SILENCE, burst(), SILENCE)
        done = await client.got("conversation.item.done")
        await client.sync()
        assert client.types == [*HANDSHAKE, *TURN[:4]]
        assert done["item"]["status"] == "incomplete"


async def test_noise_may_come_without_a_stop() -> None:
    async with emulated(min_turn_ms=600, stopped_on_discard=False) as client:
        await client.configure()
        await client.say(SILENCE, burst(), SILENCE)
        done = await client.got("conversation.item.done")
        assert client.types == [*HANDSHAKE, *TURN[:2], TURN[3]]
        assert done["item"]["status"] == "incomplete"


async def test_noise_leaves_the_reply_running_until_a_turn_is_confirmed() -> None:
    settings = {"cancel_on": "turn_confirmed", "min_turn_ms": 600, "delivery_speed": 1}
    async with emulated([Say.tones(30), Say.tones(0.1)], **settings) as client:
        await client.configure()
        await client.say(recording("question"), SILENCE)
        reply = await first_audio(client)
        await client.say(burst(), SILENCE)
        noise = await client.got("conversation.item.done", 2)
        assert noise["item"]["status"] == "incomplete"
        assert client.of("response.done") == []
        size = len(client.audio(reply))
        await client.until(lambda: len(client.audio(reply)) > size)

        await client.say(recording("question"), SILENCE)
        done = (await client.got("response.done"))["response"]
        assert (done["id"], done["status"]) == (reply, "cancelled")
        await client.got("response.done", 2)
        turn = client.types[-len(TURN) - 2 :]
        assert turn.index("response.done") < turn.index("input_audio_buffer.speech_stopped")


async def test_stop_may_lag_behind_the_first_audio() -> None:
    async with emulated([Say.tones(0.3)], stopped_lag_ms=50, delivery_speed=1) as client:
        await client.configure()
        await client.say(recording("hello"), SILENCE)
        await client.got("response.done")
        types = client.types
        assert types.index("response.output_audio.delta") < types.index(TURN[2])
        assert types.index(TURN[2]) < types.index("response.done")
        assert sorted(types) == sorted(
            [*HANDSHAKE, *TURN, "response.output_audio.delta"]  # the lag cuts them in two
        )


async def test_greeting_comes_at_once_and_unasked() -> None:
    async with emulated() as client:
        await client.configure(generate_initial_response=True)
        await client.got("response.done")
        assert client.types == [*HANDSHAKE, *TURN[4:]]
        assert len(client.audio()) > 0


async def test_greeting_can_be_interrupted() -> None:
    script = Script([Say.tones()], greeting=Say.tones(30))
    async with emulated(script, delivery_speed=1) as client:
        await client.configure(generate_initial_response=True)
        await first_audio(client)
        await client.say(recording("hello"), SILENCE)
        statuses = [(await client.got("response.done", n))["response"]["status"] for n in (1, 2)]
        assert statuses == ["cancelled", "completed"]


@pytest.mark.parametrize("by_id", [True, False])
async def test_client_cancels(by_id: bool) -> None:
    async with emulated([Say.tones(30)], delivery_speed=1) as client:
        await client.configure()
        await client.say(recording("hello"), SILENCE)
        reply = await first_audio(client)
        await client.send("response.cancel", response_id="resp_other")
        await client.sync()
        assert client.of("response.done") == []
        await client.send("response.cancel", **({"response_id": reply} if by_id else {}))
        response = (await client.got("response.done"))["response"]
        assert (response["id"], response["status"]) == (reply, "cancelled")
        assert response["status_details"]["reason"] == "client_cancelled"
        await client.send("response.cancel")  # nothing is in flight any more
        await client.sync()
        assert client.types[-1] == "response.done"
        assert client.of("error") == []


class Answers:
    """Answers each turn as the test says, and all else as `Echo` does."""

    def __init__(self, answer: Callable[[], Reply | None]) -> None:
        self._answer = answer
        self._echo = Echo()

    def begin(self) -> "Answers":
        return self

    def greet(self) -> Reply:
        return self._echo.greet()

    def is_noise(self) -> bool:
        return False

    def answer(self, heard: Heard) -> Reply | None:
        return self._answer()

    def narrate(self, outputs: Sequence[ToolOutput]) -> Reply:
        return self._echo.narrate(outputs)

    def prompted(self, messages: Sequence[str]) -> Reply:
        return self._echo.prompted(messages)


def fails() -> Reply:
    raise ValueError("what the user said")


async def test_a_responder_that_fails_is_told_and_the_session_goes_on() -> None:
    async with emulated(Answers(fails)) as client:
        await client.configure()
        await client.say(recording("hello"), SILENCE)
        error = (await client.got("error"))["error"]
        assert (error["code"], error["message"]) == ("internal_error", "the responder failed")
        await client.got("conversation.item.done")
        assert client.of("response.created") == []
        await client.send("response.create")
        assert (await client.got("response.done"))["response"]["status"] == "completed"


@pytest.mark.parametrize("begun", [True, False])
async def test_a_response_that_fails_is_told_and_the_session_goes_on(begun: bool) -> None:
    never: Any = "never"
    broken: Reply = [Pause(never)] if begun else [Say(bytes(4_800), never)]
    async with emulated(Answers(lambda: broken)) as client:
        await client.configure()
        await client.say(recording("hello"), SILENCE)
        error = (await client.got("error"))["error"]
        assert (error["code"], error["message"]) == ("internal_error", "the response failed")
        await client.sync()
        statuses = [done["response"]["status"] for done in client.of("response.done")]
        assert statuses == (["failed"] if begun else [])
        await client.send("response.create")
        done = await client.got("response.done", len(statuses) + 1)
        assert done["response"]["status"] == "completed"


async def test_a_turn_may_be_answered_with_silence() -> None:
    async with emulated(Answers(lambda: None), stopped_lag_ms=500) as client:
        await client.configure()
        await client.say(recording("hello"), SILENCE)
        await client.got("conversation.item.done")
        await client.sync()
        assert client.types == [*HANDSHAKE, *TURN[:4]]


async def test_an_interruption_may_be_told_by_the_next_response_alone() -> None:
    long = Say.tones(30.0)
    async with emulated([long, Say.tones()], delivery_speed=1, tell_interruptions=False) as client:
        await client.configure()
        await client.say(recording("hello"), SILENCE)
        old = await first_audio(client)
        seen = len(client.events)
        await client.say(burst(), SILENCE)  # noise is nothing at all
        await client.say(recording("hello"), SILENCE)
        new = await first_audio(client, 2)
        done = await client.got("response.done")
        kinds = [event["type"] for event in client.events[seen:]]
        assert "input_audio_buffer.speech_started" not in kinds
        assert kinds[: kinds.index("response.created")].count("response.output_audio.done") == 0
        assert len(client.audio(old)) < 30 * 48_000
        assert done["response"]["id"] == new != old
        assert client.session.errors == []
        await client.say(recording("hello"), SILENCE)  # nothing is in flight: told as usual
        await client.got("input_audio_buffer.speech_stopped", 2)


async def test_a_response_is_cancelled_by_the_id_that_it_was_told_by() -> None:
    async with emulated([Say.tones(30.0)], delivery_speed=1, response_ids="reused") as client:
        await client.configure()
        await client.send("response.create")
        assert await first_audio(client) == "resp_1"
        await client.send("response.cancel", response_id="resp_2")
        await client.sync()
        assert client.of("response.done") == []
        await client.send("response.cancel", response_id="resp_1")
        assert (await client.got("response.done"))["response"]["status"] == "cancelled"


async def test_a_response_that_is_done_is_not_in_progress_while_its_last_audio_comes() -> None:
    turns = [Say.tones(2.0), Say.tones()]
    async with emulated(turns, delivery_speed=1, late_audio_after_done_ms=1_000) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        sent = len(client.audio())
        await client.send("response.cancel")  # a no-op
        await client.send("response.create")
        await client.got("response.created", 2)
        assert len(client.audio()) - sent == pytest.approx(48_000, abs=4_000)
        await client.got("response.done", 2)
        assert client.session.errors == []
