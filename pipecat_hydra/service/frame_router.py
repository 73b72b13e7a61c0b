"""Hands each frame that reaches the service to the part of the service that it concerns.

The user's audio goes to the conversation, contexts and messages go to `Contexts`, and what asks
for a session or a reply goes to `WantedSession`. Frames that show what became of a user turn or
of a function call go to the `EffectDispatcher`, which makes frames of what comes back.
"""

import asyncio
from typing import Any

from loguru import logger
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ClientConnectedFrame,
    Frame,
    FunctionCallCancelFrame,
    FunctionCallResultFrame,
    InputAudioRawFrame,
    InputTextRawFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMContextUserTurnFrame,
    LLMMessagesAppendFrame,
    LLMRunFrame,
    LLMSetToolsFrame,
    PipelineFlushFrame,
    ServiceSwitcherRequestMetadataFrame,
    UserMuteStoppedFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import LLMService

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.service.contexts import Contexts
from pipecat_hydra.service.dispatcher import EffectDispatcher, let_neighbours_run
from pipecat_hydra.service.keypad import Keypad
from pipecat_hydra.service.meters import Meters
from pipecat_hydra.service.reply_wait import ReplyWait
from pipecat_hydra.service.surroundings import Surroundings
from pipecat_hydra.service.user_audio import SpeakerPolicy, UserAudio
from pipecat_hydra.service.wanted_session import WantedSession
from pipecat_hydra.session.connection import HydraConnection

__all__ = ["FrameOfFunction", "FrameRouter"]

FrameOfFunction = LLMRunFrame | FunctionCallResultFrame | FunctionCallCancelFrame
"""The frames that tell what a function asks for, and how it ended."""

_UPSTREAM, _DOWNSTREAM = FrameDirection.UPSTREAM, FrameDirection.DOWNSTREAM


class FrameRouter:
    """Hands each frame to the part of the service that it concerns."""

    def __init__(
        self,
        service: LLMService[Any],
        connection: HydraConnection,
        conversation: Conversation,
        session: WantedSession,
        replies: ReplyWait,
        *,
        contexts: Contexts,
        dispatcher: EffectDispatcher,
        keypad: Keypad,
        meters: Meters,
        surroundings: Surroundings,
        speakers: SpeakerPolicy,
        is_audio_paused: bool,
        audio_passthrough: bool | None,
        end_timeout_secs: float,
    ):
        """Start with no frame seen.

        Args:
            service: The service. Its `process_frame` must call `take` or `interrupt` with each
                frame, and its `push_frame` `see_pushed` with each `FrameOfFunction`.
            connection: Performs what the conversation asks for.
            conversation: Takes the user's audio, and is told what is heard of the bot.
            session: Is asked for a session and for replies.
            replies: Knows when a reply in flight was received whole.
            contexts: Takes contexts, messages and typed text.
            dispatcher: Shown what became of user turns and function calls.
            keypad: Takes the keys that the user presses.
            meters: Told when the bot is heard.
            surroundings: Knows whether the service's own user aggregator stands above it.
            speakers: What to do with the audio of several people.
            is_audio_paused: Whether to drop the user's audio.
            audio_passthrough: Whether the user's audio is passed on; None to find out whether
                somebody below may want it.
            end_timeout_secs: How long a flush may wait for the reply in flight, in seconds, as
                an `EndFrame` may.
        """
        self.is_audio_paused = is_audio_paused
        self._service = service
        self._connection = connection
        self._conversation = conversation
        self._session = session
        self._replies = replies
        self._contexts = contexts
        self._dispatcher = dispatcher
        self._keypad = keypad
        self._meters = meters
        self._surroundings = surroundings
        self._end_timeout = end_timeout_secs
        self._passes_audio = audio_passthrough
        self._user_audio = UserAudio(speakers, on_several=self._warn_about_several)
        # The run that was taken last: it is pushed on afterwards, and must not count again then.
        self._last_run_id: int | None = None

    def hear(self, frame: InputAudioRawFrame) -> bool:
        """Hand on user audio, unless it is paused; return whether to pass it on down."""
        if self._passes_audio is None:
            self._passes_audio = self._surroundings.may_user_audio_be_wanted
        if self.is_audio_paused:
            return self._passes_audio
        now = asyncio.get_running_loop().time()
        if now >= self._contexts.look_at:
            self._contexts.look(now)
        is_sent = False
        for chunk in self._user_audio.push(frame, now=now):
            is_sent = self._connection.hear(chunk, now)
        if not is_sent:
            self._session.on_user_audio()
        return self._passes_audio

    async def take(self, frame: Frame, direction: FrameDirection) -> None:
        """Hand on a frame that is neither user audio nor an interruption.

        Args:
            frame: The frame, which the service passes on afterwards.
            direction: Where it is going.
        """
        await self._keypad.see(frame, direction)
        match frame:
            case UserStartedSpeakingFrame() | UserStoppedSpeakingFrame():
                self._dispatcher.see(frame)
            case LLMRunFrame() | LLMMessagesAppendFrame() if self._goes_to_aggregator(direction):
                # The aggregator makes a context of it, which comes here and is answered then.
                pass
            case BotStartedSpeakingFrame():
                self._conversation.bot_started(self._connection.now)
                self._meters.bot_started()
            case BotStoppedSpeakingFrame():
                self._conversation.bot_stopped()
                self._meters.bot_stopped()
                self._contexts.on_heard()
            case LLMContextFrame():
                if direction is _DOWNSTREAM:
                    self._dispatcher.asked_by_text()
                self._contexts.on_context(frame, direction)
            case LLMContextUserTurnFrame():
                self._contexts.on_user_text(frame.text)
            case LLMRunFrame():
                self._run(frame)
            case LLMMessagesAppendFrame():
                if frame.run_llm:
                    self._dispatcher.asked_by_text()
                self._contexts.on_messages(frame)
            case InputTextRawFrame():
                # An assistant aggregator takes any text that comes down for the bot's.
                frame.append_to_context = False
                if self._contexts.put_in(frame.text):
                    self._session.ask()
            case ClientConnectedFrame():
                self._session.prewarm()
            case PipelineFlushFrame() if direction is _DOWNSTREAM:
                await self._replies.until_replied(self._end_timeout, spare_functions=False)
            case LLMSetToolsFrame():
                self._session.set_tools(frame.tools)
            case UserMuteStoppedFrame():
                await self._dispatcher.unmuted()
            case ServiceSwitcherRequestMetadataFrame(service=self._service):
                # What becomes of what was said the pipeline tells the active service only.
                self._conversation.forget_playback()
                self._contexts.on_interruption()
                self._session.renew_session()
            case _:
                pass

    async def interrupt(self, frame: InterruptionFrame, direction: FrameDirection) -> None:
        """Tell the conversation of an interruption, and pass it on with nothing old behind it.

        Args:
            frame: The interruption.
            direction: Where it is going.
        """
        self._dispatcher.see(frame)
        self._contexts.on_interruption()
        async with self._connection.between_effects():
            self._dispatcher.on_interruption()
            if not self._dispatcher.is_waiting:
                await let_neighbours_run()
            await self._service.push_frame(frame, direction)

    def see_pushed(self, frame: FrameOfFunction) -> None:
        """Hand on what a function asks for, and how it ended.

        Args:
            frame: The frame, which the service pushes downstream.
        """
        match frame:
            case LLMRunFrame() if frame.id != self._last_run_id:
                # From a function, say, by `params.llm.push_frame`.
                self._run(frame)
            case FunctionCallResultFrame() | FunctionCallCancelFrame():
                self._dispatcher.see_pushed(frame)
            case _:
                pass

    def _goes_to_aggregator(self, direction: FrameDirection) -> bool:
        """Whether a frame is on its way up to the service's own user aggregator."""
        return direction is _UPSTREAM and self._surroundings.is_below_aggregator

    def _run(self, frame: LLMRunFrame) -> None:
        self._last_run_id = frame.id
        self._session.run()

    def _warn_about_several(self) -> None:
        logger.warning(
            f"{self._service}: the transport gives the audio of several people at a time, and "
            "Hydra hears one microphone: they are mixed, or with speakers='first' heard one at a "
            "time. Which of them speaks, Hydra is not told"
        )
