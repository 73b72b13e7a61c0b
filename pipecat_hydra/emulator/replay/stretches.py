"""Finds stretches of sound in the user's audio, and aligns those of a replay with the recorded.

A stretch begins with a sample above a threshold that `MIN_GAP` quiet samples precede, so that
where it begins depends on no frames. The server's events about the user's speech are placed by
stretch and offset: how many samples after the beginning of which stretch. So they come where
the user speaks, however much silence the client has sent before.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipecat_hydra.wire.protocol import INPUT_SAMPLE_RATE

MIN_GAP: Final = round(0.3 * INPUT_SAMPLE_RATE)
"""Samples of quiet that part two stretches."""

_NEAR: Final = INPUT_SAMPLE_RATE
"""How far from where it is expected a stretch may begin, in samples, to be found by its place."""

_LATE: Final = 5 * INPUT_SAMPLE_RATE
"""After how many more samples a stretch that is expected counts as missing."""

_SLACK: Final = round(0.005 * INPUT_SAMPLE_RATE)
"""How many samples may be missing where a place is reached, so that it is reached with the frame
that it was reached with in the recording, wherever the frames of the replay begin."""

_QUIETEST: Final = 64
_LOUD_PART: Final = 0.05


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the user's audio of a session.

    Parameters:
        stretch: Number of the stretch of sound that began last, from 0; -1 before the first.
        offset: Samples since that stretch began, or since the session did.
    """

    stretch: int
    offset: int


def threshold_of(samples: NDArray[np.int16]) -> int:
    """Return the amplitude above which a sample counts as sound, for a user's whole audio."""
    if not len(samples):
        return _QUIETEST
    loudest = float(np.percentile(np.abs(samples.astype(np.int32)), 99.9))
    return max(_QUIETEST, round(_LOUD_PART * loudest))


class Stretches:
    """Notes where the stretches of sound begin in audio that comes piece by piece.

    Args:
        threshold: The amplitude above which a sample counts as sound.
    """

    def __init__(self, threshold: int) -> None:
        self.received: int = 0
        """How many samples have come."""
        self.begins: list[int] = []
        """At which sample each stretch begins."""
        self._threshold = threshold
        self._last_loud = -MIN_GAP - 1

    def push(self, samples: NDArray[np.int16]) -> None:
        """Take the next piece."""
        loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > self._threshold) + self.received
        if len(loud):
            begins: NDArray[Any] = loud[np.diff(loud, prepend=self._last_loud) > MIN_GAP]
            self.begins += begins.tolist()
            self._last_loud = int(loud[-1])
        self.received += len(samples)

    def place(self) -> Place:
        """Return the place that the audio has reached."""
        if not self.begins:
            return Place(-1, self.received)
        return Place(len(self.begins) - 1, self.received - self.begins[-1])


class Alignment:
    """Says when a replay reaches the places of a recorded session.

    A stretch of the replay is the recorded one that begins within a second of it, once what was
    sent more or less until then is allowed for. Where none does, it is the next one: silence
    may be shorter or longer than recorded.

    Args:
        begins: At which sample each recorded stretch begins.
        threshold: See `Stretches`.
    """

    def __init__(self, begins: Sequence[int], threshold: int) -> None:
        self.missing: list[int] = []
        """Numbers of the recorded stretches that were waited for in vain."""
        self._recorded = begins
        self._heard = Stretches(threshold)
        self._matched: dict[int, int] = {}
        self._last = -1
        self._drift = 0
        self._arrivals: list[tuple[int, float]] = []

    def push(self, samples: NDArray[np.int16], now: float) -> None:
        """Take audio of the replay, which came at a time in seconds."""
        known = len(self._heard.begins)
        self._heard.push(samples)
        self._arrivals.append((self._heard.received, now))
        for begin in self._heard.begins[known:]:
            self._match(begin)

    def reached_at(self, place: Place) -> float | None:
        """Return when the replay reached a place, in seconds; `None` if it has not yet.

        A place in a stretch that does not come is reached a little after it should have been.
        """
        if place.stretch < 0:
            return self._came_at(place.offset)
        if (begin := self._matched.get(place.stretch)) is not None:
            return self._came_at(begin + place.offset)
        begin = self._recorded[place.stretch] + self._drift
        reached = self._came_at(begin + place.offset + _LATE)
        passed_by = place.stretch < self._last
        if reached is None and not passed_by:
            return None
        if place.stretch not in self.missing:
            self.missing.append(place.stretch)
        return self._arrivals[-1][1] if reached is None else reached

    def _match(self, begin: int) -> None:
        candidates = range(self._last + 1, len(self._recorded))
        near = [n for n in candidates if abs(self._expected(n) - begin) <= _NEAR]
        if near:
            found = min(near, key=lambda n: abs(self._expected(n) - begin))
        elif candidates:
            found = candidates[0]
        else:
            return
        self._last = found
        self._matched[found] = begin
        self._drift = begin - self._recorded[found]

    def _expected(self, number: int) -> int:
        return self._recorded[number] + self._drift

    def _came_at(self, sample: int) -> float | None:
        """Return when a sample was said: before its frame came, and after the frame before it."""
        sample = max(0, sample - _SLACK)
        if not self._arrivals or self._arrivals[-1][0] < sample:
            return None
        index = bisect_left(self._arrivals, (sample, 0.0))
        received, at = self._arrivals[index]
        said = at - max(0, received - sample - _SLACK) / INPUT_SAMPLE_RATE
        return max(said, self._arrivals[index - 1][1]) if index else said
