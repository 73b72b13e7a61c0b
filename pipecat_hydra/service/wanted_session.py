"""Which session there is to be: when it is opened, configured, asked to speak and replaced.

Theory of operation. A socket is cheap and may be open before anybody needs it. A session
is configured once, with all that is known by then, and Hydra freezes the configuration. So
`WantedSession` decides two things.

**When the service is in use.** Until somebody uses it, an open socket stays unconfigured
and is given up after a while. An `LLMRunFrame`, a context or typed text puts it in use at
once. The user's audio does so too, but an `LLMRunFrame` may be about to ask for a greeting;
so the service waits for that for `kickoff_timeout_secs`, unless the settings say who speaks
first, or until the user speaks. Once in use it stays so: each session is configured as soon as
the server has created it, after a lost connection, a rest, or a replacement.

**What a session is told** is composed at the moment it is sent, so that it holds nothing that the
application has removed by then (C1). Text that comes while the server takes the configuration
waits here, and is sent afterwards as far as it is still part of the conversation.

**Whether the session is replaced.** `told_session.py` says whether the session differs from what
the application now asks for, and the conversation whether it is too old. If so, a task replaces
it at the next turn boundary, where no reply and no word is cut; a session that Hydra will never
configure, or that has reached the limit on its length, it replaces at once. Changes
that come together cost one new session.

The conversation remembers each reply that the application asks for, in whatever phase it is
(`conversation/owed_replies.py`). `WantedSession` only tells it which session is to give the
reply: the current one or, while that is outdated, the one that follows.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from loguru import logger
from pipecat.services.llm_service import LLMService

from pipecat_hydra.conversation.conversation import Conversation, Phase
from pipecat_hydra.conversation.effects import (
    Effect,
    PipelineEffect,
    Ready,
    ReplyEnded,
    UserStopped,
)
from pipecat_hydra.service.briefing.briefing import Brief, Briefing
from pipecat_hydra.service.briefing.budget import SessionBudget
from pipecat_hydra.service.dialer import Dialer
from pipecat_hydra.service.in_force import InForce
from pipecat_hydra.service.pipecat_private import base_instruction, sync_tool_handlers
from pipecat_hydra.service.settings import HydraLLMSettings, Wanted
from pipecat_hydra.service.told_session import ToldSession
from pipecat_hydra.service.tracing import Tracing
from pipecat_hydra.session.connection import HydraConnection
from pipecat_hydra.session.endpoint import Endpoint
from pipecat_hydra.wire.events import ClientEvent, MessageRole

__all__ = ["WantedSession"]

# How long a change waits for others that come with it; and how often an outdated session is
# checked for a turn boundary.
_SETTLE_SECS: Final = 0.05


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
        budget: SessionBudget,
        in_force: InForce,
        tracing: Tracing,
        are_replies_known: Callable[[], bool],
        kickoff_timeout_secs: float,
    ):
        """Start with a service that nobody uses.

        Args:
            service: The service that the session is for.
            connection: Opens, replaces and closes. It must call `dial` and `on_handshake`.
            conversation: What is said in the session.
            settings: The service's settings, which change while it runs.
            dialer: Says where to connect to.
            briefing: Says what a session is told when it begins.
            budget: Keeps the total of what it is told.
            in_force: Knows the context and the tools.
            tracing: Told of each configuration.
            are_replies_known: Tells whether the words of all replies so far are known.
            kickoff_timeout_secs: How long to wait, in seconds from the user's first audio,
                for somebody to ask for a greeting.
        """
        self._service = service
        self._connection = connection
        self._conversation = conversation
        self._dialer = dialer
        self._briefing = briefing
        self.budget: Final = budget
        """Keeps the total of what the session is told and says."""
        self._in_force = in_force
        self._tracing = tracing
        self._are_replies_known = are_replies_known
        self._kickoff_timeout = kickoff_timeout_secs
        self._kickoff_timer: asyncio.TimerHandle | None = None
        self._begun = False
        self._somebody_was_heard = False
        self._told = ToldSession(settings, dialer, briefing, budget)
        # Texts that came since the configuration was sent, until the server has taken that.
        self._untold: list[tuple[MessageRole, str]] = []
        self._replacer: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        """Whether the service is in use: whatever session there is gets configured."""
        return self._begun

    def is_restored(self, ready: Ready) -> bool:
        """Whether a session that is there again knows all that was said, the user's audio too."""
        return self._told.knows_all and not ready.lost_secs

    @property
    def wanted(self) -> Wanted:
        """What the application asks for, but for a voice that Hydra has rejected."""
        return self._told.wanted

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
        """Put the service in use because user audio flows; wait a while for a greeting first.

        The conversation has taken the audio by then.
        """
        if self._begun:
            # Silence on an open microphone opens no session that went to rest.
            if not (self._connection.is_in_use or self._conversation.open_microphone.rests):
                self.open()
            return
        self.open()
        is_user_first = self._conversation.open_microphone.hears_speech
        if is_user_first or self.wanted.speaks_first is not None:
            self._begin()
        elif self._kickoff_timer is None:
            loop = asyncio.get_running_loop()
            self._kickoff_timer = loop.call_later(self._kickoff_timeout, self._begin)

    def on_somebody_heard(self) -> None:
        """Record that the user or the bot was heard: an `LLMRunFrame` now asks for no greeting."""
        self._somebody_was_heard = True

    def run(self) -> None:
        """Ask the model to speak, unless the settings say who speaks first and nobody has yet."""
        if self.wanted.speaks_first is None or self._somebody_was_heard:
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
        """Send a text that the briefing keeps, unless a session begins that is told it anyway."""
        if not self._connection.is_connected:
            return
        if self._conversation.phase is Phase.CONFIGURING:
            self._untold.append((role, text))
        elif self._conversation.phase is Phase.LIVE:
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
        self._conversation.claim(self._now)
        self._perform([])
        if self.wanted.speaks_first:
            self._request_response()
        if self._is_outdated:
            # The model has changed: the socket that is open is for another one.
            self.replace_if_outdated()
        elif self._conversation.phase is Phase.CREATED:
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

    def on_handshake(self) -> None:
        """Configure a session that is created; send the text that waits to one that is configured.

        The conversation takes these steps of the server after this.
        """
        phase = self._conversation.phase
        if phase is Phase.CONNECTED and self._begun and not self._is_outdated:
            self._configure()
        elif phase is Phase.CONFIGURING:
            untold, self._untold = self._untold, []
            for role, text in untold:
                if self._briefing.holds(text, self._in_force.context):
                    self.send_message(text, role)

    def _configure(self) -> None:
        """Configure the session with the settings, the context and the conversation so far."""
        conversation, briefing = self._conversation, self._briefing
        self._untold.clear()
        for role, text in conversation.take_unsent():
            if not briefing.holds(text, self._in_force.context):
                briefing.note(role, text)
        brief = self._brief()
        knows_all = (
            brief.complete
            and briefing.spoken >= conversation.user_turns
            and self._are_replies_known()
        )
        self._told.configured(knows_all=knows_all)
        self._tracing.configuring(brief.configuration, self.wanted.instruction)
        self._warn_of_size()
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
        """Whether there is a session that is old, or differs from what is now asked for."""
        if not self._connection.is_connected:
            return False
        is_told = self._conversation.phase in (Phase.CONFIGURING, Phase.LIVE)
        is_old = self._conversation.clock.is_old
        return is_old or self._told.is_for_other_model or (is_told and self._told.is_outdated)

    def on_ready(self) -> None:
        """Note that Hydra has taken what the session was told."""
        self._told.accepted()

    def on_voice_rejected(self, message: str) -> bool:
        """Begin another session with the last good voice, or without any.

        Args:
            message: What Hydra has rejected, for a person.

        Returns:
            Whether there is anything left to try.
        """
        instead = self._told.reject_voice()
        if instead is None:
            return False
        logger.warning(f"{self._service}: {message}; {instead}. Change the voice in the settings")
        self.replace_if_outdated()
        return True

    def renew_session(self) -> None:
        """Have another session follow, which is told the conversation so far."""
        self._told.supersede()
        self.replace_if_outdated()

    def reset_conversation(self) -> None:
        """Have another session follow, which is told nothing but what the context holds."""
        self._briefing.reset()
        # Messages of the old conversation that no session was told yet.
        self._conversation.take_unsent()
        self._untold.clear()
        self.replace_if_outdated()

    def on_sent(self, event: ClientEvent) -> None:
        """Count what the session is told; it is replaced before that is too much."""
        self.budget.sent(event)
        self._on_told_more()

    def on_effect(self, effect: PipelineEffect) -> None:
        """Count what else is said aloud in the session."""
        self.budget.heard(effect, self._now)
        if isinstance(effect, ReplyEnded | UserStopped):
            self._on_told_more()

    def _on_told_more(self) -> None:
        self._warn_of_size()
        if self.budget.is_spent:
            self.replace_if_outdated()

    def _warn_of_size(self) -> None:
        if warning := self.budget.take_warning():
            logger.warning(f"{self._service}: {warning}")

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
                is_late = self._told.is_dead or self._conversation.clock.is_expired(self._now)
                is_time = is_late or self._conversation.may_be_replaced(self._now)
                if is_time and self._is_outdated:
                    logger.debug(f"{self._service}: replacing a session that is outdated")
                    await self._connection.replace()
            # The application may have taken its change back.
            self._perform(self._conversation.keep_session(self._now))
        finally:
            self._replacer = None

    @property
    def _now(self) -> float:
        return self._connection.now

    def _perform(self, effects: Sequence[Effect]) -> None:
        self._connection.perform(effects)
