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
- when a burst is longer than what is kept, one stretch of it is dropped, the oldest: nothing is
  sent while the burst still comes, because the audio between would be cut to shreds;
- when the connection is lost or replaced, it sends again what the server has not answered, before
  anything else (`sent_audio.py` says how much that is);
- what real time owes and the line has not given (mute, pause, a line that sends nothing in
  silence) it sends as silence (`line_clock.py` says how much that is and when);
- when no user audio has come for half a minute, it drops what it still keeps, because nobody waits
  for an answer to that any more. Another service of a switcher has had the call meanwhile.

Pure: time is a parameter, in seconds of any monotonic clock.
"""

from collections import deque
from typing import Final

from pipecat_hydra.conversation.line_clock import SILENCE_SECS, LineClock
from pipecat_hydra.conversation.sent_audio import SentAudio
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE, INPUT_SAMPLE_RATE

__all__ = ["Uplink"]

_BYTES_PER_SEC: Final = INPUT_SAMPLE_RATE * BYTES_PER_SAMPLE
_CATCH_UP_RATE: Final = 2.0
_BURST_SECS: Final = 0.5
_BURST_BYTES: Final = int(_BURST_SECS * _BYTES_PER_SEC)
_ROUNDING_SECS: Final = 1e-6
_SILENCE: Final = bytes(int(SILENCE_SECS * _BYTES_PER_SEC))
_STALE_SECS: Final = 30.0
# How long a burst may go on to come that is too long to be kept.
_OVERFLOW_SECS: Final = 0.5


class Uplink:
    """Paces user audio: 16 kHz mono PCM16 chunks in, the chunks to send now out."""

    def __init__(self, *, preroll_secs: float = 10.0, silence_after_secs: float = 0.4):
        """Make a closed uplink.

        Args:
            preroll_secs: How much audio is kept, in seconds, while it cannot be
                sent, or may have to be sent again; beyond it the oldest is dropped.
            silence_after_secs: How much later than another one a frame may come, in
                seconds, before silence takes its place. Shorter than the jitter of a
                network would put silence into speech.
        """
        self._capacity = int(preroll_secs * _BYTES_PER_SEC)
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._sent = SentAudio(self._capacity)
        self._line = LineClock(silence_after_secs)
        # How much audio may be sent at once, in seconds, and as of when.
        self._allowance = 0.0
        self._allowed_at = 0.0
        self._pushed_at = 0.0
        self._open = False
        self._dropped_bytes = 0
        # Until when all that is dropped is one stretch.
        self._overflows_until = float("-inf")

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

    def take_overflow_secs(self, now: float) -> float:
        """How much user audio did not fit while the uplink was open, in seconds.

        Returns:
            0 while more of the same stretch may have to be dropped.
        """
        is_told = self._open and now >= self._overflows_until
        return self.take_dropped_secs() if is_told else 0.0

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do next; None while closed."""
        if not self._open:
            return None
        if self._waiting:
            ready_at = self._ready_at(len(self._waiting[0]) / _BYTES_PER_SEC)
            return max(ready_at, self._overflows_until)
        return max(self._ready_at(SILENCE_SECS), self._line.due_at)

    def open(self, now: float) -> list[bytes]:
        """Start to send: the server is configured. Returns the chunks to send now."""
        self._open = True
        self._sent.session_began()
        self._allowance, self._allowed_at = 0.0, now
        self._line.begin(now)
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
        secs = len(chunk) / _BYTES_PER_SEC
        self._line.give(secs, now)
        pushed_at, self._pushed_at = self._pushed_at, now
        allowance = min(self._allowance + (now - self._allowed_at) * _CATCH_UP_RATE, _BURST_SECS)
        if self._open and not self._waiting and secs <= allowance:
            self._allowance, self._allowed_at = allowance - secs, now
            self._sent.add(chunk, now)
            return [chunk]
        if now - pushed_at > _STALE_SECS:
            # Another service had the call meanwhile: nobody waits for an answer to that audio.
            self._drop(self._waiting_bytes)
        self._waiting.append(chunk)
        self._waiting_bytes += len(chunk)
        if not self._open:
            self._drop(self._waiting_bytes - self._capacity)
            return []
        if self._waiting_bytes > self._capacity + _BURST_BYTES:
            self._drop(self._waiting_bytes - self._capacity)
            if now >= self._overflows_until:
                self._overflows_until = now + _OVERFLOW_SECS
        return self._release(now)

    def tick(self, now: float) -> list[bytes]:
        """Do what is due at `now`. Returns the chunks to send, live audio or silence."""
        if not self._open:
            return []
        if self._waiting:
            return self._release(now)
        due_at = max(self._ready_at(SILENCE_SECS), self._line.due_at)
        if self._line.excuse(now, due_at=due_at):
            return []
        silence: list[bytes] = []
        while self._line.due_at <= now and self._may_send(SILENCE_SECS, now):
            self._line.fill()
            self._sent.add(_SILENCE, now)
            silence.append(_SILENCE)
        return silence

    def _ready_at(self, secs: float) -> float:
        """When so much audio may be sent."""
        return self._allowed_at + max(0.0, secs - self._allowance) / _CATCH_UP_RATE

    def _may_send(self, secs: float, now: float) -> bool:
        """Count audio that is sent, if so much may be: twice real time, half a second at once."""
        earned = (now - self._allowed_at) * _CATCH_UP_RATE
        allowance = min(self._allowance + earned, _BURST_SECS)
        self._allowed_at = now
        is_allowed = secs <= allowance + _ROUNDING_SECS
        self._allowance = allowance - secs if is_allowed else allowance
        return is_allowed

    def _release(self, now: float) -> list[bytes]:
        """Take as many waiting chunks as may be sent by now."""
        released: list[bytes] = []
        if now < self._overflows_until:
            return released
        while self._waiting and self._may_send(len(self._waiting[0]) / _BYTES_PER_SEC, now):
            chunk = self._waiting.popleft()
            self._waiting_bytes -= len(chunk)
            released.append(chunk)
            self._sent.add(chunk, now)
        return released

    def _drop(self, size: int) -> None:
        """Drop the oldest chunks that wait, as many as make up at least so many bytes."""
        left = self._waiting_bytes - size
        while self._waiting_bytes > left:
            dropped = len(self._waiting.popleft())
            self._waiting_bytes -= dropped
            self._dropped_bytes += dropped
