"""Finds where a voice sounds and where it is silent in a track of a call.

Theory. A track is cut into steps of 5 ms, and each step has a level (RMS, in dB of full scale). A
step sounds when it is louder than a threshold that fits the track: no more than 40 dB below the
voice, so that the soft end of a word counts; 10 dB above the noise, which is what is heard where
nobody is known to speak; never below -60 dB. The caller says where somebody is known to speak, from
the events of the call. Sound of less than 20 ms with 150 ms of silence on both sides is a click
and no voice.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["STEP_SECS", "Sounds", "Span"]

Span = tuple[float, float]
"""Begin and end, in seconds on the time axis of the call."""

STEP_SECS: Final = 1 / 200
"""Length of a step, and so the resolution of all that is measured."""

_STEPS_A_SECOND: Final = 200

_LEAST_DB: Final = -60.0
_RANGE_DB: Final = 40.0
_ABOVE_NOISE_DB: Final = 10.0
_BELOW_VOICE_DB: Final = 10.0
_NOTHING_DB: Final = -120.0

_CLICK_SECS: Final = 0.02
_ALONE_SECS: Final = 0.15

# Squares of so many steps are in memory at a time: some 40 s of audio.
_BLOCK_STEPS: Final = 8192


class Sounds:
    """The stretches of a track in which a voice is heard.

    Attributes:
        threshold_db: Level in dB of full scale above which a step sounds.
        begins: Begin of each stretch, in seconds; ascending.
        ends: End of each stretch, in seconds.
    """

    def __init__(self, samples: NDArray[np.int16], rate: int, spoken: Sequence[Span] = ()):
        """Measure a track.

        Args:
            samples: Mono samples of the track, from the begin of the call.
            rate: Samples a second.
            spoken: Where somebody is known to speak. Without it the whole track is taken for
                speech.
        """
        levels = _levels(samples, rate)
        self.threshold_db: float = _threshold(levels, spoken)
        begins, ends = _runs(levels > self.threshold_db)
        begins, ends = _without_clicks(begins, ends)
        self.begins: NDArray[np.float64] = np.divide(begins, _STEPS_A_SECOND)
        self.ends: NDArray[np.float64] = np.divide(ends, _STEPS_A_SECOND)

    def first(self, after: float, before: float) -> float | None:
        """Find the first sound between two moments.

        Args:
            after: The earlier moment, in seconds.
            before: The later moment, in seconds.

        Returns:
            When it begins, which is `after` if there is sound already; `None` if all is silent.
        """
        index = int(np.searchsorted(self.ends, after, side="right"))
        if index == len(self.begins) or self.begins[index] >= before:
            return None
        return max(after, float(self.begins[index]))

    def last(self, after: float, before: float) -> float | None:
        """Find the last sound between two moments.

        Args:
            after: The earlier moment, in seconds.
            before: The later moment, in seconds.

        Returns:
            When it ends, which is `before` if there is sound still; `None` if all is silent.
        """
        index = int(np.searchsorted(self.begins, before, side="left")) - 1
        if index < 0 or self.ends[index] <= after:
            return None
        return min(before, float(self.ends[index]))

    def onset(self, at: float, *, after: float, pause: float = 0.3) -> float | None:
        """Find the begin of what is said at a moment, or was said last before it.

        Args:
            at: The moment, in seconds.
            after: How far back to look, in seconds.
            pause: The shortest silence that separates one saying from the next, in seconds.

        Returns:
            When it begins; `None` if all is silent from `after` to `at`.
        """
        index = int(np.searchsorted(self.begins, at, side="left")) - 1
        if index < 0 or self.ends[index] <= after:
            return None
        while (
            index
            and self.begins[index] > after
            and self.begins[index] - self.ends[index - 1] <= pause
            and self.ends[index - 1] > after
        ):
            index -= 1
        return max(after, float(self.begins[index]))


def _levels(samples: NDArray[np.int16], rate: int) -> NDArray[np.float32]:
    """Return the level of each step, in dB of full scale; the last step may be short."""
    # A step has a whole number of samples at each rate of speech, but not at 11 025 or 22 050 Hz.
    edges = np.round(np.arange(0, len(samples) / rate, STEP_SECS) * rate).astype(np.int64)
    # Rounding may give one more step, at the end of a track of whole steps.
    edges = edges[edges < len(samples)]
    powers = np.empty(len(edges), np.float32)
    for first in range(0, len(edges), _BLOCK_STEPS):
        block = edges[first : first + _BLOCK_STEPS]
        end = edges[first + _BLOCK_STEPS] if first + _BLOCK_STEPS < len(edges) else len(samples)
        squares = (samples[block[0] : end].astype(np.float32) / 32768) ** 2
        counts = np.diff(np.append(block, end))
        powers[first : first + len(block)] = np.add.reduceat(squares, block - block[0]) / counts
    return 10 * np.log10(np.maximum(powers, 10 ** (_NOTHING_DB / 10)))


def _threshold(levels: NDArray[np.float32], spoken: Sequence[Span]) -> float:
    is_spoken = np.zeros(len(levels), bool)
    for begin, end in spoken:
        is_spoken[max(0, int(begin / STEP_SECS)) : max(0, int(end / STEP_SECS) + 1)] = True
    is_audio = levels > _NOTHING_DB
    voice = levels[is_audio & is_spoken] if spoken else levels[is_audio]
    if not len(voice):
        return _LEAST_DB
    voice_db = float(np.percentile(voice, 95))
    threshold = max(_LEAST_DB, voice_db - _RANGE_DB)
    noise = levels[is_audio & ~is_spoken]
    if spoken and len(noise) * STEP_SECS > _ALONE_SECS:
        # The median, as an unknown voice may be there now and then.
        threshold = max(threshold, float(np.median(noise)) + _ABOVE_NOISE_DB)
    return max(_LEAST_DB, min(threshold, voice_db - _BELOW_VOICE_DB))


def _runs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the runs of true values begin and end."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return edges[::2].astype(np.int64), edges[1::2].astype(np.int64)


def _without_clicks(
    begins: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if not len(begins):
        return begins, ends
    is_apart = (begins[1:] - ends[:-1]) * STEP_SECS >= _ALONE_SECS
    firsts = np.flatnonzero(np.concatenate(([True], is_apart)))
    lengths = np.add.reduceat(ends - begins, firsts)
    group = np.cumsum(np.concatenate(([0], is_apart.astype(np.int64))))
    is_voice = (lengths * STEP_SECS >= _CLICK_SECS)[group]
    return begins[is_voice], ends[is_voice]
