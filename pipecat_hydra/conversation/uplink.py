"""When user audio goes to the server: pre-roll, catching up, and silence.

Theory of operation. The server drops audio that comes before it is configured, ends a session
whose audio comes faster than it could have been spoken, ends an idle one after half a minute, and
needs to hear silence to end a turn (protocol §1, §2, §4). The microphone obeys none of
these rules. So `Uplink` stands between:

- while it is closed, it keeps the user's audio; when it runs full, it drops the oldest;
- once open, it sends what was kept at no more than twice real time, and audio that comes after
  waits its turn, so that the server hears every word in order;
- when it has caught up, audio passes straight through, except that a burst longer than half a
  second is spread out;
- when the connection is lost or replaced, it sends again what the server has not answered, before
  anything else (`sent_audio.py` says how much that is);
- when the microphone falls quiet (mute, pause, a transport that sends nothing) it sends silence in
  its place, at the microphone's pace;
- when no user audio has come for half a minute, it drops what it still keeps, because nobody waits
  for an answer to that any more. Another service of a switcher has had the call meanwhile.

Pure: time is a parameter, in seconds of any monotonic clock.
"""

from collections import deque
from typing import Final

from pipecat_hydra.conversation.sent_audio import SentAudio
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
        self._sent = SentAudio(self._capacity)
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
        """How much user audio waits to be sent, in seconds."""
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
        self._sent.session_began()
        self._allowance = 0.0
        self._allowed_at = now
        self._silence_at = now + self._silence_after
        return self._release(now)

    def close(self, *, unheard_since: float | None = None) -> None:
        """Stop sending: the connection is gone.

        Audio that waits stays, behind the audio that is to be sent again.

        Args:
            unheard_since: When the server was last heard from, if it went away without
                a word; None if it is not known to have been gone before.
        """
        if not self._open:
            return
        self._open = False
        again, lost_bytes = self._sent.take_unheard(unheard_since)
        self._waiting.extendleft(reversed(again))
        self._waiting_bytes += sum(map(len, again))
        self._dropped_bytes += lost_bytes

    @property
    def keeping(self) -> bool:
        """Whether the audio of a user turn is kept, because the turn is not understood yet."""
        return self._sent.keeping

    def keep(self) -> None:
        """Keep all audio sent from the last second on, until `mark`: the user speaks."""
        self._sent.keep()

    def silence_since(self, audio_end_ms: float | None) -> float:
        """How long the server has heard silence since a place in the session, in seconds.

        Args:
            audio_end_ms: Where the user's turn ended, as the server says.

        Returns:
            0 if that is not known, or makes no sense.
        """
        return self._sent.silence_since(audio_end_ms)

    def turn_ended(self, silence_secs: float) -> None:
        """Record that the user's turn has ended, and how much was sent since then.

        Args:
            silence_secs: How much audio was sent since the turn ended, in seconds; 0 if unknown.
        """
        self._sent.turn_ended(silence_secs)

    def mark(self) -> None:
        """Forget the audio up to the end of the turn: it is understood."""
        self._sent.mark()

    def push(self, chunk: bytes, now: float) -> list[bytes]:
        """Take a chunk of user audio. Returns the chunks to send now, oldest first."""
        if now - self._pushed_at > _STALE_SECS:
            # Another service had the call meanwhile: nobody waits for an answer to that audio.
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
            # This tick is late, because the event loop stood still. The audio that the microphone
            # recorded meanwhile follows, and no silence belongs before it.
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
        self._sent.add_silence(due * len(_SILENCE_CHUNK))
        return [_SILENCE_CHUNK] * due

    def _release(self, now: float) -> list[bytes]:
        """Take as many waiting chunks as may be sent by now."""
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
            self._sent.add(chunk, now)
        return released

    def _spend(self, secs: float, now: float) -> None:
        self._accrue(now)
        self._allowance = max(0.0, self._allowance - secs)

    def _accrue(self, now: float) -> None:
        earned = (now - self._allowed_at) * _CATCH_UP_RATE
        self._allowance = min(self._allowance + earned, _BURST_SECS)
        self._allowed_at = now
