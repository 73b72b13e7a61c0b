"""One response on its way into the pipeline: passed on, held back or dropped.

A `Reply` is in one of three states:

    ACTIVE  its audio and text pass to the pipeline
    HELD    the user began to speak over it; its audio and text are kept back
    DEAD    it was interrupted for good; its audio and text are dropped

and has a bracket in the pipeline that is open or closed: `ReplyStarted`, then
`VoiceStarted` with the first audio, then audio and text, then `VoiceEnded` and
`ReplyEnded`. Leaving ACTIVE closes what is open, at once. A reply that is resumed opens
a second bracket, marked so.

`responses.py` and `turn_taking.py` say when each state is entered. Pure.
"""

from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from pipecat_hydra.conversation.effects import (
    AudioChunk,
    PipelineEffect,
    ReplyEnded,
    ReplyStarted,
    TextChunk,
    VoiceEnded,
    VoiceStarted,
)
from pipecat_hydra.conversation.joined_audio import JoinedAudio
from pipecat_hydra.wire.audio import WholeSamples
from pipecat_hydra.wire.events import AudioDelta
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE

__all__ = ["Reply", "ReplyState"]

_HELD_BYTES: Final = 120 * 48_000 * 2
_EARLY_PHRASES: Final = 1_000
_NO_SPACE_BEFORE: Final = tuple(" \t\n.,;:!?)]}%…'\u2019")


class ReplyState(Enum):
    """Whether the audio and text of a response pass; see the module's docstring."""

    ACTIVE = auto()
    HELD = auto()
    DEAD = auto()


class Reply:
    """One response on its way into the pipeline."""

    def __init__(
        self,
        response_id: str | None,
        *,
        asked_at: float | None,
        sample_rate: int,
        joined: JoinedAudio,
    ):
        """Make an active reply whose bracket is closed.

        Args:
            response_id: The response; None as long as the server has not named it.
            asked_at: When it was asked for, in seconds, if that is known.
            sample_rate: Rate of its audio in Hz.
            joined: Joins its audio; empty once its bracket is closed.
        """
        self.id = response_id
        self.asked_at = asked_at
        self.state = ReplyState.ACTIVE
        self.generated = False
        """Whether the server has finished generating it."""
        self.heard = False
        """Whether any of its audio has entered the pipeline."""
        self.began_over_user_at: float | None = None
        """When it began, in seconds, if it did while the user spoke."""
        self.doomed = False
        """Whether nobody wants to hear it, unless it turns out to be the answer to the user."""
        self.may_rest = False
        """Whether it rests, instead of being stalled, when nothing comes of it."""
        self.rests = False
        """Whether nothing waits for it until more of it comes."""
        self._open = False
        self._voiced = False
        self.sample_rate = sample_rate
        """Rate of its audio in Hz; known for sure once the session is configured."""
        self._last_text = ""
        # Text that came before the first audio, to whose bracket it belongs.
        self._early: deque[TextChunk] = deque(maxlen=_EARLY_PHRASES)
        self._samples = WholeSamples()
        self._joined = joined
        self._held: list[AudioChunk | TextChunk] = []
        self._held_bytes = 0

    @property
    def active(self) -> bool:
        """Whether its audio and text pass to the pipeline."""
        return self.state is ReplyState.ACTIVE

    @property
    def held(self) -> bool:
        """Whether its audio and text are kept back until the user's turn is decided."""
        return self.state is ReplyState.HELD

    @property
    def dead(self) -> bool:
        """Whether its audio and text are dropped."""
        return self.state is ReplyState.DEAD

    def begin(self) -> list[PipelineEffect]:
        """Open the bracket."""
        self._open = True
        return [ReplyStarted(self.id)]

    def go_on(self, event: AudioDelta, now: float) -> list[AudioChunk] | None:
        """Take a delta of this reply, if its audio passes and has begun to; None if it has not."""
        if not self._voiced or self.state is not ReplyState.ACTIVE or self.id is None:
            return None
        if event.response_id != self.id or event.dropped_fields:
            return None
        if len(event.delta) < BYTES_PER_SAMPLE:
            # It may be half a sample, which gives no audio yet.
            return None
        chunk = self._joined.push(self._samples.push(event.delta), self.sample_rate, now)
        return [chunk] if chunk is not None else []

    def audio(self, delta: bytes, now: float) -> list[PipelineEffect]:
        """Take reply audio, split at any byte."""
        if self.dead:
            return []
        pcm = self._samples.push(delta)
        return self._take(AudioChunk(pcm, self.sample_rate), now) if pcm else []

    def text(self, delta: str, now: float) -> list[PipelineEffect]:
        """Take a phrase; phrases come without the spaces between them (protocol §3)."""
        if self.dead or not delta:
            return []
        if self._last_text and not (
            self._last_text[-1].isspace() or delta.startswith(_NO_SPACE_BEFORE)
        ):
            delta = f" {delta}"
        self._last_text = delta
        return self._take(TextChunk(delta), now)

    def hold(self) -> list[PipelineEffect]:
        """Keep back audio and text from now on: the user may be speaking over them."""
        self.state = ReplyState.HELD
        self._held += self._joined.take()
        return self.close(interrupted=True)

    def resume(self, unheard: Sequence[AudioChunk | TextChunk]) -> list[PipelineEffect]:
        """Go on after a rest, or because the user did not speak after all or this is the answer.

        Args:
            unheard: The parts that entered the pipeline before and were not heard. They go
                first, then the parts that were kept back.
        """
        self.state = ReplyState.ACTIVE
        self.doomed = self.rests = False
        held, self._held, self._held_bytes = [*unheard, *self._held], [], 0
        if self.generated and not held:
            return []
        self._open = True
        effects: list[PipelineEffect] = [ReplyStarted(self.id, resumed=True)]
        for part in held:
            effects += self._pass(part, None)
        return effects

    def rest(self) -> list[PipelineEffect]:
        """Close the bracket. `resume` must come before more audio or text."""
        self.rests = True
        return self.close(interrupted=False)

    def say_again(self, parts: Sequence[AudioChunk | TextChunk]) -> list[PipelineEffect]:
        """Say parts that were thrown away once more, in the open bracket, if there is one."""
        if not self.active or not self._open:
            return []
        return [effect for part in parts for effect in self._pass(part, None)]

    def kill(self) -> list[PipelineEffect]:
        """Drop the parts that were kept back, and all that still come."""
        self.state = ReplyState.DEAD
        self._held, self._held_bytes = [], 0
        self._early.clear()
        self._joined.take()
        return self.close(interrupted=True)

    def close(self, *, interrupted: bool) -> list[PipelineEffect]:
        """Close the bracket, if it is open."""
        if not self._open:
            return []
        voice: list[PipelineEffect] = self._take_early()
        if self._voiced:
            voice = [*self._joined.take(), VoiceEnded(self.id, interrupted)]
        self._open = self._voiced = False
        return [*voice, ReplyEnded(self.id, interrupted)]

    def _take(self, part: AudioChunk | TextChunk, now: float) -> list[PipelineEffect]:
        if self.active:
            return self._pass(part, now)
        self._held.append(part)
        self._held_bytes += len(part.pcm) if isinstance(part, AudioChunk) else len(part.text)
        # After two minutes nobody wants to hear the rest.
        return self.kill() if self._held_bytes > _HELD_BYTES else []

    def _pass(self, part: AudioChunk | TextChunk, now: float | None) -> list[PipelineEffect]:
        if self._voiced:
            return [*self._joined.take(), part]
        if isinstance(part, TextChunk):
            self._early.append(part)
            return []
        waited: float | None = None
        if now is not None and not self.heard and self.asked_at is not None:
            waited = max(0.0, now - self.asked_at)
        self._voiced = self.heard = True
        return [VoiceStarted(self.id, waited), *self._take_early(), part]

    def _take_early(self) -> list[PipelineEffect]:
        early: list[PipelineEffect] = [*self._early]
        self._early.clear()
        return early
