"""Processors in the LLM's place that do little or nothing: what any service costs at least.

`Nothing` passes frames on. `SameAudio` has the user and the model speak as the server does in the
scenario `turns`, at the same times and with the same frames, but without a socket. What a service
costs above it is what the service does.
"""

import asyncio
import itertools
import time

from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMServiceMetadataFrame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    StartFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies

from benchmarks.marks import OUTPUT_RATE, marked, tone
from benchmarks.scenarios import CYCLE_SECS, REPLY_DELTAS
from benchmarks.server import DELTA_BYTES, PAUSE_SECS

__all__ = ["Nothing", "SameAudio"]


class Nothing(FrameProcessor):
    """Passes on what comes."""

    async def process_frame(self, frame: Frame, direction: FrameDirection):
        """Pass a frame on."""
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)


class SameAudio(FrameProcessor):
    """Pushes the frames that the events of the scenario `turns` are to become."""

    def __init__(self, number: int = 0):
        """Start in silence.

        Args:
            number: Of the session, so that not all speak together.
        """
        super().__init__()
        self.number = number
        self.turns: list[float] = []
        self._speaking: asyncio.Task[None] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection):
        """Pass a frame on, and speak from the start to the end."""
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, StartFrame):
            strategies = ExternalUserTurnStrategies()
            metadata = LLMServiceMetadataFrame(
                service_name=self.name, is_realtime_service=True, user_turn_strategies=strategies
            )
            await self.broadcast_frame_instance(metadata)
            self._speaking = self.create_task(self._speak())
        elif isinstance(frame, EndFrame | CancelFrame):
            await self._fall_silent()

    async def cleanup(self):
        """Fall silent."""
        await super().cleanup()
        await self._fall_silent()

    async def _fall_silent(self) -> None:
        if self._speaking is not None:
            await self.cancel_task(self._speaking)
            self._speaking = None

    async def _speak(self) -> None:
        await asyncio.sleep(0.137 * self.number % CYCLE_SECS)
        for _ in itertools.count():
            self.turns.append(time.monotonic())
            await self.broadcast_frame(ProposedUserStartedSpeakingFrame)
            await asyncio.sleep(0.3)
            await self.broadcast_frame(ProposedUserStoppedSpeakingFrame)
            await asyncio.sleep(0.2)
            await self._reply()
            await asyncio.sleep(0.5)

    async def _reply(self) -> None:
        await self.push_frame(LLMFullResponseStartFrame())
        for delta in range(REPLY_DELTAS):
            pcm = tone(DELTA_BYTES) if delta else marked(time.monotonic(), DELTA_BYTES)
            if not delta:
                await self.push_frame(TTSStartedFrame())
            await self.push_frame(TTSAudioRawFrame(pcm, OUTPUT_RATE, 1))
            await asyncio.sleep(PAUSE_SECS)
        await self.push_frame(TTSStoppedFrame())
        await self.push_frame(LLMFullResponseEndFrame())
