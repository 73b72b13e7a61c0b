"""Finds in the bot's audio what the output transport has played of it.

Most of what is played is what was received, sample for sample. Then a recording refers to it and
does not keep it twice, which halves what the bot's audio costs. What was received is kept here
until it has been played. Audio is compared byte for byte, so what a mixer, a volume or another
rate has changed is not found, and the recording keeps it as it was played.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE

__all__ = ["Part", "ReceivedAudio"]

# What is looked for when something else than the next is played: 20 ms at 24 kHz. Shorter stretches
# and silence are found anywhere.
_SOUGHT_BYTES: Final = 960
# A reply that goes on after noise begins a little before where it stopped.
_BEHIND_BYTES: Final = 2**18
# Three minutes at 24 kHz.
_LIMIT_BYTES: Final = 2**23


class Part(NamedTuple):
    """A part of what was played.

    Parameters:
        pcm: Its PCM16.
        first_sample: Its place in the file of what was received; None if it is not there.
    """

    pcm: bytes
    first_sample: int | None


class ReceivedAudio:
    """The audio of one file that may yet be played."""

    def __init__(self):
        """Begin a file."""
        self._pcm = bytearray()
        self._first_sample = 0
        self._next = 0

    def add(self, pcm: bytes) -> None:
        """Take what was appended to the file.

        Args:
            pcm: Whole samples of PCM16.
        """
        self._pcm += pcm
        self._forget(len(self._pcm) - _LIMIT_BYTES)

    def parts(self, pcm: bytes) -> Iterator[Part]:
        """Divide what was played without a pause into what was received and what was not.

        Args:
            pcm: Whole samples of PCM16.

        Yields:
            Its parts in their order. The last one is all after a stretch that is not found.
        """
        while pcm:
            begin = self._begin_of(pcm)
            length = self._length_of_same(pcm, begin) if begin is not None else 0
            if begin is None or not length:
                yield Part(pcm, None)
                return
            yield Part(pcm[:length], self._first_sample + begin // BYTES_PER_SAMPLE)
            self._next = begin + length
            self._forget(self._next - _BEHIND_BYTES)
            pcm = pcm[length:]

    def _begin_of(self, pcm: bytes) -> int | None:
        """Return where audio that was played begins."""
        sought = pcm[:_SOUGHT_BYTES]
        if self._pcm.startswith(sought, self._next):
            return self._next
        if len(sought) < _SOUGHT_BYTES or not sought.strip(b"\0"):
            return None
        begin = self._pcm.find(sought)
        while begin >= 0 and begin % BYTES_PER_SAMPLE:
            begin = self._pcm.find(sought, begin + 1)
        return begin if begin >= 0 else None

    def _length_of_same(self, pcm: bytes, begin: int) -> int:
        if self._pcm.startswith(pcm, begin):
            return len(pcm)
        received = np.frombuffer(bytes(self._pcm[begin : begin + len(pcm)]), "<i2")
        played = np.frombuffer(pcm, "<i2")[: len(received)]
        others = np.flatnonzero(played != received)
        return BYTES_PER_SAMPLE * (int(others[0]) if len(others) else len(received))

    def _forget(self, size: int) -> None:
        if size > 0:
            del self._pcm[:size]
            self._first_sample += size // BYTES_PER_SAMPLE
            self._next = max(0, self._next - size)
