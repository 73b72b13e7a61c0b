"""Reply audio: tones, resampling, and the pieces in which audio and text are sent."""

import numpy as np
import pytest

from pipecat_hydra.emulator.model.sound import (
    TONE_SAMPLE_RATE,
    duration,
    phrases,
    split,
    to_rate,
    tones,
)


def loudness(pcm: bytes) -> float:
    return float(np.abs(np.frombuffer(pcm, dtype="<i2")).max())


def test_tones_have_their_length_and_are_faded() -> None:
    pcm = tones(0.5)
    assert duration(pcm, TONE_SAMPLE_RATE) == pytest.approx(0.5)
    assert 5_000 < loudness(pcm) <= 6_000
    for silent in (pcm[:8], pcm[-8:], pcm[len(pcm) // 2 - 4 : len(pcm) // 2 + 4]):
        assert loudness(silent) < 20


def test_the_shortest_tones_have_a_sample_each() -> None:
    assert len(tones(0.0)) == 4


def test_resampling_keeps_the_length_and_the_tone() -> None:
    pcm = tones(0.5)
    assert to_rate(pcm, 16_000, 16_000) is pcm
    assert to_rate(b"", 16_000, 24_000) == b""
    faster = to_rate(pcm, 16_000, 24_000)
    assert duration(faster, 24_000) == pytest.approx(0.5, abs=0.001)
    assert loudness(faster) == pytest.approx(loudness(pcm), rel=0.02)


def test_audio_is_split_between_samples() -> None:
    pcm = bytes(range(250))
    pieces = list(split(pcm, 1_000, 40, odd=False))
    assert b"".join(pieces) == pcm
    assert [len(piece) for piece in pieces] == [80, 80, 80, 10]
    # A delta that is shorter than a sample has one all the same.
    assert len(next(split(pcm, 10, 1, odd=False))) == 2


def test_audio_is_split_inside_samples() -> None:
    pcm = bytes(range(250))
    pieces = list(split(pcm, 1_000, 40, odd=True))
    assert b"".join(pieces) == pcm
    assert [len(piece) for piece in pieces] == [81, 80, 3, 80, 6]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("one", ["one"]),
        ("one  two three\nfour", ["one two three", "four"]),
    ],
)
def test_texts_are_split_into_phrases(text: str, parts: list[str]) -> None:
    assert phrases(text) == parts
