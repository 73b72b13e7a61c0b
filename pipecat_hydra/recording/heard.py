"""Lays what left the output transport on the call's time axis.

The output writes audio in chunks, and takes the next one about when the listener has heard the
last. So a chunk follows the one before it where it is written before that one has been heard, or
a moment after; else it is heard from when it is written. Some transports write ahead, as those to
telephone services do at twice real time; there the far end drops at an interruption what it has
not played. So what lies in the future waits, and an interruption takes it away.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from pipecat_hydra.recording.audio_files import resampled
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE

__all__ = ["HeardAudio", "Stretch"]

# A chunk that comes later than that after the end of the last one follows after a pause.
_LATENESS_SECS: Final = 0.02
# How much of what was written is heard after an interruption all the same: what was in the
# transport and the device behind it.
_AHEAD_SECS: Final = 0.1


@dataclass(slots=True)
class Stretch:
    """Audio that was heard without a pause.

    Parameters:
        first_sample: Its place on the time axis.
        samples: Its length.
    """

    first_sample: int
    samples: int


class HeardAudio:
    """Takes chunks with the times when they were written, and gives the track from its begin."""

    def __init__(self, rate: int):
        """Begin an empty track.

        Args:
            rate: Its rate in Hz.
        """
        self.rate = rate
        self._lateness = _LATENESS_SECS * rate
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._end = 0
        self._given = 0
        self._stretch: Stretch | None = None
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
        self._waiting.append((first, pcm))
        self._end = first + samples
        self._last_chunk = samples

    def interrupt(self, secs: float) -> None:
        """Take away what was written and has not been played."""
        ahead = max(_AHEAD_SECS * self.rate, self._last_chunk)
        cut = round(secs * self.rate + ahead)
        while self._waiting and self._waiting[-1][0] >= cut:
            self._waiting.pop()
        if self._waiting:
            first, pcm = self._waiting.pop()
            self._waiting.append((first, pcm[: BYTES_PER_SAMPLE * (cut - first)]))
        self._end = max(self._given, min(self._end, cut))

    def take(self, until_secs: float) -> tuple[list[bytes], list[Stretch]]:
        """Return what of the track has been played, from where the last call left off.

        Args:
            until_secs: The time by which all that was written is known. A chunk that begins later
                waits.

        Returns:
            PCM16, silence included, and the stretches that have ended.
        """
        until = until_secs * self.rate
        pieces: list[bytes] = []
        ended: list[Stretch] = []
        while self._waiting and self._waiting[0][0] < until:
            first, pcm = self._waiting.popleft()
            samples = len(pcm) // BYTES_PER_SAMPLE
            if first > self._given:
                pieces.append(bytes(BYTES_PER_SAMPLE * (first - self._given)))
            pieces.append(pcm)
            self._given = first + samples
            if self._stretch is not None and self._stretch_end == first:
                self._stretch.samples += samples
            else:
                ended += self.end_stretch()
                self._stretch = Stretch(first, samples)
        if self._stretch is not None and self._stretch_end < until and not self._waiting:
            ended += self.end_stretch()
        return pieces, ended

    def end_stretch(self) -> list[Stretch]:
        """Return the stretch that goes on, if there is one: nothing comes any more."""
        stretch, self._stretch = self._stretch, None
        return [stretch] if stretch is not None else []

    @property
    def _stretch_end(self) -> int:
        assert self._stretch is not None
        return self._stretch.first_sample + self._stretch.samples


def _converted(pcm: bytes, rate: int, channels: int, new_rate: int) -> bytes:
    """Mix the channels of a chunk, and convert it to another rate."""
    samples = np.frombuffer(pcm, "<i2")
    if channels > 1:
        samples = samples.reshape(-1, channels).mean(axis=1).astype(np.int16)
    return resampled(samples, rate, new_rate).astype("<i2").tobytes()
