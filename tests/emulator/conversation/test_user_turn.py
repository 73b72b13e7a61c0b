"""Protocol §5: how the end of a turn is told, and of what the protocol leaves open there."""

import asyncio
from typing import Any

import pytest
from emulator.client import SILENCE, burst, emulated, recording
from emulator.offline import outlet, types

from pipecat_hydra.emulator import EmulatedSession, Say
from pipecat_hydra.emulator.conversation.user_turn import UserTurn
from pipecat_hydra.emulator.model.turn_detection import SpeechStopped

STARTED = "input_audio_buffer.speech_started"
STOPPED = "input_audio_buffer.speech_stopped"
ADDED = "conversation.item.added"
DONE = "conversation.item.done"

STOP = SpeechStopped(1_200, True, b"")


def turn(**settings: Any) -> tuple[UserTurn, EmulatedSession]:
    out, session = outlet()
    usual = {
        "speech_stopped": True,
        "user_items": True,
        "stopped_on_discard": True,
        "stopped_lag_secs": 0.0,
    }
    return UserTurn(out, **{**usual, **settings}), session


def begin(user: UserTurn) -> None:
    user.start(200)
    user.add_item()


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, [STARTED, ADDED, STOPPED, DONE]),
        ({"speech_stopped": False}, [STARTED, ADDED, DONE]),
        ({"user_items": False}, [STARTED, STOPPED]),
        ({"speech_stopped": False, "user_items": False}, [STARTED]),
        ({"stopped_on_discard": False}, [STARTED, ADDED, STOPPED, DONE]),
    ],
)
async def test_a_turn_tells_what_it_is_set_to_tell(
    settings: dict[str, Any], wanted: list[str]
) -> None:
    user, session = turn(**settings)
    begin(user)
    assert user.open
    user.stop(STOP, answered=True)
    assert not user.open
    assert types(session) == wanted


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, [STARTED, ADDED, STOPPED, DONE]),
        ({"stopped_on_discard": False}, [STARTED, ADDED, DONE]),
        ({"speech_stopped": False}, [STARTED, ADDED, DONE]),
        ({"user_items": False}, [STARTED, STOPPED]),
        ({"user_items": False, "stopped_on_discard": False}, [STARTED]),
    ],
)
async def test_noise_tells_what_it_is_set_to_tell(
    settings: dict[str, Any], wanted: list[str]
) -> None:
    user, session = turn(**settings)
    begin(user)
    user.discard(STOP)
    assert not user.open
    assert types(session) == wanted


async def test_all_events_of_a_turn_name_its_item() -> None:
    user, session = turn()
    begin(user)
    user.stop(STOP, answered=False)
    started, added, stopped, done = (record.event for record in session.sent)
    assert started["item_id"] == added["item"]["id"] == stopped["item_id"] == done["item"]["id"]
    assert (started["audio_start_ms"], stopped["audio_end_ms"]) == (200, 1_200)
    assert (added["item"]["status"], done["item"]["status"]) == ("in_progress", "completed")


async def test_the_item_of_noise_is_incomplete() -> None:
    user, session = turn()
    begin(user)
    user.discard(STOP)
    assert session.sent_of(DONE)[0].event["item"]["status"] == "incomplete"


async def test_the_end_lags_behind_the_first_audio_of_the_reply() -> None:
    user, session = turn(stopped_lag_secs=0.5)
    begin(user)
    user.stop(STOP, answered=True)
    await asyncio.sleep(5)
    assert types(session) == [STARTED, ADDED]
    user.reply_audio_began()
    await asyncio.sleep(0.4)
    assert types(session) == [STARTED, ADDED]
    await asyncio.sleep(0.2)
    assert types(session) == [STARTED, ADDED, STOPPED, DONE]
    user.reply_audio_began()  # of the next reply, with no turn between
    await asyncio.sleep(1)
    assert types(session) == [STARTED, ADDED, STOPPED, DONE]


async def test_a_turn_that_is_not_answered_ends_at_once() -> None:
    user, session = turn(stopped_lag_secs=0.5)
    begin(user)
    user.stop(STOP, answered=False)
    assert types(session) == [STARTED, ADDED, STOPPED, DONE]


async def test_the_next_turn_is_not_told_before_the_end_of_this_one() -> None:
    user, session = turn(stopped_lag_secs=0.5)
    begin(user)
    user.stop(STOP, answered=True)
    begin(user)
    assert types(session) == [STARTED, ADDED, STOPPED, DONE, STARTED, ADDED]


async def test_the_end_of_the_reply_brings_the_late_end_once() -> None:
    user, session = turn(stopped_lag_secs=0.5)
    begin(user)
    user.stop(STOP, answered=True)
    user.reply_audio_began()
    user.stop_late()
    user.stop_late()
    await asyncio.sleep(1)
    assert types(session) == [STARTED, ADDED, STOPPED, DONE]


async def test_a_session_that_closes_tells_no_late_end() -> None:
    user, session = turn(stopped_lag_secs=0.5)
    begin(user)
    user.stop(STOP, answered=True)
    user.reply_audio_began()
    user.close()
    await asyncio.sleep(1)
    assert types(session) == [STARTED, ADDED]


# The same over a socket.

RESPONSE = [
    "response.created",
    ADDED,
    "response.output_audio.delta",
    "response.output_audio.done",
    DONE,
    "response.done",
]


@pytest.mark.parametrize(
    ("stopped", "items", "wanted"),
    [
        (True, True, [STARTED, ADDED, STOPPED, DONE]),
        (False, True, [STARTED, ADDED, DONE]),
        (True, False, [STARTED, STOPPED]),
        (False, False, [STARTED]),
    ],
)
async def test_a_turn_is_answered_however_little_is_told_of_it(
    stopped: bool, items: bool, wanted: list[str]
) -> None:
    replies = [Say.tones(0.1), Say.tones(0.1)]
    async with emulated(replies, speech_stopped=stopped, user_items=items) as client:
        await client.configure()
        for count in (1, 2):
            await client.say(recording("hello"), SILENCE)
            await client.got("response.done", count)
        assert client.types[2:] == [*wanted, *RESPONSE] * 2
        replied = [e for e in client.of(ADDED) if e["item"]["role"] == "assistant"]
        roles = {e["item"]["id"]: e["item"]["role"] for e in client.of(ADDED)}
        before = [roles.get(event["previous_item_id"]) for event in replied]
        assert before == (["user", "user"] if items else [None, "assistant"])


@pytest.mark.parametrize(
    ("stopped", "items", "wanted"),
    [
        (True, True, [STARTED, ADDED, STOPPED, DONE]),
        (False, True, [STARTED, ADDED, DONE]),
        (True, False, [STARTED, STOPPED]),
        (False, False, [STARTED]),
    ],
)
async def test_noise_is_not_answered_however_little_is_told_of_it(
    stopped: bool, items: bool, wanted: list[str]
) -> None:
    settings = {"speech_stopped": stopped, "user_items": items}
    async with emulated(min_turn_ms=600, **settings) as client:
        await client.configure()
        await client.say(SILENCE, burst(), SILENCE)
        await client.got(wanted[-1])
        await client.sync()
        assert client.types[2:] == wanted
        statuses = [event["item"]["status"] for event in client.of(DONE)]
        assert statuses == (["incomplete"] if items else [])


async def test_the_item_of_a_turn_may_have_a_text() -> None:
    user, session = turn(item_text="Hello there.")
    begin(user)
    user.discard(STOP)
    begin(user)
    user.stop(STOP, answered=False)
    noise, words = (r.event["item"]["content"][0]["text"] for r in session.sent_of(DONE))
    assert (noise, words) == (None, "Hello there.")


async def test_an_item_may_be_added_only_at_the_end() -> None:
    user, session = turn(late_items=True)
    begin(user)
    assert types(session) == [STARTED]
    user.stop(STOP, answered=True)
    begin(user)
    user.discard(STOP)
    assert types(session) == [STARTED, STOPPED, ADDED, DONE] * 2
    items = [record.event["item"] for record in session.sent if "item" in record.event]
    assert [item["status"] for item in items] == [
        "in_progress",
        "completed",
        "in_progress",
        "incomplete",
    ]
