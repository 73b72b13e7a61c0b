"""The time that user and bot share, and where on it the bot was heard."""

import asyncio
import time
from dataclasses import dataclass

from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE


class Timeline:
    """Seconds since the start of the conversation; both sides of the transport share it."""

    def __init__(self):
        """Create a timeline that has not begun."""
        self._start = 0.0
        self._started = asyncio.Event()

    def start(self) -> None:
        """Begin to count, at the first call."""
        if not self.has_started:
            self._start = time.monotonic()
            self._started.set()

    @property
    def has_started(self) -> bool:
        """Whether it has begun."""
        return self._started.is_set()

    async def started(self) -> None:
        """Wait until it has begun."""
        await self._started.wait()

    @property
    def secs(self) -> float:
        """Where the conversation is, in seconds since the start; 0 before it."""
        return time.monotonic() - self._start if self.has_started else 0.0

    async def sleep_until(self, secs: float) -> None:
        """Wait for a position; come back at once, after other tasks, when it has passed."""
        await asyncio.sleep(max(0.0, secs - self.secs))


@dataclass(frozen=True, slots=True)
class HeardAudio:
    """One write to the loudspeaker, placed on the timeline.

    Parameters:
        start_sample: Where it begins, in samples at `sample_rate` since the start.
        pcm: Interleaved PCM16 LE, as written.
        sample_rate: Its rate in Hz.
        num_channels: Its number of channels.
    """

    start_sample: int
    pcm: bytes
    sample_rate: int
    num_channels: int

    @property
    def end_sample(self) -> int:
        """Where it ends, exclusive."""
        return self.start_sample + len(self.pcm) // (BYTES_PER_SAMPLE * self.num_channels)

    @property
    def start_secs(self) -> float:
        """When it begins, in seconds since the start."""
        return self.start_sample / self.sample_rate

    @property
    def end_secs(self) -> float:
        """When it ends, in seconds since the start."""
        return self.end_sample / self.sample_rate
