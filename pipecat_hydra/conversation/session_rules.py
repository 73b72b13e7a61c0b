"""The rules about a session as a whole: how it begins, is lost, and is closed.

Theory of operation. A session begins, ends and is followed by another. `handshake.py` knows how far
it is; this module knows what its beginning and its end mean for the other rooms:

**A session that is configured** gets the messages that wait, and the audio that was kept. If audio
is sent again, the model answers it by itself. Else the session gives the reply that is owed.

**A session is at a turn boundary** when nobody speaks, nothing is generated or due and no call is
open. It can then be replaced, or closed because nobody uses it, with nothing lost. It is
not closed while the bot is heard.

**A loss** may come at any moment. The open turn and the open reply are closed. The audio of user
turns that have no answer is sent again on the next connection and answered there. Other replies
that the model owed are owed by the next session. Function calls without an answer become orphans:
their answers go in as text.

Pure: time is a parameter, in seconds of any monotonic clock. Protocol: §2.
"""

from collections.abc import Sequence
from typing import Final

from pipecat_hydra.conversation.call_rules import EventHandlers
from pipecat_hydra.conversation.effects import Effect, Rest, Send
from pipecat_hydra.conversation.handshake import Handshake, Phase
from pipecat_hydra.conversation.messages import Messages
from pipecat_hydra.conversation.open_microphone import OpenMicrophone
from pipecat_hydra.conversation.owed_replies import OwedReplies
from pipecat_hydra.conversation.responses import Responses
from pipecat_hydra.conversation.rest_timer import RestTimer
from pipecat_hydra.conversation.session_clock import SessionClock
from pipecat_hydra.conversation.toolcalls import OpenCalls
from pipecat_hydra.conversation.turn_taking import TurnTaking
from pipecat_hydra.conversation.uplink import Uplink
from pipecat_hydra.conversation.user_turns import UserTurns
from pipecat_hydra.wire.events import (
    InputAudioAppend,
    MessageRole,
    SessionConfiguration,
    SessionConfigured,
    SessionCreated,
    SessionUpdated,
)

__all__ = ["SessionRules"]


class SessionRules:
    """Begins, ends and closes sessions, and tells each room what that means for it."""

    def __init__(
        self,
        *,
        handshake: Handshake,
        messages: Messages,
        turns: UserTurns,
        responses: Responses,
        owed: OwedReplies,
        calls: OpenCalls,
        uplink: Uplink,
        open_microphone: OpenMicrophone,
        rest: RestTimer,
        clock: SessionClock,
        talk: TurnTaking,
    ):
        """Join the rooms of one conversation.

        Args:
            handshake: How far the session is.
            messages: Text that waits for a session.
            turns: The user's turns.
            responses: The model's responses.
            owed: The replies that the model owes.
            calls: The function calls.
            uplink: Keeps the user's audio while there is no session.
            open_microphone: Keeps back the user's silence while a session rests.
            rest: Says when a session is closed because nobody uses it.
            clock: Says when a session or the call has lasted long enough.
            talk: Says whether the session is at a turn boundary.
        """
        self._handshake = handshake
        self._messages = messages
        self._turns = turns
        self._responses = responses
        self._owed = owed
        self._calls = calls
        self._uplink = uplink
        self._open_microphone = open_microphone
        self._rest = rest
        self._clock = clock
        self._talk = talk
        self.handlers: Final[EventHandlers] = {
            SessionCreated: self._on_created,
            SessionConfigured: self._on_configured,
            SessionUpdated: lambda event, now: [],
        }
        """The handlers of the events that this object takes."""

    @property
    def owes_reply(self) -> bool:
        """Whether a session that begins has to speak first, to give a reply that is owed."""
        # If audio is sent again, the model answers it by itself.
        return self._owed.by_new_session and not self._uplink.keeping

    def connected(self, now: float) -> list[Effect]:
        """Record that a socket is open. The server sends the first event."""
        self._handshake.connected(now)
        self._clock.opened(now)
        for chunk in self._open_microphone.wake():
            self._uplink.push(chunk, now)
        if not self._handshake.is_configured:
            self._rest.opened(now)
        return []

    def configure(
        self,
        configuration: SessionConfiguration,
        now: float,
        *,
        opening: Sequence[tuple[MessageRole, str]],
    ) -> list[Effect]:
        """Set the configuration of this session, or of the next one if this one has its own.

        Args:
            configuration: What the session shall be.
            now: The time.
            opening: Messages to send once it is configured, each with its role.
        """
        if not self._handshake.configuration_is_out:
            self._rest.configured()
            self._owed.configured(speaks_first=bool(configuration.generate_initial_response))
        self._messages.open_with(opening)
        return self._handshake.configure(configuration, now)

    def _on_created(self, event: SessionCreated, now: float) -> list[Effect]:
        self._clock.created()
        return self._handshake.created(event, now)

    def _on_configured(self, event: SessionConfigured, now: float) -> list[Effect]:
        if self._handshake.phase is not Phase.CONFIGURING:
            return []
        effects = self._handshake.configured(event, lost_secs=self._uplink.take_dropped_secs())
        self._rest.live(now)
        self._owed.session_began(now, greeted=self._responses.any_begun)
        self._responses.negotiated(self._handshake.expected_sample_rate)
        if self._uplink.keeping:
            self._rest.used(now)
            self._turns.replay(self._uplink.waiting_secs, now)
        audio = [Send(InputAudioAppend(audio=chunk)) for chunk in self._uplink.open(now)]
        return [*effects, *self._messages.send(), *audio]

    def disconnected(self, now: float, *, unheard_since: float | None = None) -> list[Effect]:
        """Close the open turn and reply, because the socket is gone.

        Args:
            now: The time.
            unheard_since: When the server was last heard from, if it went away without a word.
        """
        effects = [*self._responses.disconnected(), *self._turns.stop(discarded=False)]
        self._talk.note(effects, now)
        was_live = self._handshake.live
        self._owed.disconnected(live=was_live, calls_owed=self._calls.owed)
        if was_live:
            # Unless the owner configures it anew, the next session gets the same
            # configuration, without a second greeting.
            speaks_first = self.owes_reply
            self._owed.configured(speaks_first=speaks_first)
            self._handshake.configure_again(speaks_first=speaks_first)
        self._handshake.disconnected()
        self._turns.disconnected()
        self._calls.session_lost()
        self._uplink.close(unheard_since=unheard_since)
        self._rest.closed()
        self._clock.closed(now)
        return effects

    def tick(self, now: float) -> list[Effect]:
        """Fail a handshake that takes too long, tell what is old, and close what nobody uses."""
        effects = [*self._handshake.tick(now), *self._clock.tick(now)]
        return effects + (self._close_if_unused(now) if self._rest.is_due(now) else [])

    def _close_if_unused(self, now: float) -> list[Effect]:
        was_live = self._handshake.live
        if was_live and (not self._talk.at_boundary or self._responses.playback.plays(now)):
            self._rest.used(now)
            return []
        rest = Rest(self._rest.reason)
        if was_live:
            # Nobody has said anything that the next session would have to hear.
            self._uplink.mark()
            self._open_microphone.rest()
        # At once, so that nothing is sent to a socket that is being closed.
        closed = self.disconnected(now)
        self._rest.rested()
        return [*closed, rest]
