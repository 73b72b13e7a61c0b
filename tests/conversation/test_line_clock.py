"""How much silence a line is owed, and when: against the clock, whatever frames the line gives."""

import random
from collections.abc import Iterable
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipecat_hydra.conversation.line_clock import SILENCE_SECS, LineClock

FRAME_SECS = 0.02
WAIT_SECS = 0.4

Frames = list[tuple[float, float]]
"""When each frame comes, and how long it is, in seconds."""


def silence_on(frames: Frames, until: float = 0.0, clock: LineClock | None = None) -> list[float]:
    """When silence is sent on a line, in pieces, up to its last frame or a later time."""
    if clock is None:
        clock = LineClock(WAIT_SECS)
        clock.begin(0.0)
    silence: list[float] = []
    for at, secs in [*frames, (max(until, frames[-1][0]), 0.0)]:
        while clock.due_at < at:
            silence.append(clock.due_at)
            clock.fill()
        if secs:
            clock.give(secs, at)
    return silence


def steady(secs: float, *, since: float = 0.0, frame: float = FRAME_SECS) -> Frames:
    """A line that gives a frame as soon as it is full."""
    return [(since + n * frame, frame) for n in range(1, round(secs / frame) + 1)]


def sparse(secs: float, interval: float, *, since: float = 0.0) -> Frames:
    """A line that gives a frame of 20 ms at an interval."""
    return [(since + n * interval, FRAME_SECS) for n in range(1, int(secs / interval) + 1)]


def behind(frames: Iterable[tuple[float, float]], silence: list[float], now: float) -> float:
    """How much less than the clock says has been given and sent."""
    given_secs = sum(secs for at, secs in frames if at <= now)
    return now - given_secs - SILENCE_SECS * sum(at <= now for at in silence)


@pytest.mark.parametrize("frame", [0.005, 0.01, 0.02, 0.06, 0.1, 0.5, 1.0])
def test_a_line_that_gives_all_needs_none(frame: float):
    frames = steady(20.0, since=0.1, frame=frame)
    # Nothing is known of the line before its first frame.
    assert all(at < frames[0][0] for at in silence_on(frames))


@pytest.mark.parametrize("interval", [0.04, 0.1, 0.16, 0.4, 1.0, 1.9])
def test_what_a_sparse_line_does_not_give_becomes_silence(interval: float):
    frames = [*steady(2.0), *sparse(20.0, interval, since=2.0)]
    silence = silence_on(frames)
    began = silence[0]
    # It waits for as long as a network may delay a frame, and the line gives something meanwhile.
    assert began == pytest.approx(2.0 + WAIT_SECS + FRAME_SECS, abs=WAIT_SECS + 0.1)
    for n in range(int(18.0 / 0.01)):
        assert abs(behind(frames, silence, began + 0.001 + n * 0.01)) < 0.04
    assert all(after - before >= 0.009 for before, after in pairwise(silence[30:]))


@pytest.mark.parametrize("interval", [0.16, 0.4])
def test_speech_after_silence_has_no_hole(interval: float):
    quiet = sparse(10.0, interval, since=1.0)
    since = quiet[-1][0] + 0.05
    # Frames of an event loop that is a little late, now and then.
    rng = random.Random(1)
    spoken = [(at + rng.uniform(0, 0.009), secs) for at, secs in steady(5.0, since=since)]
    silence = silence_on([*steady(1.0), *quiet, *spoken])
    assert silence[-1] < spoken[0][0]


@given(
    delays=st.lists(st.floats(0.0, 0.399), min_size=50, max_size=400),
    frame=st.sampled_from([0.01, 0.02, 0.06]),
)
def test_jitter_of_200_ms_makes_none(delays: list[float], frame: float):
    came = [at + delay for (at, _), delay in zip(steady(40.0, frame=frame), delays, strict=False)]
    frames = [(at, frame) for at in accumulate(came, max)]
    assert all(at < frames[0][0] for at in silence_on(frames))


def test_audio_that_comes_after_silence_took_its_place_is_owed_no_more():
    clock = LineClock(WAIT_SECS)
    clock.begin(0.0)
    frames = steady(1.0)
    # Nothing for 0.8 s, then all of it; then nothing any more.
    late = [(1.8, FRAME_SECS) for _ in range(40)]
    silence = silence_on([*frames, *late], 4.0, clock)
    assert [at for at in silence if at < 1.8] != []
    again = [at for at in silence if at > 1.8]
    assert again[0] >= 1.8 + WAIT_SECS
    assert abs(behind([(1.8, 1.8)], again, 4.0)) <= SILENCE_SECS


def test_a_muted_line_is_silent_against_the_clock():
    silence = silence_on(steady(1.0), 11.0)
    assert silence[0] == pytest.approx(1.0 + WAIT_SECS + FRAME_SECS)
    assert SILENCE_SECS * len(silence) == pytest.approx(10.0, abs=SILENCE_SECS)


def test_a_line_that_has_given_nothing_yet_is_silent_too():
    clock = LineClock(WAIT_SECS)
    clock.begin(0.0)
    assert clock.due_at == WAIT_SECS


@pytest.mark.parametrize("frame", [0.1, 0.5, 1.0])
def test_after_long_frames_another_is_waited_for(frame: float):
    silence = [at for at in silence_on(steady(3.0, frame=frame), 9.0) if at > frame]
    assert silence[0] == pytest.approx(3.0 + frame + WAIT_SECS)
    assert SILENCE_SECS * len(silence) == pytest.approx(6.0, abs=SILENCE_SECS)


def test_a_frame_in_pieces_is_one_frame():
    halves = [(at, frame / 2) for at, frame in sparse(10.0, 0.16, since=1.0) for _ in range(2)]
    whole = silence_on([*steady(1.0), *sparse(10.0, 0.16, since=1.0)])
    assert silence_on([*steady(1.0), *halves]) == pytest.approx(whole)


def test_a_line_that_was_muted_begins_anew():
    """Its first frames are not taken for comfort noise: a network may delay the next one."""
    silence = silence_on([*steady(1.0), (4.0, FRAME_SECS)], 4.39)
    assert silence[-1] < 4.0


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1])
def test_what_is_lost_on_the_way_makes_no_hole(share: float):
    rng = random.Random(1)
    frames = [frame for frame in steady(60.0) if rng.random() >= share]
    assert silence_on(frames) == []


@pytest.mark.parametrize("drift", [-0.01, -0.001, 0.001, 0.01])
def test_a_clock_that_runs_otherwise_makes_no_hole(drift: float):
    assert silence_on([(at * (1 + drift), secs) for at, secs in steady(120.0)]) == []


def test_what_was_lost_delays_no_silence():
    frames = [frame for n, frame in enumerate(steady(20.0)) if n % 20]
    silence = silence_on(frames, 22.0)
    assert 20.0 < silence[0] < 20.0 + WAIT_SECS + FRAME_SECS + 1e-6


def test_a_loop_that_stood_still_is_excused_once():
    clock = LineClock(WAIT_SECS)
    clock.begin(0.0)
    assert not clock.excuse(0.45, due_at=0.4)
    assert clock.excuse(3.0, due_at=0.4)
    # No silence is owed for that time.
    assert clock.due_at == 3.0 + WAIT_SECS
    assert not clock.excuse(5.0, due_at=3.4)
    clock.fill()
    assert clock.excuse(9.0, due_at=5.4)
    clock.give(FRAME_SECS, 9.0)
    assert clock.excuse(12.0, due_at=9.4)


@given(
    st.lists(st.tuples(st.floats(0.0, 1.5), st.sampled_from([0.01, 0.02, 0.1, 0.5])), max_size=100)
)
def test_audio_postpones_silence_and_hastens_none(frames: list[tuple[float, float]]):
    clock = LineClock(WAIT_SECS)
    clock.begin(0.0)
    now = 0.0
    for wait, secs in frames:
        now += wait
        while clock.due_at < now:
            clock.fill()
        due_at = clock.due_at
        clock.give(secs, now)
        assert clock.due_at >= due_at
