"""How fast user audio may come."""

from dataclasses import dataclass


@dataclass
class UplinkMeter:
    """Tells a client that streams from one that dumps a file.

    Audio that arrives fills a bucket, which drains at a multiple of real time. A stream
    at less than that multiple, a pre-roll caught up at twice real time (design, A1)
    among them, stays near empty however long it lasts; a file sent at once overflows.

    Parameters:
        speed: How many times faster than real time audio may come without end.
        burst_secs: Seconds of audio that the bucket holds, for a network that stalls.
    """

    speed: float
    burst_secs: float
    _level: float = 0.0
    _last: float | None = None

    def take(self, secs: float, now: float) -> bool:
        """Count audio that arrived.

        Args:
            secs: Its length.
            now: The time in seconds, on any clock that never goes back.

        Returns:
            Whether that was still a stream.
        """
        if self._last is not None:
            self._level = max(0.0, self._level - (now - self._last) * self.speed)
        self._last = now
        self._level += secs
        return self._level <= self.burst_secs
