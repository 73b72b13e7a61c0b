"""One response on its way into the pipeline: passed on, held back or dropped.

A `Reply` is in one of three states:

    ACTIVE  its audio and text pass to the pipeline
    HELD    the user began to speak over it; its audio and text are kept back
    DEAD    it was interrupted for good; its audio and text are dropped

and has a bracket in the pipeline that is open or closed: `ReplyStarted`, then
`VoiceStarted` with the first audio, then audio and text, then `VoiceEnded` and
`ReplyEnded`. Leaving ACTIVE closes what is open, at once. A reply that is resumed opens
a second bracket, marked so.

An ACTIVE reply of which nothing comes may rest: its bracket is closed, and nothing waits for it. If
more of it comes, it wakes and opens another bracket.

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
from pipecat_hydra.conversation.reply_texts import ReplyTexts
from pipecat_hydra.wire.audio import WholeSamples
from pipecat_hydra.wire.events import AudioDelta
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE

__all__ = ["STALL_SECS", "Reply", "ReplyState"]

_HELD_BYTES: Final = 120 * 48_000 * 2
_EARLY_PHRASES: Final = 1_000
STALL_SECS: Final = 12.0
"""How long nothing may come of a reply, which Hydra sends ten times faster than it is spoken."""
_REST_SECS: Final = 0.5


class ReplyState(Enum):
    """Whether the audio and text of a response pass; see the module's docstring."""

    ACTIVE = auto()
    HELD = auto()
    DEAD = auto()


class Reply:
    """One response on its way into the pipeline.

    It has more than 16 fields: each is one fact about the response, by which `ReplyLine` and
    `Responses` decide.
    """

    def __init__(
        self,
        response_id: str | None,
        *,
        asked_at: float | None,
        sample_rate: int,
        joined: JoinedAudio,
        now: float = 0.0,
    ):
        """Make an active reply whose bracket is closed.

        Args:
            response_id: The response; None as long as the server has not named it.
            asked_at: When it was asked for, in seconds, if that is known.
            sample_rate: Rate of its audio in Hz.
            joined: Joins its audio; empty once its bracket is closed.
            now: The time.
        """
        self.id = response_id
        self.asked_at = asked_at
        self.announced = True
        """Whether `response.created` came, and not only a part of it."""
        self.state: ReplyState = ReplyState.ACTIVE
        self.generated = False
        """Whether the server has finished generating it. The last of it may still come."""
        self.audio_is_whole = False
        """Whether the server has said that no more audio comes."""
        self.progress_at = now
        """When the last part of it came, in seconds."""
        self.heard: bool = False
        """Whether any of its audio has entered the pipeline."""
        self.began_over_user_at: float | None = None
        """When it began, in seconds, if it did while the user spoke."""
        self.doomed: bool = False
        """Whether nobody wants to hear it, unless it turns out to be the answer to the user."""
        self.may_rest = False
        """Whether it rests, instead of being stalled, when nothing comes of it."""
        self.rests: bool = False
        """Whether nothing waits for it until more of it comes."""
        self._open = False
        self._voiced = False
        self.sample_rate = sample_rate
        """Rate of its audio in Hz; known for sure once the session is configured."""
        self.items: Final[set[str]] = set()
        """The items that were begun in it."""
        self.texts: Final = ReplyTexts()
        """What was told of its text."""
        # Text that came before the first audio, to whose bracket it belongs.
        self._early: deque[TextChunk] = deque(maxlen=_EARLY_PHRASES)
        self._samples = WholeSamples()
        self.joined = joined
        """Joins its audio."""
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

    @property
    def goes_on(self) -> bool:
        """Whether its audio is being heard, and more of it is to come."""
        is_over = self.generated or self.audio_is_whole or self.may_rest
        return self.active and self._voiced and not is_over

    def may_go_on(self, now: float) -> bool:
        """Whether the last of its audio may still come, although it is done."""
        is_done = self.active and self.generated and self.heard
        return is_done and not self.audio_is_whole and now < self.quiet_at

    @property
    def deadline(self) -> float | None:
        """When it rests or counts as stalled, if nothing comes of it; None if it does neither."""
        if self.dead or self.rests or (self.generated and not self.active):
            return None
        return self.quiet_at if self.may_rest and self.active else self.progress_at + STALL_SECS

    @property
    def quiet_at(self) -> float:
        """When nothing has come of it for a moment."""
        return self.progress_at + _REST_SECS

    def begin(self) -> list[PipelineEffect]:
        """Open the bracket."""
        self._open = True
        return [ReplyStarted(self.id)]

    def go_on(self, event: AudioDelta, now: float) -> AudioChunk | float | None:
        """Take a delta of this reply, if its audio passes and has begun to; None if it has not.

        Returns:
            As `JoinedAudio.push`.
        """
        if not self._voiced or self.state is not ReplyState.ACTIVE or self.id is None:
            return None
        if event.response_id != self.id or event.dropped_fields:
            return None
        pcm = event.delta
        if len(pcm) < BYTES_PER_SAMPLE:
            # It may be half a sample, which gives no audio yet.
            return None
        if self._samples.is_split or len(pcm) % BYTES_PER_SAMPLE:
            pcm = self._samples.push(pcm)
        return self.joined.push(pcm, self.sample_rate, now)

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
        return self._take(TextChunk(self.texts.spaced(delta)), now)

    def hold(self) -> list[PipelineEffect]:
        """Keep back audio and text from now on: the user may be speaking over them."""
        self.state = ReplyState.HELD
        self._held += self.joined.take()
        return self.close(interrupted=True)

    def resume(self, unheard: Sequence[AudioChunk | TextChunk]) -> list[PipelineEffect]:
        """Go on, because the user did not speak after all, or because this is the answer.

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
        return [ReplyStarted(self.id, resumed=True), *self._pass_all(held)]

    def follow(self) -> list[PipelineEffect]:
        """Begin, if it was held from the first because another reply had to end before it."""
        self.state = ReplyState.ACTIVE
        held, self._held, self._held_bytes = self._held, [], 0
        return [*self.begin(), *self._pass_all(held)]

    def rest(self) -> list[PipelineEffect]:
        """Close the bracket. `wake` must come before more audio or text."""
        self.rests = True
        return self.close(interrupted=False)

    def wake(self) -> list[PipelineEffect]:
        """End the rest, if it rests: more of it has come."""
        if not (self.rests and self.active):
            return []
        self.rests = False
        self._open = True
        return [ReplyStarted(self.id, resumed=True)]

    def say_again(self, parts: Sequence[AudioChunk | TextChunk]) -> list[PipelineEffect]:
        """Say parts that were thrown away once more, in the open bracket, if there is one."""
        return self._pass_all(parts) if self.active and self._open else []

    def kill(self) -> list[PipelineEffect]:
        """Drop the parts that were kept back, and all that still come."""
        self.state = ReplyState.DEAD
        self._held, self._held_bytes = [], 0
        self._early.clear()
        self.joined.take()
        return self.close(interrupted=True)

    def close(self, *, interrupted: bool) -> list[PipelineEffect]:
        """Close the bracket, if it is open."""
        if not self._open:
            return []
        voice: list[PipelineEffect] = self._take_early()
        if self._voiced:
            voice = [*self.joined.take(), VoiceEnded(self.id, interrupted)]
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
            return [*self.joined.take(), part]
        if isinstance(part, TextChunk):
            self._early.append(part)
            return []
        waited: float | None = None
        if now is not None and not self.heard and self.asked_at is not None:
            waited = max(0.0, now - self.asked_at)
        self._voiced = self.heard = True
        return [VoiceStarted(self.id, waited), *self._take_early(), part]

    def _pass_all(self, parts: Sequence[AudioChunk | TextChunk]) -> list[PipelineEffect]:
        return [effect for part in parts for effect in self._pass(part, None)]

    def _take_early(self) -> list[PipelineEffect]:
        early: list[PipelineEffect] = [*self._early]
        self._early.clear()
        return early
