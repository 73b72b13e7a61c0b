"""Marks in audio, by which a process recognises what another one has sent.

A delta that begins with a mark says in the bytes that follow when it was sent. A click is a frame
of loud samples in the silence of a microphone; unlike a mark, it lives through resampling.
"""

import struct
from array import array
from itertools import repeat

__all__ = ["OUTPUT_RATE", "click", "is_loud", "marked", "marked_times", "tone"]

OUTPUT_RATE = 24_000
"""Of all peers' replies, in Hz."""

_MARK = b"\x01\x7fAT"
_TIME = struct.Struct("<d")
_AMPLITUDE = 20_000

# 750 Hz of a reply: speech would be heard at once too, and is not looked for any further then.
_TONE = array("h", [*repeat(3_000, 16), *repeat(-3_000, 16)]).tobytes()


def marked(secs: float, size: int) -> bytes:
    """Audible audio of so many bytes that says when it was sent."""
    mark = _MARK + _TIME.pack(secs)
    return mark + tone(size)[len(mark) :]


def tone(size: int) -> bytes:
    """Audible audio of so many bytes without a mark."""
    return (_TONE * (size // len(_TONE) + 1))[:size]


def marked_times(audio: bytes) -> list[float]:
    """When the marked audio was sent, of which this holds the beginnings."""
    times: list[float] = []
    at = audio.find(_MARK)
    while at >= 0:
        times.append(_TIME.unpack_from(audio, at + len(_MARK))[0])
        at = audio.find(_MARK, at + len(_MARK))
    return times


def click(rate: int, secs: float) -> bytes:
    """A tone of a sixteenth of the rate, which no resampler takes away."""
    half = [*repeat(_AMPLITUDE, 8), *repeat(-_AMPLITUDE, 8)]
    samples = round(rate * secs)
    return array("h", (half * (samples // 16 + 1))[:samples]).tobytes()


def is_loud(audio: bytes) -> bool:
    """Whether there is a click in it, even if filtered."""
    return max(map(abs, array("h", audio)), default=0) > _AMPLITUDE // 4
