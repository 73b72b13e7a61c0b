"""Remembers the part of a reply that was not heard yet, so that it can be said again.

Hydra generates ten times faster than anybody speaks, so most of a reply lies in the
transport when the user makes a sound, and an interruption throws it away. When the sound
turns out to have been noise, the rest must be heard all the same (T3). `Playback` keeps
what entered the pipeline, with the time the listener started to hear it, and gives what
lies behind the position at which it was cut.

Pure: time is a parameter, in seconds of any monotonic clock.
"""

from collections import deque
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

    def __init__(self, *, remembers: bool = True) -> None:
        """Start with nothing said.

        Args:
            remembers: Whether anything is kept. If not, nothing is ever said again.
        """
        self._remembers = remembers
        # For each stretch: its parts, each with where it begins in seconds, and whether
        # it is complete.
        self._stretches: deque[_Stretch] = deque()
        self._secs = 0.0
        self._started_at: float | None = None
        # The transport reports that the bot is heard, but of audio that is not remembered here. Now
        # and then Pipecat's output plays one last piece of what was cut, and then reports neither
        # its end nor, within three seconds, the next start.
        self._started_early = False
        # Whether the transport reports playback. If not, nobody knows what was heard.
        self._reported = False
        self._overrun = False

    def add(self, part: _Part, now: float) -> None:
        """Record audio or text that enters the pipeline.

        Args:
            part: Audio, or text that belongs to the audio around it.
            now: The time.
        """
        if not self._remembers:
            return
        if self._started_early:
            self._started_early = False
            self._started_at = now
        if not self._stretches or self._stretches[-1].complete:
            self._stretches.append(_Stretch())
        self._secs += self._stretches[-1].add(part)
        limit = _MAX_SECS if self._reported else _MAX_UNREPORTED_SECS
        if self._secs > limit:
            # Memory is bounded: a reply as long as that is not kept, and not said again.
            self._overrun = True
            for stretch in self._stretches:
                stretch.parts.clear()

    def end(self) -> None:
        """Record that the stretch is complete."""
        if self._stretches:
            self._stretches[-1].complete = True

    def started(self, now: float) -> None:
        """The listener begins to hear the oldest stretch, or something else if there is none."""
        self._reported = True
        if self._stretches:
            self._started_at = now
        else:
            self._started_early = True

    def stopped(self) -> None:
        """The listener has heard the oldest stretch to its end.

        This is also reported for audio that was cut, and then changes nothing.
        """
        self._started_early = False
        if self._started_at is None:
            return
        self._started_at = None
        if self._stretches:
            self._secs -= self._stretches.popleft().secs
        if not self._stretches:
            self._secs = 0.0
            self._overrun = False

    def cut(self, now: float) -> list[_Part]:
        """End playback: return the parts that were not heard, from a little before; forget all.

        Text that belongs to audio already heard is not given again.
        """
        rest: list[_Part] = []
        if self._reported and not self._overrun:
            heard = 0.0 if self._started_at is None else now - self._started_at
            for stretch in self._stretches:
                rest += stretch.after(heard)
                heard = 0.0
        self.clear()
        return rest

    def clear(self) -> None:
        """Forget all: it is played no more."""
        self._stretches.clear()
        self._secs = 0.0
        self._started_at = None
        self._started_early = False
        self._overrun = False


class _Stretch:
    def __init__(self) -> None:
        self.parts: list[tuple[float, _Part]] = []
        self.secs = 0.0
        self.complete = False

    def add(self, part: _Part) -> float:
        """Add a part; returns its length in seconds."""
        self.parts.append((self.secs, part))
        if not isinstance(part, AudioChunk):
            return 0.0
        secs = len(part.pcm) / (BYTES_PER_SAMPLE * part.sample_rate)
        self.secs += secs
        return secs

    def after(self, heard: float) -> list[_Part]:
        """Return the parts behind `heard` seconds; audio from a little before."""
        if heard >= self.secs:
            return []
        begin = max(0.0, heard - _REWIND_SECS)
        rest: list[_Part] = []
        for start, part in self.parts:
            if isinstance(part, TextChunk):
                if start >= heard:
                    rest.append(part)
                continue
            skip = max(0, round((begin - start) * part.sample_rate)) * BYTES_PER_SAMPLE
            if skip < len(part.pcm):
                rest.append(AudioChunk(part.pcm[skip:], part.sample_rate) if skip else part)
        return rest
