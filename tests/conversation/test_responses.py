"""Responses: which one is heard, and all of it (A4 to A6)."""

import pytest
from support import wire
from support.driver import PCM, Driver, chunk, kinds, said

from pipecat_hydra.conversation.effects import (
    AudioChunk,
    Flush,
    ReplyEnded,
    ReplyStarted,
    Report,
    ResponseFinished,
    Severity,
    TextChunk,
    UserStarted,
    UserStopped,
    VoiceEnded,
    VoiceStarted,
)
from pipecat_hydra.wire.events import (
    Usage,
)


def test_a_turn_from_speech_to_the_end_of_the_reply(driver: Driver):
    assert driver.receive(wire.started()) == [UserStarted()]
    driver.now = 1.0
    assert driver.receive(wire.stopped(), wire.user_item("completed")) == [UserStopped(False)]
    assert driver.conversation.reply_pending
    driver.now = 1.5
    assert driver.receive(wire.response_created()) == [ReplyStarted("resp_1")]
    effects = driver.receive(wire.audio(PCM[:300]), wire.audio(PCM[300:]))
    assert effects == [VoiceStarted("resp_1", 0.5), chunk(PCM[:300]), chunk(PCM[300:])]
    driver.now = 2.0
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    assert driver.receive(wire.done(usage=usage)) == [
        VoiceEnded("resp_1"),
        ReplyEnded("resp_1", interrupted=False),
        ResponseFinished(
            "resp_1", "completed", Usage(input_tokens=1, output_tokens=2, total_tokens=3), 1.0
        ),
    ]
    assert not driver.conversation.reply_pending


def test_a_greeting_comes_with_no_user_turn():
    driver = Driver().live(greet=True)
    assert driver.conversation.reply_pending
    driver.now = 0.25
    effects = driver.receive(wire.response_created(), wire.audio(PCM))
    assert effects == [ReplyStarted("resp_1"), VoiceStarted("resp_1", 0.25), chunk(PCM)]


def test_odd_splits_give_whole_samples_and_lose_nothing(driver: Driver):
    effects = driver.receive(
        wire.response_created(),
        *[wire.audio(PCM[i : i + 7]) for i in range(0, len(PCM), 7)],
    )
    assert said(effects) == PCM
    assert all(len(e.pcm) % 2 == 0 for e in effects if isinstance(e, AudioChunk))


def test_an_odd_byte_does_not_leak_into_the_next_response(driver: Driver):
    driver.receive(wire.response_created("r1"), wire.audio(PCM[:3], "r1"), wire.done("r1"))
    effects = driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"))
    assert said(effects) == PCM


def test_phrases_get_the_spaces_between_them(driver: Driver):
    phrases = ["Hello there,", "how are you", "?", " Fine", "I hope."]
    effects = driver.receive(
        wire.response_created(), wire.audio(PCM), *[wire.transcript(p) for p in phrases]
    )
    text = "".join(e.text for e in effects if isinstance(e, TextChunk))
    assert text == "Hello there, how are you? Fine I hope."


def test_deltas_without_an_id_belong_to_the_response_in_flight(driver: Driver):
    effects = driver.receive(wire.response_created(), wire.audio(PCM, None), wire.done(None))
    assert said(effects) == PCM
    assert effects[-2] == ReplyEnded("resp_1", interrupted=False)


def test_a_response_that_was_never_announced_is_heard(driver: Driver):
    effects = driver.receive(wire.audio(PCM), wire.done())
    assert effects[0] == ReplyStarted("resp_1")
    assert said(effects) == PCM


def test_a_response_announced_without_its_id_is_heard(driver: Driver):
    effects = driver.receive(
        wire.event("response.created"), wire.audio(PCM[:400]), wire.audio(PCM[400:]), wire.done()
    )
    assert said(effects) == PCM
    assert kinds(effects).count(ReplyStarted) == kinds(effects).count(ReplyEnded) == 1


def test_a_response_that_never_ended_is_closed_by_the_next(driver: Driver):
    effects = driver.receive(
        wire.response_created("r1"), wire.audio(PCM, "r1"), wire.response_created("r2")
    )
    assert effects[-3:] == [VoiceEnded("r1"), ReplyEnded("r1", False), ReplyStarted("r2")]
    assert driver.receive(wire.audio(PCM, "r1")) == []


def test_repeated_events_are_heard_once(driver: Driver):
    events = [wire.response_created(), wire.done(usage={"total_tokens": 3})]
    effects = driver.receive(*[event for event in events for _ in range(2)])
    assert kinds(effects) == [ReplyStarted, ReplyEnded, ResponseFinished]


@pytest.mark.parametrize(
    ("status", "severity"), [("failed", Severity.ERROR), ("incomplete", Severity.WARNING)]
)
def test_a_response_that_does_not_complete_says_why(
    driver: Driver, status: str, severity: Severity
):
    effects = driver.receive(wire.response_created(), wire.done(status=status, reason="why"))
    (report,) = [e for e in effects if isinstance(e, Report)]
    assert report.severity is severity
    assert "why" in report.message
    assert ReplyEnded("resp_1", interrupted=False) in effects


def test_a_reply_cancelled_with_nobody_speaking_is_flushed(driver: Driver):
    effects = driver.receive(
        wire.response_created(),
        wire.audio(PCM),
        wire.done(status="cancelled", reason="interrupted"),
    )
    assert kinds(effects)[-4:] == [VoiceEnded, ReplyEnded, Flush, ResponseFinished]


def test_a_response_held_beyond_all_patience_is_given_up(driver: Driver):
    driver.receive(wire.response_created(), wire.started("item_2"))
    minute = bytes(60 * 48_000 * 2)
    assert driver.receive(wire.audio(minute), wire.audio(minute), wire.audio(PCM)) == []
    assert said(driver.receive(wire.user_item("incomplete", "item_2"))) == b""


def test_a_response_that_ended_before_it_was_announced_is_never_heard(driver: Driver):
    driver.receive(wire.done("r1", "cancelled"))
    effects = driver.receive(wire.response_created("r1"), wire.audio(PCM, "r1"))
    assert effects == []


def test_text_that_comes_before_the_audio_is_within_its_bracket(driver: Driver):
    effects = driver.receive(wire.response_created(), wire.transcript("Hello"), wire.audio(PCM))
    assert kinds(effects) == [ReplyStarted, VoiceStarted, TextChunk, AudioChunk]
    effects = driver.receive(wire.response_created("r2"), wire.transcript("x", "r2"))
    assert TextChunk not in kinds(effects)
    assert kinds(driver.receive(wire.done("r2")))[:2] == [TextChunk, ReplyEnded]
