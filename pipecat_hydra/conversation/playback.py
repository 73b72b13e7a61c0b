"""Remembers the part of a reply that was not heard yet, so that it can be said again.

Hydra generates ten times faster than anybody speaks, so most of a reply lies in the
transport when the user makes a sound, and an interruption throws it away. When the sound
turns out to have been noise, the rest must be heard all the same (T3). `Playback` keeps
what entered the pipeline, and gives what lies behind the position at which it was cut.

The transport reports when the bot starts and stops to speak, and nothing between. So the position
is worked out: audio plays in real time from the reported start on, and no piece of it plays before
it came. A reply that stalls on its way makes the transport wait, and the position waits too.

Pure: time is a parameter, in seconds of any monotonic clock.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from pipecat_hydra.conversation.effects import AudioChunk, TextChunk
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE

__all__ = ["Playback"]

_REWIND_SECS: Final = 0.3
_MAX_SECS: Final = 300.0
_MAX_UNREPORTED_SECS: Final = 60.0

_Part = AudioChunk | TextChunk


class Playback:
    """Remembers the audio and text that the listener has still to hear.

    A stretch is what is said between the bot's starting and stopping to speak, as the
    output transport reports them; stretches are played one after the other.
    """

    def __init__(self) -> None:
        """Start with nothing said."""
        self._stretches: deque[_Stretch] = deque()
        self._secs = 0.0
        # May be earlier than anything that is remembered here. Now and then Pipecat's output plays
        # one last piece of what was cut, and then reports neither its end nor, within three
        # seconds, the next start.
        self._started_at: float | None = None
        # When all that is remembered has been heard, if playing has started.
        self._plays_until = 0.0
        # Whether the transport reports playback. If not, nobody knows what was heard.
        self._reported = False
        self._overrun = False

    def add(self, part: _Part, now: float) -> None:
        """Record audio or text that enters the pipeline.

        Args:
            part: Audio, or text that belongs to the audio around it.
            now: The time.
        """
        stretches = self._stretches
        if not stretches or stretches[-1].complete:
            stretches.append(_Stretch())
        stretch, secs = stretches[-1], 0.0
        if isinstance(part, AudioChunk):
            secs = len(part.pcm) / (BYTES_PER_SAMPLE * part.sample_rate)
        stretch.pieces.append(_Piece(part, stretch.secs, secs, now))
        stretch.secs += secs
        self._secs += secs
        self._plays_until = max(self._plays_until, now) + secs
        limit = _MAX_SECS if self._reported else _MAX_UNREPORTED_SECS
        if self._secs > limit:
            # Memory is bounded: a reply as long as that is not kept, and not said again.
            self._overrun = True
            for each in stretches:
                each.pieces.clear()
            while not self._reported and len(stretches) > 1:
                # None of them will be reported as heard, and so forgotten.
                stretches.popleft()

    def plays(self, now: float) -> bool:
        """Whether the listener hears something of what entered the pipeline so far."""
        return self._started_at is not None and now < self._started_at + self._secs

    def end(self) -> None:
        """Record that the stretch is complete."""
        if self._stretches:
            self._stretches[-1].complete = True

    def started(self, now: float) -> None:
        """The listener begins to hear the oldest stretch, or something else if there is none."""
        self._reported = True
        self._started_at = now
        self._plays_until = now + self._secs

    def plays_until(self, now: float) -> float:
        """When the listener has heard what entered the pipeline so far, or will have at the latest.

        That is `now` if the transport does not report what is heard.
        """
        if not self._reported:
            return now
        return now + self._secs if self._started_at is None else self._plays_until

    def stopped(self) -> None:
        """The listener has heard the oldest stretch to its end.

        This is also reported for audio that was cut, and then changes nothing.
        """
        if self._started_at is None:
            return
        self._started_at = None
        if self._stretches:
            self._secs -= self._stretches.popleft().secs
        if not self._stretches:
            self._secs = 0.0
            self._overrun = False

    def turn_started(self) -> None:
        """The user begins to speak: all that was said so far is no answer to that."""
        for stretch in self._stretches:
            stretch.is_before_turn = True

    def cut(self, now: float, *, since_turn: bool = False) -> list[_Part]:
        """End playback: return the parts that were not heard, from a little before; forget all.

        Text that belongs to audio already heard is not given again.

        Args:
            now: The time.
            since_turn: Whether only parts are given that are newer than the user's last turn.
        """
        rest: list[_Part] = []
        if self._reported and not self._overrun:
            started_at = self._started_at
            for stretch in self._stretches:
                heard = 0.0 if started_at is None else stretch.heard(started_at, now)
                if not (since_turn and stretch.is_before_turn):
                    rest += stretch.after(heard)
                started_at = None
        self.clear()
        return rest

    def clear(self) -> None:
        """Forget all: it is played no more."""
        self._stretches.clear()
        self._secs = 0.0
        self._started_at = None
        self._overrun = False


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a stretch.

    Parameters:
        part: The audio, or the text that belongs to the audio around it.
        start: Where in the stretch it begins, in seconds.
        secs: How long it plays, in seconds.
        added_at: When it entered the pipeline.
    """

    part: _Part
    start: float
    secs: float
    added_at: float


class _Stretch:
    def __init__(self) -> None:
        self.pieces: list[_Piece] = []
        self.secs = 0.0
        self.complete = False
        self.is_before_turn = False

    def heard(self, started_at: float, now: float) -> float:
        """Return how much was heard by now, in seconds, if it plays since `started_at`."""
        plays_until = started_at
        for piece in self.pieces:
            begins_at = max(plays_until, piece.added_at)
            plays_until = begins_at + piece.secs
            if plays_until > now:
                return piece.start + max(0.0, now - begins_at)
        return self.secs

    def after(self, heard: float) -> list[_Part]:
        """Return the parts behind `heard` seconds; audio from a little before."""
        if heard >= self.secs:
            return []
        begin = max(0.0, heard - _REWIND_SECS)
        rest: list[_Part] = []
        for piece in self.pieces:
            part = piece.part
            if isinstance(part, TextChunk):
                if piece.start >= heard:
                    rest.append(part)
                continue
            skip = max(0, round((begin - piece.start) * part.sample_rate)) * BYTES_PER_SAMPLE
            if skip < len(part.pcm):
                rest.append(AudioChunk(part.pcm[skip:], part.sample_rate) if skip else part)
        return rest
