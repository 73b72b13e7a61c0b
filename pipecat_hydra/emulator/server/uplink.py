"""Limits how fast user audio may come."""

from dataclasses import dataclass


@dataclass
class UplinkMeter:
    """Distinguishes a client that streams audio from one that sends a file at once.

    The meter is a leaky bucket: audio that arrives fills it, and it drains at a multiple of real
    time. A stream below that speed, for example a pre-roll sent at twice real time, never fills
    it. A file sent at once overflows it.

    Parameters:
        speed: How many times faster than real time audio may come continuously.
        burst_secs: Seconds of audio that the bucket holds, for a network that stalls.
    """

    speed: float
    burst_secs: float
    _level: float = 0.0
    _last: float | None = None

    def take(self, secs: float, now: float) -> bool:
        """Add audio that arrived.

        Args:
            secs: Length of the audio in seconds.
            now: The time in seconds, on a clock that never goes back.

        Returns:
            Whether the audio is within the limit.
        """
        if self._last is not None:
            self._level = max(0.0, self._level - (now - self._last) * self.speed)
        self._last = now
        self._level += secs
        return self._level <= self.burst_secs
