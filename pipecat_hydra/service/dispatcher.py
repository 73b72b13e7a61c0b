"""Turns the effects of the conversation into frames and events of the service.

The connection hands the effects on in order, one at a time, so the frames of a reply are
pushed from one place only and the start of a user turn comes before the reply to it.

Each kind of effect has an object that makes its frames: `Speaker` and `Writer` for replies,
`TurnAnnouncements` for user turns, `FunctionCalls` for functions; `ConnectionEvents` tells of the
connection. When a switcher has given the call to another service, a reply of this service is
cancelled, because it would be heard beside that of the other one.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from pipecat.frames.frames import Frame, TranscriptionFrame
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import FunctionCallRunnerItem, LLMService
from pipecat.utils.errors import ErrorCategory
from pipecat.utils.time import time_now_iso8601

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import (
    AudioChunk,
    CallLimitNear,
    CallLimitReached,
    Flush,
    PipelineEffect,
    ReplyEnded,
    ReplyStarted,
    Report,
    ResponseFinished,
    SessionOld,
    TextChunk,
    ToolArguments,
    ToolCalls,
    TurnConfirmed,
    TurnDiscarded,
    UserStarted,
    UserStopped,
    UserTranscript,
    VoiceEnded,
    VoiceStarted,
)
from pipecat_hydra.service.call_limit import end_call
from pipecat_hydra.service.calls import FunctionCalls
from pipecat_hydra.service.connection_events import ConnectionEvents
from pipecat_hydra.service.contexts import Contexts
from pipecat_hydra.service.in_force import InForce
from pipecat_hydra.service.meters import Meters
from pipecat_hydra.service.reply_wait import ReplyWait
from pipecat_hydra.service.speaker import Speaker
from pipecat_hydra.service.surroundings import Surroundings
from pipecat_hydra.service.tracing import Tracing
from pipecat_hydra.service.turn_completion import TurnCompletion
from pipecat_hydra.service.turns import TurnAnnouncements, TurnFrames
from pipecat_hydra.service.wanted_session import WantedSession
from pipecat_hydra.service.writer import Writer
from pipecat_hydra.session.connection import HydraConnection
from pipecat_hydra.session.effect_queue import Pause

__all__ = ["EVENTS", "EffectDispatcher"]

EVENTS = (
    "on_connected",
    "on_session_started",
    "on_session_ended",
    "on_disconnected",
    "on_reconnecting",
    "on_reconnected",
    "on_capacity",
    "on_capacity_position",
    "on_given_up",
    "on_call_limit",
    "on_turn_discarded",
    "on_function_call_arguments_delta",
    "on_tool_loop",
)
"""The events of the service that are raised here, or by what is here; see `HydraLLMService`."""


class EffectDispatcher:
    """Turns effects into frames and events, one after the other."""

    def __init__(
        self,
        service: LLMService[Any],
        connection: HydraConnection,
        conversation: Conversation,
        session: WantedSession,
        replies: ReplyWait,
        *,
        contexts: Contexts,
        in_force: InForce,
        meters: Meters,
        surroundings: Surroundings,
        tracing: Tracing,
        turn_completion: TurnCompletion,
        turn_frames: TurnFrames,
        vad_frames: bool,
        no_result_timeout_secs: float | None,
        max_tool_rounds: int | None,
    ):
        """Make the dispatcher of a service.

        Args:
            service: Pushes the frames and raises the events. Its `process_frame` must call
                `see` with each frame, and its `push_frame` `see_pushed` with each frame
                that goes downstream.
            connection: Performs what the conversation asks for. It must call `dispatch`.
            conversation: Told of interruptions.
            session: Told of what is said, of user turns and of the connection.
            replies: Told of progress.
            contexts: Told of replies, interruptions and the results of functions.
            in_force: Knows the context that is passed to a function.
            meters: Shown each effect but audio and text.
            surroundings: Knows which processor decides user turns, and who has the call.
            tracing: Shown each effect.
            turn_completion: Told when a turn of the user is over.
            turn_frames: How the pipeline is told of user turns.
            vad_frames: Whether the pipeline is told of voice activity too.
            no_result_timeout_secs: How long a call waits for a result, in seconds, once its
                function has returned without one; None for ever.
            max_tool_rounds: How many rounds of calls the model may make with nothing said; None
                for any number.
        """
        self._service = service
        self._connection = connection
        self._conversation = conversation
        self._session = session
        self._replies = replies
        self._contexts = contexts
        self._meters = meters
        self._surroundings = surroundings
        self._tracing = tracing
        self._turn_completion = turn_completion
        self._speaker = Speaker(
            service,
            is_before_tts=lambda: surroundings.is_before_tts,
            on_said=contexts.on_said,
        )
        self._writer = Writer(
            service,
            is_before_tts=lambda: surroundings.is_before_tts,
            on_written=self._on_written,
            on_missing=self._on_text_missing,
        )
        self._calls = FunctionCalls(
            service,
            connection,
            conversation,
            session,
            contexts=contexts,
            in_force=in_force,
            meters=meters,
            surroundings=surroundings,
            tracing=tracing,
            no_result_timeout_secs=no_result_timeout_secs,
            max_tool_rounds=max_tool_rounds,
        )
        self._turns = TurnAnnouncements(
            service,
            surroundings,
            turn_frames=turn_frames,
            vad_frames=vad_frames,
            clock=lambda: connection.now,
            interrupt=self._interrupt_for_turn,
        )
        self._events = ConnectionEvents(service, conversation, session, meters)

    @property
    def are_replies_known(self) -> bool:
        """Whether the words of all replies so far are known."""
        return self._speaker.are_replies_known and self._writer.are_replies_known

    def turn_speech(self, *, off: bool) -> None:
        """Have replies given as text alone, or spoken again, if they are asked for from now on."""
        self._writer.turn_speech(off=off)

    def asked_by_text(self) -> None:
        """Note whether the reply to a text is to be spoken."""
        self._writer.asked()

    def see(self, frame: Frame) -> None:
        """Look for the pipeline's own turns in a frame that reached the service."""
        self._turns.see(frame)

    def see_pushed(self, frame: Frame) -> None:
        """Tell Hydra how a function call ended, if that is what a pushed frame says."""
        self._calls.see(frame)

    async def run_function(
        self, item: FunctionCallRunnerItem, running: Coroutine[Any, Any, None]
    ) -> None:
        """Run the function of one call; `running` is what Pipecat does for it."""
        await self._calls.run_function(item, running)

    async def unmuted(self) -> None:
        """Propose the end of a turn that ended while the user was muted."""
        await self._turns.unmuted()

    async def dispatch(self, effect: PipelineEffect) -> Pause | None:
        """Push the frames of an effect, run its functions, or raise its events.

        Args:
            effect: The effect.

        Returns:
            What must be waited for before the next effect is dispatched.
        """
        pause = None
        if isinstance(effect, AudioChunk | TextChunk) and self._surroundings.is_switched_away:
            # The reply would be heard beside that of the other service, and no interruption
            # would end it.
            self._connection.perform(self._conversation.cancel_response(self._connection.now))
            return None
        if self._tracing.enabled:
            self._tracing.see(effect)
        if isinstance(effect, AudioChunk):
            if not self._writer.is_writing:
                await self._speaker.say_audio(effect)
            self._session.budget.heard_audio(effect)
            if self._replies.waiting:
                self._replies.on_audio()
            return None
        if not isinstance(effect, TextChunk):
            self._meters.see(effect)
        if isinstance(effect, VoiceStarted | TextChunk | UserStopped):
            self._calls.on_said()
        match effect:
            case ReplyStarted() | VoiceStarted() | TextChunk() | VoiceEnded() | ReplyEnded():
                if isinstance(effect, ReplyStarted):
                    self._turn_completion.turn_is_over()
                giver = self._writer if self._writer.takes(effect) else self._speaker
                await giver.say(effect)
            case ResponseFinished():
                await self._speaker.say(effect)
            case UserStarted():
                self._session.on_somebody_heard()
                self._calls.on_turn_started()
                pause = await self._turns.started()
            case UserStopped():
                if not effect.discarded:
                    self._writer.turn_stopped()
                await self._turns.stopped(effect.silence_secs)
            case UserTranscript(text):
                await self._push_transcript(text)
            case TurnConfirmed():
                self._calls.on_turn_confirmed()
            case TurnDiscarded():
                self._writer.turn_discarded()
                self._calls.on_turn_discarded()
                self._turn_completion.turn_is_over()
                await self._turns.settled()
                await self._events.raise_event("on_turn_discarded")
                if not self._conversation.reply_pending:
                    await self._surroundings.wait_for_user()
            case Flush():
                await self.interrupt()
            case ToolCalls():
                await self._calls.run(effect.calls)
            case ToolArguments(call_id, name, fragment):
                await self._events.raise_event(
                    "on_function_call_arguments_delta", call_id, name, fragment
                )
            case Report():
                self._events.report(effect)
            case SessionOld():
                self._session.replace_if_outdated()
            case CallLimitNear(secs_left):
                await self._events.raise_event("on_call_limit", secs_left)
            case CallLimitReached():
                await end_call(self._service)
            case _:
                await self._events.tell(effect)
                return None
        self._session.on_effect(effect)
        self._replies.on_progress(effect)
        return pause

    async def _push_transcript(self, text: str) -> None:
        """Push the user's words upstream, unless an STT service gives them."""
        self._contexts.on_transcript(text)
        if not self._surroundings.has_transcriber:
            frame = TranscriptionFrame(text, "", time_now_iso8601())
            await self._service.push_frame(frame, FrameDirection.UPSTREAM)

    def _on_written(self, text: str) -> None:
        self._contexts.on_written(text)
        # Nobody hears it, so nothing tells how far it was played.
        self._conversation.forget_playback()

    def _on_text_missing(self) -> None:
        self._conversation.forget_playback()
        message = (
            "an answer without audio was asked for, but Hydra sends no text of what it says, so "
            "nothing of the answer is given; ask with audio_response, or with speech turned on"
        )
        self._events.push_error_soon(message, ErrorCategory.APPLICATION)

    async def cancel_response(self, *, ask: bool = True) -> None:
        """Stop the reply in flight, at Hydra and in what is being played.

        Args:
            ask: Whether to ask for a reply that waited for the end of that one.
        """
        async with self._connection.between_effects():
            now = self._connection.now
            self._connection.perform(self._conversation.cancel_response(now, ask=ask))
            await self.interrupt()

    async def interrupt(self) -> None:
        """Interrupt the pipeline without a user turn."""
        await self._broadcast_interruption()
        self._calls.cancel()

    async def _broadcast_interruption(self) -> None:
        await let_neighbours_run()
        self._contexts.on_interruption()
        await self._service.broadcast_interruption()

    async def _interrupt_for_turn(self) -> None:
        await self._broadcast_interruption()
        # The broadcast goes to the neighbours only, and does not come back here.
        self.on_interruption()

    @property
    def is_waiting(self) -> bool:
        """Whether the answer to a proposed turn is waited for, and nothing pushed meanwhile."""
        return self._turns.is_waiting

    def on_interruption(self) -> None:
        """Cancel what an interruption of the pipeline is to cancel.

        If it is the echo of a user turn that may be noise, functions are cancelled when the turn
        is real (F4). If it is the late echo of a turn, the answer to that turn goes on.
        """
        now = self._connection.now
        late = self._turns.take_late_start()
        if late:
            self._calls.cancel_before_turn()
        elif self._conversation.may_be_noise(now):
            self._calls.put_at_stake()
        else:
            self._calls.cancel()
        self._connection.perform(self._conversation.interrupted(now, late=late))

    def stop_answering(self) -> None:
        """Stop answering function calls."""
        self._calls.close()

    async def close(self) -> None:
        """Raise `on_disconnected` if a connection is still open; no effect comes any more."""
        await self._events.close()


async def let_neighbours_run() -> None:
    """Let the neighbours take the frames that an interruption would overtake."""
    await asyncio.sleep(0)
