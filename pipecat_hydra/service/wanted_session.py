"""Which session there is to be: when it is opened, configured, asked to speak and replaced.

Theory of operation. A socket is cheap and may be open before anybody needs it. A session
is configured once, with all that is known by then, and Hydra freezes what it was told. So
the object below decides three things.

**When the service is in use.** Until somebody uses it, an open socket stays unconfigured
and is given up after a while. An `LLMRunFrame`, a context or typed text puts it in use at
once. The user's audio does so too, but an `LLMRunFrame` may be about to ask for a greeting;
so the service waits for that for `kickoff_timeout_secs`, unless the settings say who speaks
first. Once in use it stays so: each socket that opens is configured as soon as it is open,
after a lost connection, a rest, or a replacement.

**Whether the session is outdated.** It is if Hydra has rejected its voice, and so never
configures it; then another begins at once (voices.py says with which voice). It is, too, if the
application has since asked for another model, voice or instruction, if it has reset the context,
or if another service of a switcher has had the call since the session was told what was said. A
task then replaces it at the next turn boundary, where no reply and no word is cut; changes that
come together cost one new session.

A reply that the application asks for, the conversation owes, in whatever phase it is. It is
told here only which session is to give the reply: the one that is under way, or, while that is
outdated, the one that follows.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from loguru import logger
from pipecat.services.llm_service import LLMService

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import Effect
from pipecat_hydra.service.briefing.briefing import Brief, Briefing
from pipecat_hydra.service.dialer import Dialer
from pipecat_hydra.service.in_force import InForce
from pipecat_hydra.service.pipecat_private import base_instruction, sync_tool_handlers
from pipecat_hydra.service.settings import HydraLLMSettings, Wanted, wanted
from pipecat_hydra.service.tracing import Tracing
from pipecat_hydra.service.voices import Voices
from pipecat_hydra.session.connection import HydraConnection
from pipecat_hydra.session.endpoint import Endpoint
from pipecat_hydra.wire.events import MessageRole

__all__ = ["WantedSession"]

_SETTLE_SECS: Final = 0.05
_STALL_SECS: Final = 5.0
_POLL_SECS: Final = 0.1


@dataclass(slots=True)
class _Told:
    """What the session was told when it was configured.

    Parameters:
        voice: The voice.
        instruction: The system instruction of the settings.
        model: The model that it was asked of.
        knows_all: Whether it was told all that was said before it.
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
    """Sees to it that there is the session that the application wants."""

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
        # Set when a reply may have come further.
        self._progress = asyncio.Event()
        self._told: _Told | None = None
        self._replacer: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        """Whether the service is in use: whatever session there is gets configured."""
        return self._begun

    @property
    def knows_all(self) -> bool:
        """Whether the session was told all that was said before it."""
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
        """Have a session, unless it is known that none can be had."""
        if self._service.is_usable:
            self._connection.open()

    def on_user_audio(self) -> None:
        """Put the service in use as user audio flows, once nobody can ask for a greeting."""
        if self._begun:
            if not (self._connection.is_wanted and self._connection.is_open):
                self.open()
            return
        self.open()
        if self.wanted.speaks_first is not None:
            self._begin()
        elif self._kickoff_timer is None:
            loop = asyncio.get_running_loop()
            self._kickoff_timer = loop.call_later(self._kickoff_timeout, self._begin)

    def on_user_started(self) -> None:
        """Note that the user has spoken: an `LLMRunFrame` asks for no greeting any more."""
        self._user_was_heard = True

    def run(self) -> None:
        """Have the model speak about nothing new, unless the settings say that the user begins."""
        if self.wanted.speaks_first is None or self._user_was_heard:
            self.ask()
            return
        # The settings say who speaks first.
        self.open()
        self._begin()

    def ask(self) -> None:
        """Have the model speak; a session that is to be configured does so by itself."""
        self.open()
        self._request_response()
        self._begin()
        self.replace_if_outdated()

    def _request_response(self) -> None:
        """Have the model speak, in the session that follows if this one is outdated."""
        if self._is_outdated:
            self._conversation.hand_over()
        self._perform(self._conversation.request_response(self._now))

    def tell(self, text: str, role: MessageRole) -> None:
        """Tell the session a text that is kept; one still to begin is told of it all."""
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
            # It may have gone to rest meanwhile.
            self.open()
        self._perform(self._conversation.send_message(text, self._now, role=role, respond=respond))

    def update_tools(self) -> None:
        """Put the tools of the context in force."""
        self._perform(self._conversation.update_tools(self._in_force.tools(), self._now))

    def set_tools(self, tools: Any) -> None:
        """Put tools in force that came by a frame."""
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
            # The model has changed: what is open is not what is to be configured.
            self.replace_if_outdated()
        elif self._connection.is_connected:
            self._configure()

    def cancel_kickoff(self) -> None:
        """Wait no longer for somebody to ask for a greeting."""
        if self._kickoff_timer is not None:
            self._kickoff_timer.cancel()
            self._kickoff_timer = None

    def renew(self) -> None:
        """Let a connection that was given up be opened again by whoever has a reason to."""
        self._connection.renew()

    async def close(self) -> None:
        """Open, configure and replace nothing any more."""
        self.cancel_kickoff()
        replacer, self._replacer = self._replacer, None
        if replacer is not None:
            await self._service.cancel_task(replacer)

    #
    # Configured
    #

    async def dial(self) -> Endpoint:
        """Say where to connect to, with what is in force by now."""
        endpoint = await self._dialer.dial()
        self._conversation.model = endpoint.model
        return endpoint

    def on_connected(self) -> None:
        """Configure the session of a socket that has opened, if the service is in use."""
        if self._begun:
            self._configure()

    def _configure(self) -> None:
        """Configure the session with all that is known by now."""
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
        # A context that came by a frame has been synced; one that was looked up has not.
        sync_tool_handlers(self._service, context.tools if context is not None else None)
        asked = self.wanted
        # Pipecat puts what it adds for functions, and what others have had it append, behind the
        # application's instruction in the settings. If there is none, the context may have one.
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
        """Whether the session is not what the application asks for any more (S1)."""
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
        """Note that another service has had the call, and the session knows nothing of that."""
        if self._told is not None:
            self._told.missed_some = True
        self.replace_if_outdated()

    def replace_if_outdated(self) -> None:
        """Begin another session at the next turn boundary, if this one is outdated."""
        if self._replacer is None and self._is_outdated:
            self._replacer = self._service.create_task(self._replace())

    async def _replace(self) -> None:
        """Begin another session, where no reply and no word is cut."""
        try:
            while self._is_outdated:
                # Changes come by one frame each; several of them cost one new session.
                await asyncio.sleep(_SETTLE_SECS)
                is_dead = self._told is not None and self._told.is_rejected
                if self._is_outdated and (is_dead or self._conversation.at_turn_boundary):
                    message = "beginning a session with the settings that are new"
                    logger.debug(f"{self._service}: {message}")
                    await self._connection.replace()
            # The session may be again what the application asks for.
            self._perform(self._conversation.keep_session(self._now))
        finally:
            self._replacer = None

    #
    # Replies
    #

    def on_progress(self) -> None:
        """Note that a reply may have come further."""
        self._progress.set()

    async def until_replied(self, within_secs: float) -> bool:
        """Wait until no reply is in flight, but not for one that has stalled.

        Args:
            within_secs: How long to wait at most, in seconds.

        Returns:
            Whether each reply was received whole.
        """
        deadline = self._now + within_secs
        stalled_at = self._now + _STALL_SECS
        while self._connection.is_open and self._conversation.reply_pending:
            if self._now >= min(deadline, stalled_at):
                return False
            self._progress.clear()
            try:
                # Not all that ends a reply tells the pipeline so.
                await asyncio.wait_for(self._progress.wait(), _POLL_SECS)
                stalled_at = self._now + _STALL_SECS
            except TimeoutError:
                pass
        return True

    @property
    def _now(self) -> float:
        return self._connection.now

    def _perform(self, effects: Sequence[Effect]) -> None:
        self._connection.perform(effects)
