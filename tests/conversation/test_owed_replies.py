"""Which replies the model owes, and when it is asked for one."""

import pytest
from support import wire
from support.driver import PCM, Driver, creates, said, sent

from pipecat_hydra.wire.events import (
    ResponseCancel,
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


def test_a_narration_waits_for_a_reply_that_came_in_between(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"), wire.done())
    driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"))
    assert creates(driver.conversation.answer_call("c1", "1", 0.0)) == 0
    assert creates(driver.receive(wire.done("r2"))) == 1
