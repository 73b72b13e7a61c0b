"""Lines between a microphone and a bot: what they make of its frames, and of its samples."""

import asyncio
from collections import deque
from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray
from pipecat.frames.frames import Frame, InputAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from support.telephone import decode, encode

FRAME_SECS: Final = 0.02
_LOUD: Final = 200
"""The loudest sample of a frame that is no speech."""
_NOISE: Final = 8


class Line(FrameProcessor):
    """A line that carries each frame at once, as it is. It stands behind the microphone."""

    def __init__(self):
        super().__init__()
        self.carried: list[tuple[float, int]] = []
        """Each frame: when it came out, and its samples."""

    async def process_frame(self, frame: Frame, direction: FrameDirection):
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            await self.take(frame)
        else:
            await self.push_frame(frame, direction)

    async def take(self, frame: InputAudioRawFrame) -> None:
        """Take a frame of the microphone; `give` what comes of it."""
        await self.give(frame)

    async def give(self, frame: InputAudioRawFrame) -> None:
        now = asyncio.get_running_loop().time()
        self.carried.append((now, len(frame.audio) // 2))
        await self.push_frame(frame)


class Dtx(Line):
    """Sends a frame of comfort noise at an interval while nobody speaks, and nothing between."""

    def __init__(self, interval_secs: float):
        super().__init__()
        self._every = round(interval_secs / FRAME_SECS)
        self._quiet_frames = 0
        self._rng = np.random.default_rng(1)

    async def take(self, frame: InputAudioRawFrame) -> None:
        samples = np.frombuffer(frame.audio, "<i2")
        if np.abs(samples.astype(int)).max() > _LOUD:
            self._quiet_frames = 0
            await self.give(frame)
            return
        self._quiet_frames += 1
        if self._quiet_frames % self._every == 0:
            noise = self._rng.integers(-_NOISE, _NOISE + 1, len(samples)).astype("<i2").tobytes()
            await self.give(InputAudioRawFrame(noise, frame.sample_rate, frame.num_channels))


class LongFrames(Line):
    """Sends frames of so many seconds, when they are full."""

    def __init__(self, secs: float):
        super().__init__()
        self._frames = round(secs / FRAME_SECS)
        self._parts: list[bytes] = []

    async def take(self, frame: InputAudioRawFrame) -> None:
        self._parts.append(frame.audio)
        if len(self._parts) == self._frames:
            audio, self._parts = b"".join(self._parts), []
            await self.give(InputAudioRawFrame(audio, frame.sample_rate, frame.num_channels))


class Jitter(Line):
    """Delays each frame by another time, and keeps their order."""

    def __init__(self, secs: float, *, seed: int = 1):
        """Make a line whose delay differs by so much both ways from its mean."""
        super().__init__()
        self._secs = secs
        self._rng = np.random.default_rng(seed)
        self._waiting: deque[tuple[float, InputAudioRawFrame]] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def take(self, frame: InputAudioRawFrame) -> None:
        now = asyncio.get_running_loop().time()
        self._waiting.append((now + float(self._rng.uniform(0, 2 * self._secs)), frame))
        if self._sender is None:
            self._sender = self.create_task(self._send())

    async def cleanup(self) -> None:
        if self._sender is not None:
            await self.cancel_task(self._sender)
            self._sender = None
        await super().cleanup()

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self._waiting:
                due_at, frame = self._waiting.popleft()
                await asyncio.sleep(max(0.0, due_at - loop.time()))
                await self.give(frame)
            await asyncio.sleep(FRAME_SECS / 4)


def through_mulaw(speech: NDArray[np.int16]) -> NDArray[np.int16]:
    """Speech at 16 kHz as a telephone gives it: µ-law at 8 kHz, at 8 kHz."""
    return decode(encode(soxr.resample(speech, 16_000, 8_000, quality="VHQ")))


def through_8_khz(speech: NDArray[np.int16]) -> NDArray[np.int16]:
    """Speech at 16 kHz that went over a line of 8 kHz, at 16 kHz."""
    narrow = soxr.resample(speech, 16_000, 8_000, quality="VHQ")
    return soxr.resample(narrow, 8_000, 16_000, quality="VHQ")[: len(speech)]


def with_loss(
    speech: NDArray[np.int16], share: float, *, rate: int = 16_000, seed: int = 1
) -> NDArray[np.int16]:
    """Speech of which some packets of 20 ms are lost; the one before is repeated, more softly."""
    rng = np.random.default_rng(seed)
    size = int(rate * FRAME_SECS)
    heard = speech.copy()
    for start in range(size, len(speech), size):
        if rng.random() < share:
            before = heard[start - size : start].astype(np.float64) * 0.7
            heard[start : start + size] = before[: len(heard) - start].astype(np.int16)
    return heard
