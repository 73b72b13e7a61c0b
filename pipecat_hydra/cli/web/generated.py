"""Tells how much of each reply the model has generated, which is more than what is heard of it."""

from collections.abc import Awaitable, Callable
from typing import Final

from pipecat.frames.frames import (
    InterruptionFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.processors.frame_processor import FrameProcessor
from typing_extensions import override

from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE

__all__ = ["GeneratedObserver"]

_STEP_SECS: Final = 0.5
"""How much more is generated until it is told again."""


class GeneratedObserver(BaseObserver):
    """Adds up the audio of each reply as the service pushes it."""

    def __init__(self, service: FrameProcessor, tell: Callable[[int, float], Awaitable[None]]):
        """Create an observer.

        Args:
            service: The processor whose audio is counted.
            tell: Called with the number of a reply, from 1, and its seconds so far: now and then,
                and once it is over.
        """
        super().__init__(observe_every_push=False)
        self._service = service
        self._tell_page = tell
        self._reply = 0
        self._secs = self._told_secs = 0.0

    @override
    async def on_push_frame(self, data: FramePushed) -> None:
        """Count a frame of the service."""
        match data.frame:
            case TTSStartedFrame() if data.source is self._service:
                self._reply += 1
                self._secs = self._told_secs = 0.0
            case TTSAudioRawFrame(audio=audio, sample_rate=rate) if data.source is self._service:
                self._secs += len(audio) / (BYTES_PER_SAMPLE * rate)
                if self._secs >= self._told_secs + _STEP_SECS:
                    await self._tell()
            case TTSStoppedFrame() | InterruptionFrame():
                await self._tell()
            case _:
                pass

    async def _tell(self) -> None:
        if self._secs > self._told_secs:
            self._told_secs = self._secs
            await self._tell_page(self._reply, round(self._secs, 2))
