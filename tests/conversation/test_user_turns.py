"""User turns: started, stopped, decided; the echo of a start; the replay."""

import pytest

from pipecat_hydra.conversation.effects import UserStopped
from pipecat_hydra.conversation.user_turns import UserTurns, Verdict
from pipecat_hydra.wire.events import ConversationItem


@pytest.fixture
def turns() -> UserTurns:
    """The user speaks: a turn whose item is `a`."""
    turns = UserTurns()
    assert turns.start("a", 0.0) == []
    return turns


def item(item_id: str | None, status: str = "completed", role: str | None = "user"):
    return ConversationItem.model_validate({"id": item_id, "status": status, "role": role})


def test_a_turn_is_stopped_once(turns: UserTurns):
    assert turns.speaking
    assert turns.stop(discarded=False, silence_secs=0.2) == [UserStopped(False, 0.2)]
    assert not turns.speaking
    assert turns.undecided
    assert turns.stop(discarded=True) == []
    assert UserTurns().stop(discarded=False) == []


def test_a_turn_stops_the_one_before(turns: UserTurns):
    assert turns.start("b", 1.0) == [UserStopped(False)]
    assert turns.is_open("b")
    turns.stop(discarded=False)
    assert turns.start("c", 2.0) == []


def test_the_turn_of_an_item_is_open_while_the_user_speaks(turns: UserTurns):
    assert turns.is_open("a")
    assert not turns.is_open("b")
    assert not turns.is_open(None)
    turns.stop(discarded=False)
    assert not turns.is_open("a")
    assert not UserTurns().is_open("a")


def test_a_turn_without_an_item_is_named_once():
    turns = UserTurns()
    turns.name("too early")
    turns.start(None, 0.0)
    turns.name("a")
    turns.name("b")
    assert turns.is_open("a")


@pytest.mark.parametrize(
    ("done", "verdict"),
    [
        (item("a"), Verdict.REAL),
        (item("a", "incomplete"), Verdict.NOISE),
        (item(None), Verdict.REAL),
        (item("other"), Verdict.NONE),
        (item("a", role="assistant"), Verdict.NONE),
        (item("a", "incomplete", role=None), Verdict.NOISE),
        (item("other", role=None), Verdict.NONE),
        (item(None, role=None), Verdict.NONE),
    ],
)
def test_the_item_of_a_turn_decides_it(turns: UserTurns, done: ConversationItem, verdict: Verdict):
    assert turns.judge(done) is verdict


def test_no_item_decides_anything_when_there_is_no_turn():
    assert UserTurns().judge(item("a")) is Verdict.NONE


def test_a_turn_before_the_one_that_is_open_is_decided_once(turns: UserTurns):
    turns.start("b", 1.0)
    assert turns.judge(item("a")) is Verdict.EARLIER_REAL
    assert turns.judge(item("a")) is Verdict.NONE


def test_an_earlier_turn_that_was_noise_decides_nothing(turns: UserTurns):
    turns.start("b", 1.0)
    turns.start("c", 2.0)
    assert turns.judge(item("a", "incomplete")) is Verdict.NONE
    assert turns.judge(item("a")) is Verdict.NONE
    assert turns.judge(item("b")) is Verdict.EARLIER_REAL


def test_of_turns_that_are_never_decided_only_the_last_are_remembered():
    turns = UserTurns()
    for n in range(10):
        turns.start(f"i{n}", float(n))
    assert turns.judge(item("i0")) is Verdict.NONE
    assert turns.judge(item("i1")) is Verdict.EARLIER_REAL


def test_a_turn_without_an_item_is_none_to_be_decided_later():
    turns = UserTurns()
    turns.start(None, 0.0)
    turns.start("b", 1.0)
    assert turns.judge(item("a")) is Verdict.NONE


def test_a_real_turn_is_over_when_the_user_has_stopped(turns: UserTurns):
    assert not turns.settle()
    assert turns.speaking
    turns.stop(discarded=False)
    assert turns.settle()
    assert not turns.undecided


def test_a_turn_was_noise_until_the_next_one_or_an_interruption(turns: UserTurns):
    turns.discard()
    assert turns.was_noise
    assert not turns.undecided
    turns.start("b", 1.0)
    assert not turns.was_noise
    turns.discard()
    turns.interrupted()
    assert not turns.was_noise


def test_the_first_interruption_within_a_turn_is_its_echo(turns: UserTurns):
    assert turns.take_echo(60.0)
    assert not turns.take_echo(60.0)


@pytest.mark.parametrize(("secs", "echo"), [(1.0, True), (1.1, False)])
def test_the_echo_of_a_turn_that_is_over_comes_within_a_second(
    turns: UserTurns, secs: float, echo: bool
):
    turns.stop(discarded=False)
    assert turns.take_echo(secs) is echo


def test_the_echo_may_come_after_the_loss_of_the_connection(turns: UserTurns):
    turns.disconnected()
    assert not turns.undecided
    assert turns.take_echo(0.5)


def test_without_a_turn_there_is_no_echo():
    assert not UserTurns().take_echo(0.0)


def test_the_replay_ends_a_while_after_what_is_sent_again():
    turns = UserTurns()
    assert turns.deadline is None
    turns.replay(2.0, 10.0)
    assert turns.replaying
    assert turns.deadline == 15.0
    assert not turns.take_replayed(14.9)
    assert turns.take_replayed(15.0)
    assert not turns.replaying
    assert not turns.take_replayed(16.0)


@pytest.mark.parametrize("how", ["turn", "loss"])
def test_the_replay_ends_with_a_word_in_it_or_with_the_session(how: str):
    turns = UserTurns()
    turns.replay(2.0, 10.0)
    if how == "turn":
        turns.start("a", 11.0)
    else:
        turns.disconnected()
    assert not turns.replaying
    assert not turns.take_replayed(60.0)


def test_turns_that_are_understood_are_counted():
    turns = UserTurns()
    turns.count_understood()
    turns.count_understood()
    assert turns.understood == 2


# What a turn says of itself


def test_a_turn_may_be_noise_until_it_is_settled(turns: UserTurns):
    assert turns.may_be_noise
    turns.settle()
    assert not turns.may_be_noise
    assert turns.undecided
    assert not UserTurns().may_be_noise


def test_nobody_listens_to_a_user_who_is_answered_until_the_answer_is_broken_off(
    turns: UserTurns,
):
    assert turns.listening
    turns.answer()
    assert turns.answered
    assert not turns.listening
    turns.answer(broken_off=True)
    assert turns.listening
    turns.stop(discarded=False)
    turns.answer()
    assert not turns.answered
    assert not turns.listening


def test_a_user_who_is_silent_is_not_answered():
    turns = UserTurns()
    turns.answer()
    assert not turns.answered


def test_a_response_may_be_over_the_user_only_shortly_after_the_start_of_a_turn(turns: UserTurns):
    assert turns.may_be_spoken_over(2.9)
    assert not turns.may_be_spoken_over(3.0)
    turns.stop(discarded=False)
    assert not turns.may_be_spoken_over(1.0)
    assert not UserTurns().may_be_spoken_over(0.0)


def test_a_turn_over_which_the_server_speaks_is_answered_a_while_after_its_start(turns: UserTurns):
    assert not turns.is_answered_over(3.0)
    turns.spoken_over()
    assert turns.deadline == 3.0
    assert not turns.is_answered_over(2.9)
    assert turns.is_answered_over(3.0)


@pytest.mark.parametrize("how", ["answered", "broken off", "stopped", "another turn"])
def test_a_turn_is_not_answered_twice(turns: UserTurns, how: str):
    turns.spoken_over()
    match how:
        case "answered" | "broken off":
            turns.answer(broken_off=how == "broken off")
        case "stopped":
            turns.stop(discarded=False)
        case _:
            turns.start("b", 1.0)
    assert not turns.is_answered_over(5.0)
    assert turns.deadline != 3.0


def test_an_item_cannot_make_noise_of_a_turn_that_is_real(turns: UserTurns):
    turns.settle()
    assert turns.judge(item("a", "incomplete")) is Verdict.NONE
    assert turns.judge(item("a")) is Verdict.REAL


def test_a_real_turn_is_no_earlier_turn_to_be_decided(turns: UserTurns):
    turns.settle()
    turns.start("b", 1.0)
    assert turns.judge(item("a")) is Verdict.NONE


# Bounds


def test_a_turn_that_does_not_stop_is_too_long_after_its_bound():
    turns = UserTurns(longest_turn_secs=5.0)
    assert not turns.is_too_long(60.0)
    turns.start("a", 10.0)
    assert turns.deadline == 15.0
    assert not turns.is_too_long(14.9)
    assert turns.is_too_long(15.0)
    turns.stop(discarded=False)
    assert not turns.is_too_long(15.0)


@pytest.mark.parametrize(("soon", "secs"), [(True, 3.0), (False, 8.0)])
def test_a_turn_that_is_over_is_decided_within_a_while(turns: UserTurns, soon: bool, secs: float):
    turns.await_decision(1.0, soon=soon)
    assert not turns.is_never_decided(60.0)  # the user still speaks
    turns.stop(discarded=False)
    turns.await_decision(2.0, soon=soon)
    assert turns.deadline == 2.0 + secs
    assert not turns.is_never_decided(1.9 + secs)
    assert turns.is_never_decided(2.0 + secs)
    turns.discard()
    assert not turns.is_never_decided(60.0)
    assert turns.deadline is None


def test_the_deadline_is_the_earlier_of_the_replay_and_the_turn(turns: UserTurns):
    turns.replay(2.0, 10.0)
    assert turns.deadline == 15.0
    turns.replay(60.0, 10.0)
    assert turns.deadline == 60.0


def test_nothing_is_awaited_of_a_turn_that_is_not_there():
    turns = UserTurns()
    turns.await_decision(0.0, soon=True)
    turns.spoken_over()
    turns.name("a")
    assert not turns.is_answered_over(60.0)
    assert turns.deadline is None
    assert not turns.is_never_decided(60.0)
