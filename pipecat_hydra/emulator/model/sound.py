"""Reply audio: recordings, tones, one rate to another, and the pieces it is sent in."""

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
"""Rate in Hz at which tones are made."""


def load_recording(path: Path) -> tuple[bytes, int]:
    """Read an audio file of any format, rate and channel count.

    Returns:
        Mono PCM16 LE and its rate in Hz.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds no audio that can be decoded.
    """
    with path.open("rb") as file:
        try:
            # The stubs of soundfile know neither the dtype nor the shape.
            samples, rate = soundfile.read(file, dtype="float32", always_2d=True)  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        # Of a .raw file, which has no header, it misses the rate by a TypeError.
        except (soundfile.SoundFileError, TypeError) as exception:
            raise ValueError(f"not an audio file: {exception}") from None
    mono: npt.NDArray[np.float32] = np.asarray(samples, dtype=np.float32).mean(axis=1)
    scaled = np.clip(np.rint(mono * 32768.0), -32768, 32767)
    return scaled.astype("<i2").tobytes(), int(rate)


def tones(secs: float = 0.6, *, frequencies: tuple[float, ...] = (523.25, 659.25)) -> bytes:
    """Make soft tones one after the other, each faded in and out.

    Args:
        secs: Length of all tones together.
        frequencies: The tones in Hz.

    Returns:
        Mono PCM16 LE at `TONE_SAMPLE_RATE`.
    """
    count = max(1, round(secs * TONE_SAMPLE_RATE / len(frequencies)))
    moments = np.arange(count) / TONE_SAMPLE_RATE
    fade = np.sin(np.pi * np.arange(count) / count)
    notes = [np.sin(2 * math.pi * frequency * moments) * fade for frequency in frequencies]
    return (np.concatenate(notes) * 6000).astype("<i2").tobytes()


def to_rate(pcm: bytes, rate: int, wanted: int) -> bytes:
    """Resample mono PCM16 LE as a whole; the same rate passes the bytes unchanged."""
    if rate == wanted or not pcm:
        return pcm
    samples: Samples = np.frombuffer(pcm, dtype="<i2")
    return soxr.resample(samples, rate, wanted, quality="HQ").astype("<i2").tobytes()


def duration(pcm: bytes, rate: int) -> float:
    """Length of mono PCM16 in seconds."""
    return len(pcm) / (BYTES_PER_SAMPLE * rate)


def split(pcm: bytes, rate: int, delta_ms: int, *, odd: bool) -> Iterator[bytes]:
    """Cut reply audio into deltas.

    Args:
        pcm: Mono PCM16 LE.
        rate: Its rate in Hz.
        delta_ms: Milliseconds in a delta.
        odd: Cut in the midst of samples, with some deltas of three bytes only (§3).
    """
    size = max(1, rate * delta_ms // 1000) * BYTES_PER_SAMPLE
    # Cuts fall, in turn, in the midst of a sample, again so, and on a border twice.
    sizes = (size + 1, size, 3, size) if odd else (size,)
    start = turn = 0
    while start < len(pcm):
        end = start + sizes[turn % len(sizes)]
        yield pcm[start:end]
        start, turn = end, turn + 1


def phrases(text: str, words: int = 3) -> list[str]:
    """Cut a text into phrases of a few words, without the spaces between them (§3)."""
    parts = text.split()
    return [" ".join(parts[start : start + words]) for start in range(0, len(parts), words)]
