"""Finds where a recording has sound and where it is silent."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["SoundMap"]

_STEP_SECS: Final = 0.005
_FLOOR_DB: Final = -60.0
_RANGE_DB: Final = 40.0


class SoundMap:
    """Classifies each 5 ms of a recording as sound or silence.

    A step of 5 ms is sound if its level (RMS) is within 40 dB of the loudest step and above
    -60 dB of full scale. So background noise is silence, and a soft ending is sound.
    """

    def __init__(self, samples: NDArray[np.int16], sample_rate: int):
        """Map a recording.

        Args:
            samples: Mono samples, shape `(n,)`.
            sample_rate: Rate of the samples in Hz.
        """
        step = max(1, round(_STEP_SECS * sample_rate))
        self._step_secs = step / sample_rate
        whole = np.pad(samples.astype(np.float64), (0, -len(samples) % step)) / 32768
        power = (whole.reshape(-1, step) ** 2).mean(axis=1)
        level_db = 10 * np.log10(np.maximum(power, 1e-12))
        threshold = max(_FLOOR_DB, float(level_db.max(initial=_FLOOR_DB)) - _RANGE_DB)
        self._sounding = np.flatnonzero(level_db > threshold)

    def first(self, after_secs: float, before_secs: float = np.inf) -> float | None:
        """Find the first sound between two positions.

        Args:
            after_secs: Earliest position in seconds.
            before_secs: Latest position in seconds.

        Returns:
            The start of the first step with sound, in seconds; `None` if there is none.
        """
        found = self._between(after_secs, before_secs)
        return float(found[0]) * self._step_secs if len(found) else None

    def last(self, after_secs: float, before_secs: float = np.inf) -> float | None:
        """Find the end of the last sound between two positions.

        Args:
            after_secs: Earliest position in seconds.
            before_secs: Latest position in seconds.

        Returns:
            The end of the last step with sound, in seconds; `None` if there is none.
        """
        found = self._between(after_secs, before_secs)
        return float(found[-1] + 1) * self._step_secs if len(found) else None

    def onset(self, at_secs: float, *, pause_secs: float = 0.3) -> float | None:
        """Find the start of the utterance at a position, or of the last one before it.

        Args:
            at_secs: The position in seconds.
            pause_secs: The shortest silence that separates utterances.

        Returns:
            The start of the utterance in seconds; `None` if there is no sound before.
        """
        found = self._between(0.0, at_secs)
        if not len(found):
            return None
        pauses = np.flatnonzero(np.diff(found) * self._step_secs > pause_secs)
        begin = found[pauses[-1] + 1] if len(pauses) else found[0]
        return float(begin) * self._step_secs

    def _between(self, after_secs: float, before_secs: float) -> NDArray[np.intp]:
        starts = self._sounding * self._step_secs
        return self._sounding[(starts >= after_secs) & (starts < before_secs)]
