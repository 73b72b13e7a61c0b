"""Which replies the model owes, and when it is asked for one."""

import pytest
from support import wire
from support.driver import PCM, Driver, creates, said, sent

from pipecat_hydra.conversation.effects import Effect
from pipecat_hydra.conversation.event_ids import EventIds
from pipecat_hydra.conversation.owed_replies import OwedReplies
from pipecat_hydra.wire.events import (
    ResponseCancel,
    ServerEvent,
    SessionConfiguration,
)


def test_what_is_asked_for_after_an_interruption_is_heard(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.interrupted()
    assert creates(driver.conversation.request_response(1.0)) == 0
    first = driver.receive(
        wire.response_created("r1"), wire.audio(PCM, "r1"), wire.done("r1", "cancelled")
    )
    assert said(first) == b""
    assert creates(first) == 1
    assert said(driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"))) == PCM


def test_a_greeting_that_is_interrupted_before_the_session_is_configured_is_not_heard():
    driver = Driver()
    driver.conversation.configure(SessionConfiguration(generate_initial_response=True), 0.0)
    driver.conversation.connected(0.0)
    driver.receive(wire.created())
    driver.interrupted()
    effects = driver.receive(wire.configured(), wire.response_created("r1"), wire.audio(PCM, "r1"))
    assert said(effects) == b""
    cancels = [event for event in sent(effects) if isinstance(event, ResponseCancel)]
    assert [cancel.response_id for cancel in cancels] == ["r1"]
    driver.receive(wire.done("r1", "cancelled"))
    assert not driver.conversation.reply_pending
    # Nor does it doom the greeting of another session.
    driver.conversation.disconnected(0.0)
    assert said(driver.live(greet=True).receive(wire.response_created(), wire.audio(PCM))) == PCM


def test_a_turn_that_is_understood_leaves_a_greeting_owed():
    """Words that were sent again are understood when no turn was in them; nothing was heard."""
    owed = OwedReplies(EventIds())
    owed.configured(speaks_first=True)
    owed.session_began(0.0, greeted=False)
    owed.understood()
    owed.disconnected(live=True, calls_owed=False)
    assert owed.by_new_session


def test_what_is_owed_after_a_loss_is_asked_for_once(driver: Driver):
    driver.conversation.send_message("A question.", 0.0)
    driver.receive(wire.response_created())
    driver.conversation.disconnected(0.0)
    assert driver.conversation.owes_reply
    driver.conversation.configure(SessionConfiguration(), 0.0, opening=[("user", "A question.")])
    driver.conversation.request_response(0.0)
    driver.conversation.connected(0.0)
    effects = driver.receive(wire.created(), wire.configured())
    effects += driver.receive(wire.response_created(), wire.audio(PCM), wire.done())
    assert creates(effects) == 1


@pytest.mark.parametrize("how", ["time", "error", "done"])
def test_a_response_that_never_comes_is_due_no_more(driver: Driver, how: str):
    """Else it would hold up the end of the call, and doom a response that does come."""
    (create,) = sent(driver.conversation.request_response(0.0))
    assert driver.conversation.reply_pending
    match how:
        case "time":
            driver.now = 8.0
            driver.conversation.tick(8.0)
        case "error":
            driver.receive(wire.error("invalid_request_error", event_id=create.event_id))
        case _:
            driver.receive(wire.done("r1", "failed"))
    assert not driver.conversation.reply_pending
    driver.now = 20.0
    driver.interrupted()
    driver.receive(wire.started(), wire.stopped(), wire.user_item("completed"))
    assert said(driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"))) == PCM


def test_what_waits_for_a_reply_leaves_no_deadline_in_the_past(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.receive(wire.response_created("r1"))
    driver.conversation.request_response(0.0)
    driver.now = 60.0
    driver.conversation.tick(60.0)
    deadline = driver.conversation.deadline
    assert deadline is None or deadline > 60.0


def test_noise_leaves_a_cancel_that_is_due_in_force(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.interrupted()
    driver.receive(wire.started(), wire.stopped(), wire.user_item("incomplete"))
    assert len(sent(driver.receive(wire.response_created()))) == 1


def test_a_request_waits_until_the_reply_in_flight_is_done(driver: Driver):
    driver.receive(wire.response_created())
    assert creates(driver.conversation.send_message("hello", 0.0)) == 0
    assert driver.conversation.reply_pending
    assert creates(driver.receive(wire.audio(PCM))) == 0
    assert creates(driver.receive(wire.done())) == 1


def test_requests_are_made_one_at_a_time(driver: Driver):
    assert creates(driver.conversation.request_response(0.0)) == 1
    assert creates(driver.conversation.request_response(0.0)) == 0
    assert creates(driver.receive(wire.response_created("r1"), wire.done("r1"))) == 1
    assert creates(driver.receive(wire.response_created("r2"), wire.done("r2"))) == 0


def test_what_was_typed_while_the_user_speaks_is_answered_with_what_was_said(driver: Driver):
    driver.receive(wire.started())
    assert creates(driver.conversation.send_message("hello", 0.0)) == 0
    effects = driver.receive(
        wire.stopped(), wire.user_item("completed"), wire.response_created(), wire.done()
    )
    assert creates(effects) == 0
    assert not driver.conversation.reply_pending


def test_what_was_typed_while_the_user_speaks_is_answered_by_any_answer(driver: Driver):
    """Also when the user's item is not told of."""
    driver.receive(wire.started())
    driver.conversation.send_message("hello", 0.0)
    effects = driver.receive(wire.stopped(), wire.response_created(), wire.done())
    assert creates(effects) == 0


def test_what_was_typed_before_noise_is_answered(driver: Driver):
    driver.receive(wire.started())
    driver.conversation.send_message("hello", 0.0)
    assert creates(driver.receive(wire.stopped(), wire.user_item("incomplete"))) == 1


def test_an_answer_that_never_comes_holds_up_no_request_for_ever(driver: Driver):
    driver.receive(wire.started(), wire.stopped())
    driver.conversation.request_response(1.0)
    assert driver.conversation.deadline is not None
    assert driver.conversation.deadline <= 8.0
    assert creates(driver.conversation.tick(7.9)) == 0
    assert creates(driver.conversation.tick(8.0)) == 1


@pytest.mark.parametrize("typed", ["before", "after"])
def test_an_answer_that_noise_may_have_undone_holds_up_what_was_typed_for_2_s(
    driver: Driver, typed: str
):
    driver.receive(wire.started("a"), wire.stopped("a"), wire.user_item("completed", "a"))
    driver.receive(wire.started("b"))
    driver.now = 1.0
    if typed == "before":
        assert creates(driver.conversation.send_message("Hello?", driver.now)) == 0
    driver.receive(wire.stopped("b"), wire.user_item("incomplete", "b"))
    if typed == "after":
        assert creates(driver.conversation.send_message("Hello?", driver.now)) == 0
    assert creates(driver.conversation.tick(2.9)) == 0
    assert driver.conversation.deadline == 3.0
    assert creates(driver.conversation.tick(3.0)) == 1


def test_an_answer_that_noise_may_have_undone_is_due_if_nobody_wants_another(driver: Driver):
    driver.receive(wire.started("a"), wire.stopped("a"), wire.user_item("completed", "a"))
    driver.receive(wire.started("b"), wire.stopped("b"), wire.user_item("incomplete", "b"))
    driver.conversation.tick(7.9)
    assert driver.conversation.reply_pending
    driver.conversation.tick(8.0)
    assert not driver.conversation.reply_pending


def test_a_narration_waits_for_a_reply_that_came_in_between(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"), wire.done())
    driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"))
    assert creates(driver.conversation.answer_call("c1", "1", 0.0)) == 0
    assert creates(driver.receive(wire.done("r2"))) == 1


# Before there is a session, over a loss, and of the session that follows


def begin(driver: Driver, *, greet: bool) -> list[Effect]:
    driver.conversation.configure(SessionConfiguration(generate_initial_response=greet), driver.now)
    driver.conversation.connected(driver.now)
    return driver.receive(wire.created(), wire.configured())


@pytest.mark.parametrize("greet", [True, False])
def test_what_is_asked_before_there_is_a_session_the_first_one_answers(greet: bool):
    driver = Driver()
    assert driver.conversation.request_response(0.0) == []
    assert driver.conversation.owes_reply
    assert driver.conversation.reply_pending
    # One that speaks first need not be asked.
    assert creates(begin(driver, greet=greet)) == (0 if greet else 1)
    assert driver.conversation.reply_pending
    effects = driver.receive(wire.response_created(), wire.audio(PCM), wire.done())
    assert creates(effects) == 0
    assert not driver.conversation.reply_pending
    driver.conversation.disconnected(0.0)
    assert not driver.conversation.owes_reply


@pytest.mark.parametrize("until", ["connected", "created", "configuring"])
def test_it_is_owed_until_a_session_is_live_whoever_interrupts(until: str):
    driver = Driver()
    conversation = driver.conversation
    conversation.request_response(0.0)
    conversation.configure(SessionConfiguration(generate_initial_response=True), 0.0)
    if until != "connected":
        conversation.connected(0.0)
    if until == "configuring":
        driver.receive(wire.created())
    driver.interrupted()
    conversation.disconnected(0.0)
    driver.interrupted()
    assert conversation.owes_reply
    assert conversation.reply_pending
    assert creates(begin(driver, greet=False)) == 1


def test_who_is_configured_anew_not_to_speak_first_is_asked():
    driver = Driver()
    driver.conversation.request_response(0.0)
    driver.conversation.configure(SessionConfiguration(generate_initial_response=True), 0.0)
    assert creates(begin(driver, greet=False)) == 1


def test_a_greeting_that_nobody_asked_for_is_owed_until_somebody_interrupts():
    driver = Driver()
    driver.conversation.configure(SessionConfiguration(generate_initial_response=True), 0.0)
    assert driver.conversation.owes_reply
    driver.interrupted()
    assert not driver.conversation.owes_reply


def test_what_is_asked_while_the_session_greets_is_answered_after_that():
    driver = Driver()
    driver.conversation.configure(SessionConfiguration(generate_initial_response=True), 0.0)
    driver.conversation.connected(0.0)
    driver.receive(wire.created())
    driver.conversation.request_response(0.0)
    assert creates(driver.receive(wire.configured(), wire.response_created("r1"))) == 0
    assert creates(driver.receive(wire.done("r1"))) == 1


def test_what_is_asked_of_the_next_session_that_one_answers(driver: Driver):
    conversation = driver.conversation
    conversation.hand_over()
    assert creates(conversation.request_response(0.0)) == 0
    assert conversation.reply_pending
    # It holds up nothing.
    assert conversation.at_turn_boundary
    assert (
        creates(driver.receive(wire.started(), wire.stopped(), wire.user_item("incomplete"))) == 0
    )
    conversation.disconnected(0.0)
    assert conversation.owes_reply
    driver.interrupted()
    assert conversation.owes_reply
    assert creates(begin(driver, greet=conversation.owes_reply)) == 0
    assert said(driver.receive(wire.response_created(), wire.audio(PCM), wire.done())) == PCM
    assert not conversation.reply_pending
    # Handing over ends with the session.
    assert creates(conversation.request_response(0.0)) == 1


def test_what_is_asked_of_a_session_before_it_is_to_be_replaced_it_answers(driver: Driver):
    driver.receive(wire.response_created("r1"))
    driver.conversation.request_response(0.0)
    driver.conversation.hand_over()
    assert not driver.conversation.at_turn_boundary
    assert creates(driver.receive(wire.done("r1"))) == 1


def test_nobody_is_asked_again_who_has_asked_the_next_session_twice(driver: Driver):
    driver.conversation.hand_over()
    driver.conversation.request_response(0.0)
    driver.conversation.request_response(0.0)
    driver.conversation.disconnected(0.0)
    effects = begin(driver, greet=False)
    effects += driver.receive(wire.response_created(), wire.audio(PCM), wire.done())
    assert creates(effects) == 1


def test_a_session_that_is_kept_answers_what_the_next_one_was_to_answer(driver: Driver):
    driver.conversation.hand_over()
    driver.conversation.request_response(0.0)
    assert creates(driver.conversation.keep_session(0.0)) == 1
    assert driver.conversation.keep_session(0.0) == []
    driver.receive(wire.response_created(), wire.done())
    assert not driver.conversation.reply_pending
    assert creates(driver.conversation.request_response(0.0)) == 1


def answer_to_user(item: str, response: str) -> list[ServerEvent]:
    return [
        wire.user_item("completed", item),
        wire.response_created(response),
        wire.audio(PCM, response),
        wire.done(response),
    ]


def test_an_answer_to_the_user_is_one_to_what_was_asked_of_the_next_session(driver: Driver):
    driver.conversation.hand_over()
    driver.receive(wire.started("a"))
    driver.conversation.request_response(0.0)
    driver.receive(wire.stopped("a"), *answer_to_user("a", "r1"))
    assert not driver.conversation.reply_pending
    driver.conversation.disconnected(0.0)
    assert not driver.conversation.owes_reply


def test_but_not_the_answer_to_a_turn_that_was_over_before(driver: Driver):
    driver.receive(wire.started("a"), wire.stopped("a"))
    driver.conversation.hand_over()
    driver.conversation.request_response(0.0)
    driver.receive(*answer_to_user("a", "r1"))
    assert driver.conversation.reply_pending
    driver.receive(wire.started("b"), wire.stopped("b"), *answer_to_user("b", "r2"))
    assert not driver.conversation.reply_pending


def test_a_session_that_is_not_live_yet_is_handed_over_too():
    driver = Driver()
    driver.conversation.configure(SessionConfiguration(), 0.0)
    driver.conversation.connected(0.0)
    driver.receive(wire.created())
    driver.conversation.hand_over()
    driver.conversation.request_response(0.0)
    assert creates(driver.receive(wire.configured())) == 0
    driver.conversation.disconnected(0.0)
    assert creates(begin(driver, greet=False)) == 1


@pytest.mark.parametrize("how", ["answered and not asked", "waiting", "asked and not heard"])
def test_what_a_lost_session_owed_the_next_one_is_asked_for_once(driver: Driver, how: str):
    driver.receive(wire.response_created("r1"), wire.call("c1", response="r1"))
    driver.conversation.tick(0.1)
    match how:
        case "answered and not asked":
            driver.conversation.answer_call("c1", "{}", 0.1)
        case "waiting":
            driver.conversation.request_response(0.1)
        case _:
            driver.receive(wire.done("r1"))
            driver.conversation.answer_call("c1", "{}", 0.1)
    driver.conversation.disconnected(0.1)
    assert driver.conversation.owes_reply
    effects = begin(driver, greet=False)
    effects += driver.receive(wire.response_created(), wire.audio(PCM), wire.done())
    assert creates(effects) == 1
    driver.conversation.disconnected(0.1)
    assert not driver.conversation.owes_reply


def test_a_greeting_that_began_before_its_session_was_live_is_not_due_once_more():
    driver = Driver()
    driver.conversation.configure(SessionConfiguration(generate_initial_response=True), 0.0)
    driver.conversation.connected(0.0)
    driver.receive(wire.created(), wire.response_created(), wire.configured(), wire.done())
    assert not driver.conversation.reply_pending
    assert driver.conversation.deadline != 8.0


def test_what_was_due_before_a_turn_and_never_comes_is_not_due_after_noise(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.receive(wire.started(), wire.done("r1", "failed"))
    driver.receive(wire.stopped(), wire.user_item("incomplete"))
    assert not driver.conversation.reply_pending


def test_an_error_about_something_else_leaves_what_is_due(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.receive(wire.error("invalid_audio", event_id="evt_1"))
    assert driver.conversation.reply_pending


def test_a_call_that_an_earlier_real_turn_cancelled_is_not_spoken_about(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"), wire.done())
    driver.receive(wire.started("a"))
    driver.interrupted()
    driver.conversation.answer_call("c1", "cancelled", 0.0, respond=False, cancelled=True)
    driver.receive(wire.stopped("a"), wire.started("b"), wire.user_item("completed", "a"))
    effects = driver.receive(wire.stopped("b"), wire.user_item("incomplete", "b"))
    # Nor after the answer to the user.
    effects += driver.receive(wire.response_created("r2"), wire.done("r2"))
    assert creates(effects) == 0


def test_a_request_that_was_refused_is_owed_no_more(driver: Driver):
    (create,) = sent(driver.conversation.request_response(0.0))
    driver.receive(wire.error("invalid_request_error", event_id=create.event_id))
    driver.conversation.disconnected(0.0)
    assert not driver.conversation.owes_reply


def test_what_was_asked_for_after_a_turn_is_due_though_that_was_noise(driver: Driver):
    """The answer to the turn is withdrawn, and the model is asked about a call that it made."""
    driver.receive(wire.started(), wire.stopped())
    item = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    driver.receive(wire.done(output=[item]))
    driver.now = 1.0
    assert creates(driver.conversation.answer_call("c1", "{}", 1.0)) == 1
    driver.receive(wire.user_item("incomplete"))
    assert driver.conversation.reply_pending
    assert creates(driver.conversation.send_message("Hello?", 1.0)) == 0
    assert creates(driver.conversation.tick(8.9)) == 0
    assert creates(driver.conversation.tick(9.0)) == 1
