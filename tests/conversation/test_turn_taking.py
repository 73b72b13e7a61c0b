"""Who speaks when: barge-in, noise, interruptions (T1 to T4, A5)."""

import pytest
from support import wire
from support.driver import PCM, Driver, chunk, creates, kinds, outputs, said, sent, speak

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import (
    AudioChunk,
    Discard,
    Effect,
    ReplyEnded,
    ReplyStarted,
    Report,
    ResponseFinished,
    Send,
    TextChunk,
    ToolCall,
    ToolCalls,
    TurnConfirmed,
    TurnDiscarded,
    UserStarted,
    UserStopped,
    VoiceEnded,
    VoiceStarted,
)
from pipecat_hydra.wire.events import (
    ResponseCancel,
    ResponseCreate,
    ServerEvent,
)

SECOND = bytes(range(1, 241)) * 200


def test_an_answer_quicker_than_the_word_that_the_turn_is_over_is_heard(driver: Driver):
    effects = driver.receive(
        wire.started(), wire.response_created(), wire.audio(PCM), wire.stopped(), wire.done()
    )
    assert said(effects) == PCM
    (voice,) = [e for e in effects if isinstance(e, VoiceStarted)]
    assert voice.waited is None
    assert not driver.conversation.reply_pending


def test_barge_in_while_the_reply_is_generated(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM))
    effects = driver.receive(wire.started("item_2"))
    assert effects == [VoiceEnded("resp_1", True), ReplyEnded("resp_1", True), UserStarted()]
    assert driver.interrupted() == []
    late = driver.receive(
        wire.audio(PCM),
        wire.done(status="cancelled", reason="interrupted"),
        wire.audio(PCM),
        wire.transcript("late"),
        wire.audio(PCM, None),
    )
    assert kinds(late) == [ResponseFinished]
    effects = driver.receive(
        wire.stopped("item_2"),
        wire.user_item("completed", "item_2"),
        wire.response_created("resp_2"),
        wire.audio(PCM, "resp_1"),
        wire.audio(PCM, "resp_2"),
    )
    assert said(effects) == PCM


def test_barge_in_after_generation_has_ended_interrupts_all_the_same(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM), wire.done())
    assert driver.receive(wire.started("item_2")) == [UserStarted()]


def test_the_old_response_is_dropped_when_the_turn_is_confirmed_without_a_cancel(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM), wire.started("item_2"))
    effects = driver.receive(
        wire.audio(PCM), wire.user_item("completed", "item_2"), wire.audio(PCM), wire.done()
    )
    assert said(effects) == b""


def test_a_reply_that_a_real_turn_cut_is_not_resumed_by_later_noise(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM), wire.started("item_2"))
    driver.receive(wire.audio(PCM), wire.stopped("item_2"), wire.user_item("completed", "item_2"))
    effects = driver.receive(
        wire.started("noise"), wire.stopped("noise"), wire.user_item("incomplete", "noise")
    )
    assert said(effects) == b""
    driver.conversation.tick(10.0)
    assert driver.conversation.at_turn_boundary


def test_an_answer_decides_a_turn_whatever_is_said_of_its_item_later(driver: Driver):
    playing(driver)
    driver.receive(wire.started("item_2"))
    driver.interrupted()
    driver.receive(wire.stopped("item_2"), wire.response_created("r2"))
    effects = driver.receive(wire.user_item("incomplete", "item_2"), wire.done("r2"))
    assert said(effects) == b""
    assert TurnDiscarded not in kinds(effects)


def test_a_turn_that_is_decided_while_the_user_speaks_on_spares_its_own_answer(driver: Driver):
    effects = driver.receive(
        wire.started(),
        wire.response_created(),
        wire.audio(PCM),
        wire.user_item("completed"),
        wire.audio(PCM),
        wire.stopped(),
        wire.done(),
    )
    assert said(effects) == 2 * PCM
    assert kinds(effects).count(ReplyStarted) == kinds(effects).count(ReplyEnded) == 1


def test_an_item_that_is_done_stops_its_turn_if_nothing_else_has(driver: Driver):
    assert driver.receive(wire.started(), wire.user_item("completed")) == [
        UserStarted(),
        UserStopped(False),
    ]
    assert driver.conversation.reply_pending
    assert driver.receive(wire.stopped(), wire.user_item("completed")) == []


def test_noise_lets_the_reply_go_on_with_what_came_meanwhile(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM[:100]), wire.started("item_2"))
    assert driver.receive(wire.audio(PCM[100:301]), wire.transcript("meanwhile")) == []
    effects = driver.receive(wire.stopped("item_2"), wire.user_item("incomplete", "item_2"))
    assert effects == [
        UserStopped(False),
        TurnDiscarded(),
        ReplyStarted("resp_1", resumed=True),
        VoiceStarted("resp_1", None),
        chunk(PCM[100:300]),
        TextChunk("meanwhile"),
    ]
    effects = driver.receive(wire.audio(PCM[301:]), wire.done())
    assert said(effects) == PCM[300:]
    assert effects[1:3] == [VoiceEnded("resp_1"), ReplyEnded("resp_1", False)]


def test_noise_over_a_reply_that_finished_meanwhile(driver: Driver):
    driver.receive(wire.response_created(), wire.started("item_2"))
    driver.receive(wire.audio(PCM), wire.done())
    effects = driver.receive(wire.user_item("incomplete", "item_2"))
    assert effects == [
        UserStopped(True),
        TurnDiscarded(),
        ReplyStarted("resp_1", resumed=True),
        VoiceStarted("resp_1", None),
        chunk(PCM),
        VoiceEnded("resp_1"),
        ReplyEnded("resp_1", False),
    ]
    assert said(driver.receive(wire.audio(PCM))) == PCM  # its end came early
    driver.receive(wire.audio_done())
    assert driver.receive(wire.audio(PCM)) == []


def test_noise_without_a_reply_leaves_nothing_due(driver: Driver):
    effects = driver.receive(wire.started(), wire.stopped(), wire.user_item("incomplete"))
    assert effects == [UserStarted(), UserStopped(False), TurnDiscarded()]
    assert not driver.conversation.reply_pending
    driver.now = 9.0
    effects = driver.receive(wire.response_created(), wire.audio(PCM))
    assert VoiceStarted("resp_1", None) in effects


def test_noise_whose_item_has_no_id(driver: Driver):
    driver.receive(wire.response_created(), wire.started(None), wire.audio(PCM))
    effects = driver.receive(wire.stopped(None), wire.user_item("incomplete", None))
    assert said(effects) == PCM


def test_a_turn_without_an_id_has_that_of_the_users_item_and_of_no_other(driver: Driver):
    def added(role: str, item: str) -> ServerEvent:
        body = {"type": "message", "role": role, "id": item}
        return wire.event("conversation.item.added", item=body)

    assert driver.receive(added("user", "stray")) == []
    driver.receive(wire.response_created(), wire.started(None), wire.audio(PCM))
    driver.receive(added("user", "u1"), added("assistant", "a1"))
    assert said(driver.receive(wire.user_item("incomplete", "u1"))) == PCM


def test_an_item_of_nobody_known_does_not_decide_a_turn_without_an_id(driver: Driver):
    item = {"type": "function_call", "id": "x", "status": "incomplete"}
    driver.receive(wire.response_created(), wire.started(None), wire.audio(PCM))
    assert driver.receive(wire.event("conversation.item.done", item=item)) == []
    assert driver.conversation.user_speaking


def test_the_items_of_others_do_not_decide_a_turn(driver: Driver):
    driver.receive(wire.response_created(), wire.started("item_2"), wire.audio(PCM))
    assert driver.receive(wire.user_item("incomplete", "item_1")) == []
    assert driver.receive(wire.user_item("completed", "item_1")) == []
    assert said(driver.receive(wire.user_item("incomplete", "item_2"))) == PCM


def test_a_turn_that_opens_twice_is_closed_in_between(driver: Driver):
    effects = driver.receive(wire.started("a"), wire.started("a"), wire.started("b"))
    assert effects == [UserStarted(), UserStopped(False), UserStarted()]


def test_a_stop_without_a_start_means_nothing(driver: Driver):
    assert driver.receive(wire.stopped()) == []
    assert not driver.conversation.reply_pending


def test_a_stop_that_is_repeated_makes_nobody_wait_longer(driver: Driver):
    driver.receive(wire.started(), wire.stopped())
    driver.now = 5.0
    assert driver.receive(wire.stopped()) == []
    driver.conversation.tick(8.0)
    assert not driver.conversation.reply_pending


def playing(driver: Driver, *, generated: bool = True) -> None:
    """A reply of three seconds has entered the pipeline, and half a second was heard."""
    driver.receive(wire.response_created(), *[wire.audio(SECOND) for _ in range(3)])
    driver.conversation.bot_started(driver.now)
    driver.now += 0.5
    if generated:
        driver.receive(wire.done())


def noise(driver: Driver, *events: ServerEvent) -> list[Effect]:
    driver.receive(wire.started("noise"))
    driver.interrupted()
    driver.conversation.bot_stopped()
    return driver.receive(wire.stopped("noise"), *events, wire.user_item("incomplete", "noise"))


def test_what_was_said_before_another_had_the_call_is_not_said_again(driver: Driver):
    playing(driver)
    driver.conversation.forget_playback()
    assert kinds(noise(driver)) == [UserStopped, TurnDiscarded]


def test_noise_over_a_reply_that_only_plays_lets_it_be_heard_to_its_end(driver: Driver):
    playing(driver)
    effects = noise(driver)
    assert kinds(effects)[:4] == [UserStopped, TurnDiscarded, ReplyStarted, VoiceStarted]
    assert kinds(effects)[-2:] == [VoiceEnded, ReplyEnded]
    # From 0.3 s before the half second that was heard.
    assert said(effects) == (3 * SECOND)[round(0.2 * 24_000) * 2 :]


def test_noise_over_a_reply_that_is_generated_loses_nothing(driver: Driver):
    playing(driver, generated=False)
    effects = noise(driver, wire.audio(PCM))
    effects += driver.receive(wire.audio(PCM), wire.done())
    assert said(effects) == (3 * SECOND)[round(0.2 * 24_000) * 2 :] + 2 * PCM
    assert kinds(effects).count(ReplyStarted) == kinds(effects).count(ReplyEnded) == 1


def test_noise_may_be_heard_twice(driver: Driver):
    playing(driver)
    noise(driver)
    driver.conversation.bot_started(driver.now)
    driver.now += 1.0
    effects = noise(driver)
    assert said(effects) == (3 * SECOND)[round(0.9 * 24_000) * 2 :]


def test_a_real_turn_over_a_reply_that_only_plays_brings_none_of_it_back(driver: Driver):
    playing(driver)
    driver.receive(wire.started("item_2"))
    driver.interrupted()
    effects = driver.receive(
        wire.stopped("item_2"), wire.user_item("completed", "item_2"), wire.response_created("r2")
    )
    effects += noise(driver)
    assert said(effects) == b""


def test_a_reply_that_hydra_cancelled_is_not_said_again(driver: Driver):
    playing(driver, generated=False)
    cancelled = wire.done(status="cancelled", reason="interrupted")
    assert said(noise(driver, cancelled)) == b""


def test_what_the_application_interrupted_is_not_said_again(driver: Driver):
    playing(driver)
    driver.interrupted()
    assert said(noise(driver)) == b""


def test_what_the_application_interrupted_after_the_user_is_not_said_again(driver: Driver):
    """It is known only later that the user made but noise."""
    playing(driver)
    driver.receive(wire.started("noise"), wire.stopped("noise"))
    driver.interrupted()
    assert sent(driver.interrupted()) == []
    assert said(driver.receive(wire.user_item("incomplete", "noise"))) == b""


def test_noise_that_interrupted_nothing_repeats_nothing(driver: Driver):
    """The turn strategies of the application may have let the bot speak on."""
    playing(driver)
    effects = driver.receive(
        wire.started("noise"), wire.stopped("noise"), wire.user_item("incomplete", "noise")
    )
    assert said(effects) == b""


def test_resuming_can_be_switched_off():
    conversation = Conversation(model="hydra-v1.1", resume_after_noise=False)
    driver = Driver(conversation).live()
    playing(driver)
    assert said(noise(driver)) == b""


def test_noise_that_is_known_before_its_interruption_has_come_round(driver: Driver):
    """All of it came in one burst, and the pipeline answers only then."""
    playing(driver)
    driver.receive(wire.started("n"), wire.stopped("n"), wire.user_item("incomplete", "n"))
    effects = driver.interrupted()
    assert said(effects) == (3 * SECOND)[round(0.2 * 24_000) * 2 :]
    assert kinds(effects)[0] is Discard
    assert kinds(effects)[-2:] == [VoiceEnded, ReplyEnded]


def test_noise_in_a_burst_over_a_reply_that_is_generated(driver: Driver):
    playing(driver, generated=False)
    before = driver.receive(
        wire.started("n"), wire.audio(PCM), wire.stopped("n"), wire.user_item("incomplete", "n")
    )
    # What it says at once is not handed on before the interruption, which discards it.
    assert said(before) == PCM
    effects = driver.interrupted()
    assert said(effects) == (3 * SECOND)[round(0.2 * 24_000) * 2 :] + PCM
    assert ReplyStarted not in kinds(effects)
    effects = driver.receive(wire.audio(PCM), wire.done())
    assert said(effects) == PCM


def test_another_interruption_cancels_the_response_by_its_id(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM))
    effects = driver.interrupted()
    assert kinds(effects) == [Discard, VoiceEnded, ReplyEnded, Send]
    (cancel,) = sent(effects)
    assert isinstance(cancel, ResponseCancel)
    assert cancel.response_id == "resp_1"
    assert sent(driver.interrupted()) == []
    late = driver.receive(wire.audio(PCM), wire.done(status="cancelled", reason="client_cancelled"))
    assert kinds(late) == [ResponseFinished]


def test_what_waits_for_a_response_is_asked_for_when_that_is_cancelled(driver: Driver):
    """Though the server never says that it is done."""
    driver.receive(wire.response_created())
    assert creates(driver.conversation.send_message("Hello?", 0.0)) == 0
    assert [type(event) for event in sent(driver.interrupted())] == [ResponseCancel, ResponseCreate]


def test_a_call_of_a_response_that_is_cancelled_is_given_up_after_a_second(driver: Driver):
    """Though the server never says that the response is done."""
    driver.receive(wire.response_created(), wire.call_delta("", "c1", "f"))
    driver.interrupted()
    assert not driver.conversation.at_turn_boundary
    driver.conversation.tick(1.0)
    assert driver.conversation.at_turn_boundary


def test_another_interruption_cancels_a_response_that_is_only_due(driver: Driver):
    driver.receive(wire.started(), wire.stopped())
    driver.now = 5.0
    assert driver.interrupted() == [Discard()]
    assert not driver.conversation.reply_pending
    effects = driver.receive(wire.response_created("resp_1"))
    (cancel,) = sent(effects)
    assert isinstance(cancel, ResponseCancel)
    assert cancel.response_id == "resp_1"
    assert said(driver.receive(wire.audio(PCM))) == b""
    driver.receive(wire.done(status="cancelled", reason="client_cancelled"))
    assert said(driver.receive(wire.response_created("resp_2"), wire.audio(PCM, "resp_2"))) == PCM


def test_a_response_that_was_interrupted_before_it_began_has_no_time_that_it_took(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.interrupted()
    driver.now = 2.0
    effects = driver.receive(wire.response_created(), wire.done())
    (finished,) = [e for e in effects if isinstance(e, ResponseFinished)]
    assert finished.took is None


@pytest.mark.parametrize("first", ["stopped", "item"])
def test_what_a_real_turn_cut_stays_cut_when_noise_follows_before_it_is_decided(
    driver: Driver, first: str
):
    driver.receive(wire.response_created("r0"), wire.audio(100 * PCM, "r0"), wire.done("r0"))
    driver.conversation.bot_started(0.0)
    driver.now = 0.5
    driver.receive(wire.started("a"))
    driver.interrupted()
    driver.now = 2.0
    driver.receive(wire.stopped("a"), wire.started("noise"))
    driver.interrupted()
    answer = [wire.response_created("r1"), wire.audio(PCM, "r1")]
    effects = driver.receive(wire.user_item("completed", "a"), *answer)
    assert effects == []  # it is not said while somebody seems to speak
    ends = [wire.stopped("noise"), wire.user_item("incomplete", "noise")]
    effects = driver.receive(*(ends if first == "stopped" else reversed(ends)))
    assert said(effects) == PCM


def test_what_noise_cut_is_heard_when_other_noise_follows_before_it_is_decided(driver: Driver):
    driver.receive(wire.response_created("r0"), wire.audio(100 * PCM, "r0"), wire.done("r0"))
    driver.conversation.bot_started(0.0)
    driver.now = 0.5
    driver.receive(wire.started("a"))
    driver.interrupted()
    driver.receive(wire.stopped("a"), wire.started("b"), wire.user_item("incomplete", "a"))
    driver.interrupted()
    effects = driver.receive(wire.stopped("b"), wire.user_item("incomplete", "b"))
    assert len(said(effects)) >= 75 * len(PCM)


def test_what_noise_cuts_counts_from_its_own_beginning_whatever_was_heard_before(driver: Driver):
    """Such as a last piece of a reply that was interrupted (T3)."""
    driver.conversation.bot_started(0.0)
    driver.now = 2.0
    driver.receive(wire.response_created("r0"), wire.audio(100 * PCM, "r0"), wire.done("r0"))
    driver.now = 2.5
    driver.receive(wire.started("a"))
    driver.interrupted()
    effects = driver.receive(wire.stopped("a"), wire.user_item("incomplete", "a"))
    assert len(said(effects)) == 90 * len(PCM)


def test_a_discarded_item_without_its_role_is_the_users(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM), wire.started("a"))
    driver.interrupted()
    driver.receive(wire.audio(PCM), wire.stopped("a"))
    item = {"type": "message", "id": "a", "status": "incomplete"}
    effects = driver.receive(wire.event("conversation.item.done", item=item))
    assert said(effects) == PCM


def test_an_interruption_long_after_noise_asks_for_nothing(driver: Driver):
    driver.receive(wire.started(), wire.user_item("incomplete"))
    driver.now = 30.0
    driver.receive(wire.response_created(), wire.call("c1"), wire.done())
    driver.interrupted()
    effects = driver.conversation.answer_call("c1", "gone", 30.0, respond=False, cancelled=True)
    assert len(outputs(effects)) == 1
    assert creates(effects) == 0


def test_the_echo_of_our_own_announcement_cancels_nothing(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM), wire.started("item_2"))
    assert driver.interrupted() == []
    assert sent(driver.interrupted()) != []


def test_the_echo_may_come_after_a_very_short_turn(driver: Driver):
    driver.receive(wire.started(), wire.stopped())
    driver.now = 0.1
    assert driver.interrupted() == []
    assert said(driver.receive(wire.response_created(), wire.audio(PCM))) == PCM


def test_an_echo_that_never_came_does_not_swallow_a_later_interruption(driver: Driver):
    driver.receive(wire.started(), wire.stopped(), wire.response_created(), wire.audio(PCM))
    driver.now = 2.0
    assert len(sent(driver.interrupted())) == 1


def test_what_the_application_cancelled_is_not_said_again_after_noise(driver: Driver):
    """Though the noise had interrupted it before."""
    playing(driver)
    driver.receive(wire.started("noise"))
    driver.interrupted()
    driver.conversation.cancel_response(driver.now)
    effects = driver.receive(wire.stopped("noise"), wire.user_item("incomplete", "noise"))
    assert said(effects) == b""


def test_an_echo_after_a_turn_that_was_real_brings_nothing_back(driver: Driver):
    playing(driver)
    driver.receive(wire.started("a"), wire.stopped("a"), wire.user_item("completed", "a"))
    assert driver.interrupted() == []
    assert said(noise(driver)) == b""


def test_words_that_are_sent_again_come_before_what_the_model_owes(driver: Driver):
    driver.conversation.send_message("Hello?", 0.0)
    driver.receive(wire.started())
    speak(driver)
    driver.conversation.disconnected(driver.now)
    driver.live()
    assert creates(driver.conversation.tick(driver.now + 1.0)) == 0
    driver.now += 10.0
    assert creates(driver.conversation.tick(driver.now)) == 1


def test_a_reply_that_is_heard_over_with_the_users_word_still_out_is_the_answer(driver: Driver):
    driver.receive(wire.started(), wire.response_created(), wire.audio(PCM), wire.stopped())
    assert driver.conversation.user_turns == 1


def test_a_turn_is_answered_by_a_response_without_a_sound(driver: Driver):
    driver.receive(wire.started(), wire.stopped(), wire.response_created(), wire.done())
    assert driver.conversation.user_turns == 1


@pytest.mark.parametrize("late", ["c1", "c2"])
def test_calls_are_gathered_and_spoken_about_as_time_passes(driver: Driver, late: str):
    driver.receive(wire.response_created(), wire.call("c1"))
    driver.receive(wire.call_delta("{}", "c2", "f"), wire.call("c2", "f", "{}"))
    (made,) = [e for e in driver.conversation.tick(0.02) if isinstance(e, ToolCalls)]
    assert [call.call_id for call in made.calls] == ["c1", "c2"]
    assert driver.conversation.under_way
    early = "c1" if late == "c2" else "c2"
    driver.conversation.answer_call(early, "{}", 0.1, respond=False)
    driver.conversation.answer_call(late, "{}", 0.1)
    assert creates(driver.conversation.tick(0.29)) == 0
    assert creates(driver.conversation.tick(0.31)) == 1


@pytest.mark.parametrize("when", ["open", "noise", "long ago"])
def test_a_call_that_was_cancelled_is_spoken_about_if_that_was_by_noise(driver: Driver, when: str):
    driver.receive(wire.response_created(), wire.call("c1"), wire.done())
    item = wire.event("conversation.item.added", item={"role": "user", "id": "n"})
    driver.receive(wire.started(None), item)
    driver.interrupted()
    effects: list[Effect] = []
    if when != "open":
        driver.receive(wire.stopped("n"), wire.user_item("incomplete", "n"))
    if when == "long ago":
        driver.conversation.cancel_response(0.0)
    effects += driver.conversation.answer_call("c1", "", 0.0, respond=False, cancelled=True)
    if when == "open":
        effects += driver.receive(wire.stopped("n"), wire.user_item("incomplete", "n"))
    assert creates(effects) == (0 if when == "long ago" else 1)


@pytest.mark.parametrize("named", ["announced", "unannounced"])
def test_a_call_is_named_by_its_item(driver: Driver, named: str):
    item = {"type": "function_call", "call_id": "c1", "name": "f"}
    added = wire.event("conversation.item.added", item=item)
    events = [wire.response_created(), added] if named == "announced" else [added]
    driver.receive(wire.event("conversation.item.added"), wire.event("conversation.item.done"))
    effects = driver.receive(*events, wire.call("c1", None, "{}", None), wire.done())
    effects += driver.conversation.tick(1.0)
    (made,) = [e for e in effects if isinstance(e, ToolCalls)]
    assert made.calls == (ToolCall("c1", "f", "{}"),)


def test_a_call_of_a_cancelled_response_is_none(driver: Driver):
    driver.receive(wire.response_created(), wire.done(status="cancelled"))
    late = driver.receive(wire.call_delta("{}", "c1", "f"), wire.call("c1"))
    assert late == []
    assert driver.receive(wire.call_delta("{}", None, "f", None)) == []  # type: ignore[arg-type]
    (report,) = driver.receive(wire.event("response.function_call_arguments.done", name="f"))
    assert isinstance(report, Report)


def test_phrases_may_be_the_first_sign_of_a_response(driver: Driver):
    effects = driver.receive(wire.transcript("Hi"), wire.audio(PCM), wire.done(), wire.done())
    assert kinds(effects)[:4] == [ReplyStarted, VoiceStarted, TextChunk, AudioChunk]
    assert driver.receive(wire.response_created(), wire.done("r9", "cancelled"))[:1] == [
        ResponseFinished("r9", "cancelled", None, None)
    ]


def test_noise_after_a_question_leaves_the_question_to_be_answered(driver: Driver):
    driver.receive(wire.started("a"), wire.stopped("a"))
    driver.receive(wire.started("b"), wire.stopped("b"), wire.user_item("incomplete", "b"))
    assert driver.conversation.uplink.keeping
    driver.receive(wire.response_created(), wire.audio(PCM))
    driver.receive(wire.started("c"), wire.stopped("c"), wire.user_item("incomplete", "c"))
    assert not driver.conversation.uplink.keeping


@pytest.mark.parametrize("word", ["late", "never"])
def test_a_turn_that_is_answered_owes_nothing_and_blocks_nothing(driver: Driver, word: str):
    """The word that the user has stopped may come after the answer is done, or never."""
    driver.receive(wire.started(), wire.response_created(), wire.call("c1"), wire.done())
    if word == "late":
        driver.receive(wire.stopped(), wire.user_item("completed"))
    effects = driver.conversation.answer_call("c1", "{}", driver.now)
    assert creates(effects) == 1
    effects = driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"), wire.done("r2"))
    assert said(effects) == PCM
    assert driver.conversation.at_turn_boundary
    assert creates(driver.conversation.send_message("Hello.", driver.now)) == 1


def test_an_answer_that_the_server_breaks_off_is_none(driver: Driver):
    """The user goes on in the same breath, and the answer to all of it is due at the end."""
    driver.receive(wire.started(), wire.response_created())
    driver.receive(wire.done(status="cancelled", reason="interrupted"), wire.stopped())
    assert driver.conversation.reply_pending


def test_a_cancel_of_an_older_response_does_not_break_off_the_answer(driver: Driver):
    driver.receive(wire.response_created("old"), wire.audio(PCM, "old"), wire.started())
    driver.receive(wire.response_created("r1"), wire.audio(PCM, "r1"))
    driver.receive(wire.done("old", "cancelled"), wire.done("r1"))
    assert driver.conversation.at_turn_boundary
    assert creates(driver.conversation.send_message("Hello.", 0.0)) == 1


def test_a_real_turn_is_told_once_while_a_function_runs(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"), wire.done())
    assert TurnConfirmed() not in driver.receive(wire.started("a"))
    assert driver.conversation.may_be_noise(driver.now)
    driver.interrupted()
    assert not driver.conversation.may_be_noise(driver.now)
    effects = driver.receive(
        wire.stopped("a"), wire.user_item("completed", "a"), wire.response_created("r2")
    )
    assert kinds(effects).count(TurnConfirmed) == 1
    assert kinds(effects).index(TurnConfirmed) < kinds(effects).index(ReplyStarted)


def test_noise_is_never_told_to_be_a_turn(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"), wire.done(), wire.started("a"))
    effects = driver.receive(wire.stopped("a"), wire.user_item("incomplete", "a"))
    assert TurnConfirmed() not in effects
    # Its echo may come after that.
    assert driver.conversation.may_be_noise(driver.now)


def test_an_interruption_by_somebody_else_is_no_noise(driver: Driver):
    assert not driver.conversation.may_be_noise(0.0)
    driver.receive(wire.started(), wire.stopped())
    assert not driver.conversation.may_be_noise(2.0)


def test_a_reply_that_completes_after_the_users_turn_was_not_barged_in_on(driver: Driver):
    """Though no item says that it was noise."""
    driver.receive(wire.response_created(), wire.audio(PCM), wire.started())
    driver.interrupted()
    effects = driver.receive(wire.audio(PCM), wire.stopped(), wire.audio(PCM), wire.done())
    assert TurnDiscarded() in effects
    assert said(effects) == 2 * PCM
    assert driver.conversation.at_turn_boundary


@pytest.mark.parametrize("generated", [True, False])
def test_what_noise_holds_back_is_heard_though_nobody_decides_the_turn(
    driver: Driver, generated: bool
):
    playing(driver, generated=generated)
    driver.receive(wire.started())
    driver.interrupted()
    if not generated:
        driver.receive(wire.audio(PCM), wire.done())
    driver.receive(wire.stopped())
    assert driver.conversation.tick(driver.now + 2.9) == []
    deadline = driver.conversation.deadline
    assert deadline is not None
    effects = driver.conversation.tick(driver.now + 3.0)
    assert TurnDiscarded() in effects
    rest = (3 * SECOND)[round(0.2 * 24_000) * 2 :]
    assert said(effects) == rest + (b"" if generated else PCM)


def test_a_turn_that_nobody_decides_is_noise_when_its_answer_does_not_come(driver: Driver):
    driver.receive(wire.started(), wire.stopped())
    assert TurnDiscarded() in driver.conversation.tick(8.0)
    assert driver.conversation.user_turns == 1


def test_a_turn_that_does_not_stop_is_stopped():
    driver = Driver(Conversation(model="hydra-v1.1", longest_turn_secs=20.0)).live()
    driver.receive(wire.response_created(), wire.audio(PCM), wire.started(), wire.audio(PCM))
    driver.conversation.request_response(1.0)
    driver.conversation.tick(19.9)
    assert driver.conversation.user_speaking
    effects = driver.conversation.tick(20.0)
    assert UserStopped(False) in effects
    assert said(effects) == b""
    assert creates(effects) == 1
    driver.conversation.request_response(20.5)
    assert creates(driver.conversation.tick(28.0)) == 1


def test_a_turn_that_does_not_stop_is_not_answered(driver: Driver):
    driver.receive(wire.started())
    driver.conversation.tick(59.9)
    assert not driver.conversation.at_turn_boundary
    driver.conversation.tick(60.0)
    assert driver.conversation.at_turn_boundary
    assert driver.conversation.user_turns == 1


def test_a_response_that_stalls_is_cancelled_and_told_once(driver: Driver):
    driver.receive(wire.response_created())
    driver.now = 5.0
    driver.receive(wire.audio(PCM))
    assert creates(driver.conversation.send_message("Hello?", 5.0)) == 0
    driver.conversation.tick(16.9)
    effects = driver.conversation.tick(17.0)
    assert kinds(effects) == [VoiceEnded, ReplyEnded, Send, Report, Send]
    (cancel, _) = sent(effects)
    assert isinstance(cancel, ResponseCancel)
    assert cancel.response_id == "resp_1"
    assert creates(effects) == 1
    assert said(driver.receive(wire.audio(PCM))) == b""


def test_a_response_that_goes_on_does_not_stall(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM))
    for secs in range(1, 40):
        driver.now = float(secs)
        assert Report not in kinds(driver.conversation.tick(driver.now))
        assert said(driver.receive(wire.audio(PCM))) == PCM


def test_a_response_that_waits_for_a_function_does_not_stall(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"))
    for secs in range(1, 40):
        assert Report not in kinds(driver.conversation.tick(float(secs)))
    driver.conversation.answer_call("c1", "{}", 39.0)
    assert Report not in kinds(driver.conversation.tick(50.0))


def resting(driver: Driver) -> list[Effect]:
    """A call is answered, nobody speaks about it, and its response is not done."""
    driver.receive(wire.response_created(), wire.audio(PCM), wire.call("c1"))
    driver.conversation.tick(1.0)
    driver.conversation.answer_call("c1", "{}", 1.0, respond=False)
    driver.conversation.tick(1.2)
    assert driver.conversation.reply_pending
    driver.now = 1.7
    return driver.conversation.tick(1.7)


def test_nothing_waits_for_a_response_whose_calls_nobody_is_to_speak_about(driver: Driver):
    assert kinds(resting(driver)) == [VoiceEnded, ReplyEnded]
    assert not driver.conversation.reply_pending
    assert driver.conversation.at_turn_boundary
    assert Report not in kinds(driver.conversation.tick(20.0))
    assert creates(driver.conversation.send_message("Hello?", 20.0)) == 1


def test_text_that_waits_is_answered_when_a_response_rests(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"))
    driver.conversation.tick(1.0)
    assert creates(driver.conversation.send_message("Hello?", 1.0)) == 0
    driver.conversation.answer_call("c1", "{}", 1.0, respond=False)
    assert creates(driver.conversation.tick(1.2)) == 0
    assert creates(driver.conversation.tick(1.7)) == 1


@pytest.mark.parametrize("noise", [False, True])
def test_a_response_that_rests_goes_on_when_more_of_it_comes(driver: Driver, noise: bool):
    resting(driver)
    if noise:
        driver.receive(wire.started(), wire.stopped(), wire.user_item("incomplete"))
    effects = driver.receive(wire.audio(PCM), wire.audio(PCM))
    assert said(effects) == 2 * PCM
    assert (ReplyStarted in kinds(effects)) is not noise
    assert creates(driver.conversation.send_message("Hello?", driver.now)) == 0
    assert kinds(driver.receive(wire.done())) == [VoiceEnded, ReplyEnded, ResponseFinished, Send]


def test_a_response_that_speaks_on_after_its_calls_does_not_rest(driver: Driver):
    resting(driver)
    for _ in range(20):
        driver.now += 0.4
        driver.receive(wire.audio(PCM))
        assert ReplyEnded not in kinds(driver.conversation.tick(driver.now))
        assert driver.conversation.reply_pending


@pytest.mark.parametrize("cancelled", ["before", "after"])
def test_nothing_of_what_the_application_cancelled_is_spoken_on_after_noise(
    driver: Driver, cancelled: str
):
    """Whether the echo of the noise comes before the cancel or after."""
    playing(driver)
    driver.receive(wire.started("noise"))
    if cancelled == "after":
        driver.interrupted()
    driver.conversation.cancel_response(driver.now)
    if cancelled == "before":
        driver.interrupted()
    effects = driver.receive(wire.stopped("noise"), wire.user_item("incomplete", "noise"))
    assert said(effects) == b""


def test_a_late_echo_of_a_turn_cuts_what_is_older_than_the_turn_and_says_the_answer_again(
    driver: Driver,
):
    playing(driver)
    driver.receive(wire.started(), wire.stopped(), wire.user_item("completed"))
    driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"))
    driver.now += 2.0
    effects = driver.conversation.interrupted(driver.now, late=True)
    assert kinds(effects) == [Discard, AudioChunk]
    assert said(effects) == PCM
    assert said(driver.receive(wire.audio(PCM, "r2"), wire.done("r2"))) == PCM


def test_a_late_echo_of_a_turn_leaves_the_answer_that_is_due(driver: Driver):
    playing(driver)
    driver.receive(wire.started(), wire.stopped(), wire.user_item("completed"))
    driver.now += 2.0
    assert sent(driver.conversation.interrupted(driver.now, late=True)) == []
    assert sent(driver.receive(wire.response_created("r2"))) == []
    assert said(driver.receive(wire.audio(PCM, "r2"))) == PCM


def test_a_late_echo_of_a_turn_that_may_be_noise_waits_for_the_decision(driver: Driver):
    playing(driver)
    driver.receive(wire.started(), wire.stopped())
    driver.now += 1.5
    assert driver.conversation.interrupted(driver.now, late=True) == []
    assert said(driver.receive(wire.user_item("incomplete"))) != b""


def test_words_in_what_hydra_took_for_noise_interrupt_the_reply(driver: Driver):
    playing(driver)
    driver.receive(wire.started(), wire.stopped(), wire.user_item("incomplete"))
    driver.now += 1.5
    assert said(driver.conversation.interrupted(driver.now, late=True)) == b""
