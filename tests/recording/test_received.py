"""What of the audio that was played is found in the audio that was received."""

import numpy as np

from pipecat_hydra.recording.received import ReceivedAudio

SAMPLES = np.random.default_rng(1).integers(-9_000, 9_000, 48_000).astype("<i2")


def _parts(received: ReceivedAudio, samples: "np.ndarray") -> list[tuple[int | None, int]]:
    """Where each part was received, and its length in samples."""
    parts = list(received.parts(samples.astype("<i2").tobytes()))
    assert b"".join(part.pcm for part in parts) == samples.astype("<i2").tobytes()
    return [(part.first_sample, len(part.pcm) // 2) for part in parts]


def _received(samples: "np.ndarray" = SAMPLES) -> ReceivedAudio:
    received = ReceivedAudio()
    received.add(samples.astype("<i2").tobytes())
    return received


def test_audio_that_is_played_in_pieces_is_found():
    received = _received()
    assert _parts(received, SAMPLES[:10_000]) == [(0, 10_000)]
    assert _parts(received, SAMPLES[10_000:10_100]) == [(10_000, 100)]
    received.add(SAMPLES[:1_000].tobytes())
    rest = np.concatenate([SAMPLES[10_100:], SAMPLES[:1_000]])
    assert _parts(received, rest) == [(10_100, 38_900)]


def test_a_reply_that_was_cut_is_passed_over():
    received = _received()
    assert _parts(received, SAMPLES[:1_000]) == [(0, 1_000)]
    assert _parts(received, SAMPLES[30_001:31_001]) == [(30_001, 1_000)]


def test_what_is_played_again_is_found_again():
    received = _received()
    _parts(received, SAMPLES[:20_000])
    assert _parts(received, SAMPLES[12_800:22_000]) == [(12_800, 9_200)]


def test_the_silence_after_a_reply_is_no_part_of_it():
    silent = np.zeros(600, "<i2")
    received = _received(np.concatenate([SAMPLES[:1_000], SAMPLES[:500], silent]))
    assert _parts(received, np.concatenate([SAMPLES[:1_000], silent])) == [(0, 1_000), (None, 600)]
    assert _parts(received, SAMPLES[:500]) == [(1_000, 500)]


def test_a_jump_within_what_is_played_is_found():
    jump = np.concatenate([SAMPLES[:1_000], SAMPLES[5_000:6_000]])
    assert _parts(_received(), jump) == [(0, 1_000), (5_000, 1_000)]


def test_changed_audio_is_not_found_and_what_follows_is():
    received = _received()
    assert _parts(received, SAMPLES[:1_000] // 2) == [(None, 1_000)]
    assert _parts(received, SAMPLES[1_000:2_000]) == [(1_000, 1_000)]


def test_audio_that_is_the_same_between_two_samples_is_not_found():
    shifted = np.frombuffer(SAMPLES.tobytes()[1:2_001], "<i2")
    assert _parts(_received(), shifted) == [(None, 1_000)]


def test_old_audio_is_forgotten_and_the_rest_keeps_its_place():
    received = _received()
    minute = np.random.default_rng(2).integers(-9_000, 9_000, 24_000 * 60).astype("<i2")
    for _ in range(4):
        received.add(minute.tobytes())
    assert _parts(received, SAMPLES[:1_000]) == [(None, 1_000)]
    received.add(SAMPLES.tobytes())
    assert _parts(received, SAMPLES[:1_000]) == [(48_000 + 4 * len(minute), 1_000)]
