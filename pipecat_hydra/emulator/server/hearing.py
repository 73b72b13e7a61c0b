"""Hears the user of one session: passes audio to turn detection as it arrives (§3, §5)."""

import asyncio
import time

from pipecat_hydra.emulator.conversation.turn_taking import TurnTaking
from pipecat_hydra.emulator.model.turn_detection import TurnDetector
from pipecat_hydra.emulator.server.uplink import UplinkMeter
from pipecat_hydra.emulator.settings import EmulatorSettings
from pipecat_hydra.emulator.wire.backlog import Backlog
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE, INPUT_SAMPLE_RATE

_AHEAD_SECS = 10.0
"""How much user audio may wait for turn detection, beyond a burst. When it is more, the session
stops reading, so that a client slows down too."""


class Hearing:
    """Queues the user's audio, and runs turn detection on it.

    Detection runs in a task of its own: its speed must not slow the reading of the socket, by
    which `UplinkMeter` recognises a file sent at once.

    Args:
        settings: The settings of the session.
    """

    def __init__(self, settings: EmulatorSettings) -> None:
        self._settings = settings
        self._meter = UplinkMeter(settings.uplink_speed, settings.uplink_burst_secs)
        ahead_secs = settings.uplink_burst_secs + _AHEAD_SECS
        self._audio: Backlog[bytes] = Backlog(ahead_secs * BYTES_PER_SAMPLE * INPUT_SAMPLE_RATE)

    def put(self, pcm: bytes) -> bool:
        """Queue user audio, mono PCM16 LE at 16 kHz.

        Returns:
            Whether it came no faster than it can have been spoken; if not, it is discarded.
        """
        secs = len(pcm) / (BYTES_PER_SAMPLE * INPUT_SAMPLE_RATE)
        if not self._meter.take(secs, time.monotonic()):
            return False
        self._audio.put(pcm, len(pcm))
        return True

    async def room(self) -> None:
        """Wait until the queue is short."""
        await self._audio.room()

    async def run(self, turns: TurnTaking) -> None:
        """Detect the turns until cancelled; `turns` processes them."""
        # The detector is loaded at the first audio: loading takes 60 ms, and not every session
        # sends audio.
        try:
            pcm = await self._audio.get()
            detector = await TurnDetector.load(
                self._settings.vad, min_turn_ms=self._settings.min_turn_ms
            )
            try:
                while True:
                    for event in await detector.feed(pcm):
                        turns.turn_event(event)
                    pcm = await self._next(detector)
            finally:
                await detector.close()
        finally:
            self._audio.close()

    async def _next(self, detector: TurnDetector) -> bytes:
        """Wait for audio; in a gap that ends the turn, return the silence that ends it."""
        gap_secs = self._settings.gap_ends_turn_secs if detector.in_speech else None
        try:
            async with asyncio.timeout(gap_secs):
                return await self._audio.get()
        except TimeoutError:
            # Some more than ends a turn, since the detector notices silence a little late.
            silence_secs = self._settings.vad.stop_secs + 0.2
            return bytes(int(silence_secs * INPUT_SAMPLE_RATE) * BYTES_PER_SAMPLE)
