"""When user audio goes to the server: pre-roll, catching up, and silence.

Theory of operation. The server drops audio that comes before it is configured,
ends a session whose audio comes faster than it could have been spoken, ends an
idle one after half a minute, and needs to hear silence to end a turn (protocol
§1, §2, §4). The microphone knows none of that. So `Uplink` stands between:

- while it is closed, it keeps what is said, newest first when it runs full;
- once open, it sends what was kept at no more than twice real time, and audio
  that comes after waits its turn, so that the server hears every word in order;
- when it has caught up, audio passes straight through, save that a burst longer
  than half a second is spread out;
- when the connection is lost or replaced, what the server has heard and not answered
  is sent again on the next one: all of what the user is saying, or has said, else the
  last second, so that a word that had just begun is not cut in two; and all but quiet
  since the server was last heard from, when it went away without a word;
- when the microphone falls quiet (mute, pause, a transport that sends nothing) it
  sends silence in its place, at the microphone's pace.

It is pure: time is a parameter, in seconds of any monotonic clock.
"""

from collections import deque
from itertools import dropwhile
from typing import Final

import numpy as np

from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE, INPUT_SAMPLE_RATE

__all__ = ["Uplink"]

_BYTES_PER_SEC: Final = INPUT_SAMPLE_RATE * BYTES_PER_SAMPLE
_CATCH_UP_RATE: Final = 2.0
_BURST_SECS: Final = 0.5
_POLL_SECS: Final = 0.02
_SILENCE_CHUNK_SECS: Final = 0.04
_SILENCE_CHUNK: Final = bytes(int(_SILENCE_CHUNK_SECS * _BYTES_PER_SEC))
_MAX_SILENCE_CHUNKS: Final = 5
_STALE_SECS: Final = 30.0
_REWIND_SECS: Final = 1.0
_REWIND_BYTES: Final = int(_REWIND_SECS * _BYTES_PER_SEC)
# What is not as loud, -44 dB of full scale, is no speech, and not worth being late for.
_QUIET_RMS: Final = 200.0
_LEAD_BYTES: Final = int(0.3 * _BYTES_PER_SEC)


class Uplink:
    """Paces user audio: 16 kHz mono PCM16 chunks in, the chunks to send now out."""

    def __init__(self, *, preroll_secs: float = 10.0, silence_after_secs: float = 0.4):
        """Make a closed uplink.

        Args:
            preroll_secs: How much audio is kept, in seconds, while it cannot be
                sent, or may have to be sent again; beyond it the oldest is dropped.
            silence_after_secs: How long the microphone may be quiet, in seconds,
                before silence is sent in its place. Shorter than the shortest
                pause that a network makes would put silence into speech.
        """
        self._capacity = int(preroll_secs * _BYTES_PER_SEC)
        self._silence_after = silence_after_secs
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        # What was sent, each with when; and how much of it, up to its end, is kept.
        self._recent: deque[tuple[float, bytes]] = deque()
        self._recent_bytes = 0
        self._kept_bytes = 0
        # How much was sent since the end of the user's turn that is not understood yet; None if
        # it has not ended, or nobody knows when.
        self._since_turn_bytes: int | None = None
        # What would have to be sent again, had it not become too much, and until when
        # what was sent is not remembered.
        self._forgotten_bytes = 0
        self._forgotten_until: float | None = None
        self._keeping = False
        self._pushed_at = 0.0
        self._postponed = False
        self._open = False
        self._allowance = 0.0
        self._allowed_at = 0.0
        self._silence_at = 0.0
        self._dropped_bytes = 0

    @property
    def is_open(self) -> bool:
        """Whether audio is being sent."""
        return self._open

    @property
    def waiting_secs(self) -> float:
        """How much user audio is kept for later, in seconds."""
        return self._waiting_bytes / _BYTES_PER_SEC

    def take_dropped_secs(self) -> float:
        """How much user audio had to be dropped since this was last asked, in seconds."""
        dropped, self._dropped_bytes = self._dropped_bytes, 0
        return dropped / _BYTES_PER_SEC

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do next; None while closed."""
        if not self._open:
            return None
        return self._allowed_at + _POLL_SECS if self._waiting else self._silence_at

    def open(self, now: float) -> list[bytes]:
        """Start to send: the server is configured. Returns the chunks to send now."""
        self._open = True
        self._allowance = 0.0
        self._allowed_at = now
        self._silence_at = now + self._silence_after
        return self._release(now)

    def close(self, *, unheard_since: float | None = None) -> None:
        """Stop sending: the connection is gone.

        What is waiting stays, behind what is to be sent again.

        Args:
            unheard_since: When the server was last heard from, if it went away without
                a word; None if it is not known to have been gone before.
        """
        if not self._open:
            return
        self._open = False
        size = self._kept_bytes if self._keeping else _REWIND_BYTES
        if unheard_since is not None:
            size = max(size, self._unheard_bytes(unheard_since))
            lost_secs = max(0.0, (self._forgotten_until or unheard_since) - unheard_since)
            lost_bytes = int(lost_secs * _BYTES_PER_SEC)
            self._forgotten_bytes = max(self._forgotten_bytes, lost_bytes)
        while self._recent and len(self._recent[-1][1]) <= size:
            _, chunk = self._recent.pop()
            self._recent_bytes -= len(chunk)
            size -= len(chunk)
            self._waiting.appendleft(chunk)
            self._waiting_bytes += len(chunk)
        self._dropped_bytes += self._forgotten_bytes
        self._since_turn_bytes = None
        self._forget()

    def _unheard_bytes(self, since: float) -> int:
        """How much the server cannot have heard, from its first sound on."""
        unheard = (chunk for at, chunk in self._recent if at >= since - _REWIND_SECS)
        size = sum(map(len, dropwhile(_is_quiet, unheard)))
        return size + _LEAD_BYTES if size else 0

    @property
    def keeping(self) -> bool:
        """Whether the user has been heard to speak, and has not been understood yet."""
        return self._keeping

    def keep(self) -> None:
        """The user speaks: from the last second on, keep all that is sent, until `mark`."""
        self._since_turn_bytes = None
        if not self._keeping:
            self._keeping = True
            self._kept_bytes = min(self._recent_bytes, _REWIND_BYTES)

    def turn_ended(self, silence_secs: float) -> None:
        """The user's turn is over, and was so for a while: another may have begun since.

        Args:
            silence_secs: How much of what was sent is not of the turn any more; 0 if unknown.
        """
        self._since_turn_bytes = round(silence_secs * _BYTES_PER_SEC) or None

    def mark(self) -> None:
        """What was sent up to the end of the turn is understood, and need never be sent again."""
        self._keeping = False
        self._forget(but=min(self._since_turn_bytes or 0, _REWIND_BYTES))
        self._since_turn_bytes = None

    def _forget(self, *, but: int = 0) -> None:
        """Forget what was sent, but for the newest, as many whole chunks as there is room for."""
        while self._recent_bytes > but:
            self._recent_bytes -= len(self._recent.popleft()[1])
        self._kept_bytes = self._forgotten_bytes = 0
        self._forgotten_until = None

    def push(self, chunk: bytes, now: float) -> list[bytes]:
        """Take a chunk of user audio. Returns the chunks to send now, oldest first."""
        if now - self._pushed_at > _STALE_SECS:
            # Another service has had the call meanwhile: nobody waits for an answer to it.
            self._dropped_bytes += self._waiting_bytes
            self._waiting.clear()
            self._waiting_bytes = 0
        self._pushed_at = now
        self._postponed = False
        self._waiting.append(chunk)
        self._waiting_bytes += len(chunk)
        while self._waiting_bytes > self._capacity:
            dropped = len(self._waiting.popleft())
            self._waiting_bytes -= dropped
            self._dropped_bytes += dropped
        self._silence_at = now + self._silence_after
        return self._release(now) if self._open else []

    def tick(self, now: float) -> list[bytes]:
        """Do what is due at `now`. Returns the chunks to send, live audio or silence."""
        if not self._open:
            return []
        if self._waiting:
            released = self._release(now)
            self._silence_at = max(self._silence_at, now + _SILENCE_CHUNK_SECS)
            return released
        if now - self._silence_at > 2 * _SILENCE_CHUNK_SECS and not self._postponed:
            # We come late, for the event loop stood still. What the microphone said meanwhile
            # comes right behind us, and no silence belongs before it.
            self._postponed, self._silence_at = True, now + self._silence_after
            return []
        self._postponed = False
        due = 0
        while self._silence_at <= now and due < _MAX_SILENCE_CHUNKS:
            self._silence_at += _SILENCE_CHUNK_SECS
            due += 1
        if due == _MAX_SILENCE_CHUNKS:
            # The clock has jumped: silence that was not sent in time is not owed.
            self._silence_at = max(self._silence_at, now + _SILENCE_CHUNK_SECS)
        self._spend(due * _SILENCE_CHUNK_SECS, now)
        return [_SILENCE_CHUNK] * due

    def _release(self, now: float) -> list[bytes]:
        """Take from what waits as much as may be sent by now."""
        self._accrue(now)
        released: list[bytes] = []
        while self._waiting:
            secs = len(self._waiting[0]) / _BYTES_PER_SEC
            if secs > self._allowance:
                break
            self._allowance -= secs
            chunk = self._waiting.popleft()
            self._waiting_bytes -= len(chunk)
            released.append(chunk)
            self._recent.append((now, chunk))
            self._recent_bytes += len(chunk)
            self._kept_bytes += len(chunk)
            if self._since_turn_bytes is not None:
                self._since_turn_bytes += len(chunk)
        while self._recent_bytes > max(self._capacity, _REWIND_BYTES):
            self._forgotten_until, forgotten = self._recent.popleft()
            self._recent_bytes -= len(forgotten)
            if self._keeping and self._kept_bytes > self._recent_bytes:
                self._forgotten_bytes += self._kept_bytes - self._recent_bytes
                self._kept_bytes = self._recent_bytes
        return released

    def _spend(self, secs: float, now: float) -> None:
        self._accrue(now)
        self._allowance = max(0.0, self._allowance - secs)

    def _accrue(self, now: float) -> None:
        earned = (now - self._allowed_at) * _CATCH_UP_RATE
        self._allowance = min(self._allowance + earned, _BURST_SECS)
        self._allowed_at = now


def _is_quiet(chunk: bytes) -> bool:
    samples = np.frombuffer(chunk, "<i2").astype(np.float64)
    return float(np.sqrt(np.mean(samples**2))) < _QUIET_RMS
