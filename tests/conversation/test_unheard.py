"""The parts that an interruption threw away are kept until they are said again or forgotten."""

import pytest

from pipecat_hydra.conversation.effects import AudioChunk
from pipecat_hydra.conversation.playback import Playback
from pipecat_hydra.conversation.unheard import Unheard

OLD = AudioChunk(bytes(2_000), 1_000)
ANSWER = AudioChunk(bytes(4_000), 1_000)


@pytest.fixture
def playback() -> Playback:
    """A second of audio that the listener begins to hear at 0.0."""
    playback = Playback()
    playback.add(OLD, 0.0)
    playback.started(0.0)
    return playback


@pytest.fixture
def unheard(playback: Playback) -> Unheard:
    return Unheard(playback, resume_after_noise=True)


def test_parts_are_kept_until_they_are_taken(unheard: Unheard):
    assert not unheard.is_any
    unheard.cut(0.0)
    assert unheard.is_any
    assert unheard.take() == [OLD]
    assert not unheard.is_any
    assert unheard.take() == []


def test_parts_that_are_forgotten_are_not_said_again(unheard: Unheard):
    unheard.cut(0.0)
    unheard.forget()
    assert not unheard.is_any
    assert unheard.take() == []


def test_parts_of_several_interruptions_add_up(unheard: Unheard, playback: Playback):
    unheard.cut(0.0)
    playback.add(ANSWER, 0.0)
    unheard.cut(0.0)
    assert unheard.take() == [OLD, ANSWER]


def answer_begins(playback: Playback) -> None:
    playback.end()
    playback.turn_started()
    playback.add(ANSWER, 0.0)


def test_of_a_turn_that_is_answered_only_the_answer_is_kept(unheard: Unheard, playback: Playback):
    unheard.cut(0.0)
    playback.add(OLD, 0.0)
    playback.started(0.0)
    answer_begins(playback)
    unheard.cut(0.0, answered=True)
    assert unheard.take() == [ANSWER]


@pytest.mark.parametrize("answered", [False, True])
def test_without_resuming_after_noise_only_an_answer_is_kept(playback: Playback, answered: bool):
    unheard = Unheard(playback, resume_after_noise=False)
    answer_begins(playback)
    unheard.cut(0.0, answered=answered)
    assert unheard.take() == ([ANSWER] if answered else [])
