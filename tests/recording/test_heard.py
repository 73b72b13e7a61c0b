"""Where on the time axis what left the output transport lies."""

import numpy as np

from pipecat_hydra.recording.heard import HeardAudio

RATE = 1_000


def _written(heard: HeardAudio, *writes: tuple[float, int]) -> None:
    """Write chunks of 40 samples of one value at some times."""
    for secs, value in writes:
        heard.write(secs, np.full(40, value, "<i2").tobytes(), RATE, 1)


def _taken(heard: HeardAudio, until_secs: float = float("inf")) -> list[list[int]]:
    """What was heard without a pause: where it begins, and each value with its samples."""
    runs: list[list[int]] = []
    for first, pcm in heard.take(until_secs):
        samples = np.frombuffer(pcm, "<i2")
        values = np.split(samples, np.flatnonzero(np.diff(samples)) + 1)
        runs.append([first, *(int(number) for each in values for number in (each[0], len(each)))])
    return runs


def test_a_chunk_that_is_written_while_the_last_one_plays_follows_it():
    heard = HeardAudio(RATE)
    _written(heard, (0.1, 1), (0.12, 2), (0.16, 3))
    assert _taken(heard) == [[100, 1, 40, 2, 40, 3, 40]]


def test_a_chunk_that_is_a_little_late_follows_too():
    heard = HeardAudio(RATE)
    _written(heard, (0.1, 1), (0.155, 2))
    assert _taken(heard) == [[100, 1, 40, 2, 40]]


def test_a_pause_is_silence():
    heard = HeardAudio(RATE)
    _written(heard, (0.1, 1), (0.5, 2))
    assert _taken(heard) == [[100, 1, 40], [500, 2, 40]]


def test_audio_is_given_as_far_as_all_is_known():
    heard = HeardAudio(RATE)
    _written(heard, (0.1, 1), (0.14, 2), (0.5, 3))
    assert _taken(heard, 0.14) == [[100, 1, 40]]
    assert _taken(heard, 0.51) == [[140, 2, 40], [500, 3, 40]]
    assert _taken(heard) == []


def test_what_is_written_ahead_waits_until_its_time():
    heard = HeardAudio(RATE)
    _written(heard, *((0.1 + n * 0.02, 1 + n) for n in range(10)))
    assert _taken(heard, 0.12) == [[100, 1, 40]]
    assert _taken(heard, 0.2) == [[140, 2, 40, 3, 40]]


def test_an_interruption_takes_away_what_is_far_ahead():
    heard = HeardAudio(RATE)
    _written(heard, *((0.1 + n * 0.02, 1 + n) for n in range(10)))
    _taken(heard, 0.2)
    # What lies up to 0.3 s is under way, and the far end drops the rest.
    heard.interrupt(0.2)
    assert _taken(heard) == [[220, 4, 40, 5, 40]]
    _written(heard, (0.35, 9))
    assert _taken(heard) == [[350, 9, 40]]


def test_an_interruption_leaves_what_a_sound_card_plays():
    heard = HeardAudio(RATE)
    _written(heard, (0.1, 1), (0.12, 2))
    heard.interrupt(0.121)
    assert _taken(heard) == [[100, 1, 40, 2, 40]]


def test_audio_after_an_interruption_of_what_was_given_already_follows_it():
    heard = HeardAudio(RATE)
    heard.write(0.1, np.ones(1_000, "<i2").tobytes(), RATE, 1)
    assert _taken(heard, 0.2) == [[100, 1, 1_000]]
    heard.interrupt(0.2)
    _written(heard, (0.3, 2))
    assert _taken(heard) == [[1_100, 2, 40]]


def test_channels_are_mixed_and_another_rate_is_converted():
    heard = HeardAudio(16_000)
    heard.write(0.0, np.array([100, 300] * 1_600, "<i2").tobytes(), 8_000, 2)
    samples = np.frombuffer(b"".join(run.pcm for run in heard.take(1.0)), "<i2")
    assert len(samples) == 3_200
    assert abs(int(np.median(samples)) - 200) <= 1
