"""The sounds that the scenes say: two sentences, a short noise, and silence.

The sentences are synthetic speech, made as `tests/recordings/README.md` says; they are no person's
voice. The noise is the first vowel of one of them: voice enough to be noticed, and too short to be
a turn.
"""

from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import Final

import soundfile as sf

from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE, INPUT_SAMPLE_RATE

__all__ = ["HELLO_WORDS", "QUESTION_WORDS", "hello", "noise", "question", "silence"]

HELLO_WORDS: Final = "Hello there how are you"
"""What `hello` says: 1.1 s, to be answered in words."""

QUESTION_WORDS: Final = "What will the weather be like in Paris tomorrow"
"""What `question` says: 2.4 s, to be answered with the help of a function."""

_NOISE_SECS: Final = (0.03, 0.30)


def hello() -> bytes:
    """Return a greeting, mono PCM16 at 16 kHz, as all that is said here."""
    return _recording("hello")


def question() -> bytes:
    """Return a question about the weather."""
    return _recording("question")


def noise() -> bytes:
    """Return a short sound of a voice that says nothing."""
    first, last = (round(secs * INPUT_SAMPLE_RATE) * BYTES_PER_SAMPLE for secs in _NOISE_SECS)
    return hello()[first:last]


def silence(secs: float) -> bytes:
    """Return so many seconds of silence."""
    return bytes(round(secs * INPUT_SAMPLE_RATE) * BYTES_PER_SAMPLE)


@cache
def _recording(name: str) -> bytes:
    data = (files("pipecat_hydra.cli.check") / "speech" / f"{name}.flac").read_bytes()
    samples, rate = sf.read(BytesIO(data), dtype="int16")
    assert rate == INPUT_SAMPLE_RATE
    return samples.astype("<i2").tobytes()
