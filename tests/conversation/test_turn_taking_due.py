"""What was due when the user began to speak: held, heard, cancelled, or the answer (T3, T4)."""

import pytest
from support import wire
from support.driver import PCM, Driver, creates, kinds, said, sent

from pipecat_hydra.conversation.effects import (
    ReplyEnded,
    ReplyStarted,
    UserStopped,
)
from pipecat_hydra.wire.events import (
    ResponseCancel,
)


@pytest.mark.parametrize("item", ["before", "after"])
def test_an_answer_is_heard_if_only_the_item_tells_that_the_turn_is_over(driver: Driver, item: str):
    """Also when another reply was due as the user began to speak, and has not come."""
    driver.conversation.request_response(0.0)
    driver.receive(wire.started())
    driver.now = 2.0
    events = [wire.user_item("completed"), wire.response_created()]
    effects = driver.receive(
        *(events if item == "before" else reversed(events)), wire.audio(PCM), wire.done()
    )
    assert said(effects) == PCM
    assert kinds(effects).count(UserStopped) == 1
    assert not driver.conversation.reply_pending


def test_a_response_that_was_due_before_the_user_spoke_is_not_played_over_him(driver: Driver):
    driver.receive(wire.started("a"), wire.stopped("a"))
    driver.receive(wire.started("b"))
    effects = driver.receive(wire.response_created("r1"), wire.audio(PCM, "r1"))
    assert effects == []
    # Cancelled, it never is; else it is heard once the user has stopped.
    assert said(driver.receive(wire.stopped("b"))) == PCM
    assert said(driver.receive(wire.audio(PCM, "r1"))) == PCM


def test_a_response_that_was_due_and_is_cancelled_while_the_user_speaks(driver: Driver):
    driver.receive(wire.started("a"), wire.stopped("a"), wire.started("b"))
    effects = driver.receive(
        wire.response_created("r1"),
        wire.audio(PCM, "r1"),
        wire.done("r1", "cancelled", "interrupted"),
        wire.stopped("b"),
        wire.user_item("completed", "b"),
        wire.audio(PCM, "r1"),
    )
    assert said(effects) == b""


@pytest.mark.parametrize("status", ["completed", "incomplete"])
def test_a_doomed_response_that_comes_long_before_the_user_stops_is_cancelled(
    driver: Driver, status: str
):
    driver.conversation.request_response(0.0)
    driver.interrupted()
    effects = driver.receive(wire.started(), wire.response_created("r1"), wire.audio(PCM, "r1"))
    driver.now = 3.0
    effects += driver.receive(wire.stopped(), wire.user_item(status), wire.audio(PCM, "r1"))
    (cancel,) = sent(effects)
    assert isinstance(cancel, ResponseCancel)
    assert cancel.response_id == "r1"
    assert said(effects) == b""
    driver.receive(wire.done("r1", "cancelled"))
    assert said(driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"))) == PCM


def test_a_doomed_response_that_noise_ends_without_a_stop_is_cancelled(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.interrupted()
    effects = driver.receive(
        wire.started(),
        wire.response_created("r1"),
        wire.audio(PCM, "r1"),
        wire.user_item("incomplete"),
    )
    assert [type(event) for event in sent(effects)] == [ResponseCancel]
    assert said(effects) == b""


def test_a_doomed_response_is_not_heard_after_noise_in_which_the_user_began_twice(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.interrupted()
    driver.receive(wire.started("one"), wire.response_created("r1"), wire.audio(PCM, "r1"))
    effects = driver.receive(wire.started("two"), wire.user_item("incomplete", "two"))
    assert [type(event) for event in sent(effects)] == [ResponseCancel]
    assert said(effects) == b""


def test_a_quick_answer_is_heard_though_what_was_due_before_was_interrupted(driver: Driver):
    """The server has forgotten what was due; only the answer to the user ever comes."""
    driver.conversation.request_response(0.0)
    driver.receive(wire.started("noise"))
    driver.conversation.cancel_response(0.0)
    driver.receive(wire.user_item("incomplete", "noise"))
    driver.now = 1.0
    driver.receive(wire.started())
    driver.now = 4.0
    effects = driver.receive(wire.response_created("r1"), wire.audio(PCM, "r1"))
    driver.now = 4.03
    effects += driver.receive(wire.stopped(), wire.user_item("completed"))
    effects += driver.receive(wire.audio(PCM, "r1"), wire.done("r1"))
    assert sent(effects) == []
    assert said(effects) == 2 * PCM
    assert not driver.conversation.reply_pending


def test_a_quick_answer_is_heard_though_another_response_was_due_before(driver: Driver):
    """It comes before the word that the turn is over, and nobody cancels it."""
    driver.conversation.request_response(0.0)
    effects = driver.receive(
        wire.started(),
        wire.response_created(),
        wire.audio(PCM),
        wire.stopped(),
        wire.user_item("completed"),
        wire.audio(PCM),
        wire.done(),
    )
    assert said(effects) == 2 * PCM
    assert kinds(effects).count(ReplyStarted) == kinds(effects).count(ReplyEnded) == 1


@pytest.mark.parametrize("ends", ["before", "after"])
@pytest.mark.parametrize("decided", ["first", "last"])
def test_what_was_due_and_began_long_before_the_user_stopped_is_no_answer(
    driver: Driver, ends: str, decided: str
):
    """It answers what was typed before; what is typed meanwhile is answered with the user."""
    driver.conversation.send_message("First.", 0.0)
    assert creates(driver.conversation.send_message("Second.", 0.0)) == 0
    driver.receive(wire.started(), wire.response_created("r1"), wire.audio(PCM, "r1"))
    done = [wire.done("r1")]
    effects = driver.receive(*(done if ends == "before" else []))
    driver.now = 3.0
    word = [wire.stopped(), wire.user_item("completed")]
    effects += driver.receive(*(word if decided == "last" else reversed(word)))
    effects += driver.receive(*(done if ends == "after" else []))
    assert creates(effects) == 0
    assert said(effects) == PCM
    effects = driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"), wire.done("r2"))
    assert said(effects) == PCM
    assert creates(effects) == 0
    assert not driver.conversation.reply_pending


@pytest.mark.parametrize(("before_secs", "is_answer"), [(0.99, True), (1.0, False)])
def test_what_was_due_is_the_answer_if_it_began_within_a_second_of_the_stop(
    driver: Driver, before_secs: float, is_answer: bool
):
    driver.conversation.request_response(0.0)
    driver.receive(wire.started(), wire.response_created())
    driver.now = before_secs
    driver.receive(wire.stopped(), wire.user_item("completed"), wire.done())
    assert driver.conversation.reply_pending is not is_answer


def test_what_was_due_is_heard_also_when_the_answer_is_quicker_than_the_word(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.receive(
        wire.started(), wire.response_created("r1"), wire.audio(PCM, "r1"), wire.done("r1")
    )
    driver.now = 3.0
    effects = driver.receive(
        wire.response_created("r2"),
        wire.audio(2 * PCM, "r2"),
        wire.stopped(),
        wire.user_item("completed"),
        wire.done("r2"),
    )
    assert said(effects) == 3 * PCM
    assert kinds(effects).count(ReplyStarted) == kinds(effects).count(ReplyEnded) == 2
    assert not driver.conversation.reply_pending


def test_what_was_due_and_began_long_before_noise_ended_is_heard(driver: Driver):
    driver.conversation.send_message("First.", 0.0)
    driver.conversation.send_message("Second.", 0.0)
    driver.receive(wire.started(), wire.response_created("r1"), wire.audio(PCM, "r1"))
    driver.receive(wire.done("r1"))
    driver.now = 3.0
    effects = driver.receive(wire.stopped(), wire.user_item("incomplete"))
    assert said(effects) == PCM
    assert creates(effects) == 1


def test_a_continued_sentence_is_answered_though_its_answer_is_quick(driver: Driver):
    """What was due when the user went on is the answer to both halves."""
    driver.receive(wire.started("a"), wire.stopped("a"))
    driver.now = 0.5
    driver.receive(wire.started("b"))
    driver.now = 2.0
    effects = driver.receive(
        wire.response_created(),
        wire.audio(PCM),
        wire.user_item("completed", "b"),
        wire.stopped("b"),
        wire.audio(PCM),
        wire.done(),
    )
    assert said(effects) == 2 * PCM
    assert kinds(effects).count(ReplyStarted) == kinds(effects).count(ReplyEnded) == 1


def test_what_was_due_before_noise_and_cancelled_in_it_is_cancelled_when_it_comes(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.receive(wire.started())
    driver.conversation.cancel_response(0.0)
    driver.receive(wire.stopped(), wire.user_item("incomplete"))
    (cancel,) = sent(driver.receive(wire.response_created("r1")))
    assert isinstance(cancel, ResponseCancel)


def test_a_turn_is_answered_by_what_begins_over_it_late_though_another_response_was_due(
    driver: Driver,
):
    """The server has dropped what was due, and no word says that the user has stopped."""
    driver.conversation.request_response(0.0)
    driver.receive(wire.started())
    driver.now = 3.0
    effects = driver.receive(wire.response_created(), wire.audio(PCM), wire.call("c1"), wire.done())
    assert said(effects) == PCM
    assert creates(driver.conversation.answer_call("c1", "{}", driver.now)) == 1


@pytest.mark.parametrize("done", [True, False])
def test_a_turn_is_answered_by_what_begins_over_it_and_is_not_cancelled(driver: Driver, done: bool):
    """Though another response was due, and no word says that the user has stopped."""
    driver.conversation.request_response(0.0)
    driver.receive(wire.started())
    driver.now = 1.0
    effects = driver.receive(wire.response_created(), wire.audio(PCM), wire.call("c1"))
    effects += driver.receive(wire.done()) if done else driver.conversation.tick(1.5)
    effects += driver.conversation.answer_call("c1", "{}", 2.0)
    effects += driver.conversation.tick(2.9)
    assert said(effects) == b""
    assert creates(effects) == 0
    assert driver.conversation.deadline is not None
    assert driver.conversation.deadline <= 3.0
    effects = driver.conversation.tick(3.0)
    assert said(effects) == PCM
    assert creates(effects) == 1
    # The word comes after all.
    driver.now = 4.0
    driver.receive(wire.stopped(), wire.user_item("completed"))
    effects = driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"), wire.done("r2"))
    assert said(effects) == PCM
    assert driver.conversation.at_turn_boundary


def test_a_turn_is_not_answered_by_what_begins_over_it_and_is_cancelled(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.receive(wire.started(), wire.response_created(), wire.audio(PCM))
    driver.receive(wire.done(status="cancelled", reason="interrupted"))
    assert said(driver.conversation.tick(3.0)) == b""
    assert creates(driver.conversation.send_message("Hello.", 4.0)) == 0
    driver.receive(wire.stopped())
    assert driver.conversation.reply_pending


def test_a_doomed_response_over_the_user_is_cancelled_also_without_a_stop(driver: Driver):
    driver.conversation.request_response(0.0)
    driver.interrupted()
    driver.receive(wire.started(), wire.response_created("r1"), wire.audio(PCM, "r1"))
    (cancel,) = sent(driver.conversation.tick(3.0))
    assert isinstance(cancel, ResponseCancel)
    assert cancel.response_id == "r1"
    driver.now = 4.0
    effects = driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"), wire.done("r2"))
    assert said(effects) == PCM
    assert driver.conversation.at_turn_boundary
