"""Joins the audio of a response to larger chunks while the listener has enough ahead.

Hydra sends a reply ten times faster than it is heard, in many small deltas, and each frame that
passes a pipeline costs time in every processor. So audio is kept in hand as long as the listener
has some to hear that was passed on before: until there is a chunk of the length asked for, until
what was passed on is nearly heard, or until the audio of the response is complete. Nobody hears a
difference. The first audio of a reply passes at once, and so does all audio of a server that
sends no faster than the listener hears.

What is in hand has not entered the pipeline. If the user begins to speak it is kept back with the
rest of the response, so an interruption finds less in the pipeline that is to be thrown away.

Pure: time is a parameter, in seconds of any monotonic clock.
"""

from typing import Final

from pipecat_hydra.conversation.effects import AudioChunk
from pipecat_hydra.conversation.playback import Playback
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE

__all__ = ["JoinedAudio"]

# How much the listener must have ahead for audio to stay in hand. An event loop that lags by more
# stalls the transport as well.
_ENOUGH_SECS: Final = 0.15


class JoinedAudio:
    """The audio of the current response that is in hand."""

    def __init__(self, playback: Playback, *, chunk_secs: float):
        """Start with nothing in hand.

        Args:
            playback: Knows how much the listener has still to hear.
            chunk_secs: How long a joined chunk is at least, in seconds, unless the listener would
                have to wait for it; 0 to join nothing.
        """
        self._playback = playback
        self._chunk_secs = chunk_secs
        self._pcm = b""
        self._sample_rate = 0
        self.deadline: float | None = None
        """When what is in hand must be taken; None if nothing is."""

    def push(self, pcm: bytes, sample_rate: int, now: float) -> AudioChunk | float:
        """Add audio; return all that is in hand, or until when it may stay so.

        Args:
            pcm: Whole samples of mono PCM16 LE.
            sample_rate: Their rate in Hz.
            now: The time.
        """
        pcm = self._pcm + pcm
        if len(pcm) < self._chunk_secs * sample_rate * BYTES_PER_SAMPLE:
            if self.deadline is None:
                wanted_at = self._playback.plays_until(now) - _ENOUGH_SECS
                self.deadline = wanted_at if wanted_at > now else None
            if self.deadline is not None:
                self._pcm, self._sample_rate = pcm, sample_rate
                return self.deadline
        self._pcm, self.deadline = b"", None
        return AudioChunk(pcm, sample_rate)

    def take_due(self, now: float) -> list[AudioChunk]:
        """Return what is in hand if the listener has nearly heard what was passed on before."""
        return self.take() if self.deadline is not None and now >= self.deadline else []

    def take(self) -> list[AudioChunk]:
        """Return what is in hand, if anything is; nothing is afterwards."""
        pcm, self._pcm, self.deadline = self._pcm, b"", None
        return [AudioChunk(pcm, self._sample_rate)] if pcm else []
