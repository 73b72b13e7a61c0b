"""What was not heard is given again, from a little before, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipecat_hydra.conversation.effects import AudioChunk, TextChunk
from pipecat_hydra.conversation.playback import Playback

RATE = 1_000
"""So that a millisecond is a sample."""


def ms(start: int, end: int) -> bytes:
    """Audio whose samples tell their place."""
    return b"".join(n.to_bytes(2, "little") for n in range(start, end))


def audio(parts: list[AudioChunk | TextChunk]) -> bytes:
    return b"".join(part.pcm for part in parts if isinstance(part, AudioChunk))


def said(*chunks: tuple[int, int]) -> Playback:
    playback = Playback()
    for start, end in chunks:
        playback.add(AudioChunk(ms(start, end), RATE), 0.0)
    return playback


def test_what_was_not_heard_is_given_from_a_little_before():
    playback = said((0, 1_000), (1_000, 3_000))
    playback.started(10.0)
    assert audio(playback.cut(11.5)) == ms(1_200, 3_000)
    assert playback.cut(11.5) == []


def test_of_audio_that_was_heard_no_empty_piece_is_given():
    playback = said((0, 1_000), (1_000, 1_200), (1_200, 3_000))
    playback.started(10.0)
    assert playback.cut(11.5) == [AudioChunk(ms(1_200, 3_000), RATE)]


def test_near_the_beginning_all_is_given():
    playback = said((0, 1_000))
    playback.started(10.0)
    assert audio(playback.cut(10.1)) == ms(0, 1_000)


@pytest.mark.parametrize("stall", [0.8, 1.8])
def test_while_a_reply_stalls_nothing_of_it_is_heard(stall: float):
    playback = said((0, 1_000))
    playback.started(0.0)
    playback.add(AudioChunk(ms(1_000, 2_000), RATE), 1.0 + stall)
    playback.add(AudioChunk(ms(2_000, 3_000), RATE), 1.0 + stall)
    assert audio(playback.cut(1.5 + stall)) == ms(1_200, 3_000)


def test_what_comes_after_a_stall_is_given_whole_if_the_cut_is_before_it_plays():
    playback = said((0, 1_000))
    playback.started(0.0)
    playback.add(AudioChunk(ms(1_000, 2_000), RATE), 3.0)
    assert audio(playback.cut(3.0)) == ms(700, 2_000)


def test_of_a_reply_that_comes_slower_than_it_is_spoken_only_what_came_was_heard():
    playback = Playback()
    playback.started(0.0)
    for n in range(10):
        playback.add(AudioChunk(ms(100 * n, 100 * n + 100), RATE), 0.2 * n)
    playback.add(AudioChunk(ms(1_000, 2_000), RATE), 2.0)
    assert audio(playback.cut(2.4)) == ms(1_100, 2_000)


@pytest.mark.parametrize("first_heard", [0.5, 1.0])
def test_of_what_was_said_before_the_turn_nothing_is_given(first_heard: float):
    playback = said((0, 1_000))
    playback.end()
    playback.started(0.0)
    playback.turn_started()
    playback.add(AudioChunk(ms(1_000, 3_000), RATE), 0.4)
    if first_heard == 1.0:
        playback.stopped()
        playback.started(1.0)
        assert audio(playback.cut(1.5, since_turn=True)) == ms(1_200, 3_000)
    else:
        assert audio(playback.cut(first_heard, since_turn=True)) == ms(1_000, 3_000)


def test_what_was_heard_whole_is_not_given():
    playback = said((0, 1_000))
    playback.started(10.0)
    assert playback.cut(11.0) == []


def test_without_word_from_the_transport_nothing_is_given():
    assert said((0, 1_000)).cut(5.0) == []


def test_of_text_only_what_was_not_heard_is_given():
    playback = Playback()
    playback.add(TextChunk("one"), 0.0)
    playback.add(AudioChunk(ms(0, 1_000), RATE), 0.0)
    playback.add(TextChunk(" two"), 0.0)
    playback.add(AudioChunk(ms(1_000, 2_000), RATE), 0.0)
    playback.started(0.0)
    rest = playback.cut(0.9)
    assert audio(rest) == ms(600, 2_000)
    assert [part.text for part in rest if isinstance(part, TextChunk)] == [" two"]


def test_stretches_are_heard_one_after_the_other():
    playback = said((0, 1_000))
    playback.end()
    playback.add(AudioChunk(ms(1_000, 2_000), RATE), 0.0)
    playback.started(0.0)
    assert audio(playback.cut(0.5)) == ms(200, 2_000)
    playback = said((0, 1_000))
    playback.end()
    playback.add(AudioChunk(ms(1_000, 2_000), RATE), 0.0)
    playback.started(0.0)
    playback.stopped()
    assert audio(playback.cut(1.0)) == ms(1_000, 2_000)


def test_the_word_that_a_cut_reply_has_stopped_means_nothing():
    playback = said((0, 1_000))
    playback.started(0.0)
    playback.cut(0.5)
    playback.add(AudioChunk(ms(0, 1_000), RATE), 0.0)
    playback.stopped()
    assert audio(playback.cut(1.0)) == ms(0, 1_000)


def test_a_last_piece_of_what_was_cut_says_nothing_of_what_comes_next():
    """The transport reports its start, and then not the start of the next reply."""
    playback = said((0, 1_000))
    playback.started(0.0)
    playback.cut(0.5)
    playback.stopped()
    playback.started(0.51)
    playback.add(AudioChunk(ms(0, 3_000), RATE), 2.0)
    playback.add(AudioChunk(ms(3_000, 4_000), RATE), 2.1)
    assert audio(playback.cut(3.0)) == ms(700, 4_000)


def test_a_reply_after_such_a_piece_is_heard_to_its_end():
    playback = Playback()
    playback.started(0.0)
    playback.add(AudioChunk(ms(0, 1_000), RATE), 1.0)
    playback.end()
    playback.stopped()
    assert playback.cut(1.5) == []


def test_such_a_piece_is_over_when_the_transport_says_so():
    playback = Playback()
    playback.started(0.0)
    playback.stopped()
    playback.add(AudioChunk(ms(0, 2_000), RATE), 4.0)
    assert audio(playback.cut(5.0)) == ms(0, 2_000)


def test_memory_is_bounded_and_what_is_too_long_is_not_given():
    playback = Playback()
    playback.started(0.0)
    for n in range(400):
        playback.add(AudioChunk(ms(0, 1_000), RATE), 0.0)
        assert sum(len(s.pieces) for s in playback._stretches) <= 301, n
    assert playback.cut(1.0) == []
    playback.add(AudioChunk(ms(0, 1_000), RATE), 0.0)
    assert audio(playback.cut(1.0)) == ms(0, 1_000)


def test_what_is_said_after_something_too_long_was_heard_is_given_again():
    playback = Playback()
    playback.started(0.0)
    for _ in range(400):
        playback.add(AudioChunk(ms(0, 1_000), RATE), 0.0)
    playback.end()
    playback.stopped()
    playback.add(AudioChunk(ms(0, 1_000), RATE), 400.0)
    playback.started(400.0)
    assert audio(playback.cut(400.5)) == ms(200, 1_000)


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=20),
    st.floats(0, 12),
)
def test_what_is_given_is_always_the_end_of_what_was_said(sizes: list[int], heard: float):
    playback, total = Playback(), 0
    for size in sizes:
        playback.add(AudioChunk(ms(total, total + size), RATE), 0.0)
        total += size
    playback.started(100.0)
    rest = audio(playback.cut(100.0 + heard))
    assert ms(0, total).endswith(rest)
    unheard = max(0.0, total / RATE - heard)
    assert len(rest) / 2 / RATE >= unheard - 0.001 if unheard > 0.001 else True
    assert len(rest) / 2 / RATE <= unheard + 0.301


def test_a_stretch_that_begins_after_it_was_reported_is_heard_from_then_on():
    """The transport may report what it plays before the last piece of it was given."""
    playback = Playback()
    playback.started(0.0)
    playback.add(AudioChunk(ms(0, 3_000), RATE), 1.0)
    assert audio(playback.cut(2.5)) == ms(1_200, 3_000)


def test_a_stop_with_another_stretch_to_come_leaves_that():
    playback = said((0, 1_000))
    playback.end()
    playback.started(0.0)
    playback.add(AudioChunk(ms(5_000, 6_000), RATE), 0.5)
    playback.stopped()
    assert audio(playback.cut(1.0)) == ms(5_000, 6_000)
