"""Reply audio: loads recordings, makes tones, resamples, and splits audio and text for sending."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile  # pyright: ignore[reportMissingTypeStubs]
import soxr  # pyright: ignore[reportMissingTypeStubs]

from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE

Samples = npt.NDArray[np.int16]

TONE_SAMPLE_RATE = 16_000
"""Rate of tones in Hz."""


def load_recording(path: Path) -> tuple[bytes, int]:
    """Load an audio file of any format, rate and channel count.

    Returns:
        Mono PCM16 LE and its rate in Hz.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file holds no audio that can be decoded.
    """
    with path.open("rb") as file:
        try:
            # soundfile has no types for what this returns.
            samples, rate = soundfile.read(file, dtype="float32", always_2d=True)  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        # A .raw file has no header with a rate; soundfile raises a TypeError for it.
        except (soundfile.SoundFileError, TypeError) as exception:
            raise ValueError(f"not an audio file: {exception}") from None
    mono: npt.NDArray[np.float32] = np.asarray(samples, dtype=np.float32).mean(axis=1)
    scaled = np.clip(np.rint(mono * 32768.0), -32768, 32767)
    return scaled.astype("<i2").tobytes(), int(rate)


def tones(secs: float = 0.6, *, frequencies: tuple[float, ...] = (523.25, 659.25)) -> bytes:
    """Make soft tones, one after the other, each faded in and out.

    Args:
        secs: Length of all tones together.
        frequencies: Frequencies of the tones in Hz.

    Returns:
        Mono PCM16 LE at `TONE_SAMPLE_RATE`.
    """
    count = max(1, round(secs * TONE_SAMPLE_RATE / len(frequencies)))
    moments = np.arange(count) / TONE_SAMPLE_RATE
    fade = np.sin(np.pi * np.arange(count) / count)
    notes = [np.sin(2 * math.pi * frequency * moments) * fade for frequency in frequencies]
    return (np.concatenate(notes) * 6000).astype("<i2").tobytes()


def to_rate(pcm: bytes, rate: int, wanted: int) -> bytes:
    """Resample mono PCM16 LE as a whole; returns it unchanged if the rate is the wanted one."""
    if rate == wanted or not pcm:
        return pcm
    samples: Samples = np.frombuffer(pcm, dtype="<i2")
    return soxr.resample(samples, rate, wanted, quality="HQ").astype("<i2").tobytes()


def duration(pcm: bytes, rate: int) -> float:
    """Return the length of mono PCM16 in seconds."""
    return len(pcm) / (BYTES_PER_SAMPLE * rate)


def split(pcm: bytes, rate: int, delta_ms: float, *, odd: bool) -> Iterator[bytes]:
    """Split reply audio into deltas.

    Args:
        pcm: Mono PCM16 LE.
        rate: Rate of the audio in Hz.
        delta_ms: Length of a delta in milliseconds.
        odd: Split inside samples too, with some deltas of only three bytes (§3).
    """
    size = max(1, int(rate * delta_ms / 1000)) * BYTES_PER_SAMPLE
    # The first two of each four splits fall inside a sample, the other two between samples.
    sizes = (size + 1, size, 3, size) if odd else (size,)
    start = turn = 0
    while start < len(pcm):
        end = start + sizes[turn % len(sizes)]
        yield pcm[start:end]
        start, turn = end, turn + 1


def phrases(text: str, words: int = 3) -> list[str]:
    """Split a text into phrases of a few words, without the spaces between the phrases (§3)."""
    parts = text.split()
    return [" ".join(parts[start : start + words]) for start in range(0, len(parts), words)]
