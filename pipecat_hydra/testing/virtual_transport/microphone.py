"""The virtual microphone: captures queued speech, and silence between."""

import asyncio
from collections import deque

import numpy as np
from numpy.typing import NDArray

from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE


class Utterance:
    """One piece of speech that was queued at the microphone.

    Attributes:
        start_secs: Position of its first sample on the timeline, in seconds since the start;
            `None` before it has begun.
        end_secs: Position of its end; `None` before it has ended.
    """

    def __init__(self, pcm: bytes):
        """Create an utterance that has not begun.

        Args:
            pcm: Interleaved PCM16 LE, a whole number of frames.
        """
        self.start_secs: float | None = None
        self.end_secs: float | None = None
        self._rest = memoryview(pcm)
        self._said = asyncio.Event()

    async def said(self) -> None:
        """Wait until the last sample has been captured."""
        await self._said.wait()

    def take(self, num_bytes: int, position_secs: float) -> memoryview:
        """Return the next bytes, fewer at the end. Only the microphone calls this."""
        if self.start_secs is None:
            self.start_secs = position_secs
        taken, self._rest = self._rest[:num_bytes], self._rest[num_bytes:]
        return taken

    def finished(self, position_secs: float) -> bool:
        """Note the end if no sample is left. Only the microphone calls this."""
        if self._rest:
            return False
        self.end_secs = position_secs
        self._said.set()
        return True


class Microphone:
    """The user's side: queued speech, with silence before, between and after it.

    Attributes:
        sample_rate: Rate of the speech in Hz.
        num_channels: Number of interleaved channels.
        paused: While true, no frames are delivered, as if the device were gone. Time goes on,
            and queued speech waits.
    """

    def __init__(self, sample_rate: int, num_channels: int):
        """Create a silent microphone.

        Args:
            sample_rate: Rate of the speech in Hz.
            num_channels: Number of interleaved channels.

        Raises:
            ValueError: The rate or the channel count is not positive.
        """
        if sample_rate <= 0 or num_channels <= 0:
            raise ValueError(f"no such audio: {num_channels} channels at {sample_rate} Hz")
        self.sample_rate = sample_rate
        self.num_channels = num_channels
        self.paused = False
        self._frame_bytes = BYTES_PER_SAMPLE * num_channels
        self._queue: deque[Utterance] = deque()
        self._captured = bytearray()

    @property
    def position_secs(self) -> float:
        """How much of the timeline has been captured, in seconds."""
        return len(self._captured) / (self._frame_bytes * self.sample_rate)

    @property
    def pcm(self) -> bytes:
        """All audio captured since the start: interleaved PCM16 LE, silence included."""
        return bytes(self._captured)

    def queue(self, pcm: bytes | NDArray[np.int16]) -> Utterance:
        """Queue speech after what is already queued, without waiting for it.

        Args:
            pcm: PCM16 LE at the microphone's rate and channel count, as bytes or as an array
                of shape `(frames,)` or `(frames, channels)`.

        Returns:
            The utterance, whose start and end are set when it is captured.

        Raises:
            ValueError: `pcm` is empty or not a whole number of frames.
        """
        data = pcm if isinstance(pcm, bytes) else pcm.astype("<i2").tobytes()
        if not data or len(data) % self._frame_bytes:
            raise ValueError(f"{len(data)} bytes are no speech in frames of {self._frame_bytes}")
        utterance = Utterance(data)
        self._queue.append(utterance)
        return utterance

    async def say(self, pcm: bytes | NDArray[np.int16]) -> Utterance:
        """Queue speech after what is already queued, and wait until it has been captured.

        Args:
            pcm: As for `queue`.

        Returns:
            The utterance, with its start and its end.

        Raises:
            ValueError: `pcm` is empty or not a whole number of frames.
        """
        utterance = self.queue(pcm)
        await utterance.said()
        return utterance

    async def done(self) -> None:
        """Wait until all queued speech has been captured."""
        while self._queue:
            await self._queue[-1].said()

    def capture(self, until_sample: int) -> bytes:
        """Capture up to a position of the timeline. Only the transport calls this.

        Args:
            until_sample: The new position, in frames since the start.

        Returns:
            The captured audio: queued speech, then silence. It is empty while paused; the
            timeline has silence there.
        """
        start = len(self._captured)
        end = until_sample * self._frame_bytes
        while self._queue and len(self._captured) < end and not self.paused:
            wanted = end - len(self._captured)
            self._captured += self._queue[0].take(wanted, self.position_secs)
            if self._queue[0].finished(self.position_secs):
                self._queue.popleft()
        self._captured += bytes(end - len(self._captured))
        return b"" if self.paused else bytes(self._captured[start:])
