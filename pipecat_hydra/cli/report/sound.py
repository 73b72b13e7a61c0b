"""The two voices of a call for a page: levels to draw, and one audio file to play.

The file has the user on the left and the bot, as heard, on the right, so that both play together.
A short call is FLAC, which is exact; a long one is Vorbis, at a sixth of the size: 16 MB an
hour. Opus by the same library takes four times as long for that.
"""

import io
from typing import Final

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray

from pipecat_hydra.recording import Recording, Track
from pipecat_hydra.recording.format import USER_AUDIO

__all__ = ["encoded", "peaks"]

_RATE: Final = 24_000
"""Rate of a short call's file, at which Hydra's newest model speaks."""

_LONG_RATE: Final = 16_000
"""Rate of a long call's file."""

_FLAC_SECS: Final = 120.0
"""Up to this length a call is FLAC."""

_BLOCK_SECS: Final = 10
"""So much is encoded at a time, as an hour at once takes a gigabyte."""

# Of libsndfile: 0 is the largest file, 1 the smallest. This is some 36 kbit/s.
_VORBIS_COMPRESSION: Final = 0.9


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
    # Without a file the user's track is silence.
    if not secs or not (recording.rate(USER_AUDIO) or heard.rate):
        return b"", ""
    is_short = secs <= _FLAC_SECS
    rate = _RATE if is_short else _LONG_RATE
    format_, subtype = ("FLAC", "PCM_16") if is_short else ("OGG", "VORBIS")
    compression = 0.5 if is_short else _VORBIS_COMPRESSION
    written = io.BytesIO()
    sides = (_Side(user, rate), _Side(heard, rate))
    with sf.SoundFile(
        written, "w", rate, 2, subtype, format=format_, compression_level=compression
    ) as file:
        left = int(np.ceil(secs * rate))
        while left > 0:
            samples = min(left, _BLOCK_SECS * rate)
            file.write(np.stack([side.take(samples) for side in sides], axis=1))
            left -= samples
    return written.getvalue(), "audio/flac" if is_short else "audio/ogg; codecs=vorbis"


class _Side:
    """One side of the file: a track at the rate of the file, with silence after its end."""

    def __init__(self, track: Track, rate: int):
        self._track = track
        self._taken = 0
        same = track.rate in (0, rate)
        self._stream = None if same else soxr.ResampleStream(track.rate, rate, 1, dtype="int16")
        self._rest = np.zeros(0, np.int16)

    def take(self, samples: int) -> NDArray[np.int16]:
        """Return the next samples."""
        while len(self._rest) < samples:
            self._rest = np.concatenate([self._rest, self._block(samples)])
        taken, self._rest = self._rest[:samples], self._rest[samples:]
        return taken

    def _block(self, samples: int) -> NDArray[np.int16]:
        if self._taken >= len(self._track.samples):
            return np.zeros(samples, np.int16)
        end = self._taken + _BLOCK_SECS * self._track.rate
        block = self._track.samples[self._taken : end]
        self._taken = end
        if self._stream is None:
            return block
        return self._stream.resample_chunk(block, last=end >= len(self._track.samples))


def _secs(track: Track) -> float:
    return len(track.samples) / track.rate if track.rate else 0.0
