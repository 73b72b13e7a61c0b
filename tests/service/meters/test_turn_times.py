"""How soon the bot answers, and falls silent, as a person hears it."""

import pytest

from pipecat_hydra.service.meters.turn_times import TurnTimes


def test_an_answer_is_due_from_the_end_of_the_speech_until_the_bot_is_heard():
    times = TurnTimes()
    times.user_started(1.0)
    assert times.user_stopped(3.0, 0.5) is None
    assert times.bot_started(3.25) == pytest.approx(0.75)
    times.bot_stopped(4.0)
    # The same answer, behind a pause.
    assert times.bot_started(5.0) is None


def test_the_word_of_the_end_may_come_behind_the_answer():
    times = TurnTimes()
    times.user_started(1.0)
    assert times.bot_started(3.25) is None
    assert times.user_stopped(3.5, 1.0) == pytest.approx(0.75)


def test_what_is_heard_before_the_speech_ends_is_no_answer():
    times = TurnTimes()
    times.bot_started(0.0)
    times.user_started(1.0)
    times.bot_stopped(1.01)
    # The last piece of what was cut.
    assert times.bot_started(1.02) is None
    assert times.bot_stopped(1.04) is None
    assert times.user_stopped(3.0, 0.5) is None
    assert times.bot_started(3.5) == pytest.approx(1.0)


def test_noise_has_no_answer():
    times = TurnTimes()
    times.user_started(1.0)
    times.user_stopped(1.5, 0.5)
    times.turn_discarded()
    assert times.bot_started(2.0) is None


def test_a_turn_whose_end_is_not_placed_has_no_answer():
    times = TurnTimes()
    times.user_started(1.0)
    assert times.user_stopped(3.0, 0.0) is None
    assert times.bot_started(3.5) is None


def test_a_turn_that_is_gone_on_with_is_answered_once():
    times = TurnTimes()
    times.user_started(1.0)
    times.user_stopped(3.0, 0.5)
    times.user_started(3.5)
    times.user_stopped(6.0, 0.5)
    assert times.bot_started(7.0) == pytest.approx(1.5)


def test_silence_follows_a_barge_in():
    times = TurnTimes()
    times.bot_started(1.0)
    times.user_started(5.0)
    assert times.bot_stopped(5.04) == pytest.approx(0.04)
    assert times.bot_stopped(6.0) is None


def test_a_user_who_speaks_while_nothing_is_heard_interrupts_nothing():
    times = TurnTimes()
    times.bot_started(1.0)
    assert times.bot_stopped(2.0) is None
    times.user_started(3.0)
    assert times.bot_stopped(4.0) is None


def test_a_bot_that_is_heard_anew_was_not_silenced_by_the_turn_before():
    times = TurnTimes()
    times.bot_started(1.0)
    times.user_started(5.0)
    # Its end is not reported.
    times.user_stopped(7.0, 0.5)
    times.bot_started(8.0)
    assert times.bot_stopped(9.0) is None
