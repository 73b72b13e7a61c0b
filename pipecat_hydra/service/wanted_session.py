"""Which session there is to be: when it is opened, configured, asked to speak and replaced.

Theory of operation. A socket is cheap and may be open before anybody needs it. A session
is configured once, with all that is known by then, and Hydra freezes the configuration. So
`WantedSession` decides two things.

**When the service is in use.** Until somebody uses it, an open socket stays unconfigured
and is given up after a while. An `LLMRunFrame`, a context or typed text puts it in use at
once. The user's audio does so too, but an `LLMRunFrame` may be about to ask for a greeting;
so the service waits for that for `kickoff_timeout_secs`, unless the settings say who speaks
first. Once in use it stays so: each socket that opens is configured as soon as it is open,
after a lost connection, a rest, or a replacement.

**Whether the session is outdated.** It is outdated if Hydra has rejected its voice, and so never
configures it; then another one begins at once (`voices.py` says with which voice). It is also
outdated if the application has since asked for another model, voice or instruction, if the
application has reset the context, or if another service of a switcher has had the call since the
session was configured. A task then replaces the session at the next turn boundary, where no reply
and no word is cut. Changes that come together cost one new session.

**Whether a reply can still come.** The end of the pipeline waits for the reply in flight, and so
does a flush. Neither waits for longer than it takes to see that nothing will come: a reply
stalls when none of it has come for a while; a session that was lost is waited for a moment only;
and a function call that nobody answers holds back what the model might still say. The end gives
a function that runs the time of a stall. A flush gives it none, for it may be the function that
waits for the flush.

The conversation remembers each reply that the application asks for, in whatever phase it is
(`conversation/owed_replies.py`). `WantedSession` only tells it which session is to give the
reply: the current one or, while that is outdated, the one that follows.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from loguru import logger
from pipecat.services.llm_service import LLMService

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import (
    AudioChunk,
    Effect,
    PipelineEffect,
    ReplyEnded,
    ReplyStarted,
    ResponseFinished,
    TextChunk,
    ToolArguments,
    ToolCalls,
    VoiceEnded,
    VoiceStarted,
)
from pipecat_hydra.service.briefing.briefing import Brief, Briefing
from pipecat_hydra.service.dialer import Dialer
from pipecat_hydra.service.in_force import InForce
from pipecat_hydra.service.pipecat_private import (
    base_instruction,
    is_cancelled,
    is_function_running,
    sync_tool_handlers,
)
from pipecat_hydra.service.settings import HydraLLMSettings, Wanted, wanted
from pipecat_hydra.service.tracing import Tracing
from pipecat_hydra.service.voices import Voices
from pipecat_hydra.session.connection import HydraConnection
from pipecat_hydra.session.endpoint import Endpoint
from pipecat_hydra.wire.events import MessageRole

__all__ = ["WantedSession"]

# How long a change waits for others that come with it; and how often an outdated session is
# checked for a turn boundary.
_SETTLE_SECS: Final = 0.05
# Shorter than what a worker waits for a flush in which nothing moves, which is 5 s.
_STALL_SECS: Final = 4.0
_LOST_SECS: Final = 2.0
_UNANSWERED_SECS: Final = 0.3
_POLL_SECS: Final = 0.1

_REPLY_EFFECTS = (
    ReplyStarted
    | VoiceStarted
    | AudioChunk
    | TextChunk
    | VoiceEnded
    | ReplyEnded
    | ResponseFinished
    | ToolArguments
    | ToolCalls
)


@dataclass(slots=True)
class _Told:
    """What the session was told when it was configured.

    Parameters:
        voice: The voice.
        instruction: The system instruction of the settings.
        model: The model that was asked for.
        knows_all: Whether it was told the whole conversation before it.
        missed_some: Whether another service has had the call since.
        is_rejected: Whether Hydra has rejected the voice.
    """

    voice: str | None
    instruction: str | None
    model: str
    knows_all: bool
    missed_some: bool = False
    is_rejected: bool = False


class WantedSession:
    """Opens, configures and replaces the session as the application asks."""

    def __init__(
        self,
        service: LLMService[Any],
        connection: HydraConnection,
        conversation: Conversation,
        *,
        settings: HydraLLMSettings,
        dialer: Dialer,
        briefing: Briefing,
        in_force: InForce,
        tracing: Tracing,
        are_replies_known: Callable[[], bool],
        kickoff_timeout_secs: float,
    ):
        """Start with a service that nobody uses.

        Args:
            service: The service that the session is for.
            connection: Opens, replaces and closes. It must call `dial` and `on_connected`.
            conversation: What is said in the session.
            settings: The service's settings, which change while it runs.
            dialer: Says where to connect to.
            briefing: Says what a session is told when it begins.
            in_force: Knows the context and the tools.
            tracing: Told of each configuration.
            are_replies_known: Tells whether the words of all replies so far are known.
            kickoff_timeout_secs: How long to wait, in seconds from the user's first audio,
                for somebody to ask for a greeting.
        """
        self._service = service
        self._connection = connection
        self._conversation = conversation
        self._settings = settings
        self._dialer = dialer
        self._briefing = briefing
        self._in_force = in_force
        self._tracing = tracing
        self._are_replies_known = are_replies_known
        self._kickoff_timeout = kickoff_timeout_secs
        self._kickoff_timer: asyncio.TimerHandle | None = None
        self._voices = Voices()
        self._begun = False
        self._user_was_heard = False
        # Set when something may have ended a reply, and when a reply has come further.
        self._progress = asyncio.Event()
        self._came_further_at = 0.0
        self._told: _Told | None = None
        self._replacer: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        """Whether the service is in use: whatever session there is gets configured."""
        return self._begun

    @property
    def knows_all(self) -> bool:
        """Whether the session was told the whole conversation before it."""
        return self._told is None or self._told.knows_all

    @property
    def wanted(self) -> Wanted:
        """What the application asks for, but for a voice that Hydra has rejected."""
        asked = wanted(self._settings)
        if asked.voice is None:
            return asked
        return replace(asked, voice=self._voices.choose(asked.model, asked.voice))

    #
    # In use
    #

    def prewarm(self) -> None:
        """Open a socket, for a session that may soon be used."""
        if self._service.is_usable:
            self._connection.prewarm()

    def open(self) -> None:
        """Open a session, unless there is one, or the service is unusable."""
        if self._service.is_usable:
            self._connection.open()

    def on_user_audio(self) -> None:
        """Put the service in use because user audio flows; wait a while for a greeting first."""
        if self._begun:
            if not self._connection.is_in_use:
                self.open()
            return
        self.open()
        if self.wanted.speaks_first is not None:
            self._begin()
        elif self._kickoff_timer is None:
            loop = asyncio.get_running_loop()
            self._kickoff_timer = loop.call_later(self._kickoff_timeout, self._begin)

    def on_user_started(self) -> None:
        """Record that the user has spoken, after which an `LLMRunFrame` asks for no greeting."""
        self._user_was_heard = True

    def run(self) -> None:
        """Ask the model to speak, unless the settings say who speaks first and nobody has yet."""
        if self.wanted.speaks_first is None or self._user_was_heard:
            self.ask()
            return
        # The settings say who speaks first.
        self.open()
        self._begin()

    def ask(self) -> None:
        """Ask the model to speak, now or first thing in the session that is still to begin."""
        self.open()
        self._request_response()
        self._begin()
        self.replace_if_outdated()

    def _request_response(self) -> None:
        """Ask the model to speak: in this session, or in the next one if this one is outdated."""
        if self._is_outdated:
            self._conversation.hand_over()
        self._perform(self._conversation.request_response(self._now))

    def tell(self, text: str, role: MessageRole) -> None:
        """Send a text that the briefing keeps to the session that is open, if there is one."""
        if self._begun and self._connection.is_connected:
            self.send_message(text, role)

    def send_message(self, text: str, role: MessageRole = "system", respond: bool = False) -> None:
        """Put a message into the conversation.

        Args:
            text: The text.
            role: Whose it is.
            respond: Whether the model shall speak about it.
        """
        if respond:
            # The session may have been closed for want of use.
            self.open()
        self._perform(self._conversation.send_message(text, self._now, role=role, respond=respond))

    def update_tools(self) -> None:
        """Put the tools of the context in force."""
        self._perform(self._conversation.update_tools(self._in_force.tools(), self._now))

    def set_tools(self, tools: Any) -> None:
        """Put tools that came by a frame in force."""
        self._in_force.take_tools(tools)
        sync_tool_handlers(self._service, tools)
        converted = self._in_force.tools_with(tools)
        self._perform(self._conversation.update_tools(converted, self._now))

    def _begin(self) -> None:
        """Put the service in use: configure the session, now or as soon as there is one."""
        self.cancel_kickoff()
        if self._begun:
            return
        self._begun = True
        if self.wanted.speaks_first:
            self._request_response()
        if self._is_outdated:
            # The model has changed: the socket that is open is for another one.
            self.replace_if_outdated()
        elif self._connection.is_connected:
            self._configure()

    def cancel_kickoff(self) -> None:
        """Stop waiting for somebody to ask for a greeting."""
        if self._kickoff_timer is not None:
            self._kickoff_timer.cancel()
            self._kickoff_timer = None

    def renew(self) -> None:
        """Allow a connection that was given up to be opened again."""
        self._connection.renew()

    async def close(self) -> None:
        """Stop opening, configuring and replacing sessions."""
        self.cancel_kickoff()
        replacer, self._replacer = self._replacer, None
        if replacer is not None:
            await self._service.cancel_task(replacer)

    #
    # Configured
    #

    async def dial(self) -> Endpoint:
        """Return where to connect to, with the settings that are in force now."""
        endpoint = await self._dialer.dial()
        self._conversation.model = endpoint.model
        return endpoint

    def on_connected(self) -> None:
        """Configure the session of a socket that has just opened, if the service is in use."""
        if self._begun:
            self._configure()

    def _configure(self) -> None:
        """Configure the session with the settings, the context and the conversation so far."""
        conversation, briefing = self._conversation, self._briefing
        for role, text in conversation.take_unsent():
            if not briefing.holds(text, self._in_force.context):
                briefing.note(role, text)
        brief = self._brief()
        asked = self.wanted
        knows_all = (
            brief.complete
            and briefing.spoken >= conversation.user_turns
            and self._are_replies_known()
        )
        self._told = _Told(asked.voice, asked.instruction, asked.model, knows_all)
        self._tracing.configuring(brief.configuration, asked.instruction)
        self._perform(conversation.configure(brief.configuration, self._now, opening=brief.items))
        if brief.respond:
            self._perform(conversation.request_response(self._now))

    def _brief(self) -> Brief:
        context = self._in_force.context
        # Pipecat has registered the functions of a context that came by a frame, but not those
        # of a context that was looked up.
        sync_tool_handlers(self._service, context.tools if context is not None else None)
        asked = self.wanted
        # In the settings, Pipecat appends its own additions to the application's instruction. If
        # the application gave none, the context may have one.
        is_base_there = bool(base_instruction(self._service))
        return self._briefing.brief(
            context,
            instruction=asked.instruction if is_base_there else None,
            added_instruction=None if is_base_there else asked.instruction,
            voice=asked.voice,
            service_tools=self._in_force.own_schema,
            greet=self._conversation.owes_reply,
            under_way=self._conversation.under_way,
            hears_again=self._conversation.uplink.keeping,
        )

    #
    # Outdated
    #

    @property
    def _is_outdated(self) -> bool:
        """Whether the session differs from what the application now asks for (S1)."""
        if not self._connection.is_connected:
            return False
        asked, told = self.wanted, self._told
        if self._dialer.model != asked.model or self._briefing.is_reset:
            return True
        return told is not None and (
            told.missed_some
            or told.is_rejected
            or (told.voice, told.instruction) != (asked.voice, asked.instruction)
        )

    def on_ready(self) -> None:
        """Note that Hydra has taken what the session was told."""
        if self._told is not None and self._told.voice is not None:
            self._voices.accept(self._told.model, self._told.voice)

    def on_voice_rejected(self, message: str) -> bool:
        """Begin another session with the last good voice, or without any.

        Args:
            message: What Hydra has rejected, for a person.

        Returns:
            Whether there is anything left to try.
        """
        told = self._told
        if told is None or told.voice is None:
            return False
        told.is_rejected = True
        self._voices.reject(told.model, told.voice)
        follower = self.wanted.voice
        if follower is None:
            instead = "trying once more without a voice, so the bot speaks with Hydra's default"
        else:
            instead = f"{follower!r} stays in force"
            # Of the settings, too: they are to say what is true.
            self._settings.voice = follower
        logger.warning(f"{self._service}: {message}; {instead}. Change the voice in the settings")
        self.replace_if_outdated()
        return True

    def miss_some(self) -> None:
        """Record that another service has had the call, which the session knows nothing about."""
        if self._told is not None:
            self._told.missed_some = True
        self.replace_if_outdated()

    def replace_if_outdated(self) -> None:
        """Replace the session at the next turn boundary, if it is outdated."""
        if self._replacer is None and self._is_outdated:
            self._replacer = self._service.create_task(self._replace())

    async def _replace(self) -> None:
        """Replace the session where no reply and no word is cut, unless it is current again."""
        try:
            while self._is_outdated:
                # Changes come by one frame each; several of them cost one new session.
                await asyncio.sleep(_SETTLE_SECS)
                is_dead = self._told is not None and self._told.is_rejected
                if self._is_outdated and (is_dead or self._conversation.at_turn_boundary):
                    message = "beginning a session with the settings that are new"
                    logger.debug(f"{self._service}: {message}")
                    await self._connection.replace()
            # The application may have taken its change back.
            self._perform(self._conversation.keep_session(self._now))
        finally:
            self._replacer = None

    #
    # Replies
    #

    def on_progress(self, effect: PipelineEffect) -> None:
        """Note what the pipeline was told, which may be more of a reply."""
        if isinstance(effect, _REPLY_EFFECTS):
            self._came_further_at = self._connection.now
        self._progress.set()

    async def until_replied(self, within_secs: float, *, spare_functions: bool = True) -> bool:
        """Wait until the pipeline was told all of the reply in flight, but only while it can come.

        Args:
            within_secs: How long to wait at most, in seconds.
            spare_functions: Whether functions that run are given time for their results.

        Returns:
            Whether each reply was received whole.
        """
        began = self._now
        while self._connection.is_open and self._is_reply_to_come:
            if is_cancelled(self._service.pipeline_worker):
                # The frame that says so waits behind the end frame that waits here.
                return False
            now = self._now
            if now >= min(began + within_secs, self._given_up_at(began, spare_functions)):
                return False
            self._progress.clear()
            # Some ends of a reply cause no effect for the pipeline.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._progress.wait(), _POLL_SECS)
        return True

    @property
    def _is_reply_to_come(self) -> bool:
        return self._conversation.reply_pending or not self._connection.is_drained

    def _given_up_at(self, began: float, spare_functions: bool) -> float:
        """When a reply that comes no further is waited for no more, as things stand."""
        if self._conversation.awaits_answers and not (
            spare_functions and is_function_running(self._service)
        ):
            return self._came_further_at + _UNANSWERED_SECS
        secs = _LOST_SECS if self._connection.is_lost else _STALL_SECS
        return max(began, self._came_further_at) + secs

    @property
    def _now(self) -> float:
        return self._connection.now

    def _perform(self, effects: Sequence[Effect]) -> None:
        self._connection.perform(effects)
