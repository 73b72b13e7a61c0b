"""Responses: which one is heard, and all of it (A4 to A6)."""

import pytest
from support import wire
from support.driver import PCM, Driver, chunk, creates, kinds, said, sent

from pipecat_hydra.conversation.effects import (
    AudioChunk,
    Discard,
    Effect,
    Flush,
    ReplyEnded,
    ReplyStarted,
    Report,
    ResponseFinished,
    Severity,
    TextChunk,
    TurnDiscarded,
    UserStarted,
    UserStopped,
    VoiceEnded,
    VoiceStarted,
)
from pipecat_hydra.conversation.event_ids import EventIds
from pipecat_hydra.conversation.reply_line import EndedResponse
from pipecat_hydra.conversation.responses import Responses
from pipecat_hydra.wire.events import (
    ResponseCancel,
    ResponseInfo,
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


def test_a_response_that_is_generated_is_waited_for(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM))
    assert driver.conversation.reply_pending
    driver.receive(wire.done())
    assert not driver.conversation.reply_pending


def test_each_end_without_an_id_ends_the_response_in_flight(driver: Driver):
    for response in ("r1", "r2"):
        effects = driver.receive(wire.response_created(response), wire.done(None))
        assert ReplyEnded(response, interrupted=False) in effects
    assert not driver.conversation.reply_pending


def test_a_response_announced_without_its_id_is_heard(driver: Driver):
    effects = driver.receive(
        wire.event("response.created"), wire.audio(PCM[:400]), wire.audio(PCM[400:]), wire.done()
    )
    assert said(effects) == PCM
    assert kinds(effects).count(ReplyStarted) == kinds(effects).count(ReplyEnded) == 1


def test_a_response_that_never_ended_is_closed_by_the_next(driver: Driver):
    driver.receive(wire.response_created("r1"), wire.audio(PCM, "r1"))
    assert driver.receive(wire.response_created("r2")) == []
    driver.now = 0.5
    effects = driver.conversation.tick(driver.now)
    interrupted = [VoiceEnded("r1", interrupted=True), ReplyEnded("r1", interrupted=True)]
    assert effects == [*interrupted, Flush(), ReplyStarted("r2")]
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


def test_a_reply_cancelled_before_it_was_heard_leaves_what_is_played_alone(driver: Driver):
    driver.receive(wire.response_created("r1"), wire.audio(PCM, "r1"), wire.done("r1"))
    effects = driver.receive(wire.response_created("r2"), wire.done("r2", "cancelled"))
    assert kinds(effects) == [ReplyStarted, ReplyEnded, ResponseFinished]


def test_a_response_held_beyond_all_patience_is_given_up(driver: Driver):
    driver.receive(wire.response_created(), wire.started("item_2"))
    minute = bytes(60 * 48_000 * 2)
    assert driver.receive(wire.audio(minute), wire.audio(minute), wire.audio(PCM)) == []
    assert said(driver.receive(wire.user_item("incomplete", "item_2"))) == b""


def test_a_response_that_ended_before_it_was_announced_is_never_heard(driver: Driver):
    driver.receive(wire.done("r1", "cancelled"))
    effects = driver.receive(wire.response_created("r1"), wire.audio(PCM, "r1"))
    assert effects == []


def test_the_end_of_a_response_that_nobody_waits_for_holds_up_no_request(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.receive(wire.response_created("r1"), wire.done("r1"), wire.done("r0"))
    assert creates(driver.conversation.request_response(1.0)) == 1


def test_text_that_comes_before_the_audio_is_within_its_bracket(driver: Driver):
    effects = driver.receive(wire.response_created(), wire.transcript("Hello"), wire.audio(PCM))
    assert kinds(effects) == [ReplyStarted, VoiceStarted, TextChunk, AudioChunk]
    driver.receive(wire.done())
    effects = driver.receive(wire.response_created("r2"), wire.transcript("x", "r2"))
    assert TextChunk not in kinds(effects)
    assert kinds(driver.receive(wire.done("r2")))[:2] == [TextChunk, ReplyEnded]


def test_text_that_came_before_the_audio_is_not_repeated_after_noise(driver: Driver):
    driver.receive(wire.response_created(), wire.transcript("Hello"), wire.audio(PCM))
    driver.receive(wire.started("noise"), wire.stopped("noise"))
    effects = driver.receive(wire.user_item("incomplete", "noise"), wire.audio(PCM))
    assert kinds(effects) == [TurnDiscarded, ReplyStarted, VoiceStarted, AudioChunk]


# The room alone


@pytest.fixture
def responses() -> Responses:
    return Responses(event_ids=EventIds(), resume_after_noise=True)


def begin(
    responses: Responses, response: str | None, *, over_user: bool = False, doomed: bool = False
) -> list[Effect]:
    effects = responses.replace(
        response, 0.0, asked_at=None, sample_rate=24_000, over_user=over_user
    )
    return effects + responses.begin(doomed=doomed)


def end(responses: Responses, response: str | None, status: str = "completed") -> EndedResponse:
    ended = responses.done(ResponseInfo(id=response, status=status), 2.0)
    assert ended is not None
    return ended


def hear(responses: Responses, *effects: Effect) -> None:
    """The listener has heard none of this yet."""
    for effect in effects:
        responses.note(effect, 0.0)
    responses.playback.started(0.0)


def test_nothing_is_current_at_first(responses: Responses):
    assert responses.quiet
    assert not any((responses.speaking, responses.voiced, responses.is_any, responses.any_begun))
    assert responses.current_id is None
    assert responses.begin(doomed=False) == []
    assert responses.audio(None, PCM, 0.0) == responses.text("r", "x", 0.0) == []
    assert responses.turn_stopped(0.0) == ([], False)
    assert responses.turn_started(0.0) == responses.turn_was_noise(0.0) == []
    responses.negotiated(16_000)


def test_a_response_is_current_until_another_is(responses: Responses):
    assert begin(responses, "r1") == [ReplyStarted("r1")]
    assert responses.speaking
    assert responses.any_begun
    assert begin(responses, "r2") == [ReplyEnded("r1", False), ReplyStarted("r2")]
    assert responses.current_id == "r2"
    assert responses.line.is_known("r1")
    assert responses.line.is_known("r2")
    assert not responses.line.is_known("r3")
    assert not responses.line.is_known(None)
    assert responses.audio("r1", PCM, 0.0) == responses.text("r1", "x", 0.0) == []


def test_the_first_sign_of_a_response_comes_once(responses: Responses):
    assert responses.line.is_first_sign("r1")
    assert not responses.line.is_first_sign(None)
    begin(responses, None)
    # It was announced without its id.
    assert not responses.line.is_first_sign("r1")
    assert responses.current_id == "r1"
    end(responses, "r1")
    assert not responses.line.is_first_sign("r1")


def test_a_doomed_response_is_cancelled_and_never_heard(responses: Responses):
    (cancel,) = sent(begin(responses, "r1", doomed=True))
    assert isinstance(cancel, ResponseCancel)
    assert cancel.response_id == "r1"
    assert responses.audio("r1", PCM, 0.0) == []
    assert responses.quiet


def test_the_end_of_a_response_is_told_once(responses: Responses):
    begin(responses, "r1")
    responses.audio("r1", PCM, 0.0)
    assert responses.voiced
    ended = end(responses, "r1")
    assert ended.current
    assert ended.answered
    assert ended.effects == [VoiceEnded("r1"), ReplyEnded("r1", False)]
    assert responses.done(ResponseInfo(id="r1"), 2.0) is None
    assert not end(responses, None).current


def test_the_end_of_one_that_was_never_announced(responses: Responses):
    assert not end(responses, "r1").announced
    assert responses.line.is_known("r1")
    begin(responses, "r2")
    begin(responses, "r3")
    assert end(responses, "r2").announced
    assert not end(responses, "r2x").current


def test_how_long_a_response_took_is_known_if_it_was_asked_for(responses: Responses):
    for response, status in (("r1", "completed"), ("r2", "cancelled")):
        responses.replace(response, 0.0, asked_at=1.5, sample_rate=24_000, over_user=False)
        assert end(responses, response, status).took == (0.5 if status == "completed" else None)


def test_a_response_that_the_server_cancels_unasked_is_flushed(responses: Responses):
    begin(responses, "r1")
    responses.audio("r1", PCM, 0.0)
    assert end(responses, "r1", "cancelled").effects[-1] == Flush()
    begin(responses, "r2")
    assert Flush() not in end(responses, "r2", "cancelled").effects


def test_a_held_response_goes_on_after_noise(responses: Responses):
    begin(responses, "r1")
    assert responses.turn_started(0.0) == [ReplyEnded("r1", True)]
    assert responses.audio("r1", PCM, 0.0) == []
    assert not responses.quiet
    assert end(responses, "r1").effects == []
    assert said(responses.turn_was_noise(0.0)) == PCM
    assert responses.quiet


@pytest.mark.parametrize("is_done_first", [False, True])
def test_noise_takes_nothing_from_a_response_that_is_done_early(
    responses: Responses, is_done_first: bool
):
    begin(responses, "r1")
    heard = said(responses.audio("r1", PCM, 0.0))
    if is_done_first:
        end(responses, "r1")
        assert responses.turn_started(0.1) == []
    else:
        responses.turn_started(0.1)
        end(responses, "r1")
    assert responses.audio("r1", PCM, 0.2) == []
    heard += said(responses.turn_was_noise(0.3))
    heard += said(responses.audio("r1", PCM, 0.4))
    assert heard == PCM * 3


def test_the_last_of_a_response_that_is_done_is_dropped_by_a_real_turn(responses: Responses):
    begin(responses, "r1")
    responses.audio("r1", PCM, 0.0)
    end(responses, "r1")
    responses.turn_started(0.1)
    assert responses.audio("r1", PCM, 0.2) == responses.drop_what_was_cut() == []
    assert responses.audio("r1", PCM, 0.3) == responses.turn_was_noise(0.4) == []


def test_a_held_response_is_dropped_by_a_real_turn(responses: Responses):
    assert responses.drop_what_was_cut() == []
    begin(responses, "r1")
    assert responses.drop_what_was_cut() == []
    responses.turn_started(0.0)
    responses.audio("r1", PCM, 0.0)
    responses.drop_what_was_cut()
    assert responses.quiet
    assert responses.turn_was_noise(0.0) == []


def test_what_began_over_the_user_is_heard_when_the_user_has_stopped(responses: Responses):
    assert begin(responses, "r1", over_user=True) == []
    responses.audio("r1", PCM, 0.0)
    assert responses.drop_what_was_cut() == []
    # Had it begun just now, it would be the answer to the user.
    effects, is_answered = responses.turn_stopped(1.0)
    assert said(effects) == PCM
    assert not is_answered
    assert responses.turn_stopped(1.0) == ([], True)
    begin(responses, "r2", over_user=True)
    assert responses.turn_stopped(0.9)[1]


def test_what_began_over_the_user_is_heard_before_what_follows(responses: Responses):
    begin(responses, "r1", over_user=True)
    responses.audio("r1", PCM, 0.0)
    end(responses, "r1")
    assert said(begin(responses, "r2")) == PCM


def test_what_a_later_turn_cut_is_not(responses: Responses):
    begin(responses, "r1", over_user=True)
    responses.audio("r1", PCM, 0.0)
    end(responses, "r1")
    responses.turn_started(0.0)
    assert said(begin(responses, "r2")) == b""


def test_what_was_cut_is_said_again_after_noise(responses: Responses):
    hear(responses, VoiceStarted("r0", None), chunk(PCM), VoiceEnded("r0"))
    assert responses.bot_was_heard
    responses.unheard.cut(0.0)
    assert said(responses.say_again()) == PCM
    assert responses.say_again() == []


@pytest.mark.parametrize("how", ["real", "cancel", "flush", "forgotten", "stopped", "lost"])
def test_what_was_cut_is_not_said_again(responses: Responses, how: str):
    hear(responses, chunk(PCM), VoiceEnded("r0"))
    match how:
        case "flush":
            responses.note(Flush(), 0.0)
        case "forgotten":
            responses.playback.clear()
        case "stopped":
            responses.playback.stopped()
        case _:
            pass
    responses.unheard.cut(0.0)
    match how:
        case "real":
            responses.unheard.forget()
        case "cancel":
            assert responses.cancel() == [Discard()]
        case "lost":
            responses.disconnected()
        case _:
            pass
    assert responses.turn_was_noise(0.0) == []


def test_cancelling_stops_what_is_in_flight_and_asks_the_server_if_need_be(responses: Responses):
    begin(responses, "r1")
    effects = responses.cancel()
    assert effects[:2] == [Discard(), ReplyEnded("r1", True)]
    assert len(sent(effects)) == 1
    assert responses.cancel() == [Discard()]
    begin(responses, "r2")
    responses.turn_started(0.0)
    end(responses, "r2")
    # The server has nothing left to cancel.
    assert sent(responses.cancel()) == []


def test_the_rate_may_be_known_after_the_response_has_begun(responses: Responses):
    begin(responses, "r1")
    responses.negotiated(16_000)
    assert responses.audio("r1", PCM, 0.0)[-1] == AudioChunk(PCM, 16_000)


def test_ids_mean_nothing_beyond_their_session(responses: Responses):
    begin(responses, "r1")
    assert responses.disconnected() == [ReplyEnded("r1", True)]
    assert not responses.any_begun
    assert not responses.line.is_known("r1")
    begin(responses, "r1")
    assert end(responses, "r1").current


def test_a_response_of_which_nothing_more_comes_is_given_up(responses: Responses):
    assert responses.deadline is None
    begin(responses, "a")
    assert responses.deadline == 12.0
    responses.audio("a", PCM, 5.0)
    responses.progressed(10.0)
    assert responses.deadline == 22.0
    assert responses.give_up_stalled(21.9) == []
    effects = responses.give_up_stalled(22.0)
    (cancel,) = sent(effects)
    assert isinstance(cancel, ResponseCancel)
    assert cancel.response_id == "a"
    (report,) = [effect for effect in effects if isinstance(effect, Report)]
    assert report.severity is Severity.WARNING
    assert "did not go on with it" in report.message
    assert responses.quiet
    assert responses.deadline is None
    assert responses.give_up_stalled(900.0) == []


def test_text_of_another_response_is_not_that_of_the_current_one(responses: Responses):
    assert responses.text(None, "Nobody.", 0.0) == []
    begin(responses, "a")
    assert responses.text("b", "Another.", 1.0) == []
    assert responses.deadline == 12.0
    assert TextChunk("Mine.") in [
        *responses.text("a", "Mine.", 2.0),
        *responses.audio("a", PCM, 2.0),
    ]
    assert responses.deadline == 14.0


def test_calls_belong_to_a_response_that_lives(responses: Responses):
    assert responses.living == frozenset()
    begin(responses, None)
    assert responses.living == {None}
    responses.line.adopt("a")
    assert responses.living == {"a"}
    responses.cancel()
    assert responses.living == frozenset()


def test_a_rate_that_is_negotiated_without_a_response_concerns_none(responses: Responses):
    responses.negotiated(48_000)
    begin(responses, "a")
    (chunk_of_a,) = [e for e in responses.audio("a", PCM, 0.0) if isinstance(e, AudioChunk)]
    assert chunk_of_a.sample_rate == 24_000


def test_what_an_interruption_threw_away_is_said_again_with_the_response_that_is_current(
    responses: Responses,
):
    effects = begin(responses, "a") + responses.audio("a", 100 * PCM, 0.0)
    for effect in effects:
        responses.note(effect, 0.0)
    responses.playback.started(0.0)
    responses.unheard.cut(1.0)
    assert responses.holds_back
    again = responses.say_again()
    assert said(again) == (100 * PCM)[round(0.7 * 24_000) * 2 :]
    assert not responses.holds_back
    assert responses.say_again() == []


def test_without_resuming_nothing_is_said_again():
    responses = Responses(event_ids=EventIds(), resume_after_noise=False)
    effects = begin(responses, "a") + responses.audio("a", 100 * PCM, 0.0)
    for effect in effects:
        responses.note(effect, 0.0)
    responses.unheard.cut(1.0)
    assert responses.say_again() == []
