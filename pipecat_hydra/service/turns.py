"""Tells the pipeline of user turns: proposes them and waits for the answers, or broadcasts them.

`TurnAnnouncements` decides between the two. If a processor in the pipeline decides user turns by
the application's turn strategies, the service proposes; else it broadcasts, and interrupts by
itself. The application may force either.

A proposal goes up to the user aggregator, whose turn strategies decide. Their decision comes
back down as turn frames and an interruption. That takes less than a millisecond, but Hydra's
events may come in bursts: the start of a turn and the reply to it in one TCP segment. So
`TurnProposals` waits for the answer before it returns. Otherwise the reply would be flushed by
the interruption that belongs before it, and a start, which is a system frame, would overtake
the stop before it, which is not (`frames/frames.py`).

Strategies that wait for the words of an STT service decide without regard to a proposal. They may
start the turn when Hydra has told its end, and answers it. `LateStarts` finds that out, so that the
interruption which comes with such a start does not cut the answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Literal

from pipecat.frames.frames import (
    Frame,
    InterruptionFrame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameProcessor

from pipecat_hydra.service.surroundings import Surroundings
from pipecat_hydra.session.effect_queue import Pause

__all__ = ["LateStarts", "TurnAnnouncements", "TurnFrames", "TurnProposals"]

TurnFrames = Literal["auto", "propose", "broadcast"]
"""How the service tells the pipeline of user turns; see `HydraLLMService`."""

_ANSWER_SECS: Final = 0.2
_INTERRUPTION_SECS: Final = 0.02
# How long after the end of a turn the pipeline may start that turn.
_LATE_SECS: Final = 3.0


class TurnAnnouncements:
    """Announces the start and the end of each user turn, as proposals or as broadcasts."""

    def __init__(
        self,
        service: FrameProcessor,
        surroundings: Surroundings,
        *,
        turn_frames: TurnFrames,
        vad_frames: bool,
        clock: Callable[[], float],
        interrupt: Callable[[], Awaitable[None]],
    ):
        """Start with no turn announced.

        Args:
            service: Pushes the frames. Its `process_frame` must call `see` with each frame.
            surroundings: Knows which processor decides user turns.
            turn_frames: How the pipeline is told of user turns.
            vad_frames: Whether the pipeline is told of voice activity too.
            clock: Returns the time, in seconds.
            interrupt: Interrupts the pipeline, for a turn that is broadcast.
        """
        self._service = service
        self._surroundings = surroundings
        self._turn_frames: TurnFrames = turn_frames
        self._vad_frames = vad_frames
        self._clock = clock
        self._interrupt = interrupt
        self._proposals = TurnProposals(service, lambda: surroundings.ignores_proposals)
        self._late_starts = LateStarts()

    def see(self, frame: Frame) -> None:
        """Look for the pipeline's own turns in a frame that reached the service."""
        self._proposals.see(frame)
        self._late_starts.see(frame, self._clock())

    async def started(self) -> Pause | None:
        """Announce that the user begins to speak, and interrupt if the service has to.

        Returns:
            What waits for the answer to a proposal, for a moment at most: to be awaited before
            anything else is pushed.
        """
        self._surroundings.warn_of_waiting_strategies()
        self._late_starts.turn_started()
        if self._vad_frames:
            await self._service.broadcast_frame(VADUserStartedSpeakingFrame)
        if self._are_proposed:
            await self._proposals.start()
            return self._proposals.answered
        await self._service.broadcast_frame(UserStartedSpeakingFrame)
        await self._interrupt()
        return None

    async def stopped(self, silence_secs: float) -> None:
        """Announce that the user has stopped.

        Args:
            silence_secs: How long the user has been silent.
        """
        self._late_starts.turn_stopped(self._clock())
        if self._vad_frames:
            await self._service.broadcast_frame(VADUserStoppedSpeakingFrame, stop_secs=silence_secs)
        if self._are_proposed:
            await self._proposals.stop()
        else:
            await self._service.broadcast_frame(UserStoppedSpeakingFrame)

    async def settled(self) -> None:
        """Wait for the answer to a proposed end of a turn, for a moment at most."""
        await self._proposals.settled()

    async def unmuted(self) -> None:
        """Propose the end of a turn that ended while the user was muted."""
        await self._proposals.unmuted()

    @property
    def is_waiting(self) -> bool:
        """Whether the answer to a proposal is waited for, and nothing pushed meanwhile."""
        return self._proposals.is_waiting

    def take_late_start(self) -> bool:
        """Whether an interruption now comes with a late start; told once."""
        return self._late_starts.take(self._clock())

    @property
    def _are_proposed(self) -> bool:
        if self._turn_frames == "auto":
            return self._surroundings.decides_turns
        return self._turn_frames == "propose"


class TurnProposals:
    """Proposes user turns, each after the answer to the one before."""

    def __init__(self, processor: FrameProcessor, are_ignored: Callable[[], bool] = lambda: False):
        """Start with no turn proposed.

        Args:
            processor: Pushes the proposals. Its `process_frame` must call `see` with each
                frame.
            are_ignored: Returns whether it is known that nothing resolves proposals.
        """
        self._processor = processor
        self._are_ignored = are_ignored
        self._started = asyncio.Event()
        self._interrupted = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped.set()
        self._is_speaking = False
        self.is_waiting: bool = False
        # An aggregator that does not answer, because it is muted, is waited for only once.
        self._answered = True

    def see(self, frame: Frame) -> None:
        """Look for the answer to a proposal in a frame that reached the service."""
        if isinstance(frame, UserStartedSpeakingFrame):
            self._answered = True
            self._started.set()
        elif isinstance(frame, InterruptionFrame):
            self._started.set()
            self._interrupted.set()
        elif isinstance(frame, UserStoppedSpeakingFrame):
            self._stopped.set()

    async def start(self) -> None:
        """Propose that a user turn has started."""
        await self._answer(self._stopped, _ANSWER_SECS)
        self._is_speaking = True
        self._started.clear()
        self._interrupted.clear()
        await self._processor.broadcast_frame(ProposedUserStartedSpeakingFrame)

    async def answered(self) -> None:
        """Wait for the answer to the proposed start, for a moment at most."""
        self.is_waiting = True
        try:
            if await self._answer(self._started, _ANSWER_SECS):
                # Strategies may announce the turn and let the bot speak on.
                await self._answer(self._interrupted, _INTERRUPTION_SECS)
        finally:
            self.is_waiting = False

    async def stop(self) -> None:
        """Propose that the user turn has stopped."""
        self._is_speaking = False
        self._stopped.clear()
        await self._processor.broadcast_frame(ProposedUserStoppedSpeakingFrame)

    async def settled(self) -> None:
        """Wait for the answer to the proposed stop, for a moment at most."""
        await self._answer(self._stopped, _ANSWER_SECS)

    async def unmuted(self) -> None:
        """Propose again that the user turn has stopped, which a muted aggregator has ignored.

        Otherwise it would take the next start for a part of that turn, and interrupt nothing.
        """
        if not (self._is_speaking or self._stopped.is_set()):
            await self.stop()

    async def _answer(self, event: asyncio.Event, secs: float) -> bool:
        if event.is_set() or not self._answered or self._are_ignored():
            return event.is_set()
        try:
            # `asyncio.wait_for` would make a task up to Python 3.11, and so answer later.
            async with asyncio.timeout(secs):
                await event.wait()
        except TimeoutError:
            self._answered = event is self._interrupted
        return event.is_set()


class LateStarts:
    """Finds the starts of user turns that come after Hydra has told the turn's end.

    For each turn of Hydra's the pipeline has one start. If that came before Hydra told the turn,
    as with a VAD that is quicker, the pipeline is in a turn by then, and its next start is new.
    """

    def __init__(self) -> None:
        """Start with no turn told."""
        self._is_pipeline_in_turn = False
        # Whether the pipeline has not started the last turn that Hydra has told.
        self._is_start_missing = False
        self._late_until = 0.0
        self._interrupts_until = 0.0

    def turn_started(self) -> None:
        """Hydra has told the start of a turn."""
        self._is_start_missing = not self._is_pipeline_in_turn
        self._late_until = self._interrupts_until = 0.0

    def turn_stopped(self, now: float) -> None:
        """Hydra has told the end of the turn."""
        self._late_until = now + _LATE_SECS

    def see(self, frame: Frame, now: float) -> None:
        """Look for the pipeline's own turns in a frame that reached the service."""
        if isinstance(frame, UserStartedSpeakingFrame):
            self._is_pipeline_in_turn = True
            if self._is_start_missing and now <= self._late_until:
                self._interrupts_until = now + _ANSWER_SECS
            self._is_start_missing = False
        elif isinstance(frame, UserStoppedSpeakingFrame):
            self._is_pipeline_in_turn = False

    def take(self, now: float) -> bool:
        """Whether an interruption now comes with a late start; told once."""
        is_late = now <= self._interrupts_until
        self._interrupts_until = 0.0
        return is_late
