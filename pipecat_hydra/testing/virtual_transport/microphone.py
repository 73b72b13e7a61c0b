"""The user's side: what the microphone captures."""

import asyncio
from collections import deque

import numpy as np
from numpy.typing import NDArray

from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE


class Utterance:
    """Something that the microphone was told to say.

    Attributes:
        start_secs: When its first sample lies on the timeline, in seconds since the start;
            `None` before it has begun.
        end_secs: When it ends, likewise.
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
        """Give the next bytes, fewer at the end. Called by the microphone alone."""
        if self.start_secs is None:
            self.start_secs = position_secs
        taken, self._rest = self._rest[:num_bytes], self._rest[num_bytes:]
        return taken

    def finished(self, position_secs: float) -> bool:
        """Note the end if nothing is left to be said. Called by the microphone alone."""
        if self._rest:
            return False
        self.end_secs = position_secs
        self._said.set()
        return True


class Microphone:
    """What the user says: queued speech, with silence before, between and after.

    Attributes:
        sample_rate: Rate in Hz of all that is said.
        num_channels: Its number of interleaved channels.
        paused: While true no frames are handed over, as if the device had gone. Time goes
            on, and what is queued waits.
    """

    def __init__(self, sample_rate: int, num_channels: int):
        """Create a silent microphone.

        Args:
            sample_rate: Rate in Hz of all that will be said.
            num_channels: Its number of interleaved channels.

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
        """All that was captured since the start: interleaved PCM16 LE, silence included."""
        return bytes(self._captured)

    def queue(self, pcm: bytes | NDArray[np.int16]) -> Utterance:
        """Say something after what is already queued, without waiting for it.

        Args:
            pcm: PCM16 LE at the microphone's rate and channel count, as bytes or as an array
                of shape `(frames,)` or `(frames, channels)`.

        Returns:
            The utterance, which knows when it was said.

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
        """Say something after what is already queued, and wait until it has been said.

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
        """Wait until all that was queued has been said."""
        while self._queue:
            await self._queue[-1].said()

    def capture(self, until_sample: int) -> bytes:
        """Move on to a position of the timeline. Called by the transport alone.

        Args:
            until_sample: The new position, in frames since the start.

        Returns:
            What is captured until then: speech as far as there is any, then silence. Nothing
            while paused, when the timeline holds silence.
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
