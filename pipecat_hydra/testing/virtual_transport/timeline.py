"""The timeline that user and bot share, and the positions of the bot's audio on it."""

import asyncio
import time
from dataclasses import dataclass

from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE


class Timeline:
    """Counts seconds since the start of the conversation, for both sides of the transport."""

    def __init__(self):
        """Create a timeline that has not begun."""
        self._start = 0.0
        self._began_at = 0.0
        self._started = asyncio.Event()

    def start(self) -> None:
        """Start the timeline; only the first call has an effect."""
        if not self.has_started:
            self._start = time.monotonic()
            self._began_at = time.time()
            self._started.set()

    @property
    def has_started(self) -> bool:
        """Whether the timeline has started."""
        return self._started.is_set()

    @property
    def began_at(self) -> float:
        """When the timeline started by the wall clock, in Unix seconds; 0 before the start."""
        return self._began_at

    async def started(self) -> None:
        """Wait until the timeline has started."""
        await self._started.wait()

    @property
    def secs(self) -> float:
        """Current position in seconds since the start; 0 before the start."""
        return time.monotonic() - self._start if self.has_started else 0.0

    async def sleep_until(self, secs: float) -> None:
        """Wait until a position; if it has passed, only let other tasks run."""
        await asyncio.sleep(max(0.0, secs - self.secs))


@dataclass(frozen=True, slots=True)
class HeardAudio:
    """One write to the loudspeaker, placed on the timeline.

    Parameters:
        start_sample: Position of its start, in samples at `sample_rate` since the start.
        pcm: Interleaved PCM16 LE, as written.
        sample_rate: Rate of the audio in Hz.
        num_channels: Number of channels.
    """

    start_sample: int
    pcm: bytes
    sample_rate: int
    num_channels: int

    @property
    def end_sample(self) -> int:
        """Position of its end in samples, exclusive."""
        return self.start_sample + len(self.pcm) // (BYTES_PER_SAMPLE * self.num_channels)

    @property
    def start_secs(self) -> float:
        """Position of its start, in seconds since the start."""
        return self.start_sample / self.sample_rate

    @property
    def end_secs(self) -> float:
        """Position of its end, in seconds since the start."""
        return self.end_sample / self.sample_rate
