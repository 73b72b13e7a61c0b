import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.recordings import tone

from pipecat_hydra.recording.sound import STEP_SECS, Sounds

RATES = [8_000, 11_025, 16_000, 22_050, 24_000, 48_000]


def track(secs: float, rate: int, *spans: tuple[float, float], level: float = 0.25):
    samples = np.zeros(round(secs * rate), np.int16)
    for begin, end in spans:
        sound = tone(end - begin, rate, level=level)
        samples[round(begin * rate) :][: len(sound)] = sound
    return samples


@pytest.mark.parametrize("rate", RATES)
@given(begin=st.floats(0.5, 2.0), secs=st.floats(0.05, 2.0))
@settings(max_examples=15)
def test_a_sound_is_found_within_a_step(rate: int, begin: float, secs: float):
    sounds = Sounds(track(5, rate, (begin, begin + secs)), rate)
    found = sounds.first(0, 5), sounds.last(0, 5)
    assert found == pytest.approx((begin, begin + secs), abs=1.1 * STEP_SECS)


@given(level=st.floats(0.0005, 0.01), seed=st.integers(0, 100))
@settings(max_examples=20)
def test_noise_is_silence_where_somebody_speaks_over_it(level: float, seed: int):
    rate = 16_000
    noise = np.random.default_rng(seed).normal(0, level * 32767, 6 * rate)
    samples = (track(6, rate, (2, 3), level=0.4) + noise).astype(np.int16)
    sounds = Sounds(samples, rate, [(1.2, 3.5)])
    assert sounds.first(0, 6) == pytest.approx(2, abs=0.01)
    assert sounds.last(0, 6) == pytest.approx(3, abs=0.01)


def test_a_soft_end_counts():
    rate = 16_000
    samples = track(3, rate, (1, 1.5)) + track(3, rate, (1.5, 2), level=0.01)
    assert Sounds(samples, rate).last(0, 3) == pytest.approx(2, abs=STEP_SECS)


def test_a_click_is_no_voice_but_the_end_of_a_word_is_one():
    rate = 16_000
    samples = track(3, rate, (0.5, 0.51), (1, 1.5), (1.6, 1.61), (2.5, 2.51))
    sounds = Sounds(samples, rate)
    assert sounds.first(0, 3) == pytest.approx(1, abs=STEP_SECS)
    assert sounds.last(0, 3) == pytest.approx(1.61, abs=STEP_SECS)


def test_within_a_sound_the_limits_are_what_is_found():
    sounds = Sounds(track(3, 16_000, (1, 2)), 16_000)
    assert (sounds.first(1.25, 3), sounds.last(0, 1.75)) == (1.25, 1.75)


def test_nothing_is_found_in_silence():
    sounds = Sounds(track(3, 16_000, (1, 2)), 16_000)
    assert sounds.first(2.1, 3) is None
    assert sounds.first(0, 0.9) is None
    assert sounds.last(0, 0.9) is None
    assert sounds.last(2.1, 3) is None
    assert sounds.onset(0.9, after=0) is None
    assert sounds.onset(3, after=2.1) is None


@pytest.mark.parametrize("samples", [0, 1, 79, 16_000])
def test_silence_has_no_sound(samples: int):
    sounds = Sounds(np.zeros(samples, np.int16), 16_000, [(0, 1)])
    assert list(sounds.begins) == []


@pytest.mark.parametrize("steps", [7, 14, 28, 56])
@pytest.mark.parametrize("rate", [8000, 24000])
def test_a_track_of_whole_steps_is_heard_to_its_end(rate: int, steps: int):
    # 7 x 5 ms at 8000 Hz are 280 samples, and 280 / 8000 is just above 7 x 0.005.
    sounds = Sounds(tone(steps * STEP_SECS, rate), rate)
    assert sounds.ends == pytest.approx([steps * STEP_SECS])


def test_the_onset_goes_back_over_short_pauses_and_no_further_than_it_may():
    sounds = Sounds(track(6, 16_000, (1, 2), (2.5, 3), (3.2, 4)), 16_000)
    assert sounds.onset(3.5, after=0) == pytest.approx(2.5, abs=STEP_SECS)
    assert sounds.onset(3.5, after=0, pause=0.6) == pytest.approx(1, abs=STEP_SECS)
    assert sounds.onset(3.5, after=2.7) == 2.7
    assert sounds.onset(4.3, after=0) == pytest.approx(2.5, abs=STEP_SECS)


def test_a_long_track_is_measured_in_blocks():
    rate = 8_000
    sounds = Sounds(track(100, rate, (39.5, 42.5), (90, 95)), rate)
    assert list(sounds.begins) == pytest.approx([39.5, 90], abs=STEP_SECS)
    assert list(sounds.ends) == pytest.approx([42.5, 95], abs=STEP_SECS)
