"""Which of the user's audio has to be sent again when a session is lost or replaced.

Theory of operation. The next session knows nothing of what the last one heard. `SentAudio` keeps
what was sent, the newest of it, until nobody needs it any more:

- while the user speaks, and until the turn is understood, all of it from a second before the turn;
- else the last second, so that a word that had just begun is not cut in two;
- and what the lost session was given again itself, if it found no turn in that and was lost within
  a second after it;
- and all but quiet since the server was last heard from, when it went away without a word.

When a turn is understood, what was sent after its end is not: another turn may have begun since.
The server says where in the session a turn ended, and how much was sent in it tells how much has
come since.

Silence that was sent in the place of user audio counts like any other audio. So a second is a
second on a line that gives nothing in silence, too, and what is sent again keeps its pauses.

Pure: time is a parameter, in seconds of any monotonic clock.
"""

from collections import deque
from itertools import dropwhile
from typing import Final

import numpy as np

from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE, INPUT_SAMPLE_RATE

__all__ = ["SentAudio"]

_BYTES_PER_SEC: Final = INPUT_SAMPLE_RATE * BYTES_PER_SAMPLE
_REWIND_SECS: Final = 1.0
_REWIND_BYTES: Final = int(_REWIND_SECS * _BYTES_PER_SEC)
# Audio below -44 dB of full scale is no speech. To send it again would only cause delay.
_QUIET_RMS: Final = 200.0
_LEAD_BYTES: Final = int(0.3 * _BYTES_PER_SEC)
# The server ends a turn before it has heard that much silence. More is an error of the server.
_LONGEST_SILENCE_SECS: Final = 3.0


class SentAudio:
    """What was sent to the server, as far as it may have to be sent again."""

    def __init__(self, capacity_bytes: int):
        """Start with nothing sent.

        Args:
            capacity_bytes: How much is kept; beyond it the oldest is forgotten.
        """
        self._capacity = max(capacity_bytes, _REWIND_BYTES)
        # The newest audio that was sent, each chunk with its time; and how much of it, from its end
        # backwards, is to be sent again.
        self._recent: deque[tuple[float, bytes]] = deque()
        self._recent_bytes = 0
        self._kept_bytes = 0
        self._keeping = False
        # How much was sent since the end of the user's turn that is not understood yet; None if
        # it has not ended, or the end is not known.
        self._since_turn_bytes: int | None = None
        # How much should be sent again and is forgotten, because it was too much to keep; and
        # until when the audio that was sent is forgotten.
        self._forgotten_bytes = 0
        self._forgotten_until: float | None = None
        # How much was sent in this session; and how much of that, at its beginning, was sent
        # again and no turn was found in.
        self._session_bytes = 0
        self._again_bytes = 0

    @property
    def keeping(self) -> bool:
        """Whether the audio of a user turn is kept, because the turn is not understood yet."""
        return self._keeping

    def session_began(self) -> None:
        """Count what is sent from the beginning of the session on."""
        self._session_bytes = 0

    def add(self, chunk: bytes, now: float) -> None:
        """Record audio that is sent: the user's, or silence in its place."""
        size = len(chunk)
        self._session_bytes += size
        self._recent.append((now, chunk))
        self._recent_bytes += size
        self._kept_bytes += size
        if self._since_turn_bytes is not None:
            self._since_turn_bytes += size
        while self._recent_bytes > self._capacity:
            self._forgotten_until, forgotten = self._recent.popleft()
            self._recent_bytes -= len(forgotten)
            if self._keeping and self._kept_bytes > self._recent_bytes:
                self._forgotten_bytes += self._kept_bytes - self._recent_bytes
                self._kept_bytes = self._recent_bytes

    def keep(self) -> None:
        """Keep all audio sent from the last second on, until `mark`: the user speaks."""
        self._since_turn_bytes = None
        self._again_bytes = 0
        if not self._keeping:
            self._keeping = True
            self._kept_bytes = min(self._recent_bytes, _REWIND_BYTES)

    def silence_since(self, audio_end_ms: float | None) -> float:
        """How long the server has heard silence since a place in the session, in seconds.

        Args:
            audio_end_ms: Where the user's turn ended, as the server says.

        Returns:
            0 if that is not known, or makes no sense.
        """
        if not audio_end_ms:
            return 0.0
        silence_secs = self._session_bytes / _BYTES_PER_SEC - audio_end_ms / 1000
        return silence_secs if 0.0 <= silence_secs <= _LONGEST_SILENCE_SECS else 0.0

    def turn_ended(self, silence_secs: float) -> None:
        """Record that the user's turn has ended, and how much was sent since then.

        Args:
            silence_secs: How much audio was sent since the turn ended, in seconds; 0 if unknown.
        """
        self._since_turn_bytes = round(silence_secs * _BYTES_PER_SEC) or None

    def mark(self) -> None:
        """Forget the audio up to the end of the turn: it is understood."""
        self._keeping = False
        self._forget(but=min(self._since_turn_bytes or 0, _REWIND_BYTES))
        self._since_turn_bytes = None

    def take_unheard(self, unheard_since: float | None) -> tuple[list[bytes], int]:
        """Return the audio that the next session has to hear, oldest first, and forget the rest.

        Args:
            unheard_since: When the server was last heard from, if it went away without a word.

        Returns:
            The chunks; and how many bytes should be sent again but were not kept.
        """
        size = self._kept_bytes if self._keeping else _REWIND_BYTES
        if self._session_bytes <= self._again_bytes + _REWIND_BYTES:
            size = max(size, self._session_bytes)
        lost_bytes = self._forgotten_bytes
        if unheard_since is not None:
            size = max(size, self._unheard_bytes(unheard_since))
            lost_secs = max(0.0, (self._forgotten_until or unheard_since) - unheard_since)
            lost_bytes = max(lost_bytes, int(lost_secs * _BYTES_PER_SEC))
        chunks: deque[bytes] = deque()
        while self._recent and len(self._recent[-1][1]) <= size:
            _, chunk = self._recent.pop()
            self._recent_bytes -= len(chunk)
            size -= len(chunk)
            chunks.appendleft(chunk)
        self._again_bytes = sum(map(len, chunks))
        self._since_turn_bytes = None
        self._forget()
        return [*chunks], lost_bytes

    def _unheard_bytes(self, since: float) -> int:
        """Return how many bytes the server cannot have heard, from the first sound among them."""
        unheard = (chunk for at, chunk in self._recent if at >= since - _REWIND_SECS)
        size = sum(map(len, dropwhile(_is_quiet, unheard)))
        return size + _LEAD_BYTES if size else 0

    def _forget(self, *, but: int = 0) -> None:
        """Forget the audio that was sent, except the newest chunks of up to `but` bytes."""
        while self._recent_bytes > but:
            self._recent_bytes -= len(self._recent.popleft()[1])
        self._kept_bytes = self._forgotten_bytes = 0
        self._forgotten_until = None


def _is_quiet(chunk: bytes) -> bool:
    samples = np.frombuffer(chunk, "<i2").astype(np.float64)
    return float(np.sqrt(np.mean(samples**2))) < _QUIET_RMS
