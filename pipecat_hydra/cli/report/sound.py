"""The two voices of a call for a page: levels to draw, and one audio file to play.

The file has the user on the left and the bot, as heard, on the right, so that both play together.
A short call is FLAC, which is exact; a long one is Opus, at about a tenth of the size. Each browser
plays both.
"""

import io
from typing import Final

import numpy as np
import soundfile as sf
import soxr  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from pipecat_hydra.recording import Recording, Track

__all__ = ["encoded", "peaks"]

_RATE: Final = 24_000
"""Rate of the file: Opus has it, and Hydra's newest model speaks at it."""

_FLAC_SECS: Final = 120.0
"""Up to this length a call is FLAC."""

_BLOCK_SECS: Final = 10
"""So much is encoded at a time, as an hour at once takes a gigabyte."""

# Of libsndfile for Opus: 0 is the highest rate of bits, 1 the lowest. This is some 50 kbit/s.
_OPUS_COMPRESSION: Final = 0.85


def peaks(track: Track, step_secs: float, secs: float) -> NDArray[np.uint8]:
    """Compute the greatest level in each step of a track.

    Args:
        track: The track.
        step_secs: Length of a step in seconds.
        secs: Length of the call in seconds.

    Returns:
        A number for each step: 255 times the square root of the level, so that a soft voice keeps
        its shape.
    """
    count = max(1, int(np.ceil(secs / step_secs)))
    levels = np.zeros(count, np.uint8)
    edges = np.round(np.arange(count + 1) * step_secs * (track.rate or 1)).astype(np.int64)
    filled = int(np.searchsorted(edges, len(track.samples)))
    for first in range(0, min(filled, count), 4096):
        last = min(first + 4096, filled, count)
        end = min(int(edges[last]), len(track.samples))
        block = np.abs(track.samples[edges[first] : end].astype(np.float32)) / 32768
        if len(block):
            starts = edges[first:last] - edges[first]
            greatest = np.maximum.reduceat(block, starts[starts < len(block)])
            levels[first : first + len(greatest)] = np.rint(255 * np.sqrt(greatest))
    return levels


def encoded(recording: Recording) -> tuple[bytes, str]:
    """Encode both voices as one stereo file.

    Args:
        recording: The recording.

    Returns:
        The file, and its media type; no file if there is no audio.
    """
    user, heard = recording.user_track(), recording.heard_track()
    secs = max(_secs(user), _secs(heard))
    if not secs:
        return b"", ""
    is_short = secs <= _FLAC_SECS
    written = io.BytesIO()
    sides = (_Side(user), _Side(heard))
    format_, subtype = ("FLAC", "PCM_16") if is_short else ("OGG", "OPUS")
    compression = 0.5 if is_short else _OPUS_COMPRESSION
    with sf.SoundFile(
        written, "w", _RATE, 2, subtype, format=format_, compression_level=compression
    ) as file:
        for _ in range(0, int(np.ceil(secs)), _BLOCK_SECS):
            file.write(np.stack([side.take(_BLOCK_SECS) for side in sides], axis=1))
    return written.getvalue(), "audio/flac" if is_short else "audio/ogg; codecs=opus"


class _Side:
    """One side of the file: a track at the rate of the file, with silence after its end."""

    def __init__(self, track: Track):
        self._track = track
        self._taken = 0
        same = track.rate in (0, _RATE)
        self._stream = None if same else soxr.ResampleStream(track.rate, _RATE, 1, dtype="int16")
        self._rest = np.zeros(0, np.int16)

    def take(self, secs: int) -> NDArray[np.int16]:
        """Return the next seconds."""
        wanted = secs * _RATE
        while len(self._rest) < wanted:
            block = self._block(secs)
            self._rest = np.concatenate([self._rest, block])
        taken, self._rest = self._rest[:wanted], self._rest[wanted:]
        return taken

    def _block(self, secs: int) -> NDArray[np.int16]:
        if self._taken >= len(self._track.samples):
            return np.zeros(secs * _RATE, np.int16)
        end = self._taken + secs * self._track.rate
        block = self._track.samples[self._taken : end]
        self._taken = end
        if self._stream is None:
            return block
        return self._stream.resample_chunk(block, last=end >= len(self._track.samples))


def _secs(track: Track) -> float:
    return len(track.samples) / track.rate if track.rate else 0.0
