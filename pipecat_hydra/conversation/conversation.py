"""The conversation with Hydra, as a pure state machine.

Theory of operation
===================

A `Conversation` sees everything that happens between one pipeline and Hydra: the events of the
server, the wishes of the application, the audio of the user, and the clock. Each method is one
step. A step changes the state and returns the effects, in order (`effects.py`). There is no I/O, no
task and no clock in here: time is a parameter, in seconds of any monotonic clock.

The state lives in rooms. Each room is one object with a theory at the top of its module and state
that no other room sees. Some rooms have a deadline:

    `handshake.py`     how far the session is, and what it was told
    `messages.py`      text that waits for a session
    `user_turns.py`    when the user speaks, and whether that was a turn or noise
    `responses.py`     which response is current, held or dead (`reply.py`: one response;
                       `playback.py`: what is being played; `unheard.py`: what was cut)
    `owed_replies.py`  which replies the model owes, and when it may be asked for one
    `toolcalls.py`     the function calls, each to be answered once
    `uplink.py`        when the user's audio goes out (`sent_audio.py`: what is sent again;
                       `line_clock.py`: what silence the line owes)
    `open_microphone.py` whether somebody is heard on a microphone that is always open
    `rest_timer.py`    when a session is closed because nobody uses it
    `session_clock.py` how long sessions and the call last

The rules that need more than one room are in modules of their own: `turn_taking.py` has those
between user turns, responses and owed replies, and `interruption_rules.py`, `call_rules.py`,
`session_rules.py` and `error_rules.py` have those that their names say. `Conversation` makes the
rooms, routes each step to them, and puts their effects in order.

**Audio takes a short way.** Nearly all steps take user audio (`microphone`), or audio of the
response that is being said (`go_on`). The rules between the rooms have nothing to decide then.

Protocol: §2 (handshake), §3 (events), §5 (turns), §6 (tools).
"""

from collections.abc import Sequence
from typing import Final

from pipecat_hydra.conversation.announced_end import AnnouncedEnd
from pipecat_hydra.conversation.call_rules import EventHandlers
from pipecat_hydra.conversation.deadlines import earliest
from pipecat_hydra.conversation.diagnostics import (
    report_dropped_fields,
    report_lost_audio,
)
from pipecat_hydra.conversation.effects import AudioChunk, Effect, Send, ToolCalls, VoiceStarted
from pipecat_hydra.conversation.error_rules import ErrorRules
from pipecat_hydra.conversation.event_ids import EventIds
from pipecat_hydra.conversation.handshake import Handshake, Phase
from pipecat_hydra.conversation.interruption_rules import InterruptionRules
from pipecat_hydra.conversation.messages import Messages
from pipecat_hydra.conversation.open_microphone import OpenMicrophone
from pipecat_hydra.conversation.owed_replies import OwedReplies
from pipecat_hydra.conversation.responses import Responses
from pipecat_hydra.conversation.rest_timer import RestTimer
from pipecat_hydra.conversation.session_clock import SessionClock
from pipecat_hydra.conversation.session_rules import SessionRules
from pipecat_hydra.conversation.toolcalls import OpenCalls
from pipecat_hydra.conversation.turn_taking import TurnTaking
from pipecat_hydra.conversation.uplink import Uplink
from pipecat_hydra.conversation.user_turns import UserTurns
from pipecat_hydra.wire.events import (
    AudioDelta,
    FunctionTool,
    InputAudioAppend,
    ItemCreate,
    MessageRole,
    ServerEvent,
    SessionConfiguration,
)

__all__ = ["Conversation", "Phase"]


class Conversation:
    """One conversation with Hydra, over however many connections it takes.

    It has more than 350 lines and 16 fields, because each step of the core is a method that is
    described here, and each room a field.
    """

    def __init__(
        self,
        *,
        model: str,
        uplink: Uplink | None = None,
        handshake_timeout_secs: float = 10.0,
        unused_timeout_secs: float | None = 20.0,
        idle_timeout_secs: float | None = 300.0,
        max_session_secs: float | None = None,
        max_call_secs: float | None = None,
        longest_turn_secs: float = 60.0,
        resume_after_noise: bool = True,
        joined_audio_secs: float = 0.0,
    ):
        """Make a conversation that is offline.

        Args:
            model: The model asked for; its rate is used when the server names none.
            uplink: Paces the user's audio; one with the default limits if None.
            handshake_timeout_secs: How long each step of the handshake may take, in seconds.
            unused_timeout_secs: How many seconds a session is kept that nobody configures, or None.
            idle_timeout_secs: How long a live session is kept, in seconds, in which nobody says
                anything; None for ever.
            max_session_secs: How long a session may be open, in seconds; None for ever.
            max_call_secs: How long the call may last, in seconds; None for ever.
            longest_turn_secs: After how many seconds a turn that does not stop counts as stopped.
            resume_after_noise: Whether a reply that noise interrupted is heard to its end.
            joined_audio_secs: How much reply audio is joined to one chunk, in seconds, while the
                listener has enough ahead; 0 to pass each delta on.
        """
        event_ids = self._event_ids = EventIds()
        self._handshake = Handshake(model, timeout_secs=handshake_timeout_secs, event_ids=event_ids)
        self._messages = Messages(event_ids)
        self._turns = UserTurns(longest_turn_secs=longest_turn_secs)
        self._responses = Responses(
            event_ids=event_ids,
            resume_after_noise=resume_after_noise,
            joined_audio_secs=joined_audio_secs,
        )
        self.go_on: Final = self._responses.go_on
        """Takes audio of the response that is being said, by the short way."""
        self._owed = OwedReplies(event_ids)
        self._calls = OpenCalls()
        self._end = AnnouncedEnd()
        self._uplink = uplink or Uplink()
        self.open_microphone: Final = OpenMicrophone()
        """The room that tells sound from silence in the user's audio."""
        self.clock: Final = SessionClock(
            max_session_secs=max_session_secs, max_call_secs=max_call_secs
        )
        """The room that measures sessions and the call."""
        self._rest = RestTimer(
            unused_timeout_secs=unused_timeout_secs, idle_timeout_secs=idle_timeout_secs
        )
        self._talk = TurnTaking(
            handshake=self._handshake,
            turns=self._turns,
            responses=self._responses,
            owed=self._owed,
            calls=self._calls,
            uplink=self._uplink,
            rest=self._rest,
        )
        self._interruptions = InterruptionRules(
            self._talk,
            handshake=self._handshake,
            turns=self._turns,
            responses=self._responses,
            owed=self._owed,
        )
        self._session = SessionRules(
            handshake=self._handshake,
            messages=self._messages,
            turns=self._turns,
            responses=self._responses,
            owed=self._owed,
            calls=self._calls,
            uplink=self._uplink,
            open_microphone=self.open_microphone,
            rest=self._rest,
            clock=self.clock,
            talk=self._talk,
        )
        self._handlers: EventHandlers = {
            **self._talk.handlers,
            **self._session.handlers,
            **ErrorRules(
                handshake=self._handshake, owed=self._owed, calls=self._calls, end=self._end
            ).handlers,
        }

    # What can be asked

    @property
    def model(self) -> str:
        """The model asked for; may be changed while offline, or just before."""
        return self._handshake.model

    @model.setter
    def model(self, model: str) -> None:
        self._handshake.model = model

    @property
    def phase(self) -> Phase:
        """How far the session is."""
        return self._handshake.phase

    @property
    def sessions(self) -> int:
        """How many sessions were configured so far."""
        return self._handshake.sessions

    @property
    def output_sample_rate(self) -> int | None:
        """Rate of reply audio in Hz, once the session is configured."""
        return self._handshake.output_sample_rate

    @property
    def user_speaking(self) -> bool:
        """Whether a user turn is open."""
        return self._turns.speaking

    @property
    def user_turns(self) -> int:
        """How many turns of the user are understood: their audio is not sent to another session."""
        return self._turns.understood

    @property
    def under_way(self) -> bool:
        """Whether anything was said in this conversation, so that a new session continues it."""
        return self._responses.bot_was_heard or self._turns.understood > 0

    @property
    def reply_pending(self) -> bool:
        """Whether a reply is being generated or still to come, from this session or the next."""
        return self._talk.engaged or self._owed.for_next_session

    def may_go_on(self, now: float) -> bool:
        """Whether the last of a reply may still come, though the server says that it is done."""
        return self._responses.may_go_on(now)

    @property
    def awaits_answers(self) -> bool:
        """Whether a function call has no answer. The model says nothing new before it has one."""
        return self._calls.awaited

    @property
    def owes_reply(self) -> bool:
        """Whether a session that begins has to speak first, to give a reply that is owed."""
        return self._session.owes_reply

    @property
    def at_turn_boundary(self) -> bool:
        """Whether nobody speaks, nothing is generated or due, and no call is open."""
        return self._talk.at_boundary

    def may_be_replaced(self, now: float) -> bool:
        """Whether the session can be replaced, with all audio of the last reply received."""
        return self._talk.at_boundary and not self._responses.may_go_on(now)

    @property
    def uplink(self) -> Uplink:
        """The room that paces the user's audio."""
        return self._uplink

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do next, or None."""
        return earliest(self.deadline_of_talk, self._uplink.deadline)

    @property
    def deadline_of_talk(self) -> float | None:
        """When `tick` has something to do next, but for the uplink, or None."""
        return earliest(
            self._handshake.deadline,
            self._end.deadline,
            self._rest.deadline,
            self.clock.deadline,
            self._turns.deadline,
            self._responses.deadline,
            self.audio_deadline,
            self._calls.deadline,
            self._owed.deadline,
        )

    # What the connection does

    def connected(self, now: float) -> list[Effect]:
        """Record that a socket is open. The server sends the first event."""
        return self._session.connected(now)

    def disconnected(self, now: float, *, unheard_since: float | None = None) -> list[Effect]:
        """Close the open turn and reply: the socket is gone, and was silent `unheard_since`."""
        unheard_since = earliest(unheard_since, self._end.disconnected())
        return self._session.disconnected(now, unheard_since=unheard_since)

    def tick(self, now: float) -> list[Effect]:
        """Do what is due at `now`."""
        self._talk.expire(now)
        audio = self._append(self._uplink.tick(now))
        audio += report_lost_audio(self._uplink.take_overflow_secs(now))
        told = audio + self._talk.tick(now) + self._session.tick(now)
        words = self._turns.understood if self._uplink.keeping else None
        ended = self._end.tick(now, heard_at=self._responses.heard_at, words=words)
        if ended and self._end.is_repeated:
            self._talk.understood()
        return told + ended

    # What the application does

    def claim(self, now: float) -> None:
        """Record that the application uses the conversation: the call begins."""
        self._rest.claim()
        self.clock.call_began(now)

    def configure(
        self,
        configuration: SessionConfiguration,
        now: float,
        *,
        opening: Sequence[tuple[MessageRole, str]] = (),
    ) -> list[Effect]:
        """Set the configuration of this session, or of the next one if this has been sent one.

        Args:
            configuration: What the session shall be.
            now: The time.
            opening: Messages to send once it is configured, each with its role.
        """
        return self._session.configure(configuration, now, opening=opening)

    def hear(self, chunk: bytes, now: float) -> list[bytes]:
        """Take user audio: 20 to 40 ms of 16 kHz mono PCM16. Returns the chunks to send now.

        Afterwards nothing is due earlier than before, except audio that is not sent at once.
        """
        sent: list[bytes] = []
        for heard in self.open_microphone.push(chunk):
            sent += self._uplink.push(heard, now)
        if self.open_microphone.hears_somebody:
            self._rest.used(now)
        return sent

    def microphone(self, chunk: bytes, now: float) -> list[Effect]:
        """Take user audio like `hear`, and return the effects."""
        return self._append(self.hear(chunk, now))

    def may_be_noise(self, now: float) -> bool:
        """Whether an interruption now is the echo of a user turn that may be noise, or was (F4)."""
        return self._interruptions.may_be_noise(now)

    def interrupted(self, now: float, *, late: bool = False) -> list[Effect]:
        """Handle an interruption of the pipeline: the echo of a user turn, or by somebody else.

        Args:
            now: The time.
            late: Whether it is the echo of the last turn, which is over; the answer goes on.
        """
        return self._interruptions.interrupted(now, late=late)

    def cancel_response(self, now: float, *, ask: bool = True) -> list[Effect]:
        """Stop the reply in flight or due, and its playing; ask for what waited for its end."""
        return self._interruptions.cancel(now, ask=ask)

    def request_response(self, now: float) -> list[Effect]:
        """Ask the model to speak, as soon as the way is free.

        Before a session is configured, the session that begins owes the reply. After `hand_over`,
        the next session owes it.
        """
        return self._talk.request(now)

    def hand_over(self) -> None:
        """Leave the replies requested from now on to the next session: this one is replaced."""
        self._owed.hand_over()

    def keep_session(self, now: float) -> list[Effect]:
        """Keep this session after all, and have it give the replies requested since `hand_over`."""
        self._owed.keep_session()
        return self._talk.ask(now)

    def send_message(
        self, text: str, now: float, *, role: MessageRole = "user", respond: bool = True
    ) -> list[Effect]:
        """Put text into the conversation. That Hydra honours it is unproven (protocol §4).

        Args:
            text: The text.
            now: The time.
            role: The role of its author.
            respond: Whether the model shall answer it.
        """
        self._rest.used(now)
        self._messages.put(role, text)
        effects = self._messages.send() if self._handshake.live else []
        return effects + (self.request_response(now) if respond else [])

    def take_unsent(self) -> list[tuple[MessageRole, str]]:
        """Take the messages that wait for a session, to put them into its configuration."""
        return self._messages.take_waiting()

    def update_tools(self, tools: tuple[FunctionTool, ...], now: float) -> list[Effect]:
        """Put other tools in force, once the session is live; send nothing if they are already."""
        return self._handshake.update_tools(tools)

    def answer_call(
        self,
        call_id: str,
        output: str,
        now: float,
        *,
        respond: bool = True,
        cancelled: bool = False,
    ) -> list[Effect]:
        """Answer a function call: the first answer is sent, any other ignored.

        Args:
            call_id: The call, as `ToolCall` named it. The answer to an orphan goes in as text.
            output: The result, as text.
            now: The time.
            respond: Whether the model shall speak about it.
            cancelled: Whether an interruption cancelled the call. If the interruption turns out
                to be noise, the model speaks about the call after all.
        """
        if self._calls.take_orphan(call_id):
            text = f"Result of a function that was called before: {output}"
            return self.send_message(text, now, role="system", respond=respond)
        server_id = self._calls.answer(call_id, now, respond=respond, cancelled=cancelled)
        if server_id is None:
            return []
        item = ItemCreate.tool_output(server_id, output, event_id=self._event_ids.next())
        return [Send(item), *self._talk.go_on_after_calls(now)]

    def bot_started(self, now: float) -> None:
        """The listener begins to hear the bot, as the output transport reports it."""
        self._responses.playback.started(now)

    def bot_stopped(self) -> None:
        """The listener has heard the bot to the end, or up to an interruption."""
        self._responses.playback.stopped()

    def forget_playback(self) -> None:
        """Forget the audio so far: no report will come whether it was heard."""
        self._responses.playback.clear()

    # What the server says

    @property
    def audio_deadline(self) -> float | None:
        """When audio in hand must be passed on; None if there is none."""
        return self._responses.audio_deadline

    def receive(self, event: ServerEvent, now: float) -> list[Effect]:
        """Take one server event, in whatever state, and never fail on it (S3)."""
        if isinstance(event, AudioDelta) and (said := self.go_on(event, now)) is not None:
            return [said] if isinstance(said, AudioChunk) else []
        if self._handshake.phase is Phase.OFFLINE:
            return []
        effects = self._talk.conclude(self._handlers[type(event)](event, now), now)
        for effect in effects:
            if isinstance(effect, VoiceStarted | ToolCalls):
                self._end.model_is_heard()
        return effects + report_dropped_fields(event)

    def _append(self, chunks: list[bytes]) -> list[Effect]:
        return [Send(InputAudioAppend(audio=chunk)) for chunk in chunks]
