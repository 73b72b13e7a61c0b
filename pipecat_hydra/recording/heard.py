"""Lays what left the output transport on the call's time axis.

The output writes audio in chunks, and takes the next one about when the listener has heard the
last. So a chunk follows the one before it where it is written before that one has been heard, or
a moment after; else it is heard from when it is written. Some transports write ahead, as those to
telephone services do at twice real time; there the far end drops at an interruption what it has
not played. So what lies in the future waits, and an interruption takes it away.
"""

from collections import deque
from typing import Final, NamedTuple

import numpy as np

from pipecat_hydra.recording.audio_files import resampled
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE

__all__ = ["HeardAudio", "Run"]

# A chunk that comes later than that after the end of the last one follows after a pause.
_LATENESS_SECS: Final = 0.02
# How much of what was written is heard after an interruption all the same: what was in the
# transport and the device behind it.
_AHEAD_SECS: Final = 0.1


class Run(NamedTuple):
    """Audio that was heard without a pause.

    Parameters:
        first_sample: Where it begins on the time axis.
        pcm: Mono PCM16.
    """

    first_sample: int
    pcm: bytes


class HeardAudio:
    """Takes chunks with the times when they were written, and gives what was heard of them."""

    def __init__(self, rate: int):
        """Begin an empty track.

        Args:
            rate: Its rate in Hz.
        """
        self.rate = rate
        self._lateness = _LATENESS_SECS * rate
        self._waiting: deque[Run] = deque()
        self._end = 0
        self._given = 0
        self._last_chunk = 0

    def write(self, secs: float, pcm: bytes, rate: int, channels: int) -> None:
        """Take a chunk that was written.

        Args:
            secs: When, in seconds on the time axis.
            pcm: Interleaved PCM16.
            rate: Its rate in Hz.
            channels: Its number of channels.
        """
        if channels > 1 or rate != self.rate:
            pcm = _converted(pcm, rate, channels, self.rate)
        samples = len(pcm) // BYTES_PER_SAMPLE
        first = round(secs * self.rate)
        if first <= self._end + self._lateness:
            first = self._end
        self._waiting.append(Run(first, pcm[: samples * BYTES_PER_SAMPLE]))
        self._end = first + samples
        self._last_chunk = samples

    def interrupt(self, secs: float) -> None:
        """Take away what was written and has not been played."""
        ahead = max(_AHEAD_SECS * self.rate, self._last_chunk)
        cut = round(secs * self.rate + ahead)
        while self._waiting and self._waiting[-1].first_sample >= cut:
            self._waiting.pop()
        if self._waiting:
            first, pcm = self._waiting.pop()
            self._waiting.append(Run(first, pcm[: BYTES_PER_SAMPLE * (cut - first)]))
        self._end = max(self._given, min(self._end, cut))

    def take(self, until_secs: float) -> list[Run]:
        """Return what has been played since the last call.

        Args:
            until_secs: The time by which all that was written is known. A chunk that begins later
                waits.
        """
        until = until_secs * self.rate
        runs: list[Run] = []
        while self._waiting and (first := self._waiting[0].first_sample) < until:
            pieces: list[bytes] = []
            self._given = first
            while self._waiting and self._waiting[0].first_sample == self._given < until:
                pieces.append(self._waiting.popleft().pcm)
                self._given += len(pieces[-1]) // BYTES_PER_SAMPLE
            runs.append(Run(first, b"".join(pieces)))
        return runs


def _converted(pcm: bytes, rate: int, channels: int, new_rate: int) -> bytes:
    """Mix the channels of a chunk, and convert it to another rate."""
    samples = np.frombuffer(pcm, "<i2")
    if channels > 1:
        samples = samples.reshape(-1, channels).mean(axis=1).astype(np.int16)
    return resampled(samples, rate, new_rate).astype("<i2").tobytes()
