"""The conversation with Hydra, as a pure state machine.

Theory of operation
===================

A `Conversation` sees everything that happens between one pipeline and Hydra: the
events of the server, the wishes of the application, the audio of the user, and the
clock. Each method is one step; it changes the state and returns the effects, in
order (`effects.py`). There is no I/O, no task and no clock in here: time is a
parameter, in seconds of any monotonic clock.

**Phase.** `OFFLINE` → `CONNECTED` (a socket, no `session.created` yet) → `CREATED`
→ `CONFIGURING` (`session.configure` is out) → `LIVE` (`session.configured` came).
`configure()` may be called in any phase before `CONFIGURING`; what it says goes out
as soon as the session is created. Each wait for the server has a deadline. User
audio goes to the `Uplink`, which is open only while the phase is `LIVE`.

**User turn.** `speech_started` opens it and `speech_stopped` closes it. It is also
closed by its item being discarded, by another turn opening, and by the loss of the
connection, so that each `UserStarted` is followed by exactly one `UserStopped`. A turn
is decided when its item is done or a response begins: `completed` or answered, it was
one; `incomplete`, it was noise, and all goes on as if it had not been.

**Response.** At most one response is current; `reply.py` holds what there is to say of
one. It becomes current by `response.created`, or by its first delta should that event be
missing; it ceases to be at `response.done` or when another takes its place, and its id is
then retired: nothing with a retired id ever passes.

A response over which the user begins to speak is held: nothing is known yet. It may be a
barge-in (the server then says so by cancelling the response, by completing the user's item
or by making a new response), and the response is dead; or it was noise (the user's item is
discarded), and what was kept passes, and the response goes on. One that was due before, and
begins while the user speaks, is held as well; unless the server cancels it, it is heard when
the user has stopped, before the answer to the user.

What of a response has entered the pipeline lies in the transport for seconds, and an
interruption throws it away. `Playback` remembers it, so that noise costs the listener
nothing: what was not heard is said again, from a little before where it stopped.

**Interruption.** The pipeline is interrupted by us (`UserStarted`) or by somebody
else: the application, a local VAD, a DTMF key. The server knows only of the first,
so `interrupted()` cancels the response in flight by its id; and when the response is
due but not announced, it is cancelled as soon as it has an id. Since the pipeline
answers a `UserStarted` with an interruption of its own, the first `interrupted()`
within a user turn, or within a second of its start, is that echo, and means nothing.

**Tools.** Each function call is answered exactly once. The calls of one response are a
batch, and a batch gets exactly one `response.create`: at once when the response is
known to be done and all its calls are answered, else 200 ms after the last answer.

**Requests.** A `response.create` while the model speaks, is about to, or listens would be
refused or talk over somebody, so it waits until the way is free. What it was to answer the
model takes in all the same: when the user speaks meanwhile, the answer to that is one to
typed text too, and the request is dropped; the one that a batch of calls is owed is not.

**Replacing.** `at_turn_boundary` tells when a connection can be replaced by another with
nothing lost: nobody speaks, nothing is generated or due, no call is open.

**Losing.** `disconnected()` may come at any moment. What is open is closed; what the user
has said and no answer was heard to is sent again on the next connection, and answered
there. Calls that are open are answered as text. What the model owed besides, a greeting,
the answer to typed text or to the results of functions, is remembered: `owes_reply` says
so, and whoever configures the next session has it speak first.

**Resting.** A session costs money for as long as it is open. One that was not configured
within a while, and one to which nothing has happened for long, asks to be closed (`Rest`).

Protocol: §2 (handshake), §3 (events), §5 (turns), §6 (tools).
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from pipecat_hydra.conversation.effects import (
    AudioChunk,
    Discard,
    Effect,
    Fail,
    FailureKind,
    Flush,
    Ready,
    Report,
    ResponseFinished,
    Rest,
    Send,
    SessionStarted,
    Severity,
    TextChunk,
    ToolArguments,
    ToolCalls,
    TurnDiscarded,
    UserStarted,
    UserStopped,
    VoiceEnded,
    VoiceStarted,
)
from pipecat_hydra.conversation.playback import Playback
from pipecat_hydra.conversation.reply import Reply
from pipecat_hydra.conversation.toolcalls import OpenCalls
from pipecat_hydra.conversation.uplink import Uplink
from pipecat_hydra.wire.codec import encode
from pipecat_hydra.wire.events import (
    AudioDelta,
    AudioDone,
    ErrorDetail,
    ErrorEvent,
    FunctionCallArgumentsDelta,
    FunctionCallArgumentsDone,
    FunctionTool,
    InputAudioAppend,
    ItemAdded,
    ItemCreate,
    ItemDone,
    MalformedMessage,
    MessageRole,
    ResponseCancel,
    ResponseCreate,
    ResponseCreated,
    ResponseDone,
    ResponseInfo,
    ServerEvent,
    SessionConfiguration,
    SessionConfigure,
    SessionConfigured,
    SessionCreated,
    SessionInfo,
    SessionUpdate,
    SessionUpdated,
    SpeechStarted,
    SpeechStopped,
    TranscriptDelta,
    UnknownEvent,
    WarningEvent,
)
from pipecat_hydra.wire.protocol import (
    BYTES_PER_SAMPLE,
    CONFIGURATION_WARNING_BYTES,
    INPUT_SAMPLE_RATE,
    MODEL_DEPRECATED,
    MODELS,
    UNKNOWN_MODEL_OUTPUT_SAMPLE_RATE,
    VOICE_PARAM,
    ErrorCode,
)

__all__ = ["Conversation", "Phase"]

_RETIRED_IDS: Final = 256
_LONGEST_SILENCE_SECS: Final = 3.0
_ECHO_SECS: Final = 1.0
_DUE_SECS: Final = 8.0
_UNDECIDED_TURNS: Final = 8
_REPLAY_SECS: Final = 3.0
# How long before the word that the user has stopped an answer to the user may begin.
_QUICK_SECS: Final = 1.0
_SANE_SAMPLE_RATES: Final = range(8_000, 192_001)


class Phase(Enum):
    """How far the session is; see the module's theory of operation."""

    OFFLINE = auto()
    CONNECTED = auto()
    CREATED = auto()
    CONFIGURING = auto()
    LIVE = auto()


@dataclass(frozen=True, slots=True)
class _Request:
    """A `response.create` that waits until the way is free."""

    tools_of: str | None
    for_tools: bool


@dataclass(slots=True)
class _Due:
    """Responses that were asked for, or follow the user's turn, and are not announced yet."""

    expected: int = 0
    # How many of the first of them are to be cancelled as soon as they are announced.
    doomed: int = 0
    # When the last of them was asked for, unless an interruption came since.
    asked_at: float | None = None

    def expect(self, now: float) -> None:
        """One more is due."""
        self.expected += 1
        self.asked_at = now

    def doom(self) -> None:
        """Nobody wants to hear any of them."""
        self.doomed = self.expected
        self.asked_at = None

    def announce(self) -> bool:
        """One is announced. Returns whether it is to be cancelled."""
        doomed = self.doomed > 0
        self.expected = max(0, self.expected - 1)
        self.doomed = max(0, self.doomed - 1)
        return doomed

    def withdraw(self) -> None:
        """One will not come."""
        self.expected = max(0, self.expected - 1)
        self.doomed = min(self.doomed, self.expected)


@dataclass(slots=True)
class _UserTurn:
    """The user's turn that is open or not yet decided."""

    item_id: str | None
    # What was due before it, to be due again should it be noise.
    due: _Due
    speaking: bool = True
    # What an interruption by it threw away of what was being played.
    unheard: tuple[AudioChunk | TextChunk, ...] = ()
    # What nobody is asked about calls that were cancelled for it.
    owed: tuple[_Request, ...] = ()
    # When the response in flight began, if it did within it.
    begun_at: float | None = None
    # The items of turns before it that are not decided either.
    earlier: tuple[str, ...] = ()


class Conversation:
    """One conversation with Hydra, over however many connections it takes."""

    def __init__(
        self,
        *,
        model: str,
        uplink: Uplink | None = None,
        handshake_timeout_secs: float = 10.0,
        unused_timeout_secs: float | None = 20.0,
        idle_timeout_secs: float | None = 300.0,
        resume_after_noise: bool = True,
    ):
        """Make a conversation that is offline.

        Args:
            model: The model asked for; its rate is used when the server names none.
            uplink: Paces the user's audio; one with the default limits if None.
            handshake_timeout_secs: How long the server may take, in seconds, to
                create and again to configure the session.
            unused_timeout_secs: How long a session is kept, in seconds, that nobody
                configures; None for ever.
            idle_timeout_secs: How long one is kept, in seconds, in which nobody says
                anything: no audio of the user comes, and no response; None for ever.
            resume_after_noise: Whether a reply that noise interrupted is heard to its
                end.
        """
        self.model = model
        """The model asked for; may be changed while offline, or just before."""
        self._uplink = uplink or Uplink()
        self._handshake_timeout = handshake_timeout_secs
        self._unused_timeout = unused_timeout_secs
        self._idle_timeout = idle_timeout_secs
        self._rest_at: float | None = None
        self._phase = Phase.OFFLINE
        self._handshake_deadline: float | None = None
        self._configuration: SessionConfiguration | None = None
        self._tools_wanted: tuple[FunctionTool, ...] = ()
        self._tools_in_force: tuple[FunctionTool, ...] = ()
        self._turn: _UserTurn | None = None
        self._echo_due_until: float | None = None
        self._echo_of_noise = False
        self._reply: Reply | None = None
        self._retired: deque[str] = deque(maxlen=_RETIRED_IDS)
        self._finished: deque[str] = deque(maxlen=_RETIRED_IDS)
        # Responses whose calls are none, however late the server tells of them.
        self._cancelled: deque[str] = deque(maxlen=_RETIRED_IDS)
        # What a session is told besides its configuration, once it has that.
        self._opening: tuple[tuple[MessageRole, str], ...] = ()
        self._responses_begun = 0
        # Until when the user may be heard to speak in what is sent again.
        self._replay_until: float | None = None
        self._due = _Due()
        # When what is due will not come any more.
        self._due_until = 0.0
        # Whether the application has asked for a response of which nothing was heard, and
        # whether one that it had asked for was lost with its connection.
        self._asked_for = False
        self._owed = False
        # Whether the greeting that the configuration asks for was interrupted before it.
        self._greeting_doomed = False
        self._bot_was_heard = False
        self._user_turns = 0
        self._sessions = 0
        self._requests: deque[_Request] = deque()
        self._create_ids: deque[str] = deque(maxlen=_RETIRED_IDS)
        # Messages that wait for a session, each with whose it is.
        self._unsent: deque[tuple[MessageRole, str]] = deque(maxlen=_RETIRED_IDS)
        self._playback = Playback() if resume_after_noise else None
        self._calls = OpenCalls()
        # Calls of turns or sessions that are gone: their ids mean nothing any more.
        self._orphans: deque[str] = deque(maxlen=_RETIRED_IDS)
        self._output_sample_rate: int | None = None
        self._sent_events = 0
        self._sent_audio_bytes = 0
        self._handlers: dict[type[Any], Callable[[Any, float], list[Effect]]] = {
            WarningEvent: self._on_warning,
            SessionCreated: self._on_session_created,
            SessionConfigured: self._on_session_configured,
            SessionUpdated: self._on_nothing,
            SpeechStarted: self._on_speech_started,
            SpeechStopped: self._on_speech_stopped,
            ItemAdded: self._on_item_added,
            ItemDone: self._on_item_done,
            ResponseCreated: self._on_response_created,
            AudioDelta: self._on_audio_delta,
            AudioDone: self._on_nothing,
            TranscriptDelta: self._on_transcript_delta,
            FunctionCallArgumentsDelta: self._on_arguments_delta,
            FunctionCallArgumentsDone: self._on_arguments_done,
            ResponseDone: self._on_response_done,
            ErrorEvent: self._on_error,
            UnknownEvent: self._on_unknown,
            MalformedMessage: self._on_malformed,
        }

    #
    # What can be asked
    #

    @property
    def phase(self) -> Phase:
        """How far the session is."""
        return self._phase

    @property
    def user_speaking(self) -> bool:
        """Whether a user turn is open."""
        return self._turn is not None and self._turn.speaking

    @property
    def reply_pending(self) -> bool:
        """Whether a reply is being generated or is due: there is something to wait for."""
        generating = self._reply is not None and self._reply.active
        configuration = self._configuration
        greeting = (
            self._phase is not Phase.LIVE
            and configuration is not None
            and bool(configuration.generate_initial_response)
        )
        due = self._due.expected > self._due.doomed or bool(self._requests)
        return generating or greeting or due or self._calls.unsettled

    @property
    def under_way(self) -> bool:
        """Whether anything was said in this conversation: a session that begins follows it."""
        return self._bot_was_heard or self._user_turns > 0

    @property
    def sessions(self) -> int:
        """How many sessions were configured so far."""
        return self._sessions

    @property
    def user_turns(self) -> int:
        """How many turns the user has spoken that no other session hears."""
        return self._user_turns

    @property
    def owes_reply(self) -> bool:
        """Whether the model, in a session that begins, owes a reply to what it is told."""
        # What the user has said it hears again, and answers by itself.
        return (self._owed or bool(self._requests)) and not self._uplink.keeping

    @property
    def at_turn_boundary(self) -> bool:
        """Whether the session can be replaced with nothing lost."""
        between = self._reply is None or self._reply.dead
        return between and not self.user_speaking and not self.reply_pending

    @property
    def output_sample_rate(self) -> int | None:
        """Rate of reply audio in Hz, once the session is configured."""
        return self._output_sample_rate

    @property
    def uplink(self) -> Uplink:
        """What paces the user's audio."""
        return self._uplink

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do next, or None."""
        due = self._due_until if self._due.expected else None
        deadlines = (
            self._handshake_deadline,
            self._rest_at,
            self._replay_until,
            self._uplink.deadline,
            self._calls.deadline,
            due,
        )
        return min((d for d in deadlines if d is not None), default=None)

    #
    # What the application and the connection do
    #

    def connected(self, now: float) -> list[Effect]:
        """A socket is open; the server speaks first."""
        self._phase = Phase.CONNECTED
        self._handshake_deadline = now + self._handshake_timeout
        if self._configuration is None and self._unused_timeout is not None:
            self._rest_at = now + self._unused_timeout
        self._output_sample_rate = None
        self._responses_begun = 0
        # Ids mean nothing beyond their session.
        self._retired.clear()
        self._finished.clear()
        self._cancelled.clear()
        self._create_ids.clear()
        self._greeting_doomed = False
        return []

    def disconnected(self, now: float, *, unheard_since: float | None = None) -> list[Effect]:
        """The socket is gone: nothing that was open stays open.

        Args:
            now: The time.
            unheard_since: When the server was last heard from, if it went away without a word.
        """
        effects = [*self._end_reply(interrupted=True), *self._stop_user(discarded=False)]
        self._note(effects, now)
        if self._phase is Phase.LIVE and self._configuration is not None:
            self._owed = self._asked_for or bool(self._requests) or self._calls.owed
            self._requests.clear()
            # Should nobody know better, it is the same again, but for a second greeting.
            again = {"generate_initial_response": self.owes_reply}
            self._configuration = self._configuration.model_copy(update=again)
        self._phase = Phase.OFFLINE
        self._handshake_deadline = self._rest_at = self._replay_until = None
        self._uplink.close(unheard_since=unheard_since)
        self._asked_for = False
        self._due = _Due()
        self._turn = None
        self._orphans.extend(self._calls.abandon())
        self._calls = OpenCalls()
        return effects

    def configure(
        self,
        configuration: SessionConfiguration,
        now: float,
        *,
        opening: Sequence[tuple[MessageRole, str]] = (),
    ) -> list[Effect]:
        """Say what the session shall be. Sent once created; once it is sent, too late.

        Args:
            configuration: What the session shall be.
            now: The time.
            opening: Messages to put in once it is configured, each with whose it is.
        """
        self._configuration = configuration
        self._opening = tuple(opening)
        self._rest_at = None
        if configuration.generate_initial_response:
            # It speaks anyway; and owes that until there is a session.
            self._owed = True
            self._requests.clear()
        self._tools_wanted = configuration.tools or ()
        return self._send_configuration(now) if self._phase is Phase.CREATED else []

    def microphone(self, chunk: bytes, now: float) -> list[Effect]:
        """Take user audio: 20 to 40 ms of 16 kHz mono PCM16."""
        self._mind_use(now)
        return self._append(self._uplink.push(chunk, now))

    def interrupted(self, now: float) -> list[Effect]:
        """The pipeline was interrupted; see the theory for by whom."""
        unheard = self._playback.cut(now) if self._playback is not None else []
        echo_due_until, self._echo_due_until = self._echo_due_until, None
        if echo_due_until is not None and (self.user_speaking or now <= echo_due_until):
            if self._turn is not None:
                self._turn.unheard += tuple(unheard)
                return []
            if not self._echo_of_noise:
                return []
            # It was noise, known before the interruption had come round.
            effects: list[Effect] = [Discard(), *self._say_again(unheard)]
            self._note(effects, now)
            return effects
        if self._turn is not None:
            self._turn.unheard = ()
        return self.cancel_response(now)

    def cancel_response(self, now: float) -> list[Effect]:
        """Stop the reply in flight, or the one that is due; its playing stops too."""
        if self._playback is not None:
            self._playback.clear()
        self._expire(now)
        self._due.doom()
        self._asked_for = self._owed = self._echo_of_noise = False
        self._greeting_doomed = self._phase is Phase.CONFIGURING
        if not self.user_speaking:
            self._understood()
        reply = self._reply
        if reply is None or reply.dead:
            return [Discard()]
        effects: list[Effect] = [Discard(), *reply.kill()]
        if not reply.generated:
            cancel = ResponseCancel(response_id=reply.id, event_id=self._next_event_id())
            effects.append(Send(cancel))
        return effects

    def request_response(self, now: float) -> list[Effect]:
        """Ask the model to speak, as soon as the way is free."""
        self._mind_use(now)
        # One that waits answers all that was said before it is sent.
        if all(request.for_tools for request in self._requests):
            self._requests.append(_Request(None, for_tools=False))
        return self._send_requests(now)

    def send_message(
        self, text: str, now: float, *, role: MessageRole = "user", respond: bool = True
    ) -> list[Effect]:
        """Put text into the conversation. That Hydra honours it is unproven (protocol §4).

        Args:
            text: The text.
            now: The time.
            role: Whose it is.
            respond: Whether the model shall answer it.
        """
        self._mind_use(now)
        self._unsent.append((role, text))
        live = self._phase is Phase.LIVE
        effects = self._send_messages(self.take_unsent()) if live else []
        return effects + (self.request_response(now) if respond else [])

    def bot_started(self, now: float) -> None:
        """The listener begins to hear the bot, as the output transport reports it."""
        if self._playback is not None:
            self._playback.started(now)

    def bot_stopped(self) -> None:
        """The listener has heard the bot to the end, or up to an interruption."""
        if self._playback is not None:
            self._playback.stopped()

    def forget_playback(self) -> None:
        """Whether what was said so far was heard was not told, and is of no matter any more."""
        if self._playback is not None:
            self._playback.clear()

    def update_tools(self, tools: tuple[FunctionTool, ...], now: float) -> list[Effect]:
        """Put other tools in force, once the session is live; what is, is not sent again."""
        self._tools_wanted = tools
        return self._send_tools()

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
            call_id: The call, as `ToolCall` named it. The answer to a call of a turn
                or session that is gone goes in as text, for its id means nothing now.
            output: The result, as text.
            now: The time.
            respond: Whether the model shall speak about it.
            cancelled: Whether an interruption cancelled the call. Should it turn out to
                have been noise, the model speaks about it after all.
        """
        if call_id in self._orphans:
            self._orphans.remove(call_id)
            text = f"Result of a function that was called before: {output}"
            return self.send_message(text, now, role="system", respond=respond)
        if not self._calls.answer(call_id, now, respond=respond, cancelled=cancelled):
            return []
        item = ItemCreate.tool_output(call_id, output, event_id=self._next_event_id())
        return [Send(item), *self._ask_about_settled_calls(now)]

    def tick(self, now: float) -> list[Effect]:
        """Do what is due at `now`."""
        self._expire(now)
        effects = self._append(self._uplink.tick(now))
        effects += self._calls.take_gathered(now)
        self._note(effects, now)
        effects += self._ask_about_settled_calls(now)
        if self._handshake_deadline is not None and now >= self._handshake_deadline:
            self._handshake_deadline = None
            step = "session.configured" if self._phase is Phase.CONFIGURING else "session.created"
            message = f"Hydra sent no {step} within {self._handshake_timeout:g} s"
            effects.append(Fail(FailureKind.TIMEOUT, message))
        if self._replay_until is not None and now >= self._replay_until:
            # There was no word in it.
            self._replay_until = None
            self._understood()
            effects += self._send_requests(now)
        if self._rest_at is not None and now >= self._rest_at:
            effects += self._rest(now)
        return effects

    def take_unsent(self) -> list[tuple[MessageRole, str]]:
        """Take the messages that wait for a session, to put them into its configuration."""
        messages = [*self._unsent]
        self._unsent.clear()
        return messages

    def _rest(self, now: float) -> list[Effect]:
        if self._phase is not Phase.LIVE:
            message = f"the session was not used for {self._unused_timeout} s"
        elif self.at_turn_boundary:
            message = f"nothing was said for {self._idle_timeout} s"
        else:
            self._mind_use(now)
            return []
        # At once, so that nothing goes to a socket that is being closed.
        return [*self.disconnected(now), Rest(message)]

    def _mind_use(self, now: float) -> None:
        """The session is in use."""
        if self._phase is Phase.LIVE and self._idle_timeout is not None:
            self._rest_at = now + self._idle_timeout

    #
    # What the server says
    #

    def receive(self, event: ServerEvent, now: float) -> list[Effect]:
        """Take one server event, in whatever state, and never fail on it (S3)."""
        if self._phase is Phase.OFFLINE:
            return []
        effects = self._handlers[type(event)](event, now)
        effects += self._calls.take_gathered(now)
        self._note(effects, now)
        effects += self._send_requests(now)
        if not isinstance(event, MalformedMessage) and event.dropped_fields:
            names = ", ".join(event.dropped_fields)
            message = f"Hydra sent {event.type} with fields of a wrong shape: {names}"
            effects.append(Report(Severity.WARNING, message))
        return effects

    def _on_nothing(self, event: ServerEvent, now: float) -> list[Effect]:
        return []

    def _on_unknown(self, event: UnknownEvent, now: float) -> list[Effect]:
        return [Report(Severity.INFO, f"Hydra sent an event of unknown type {event.type[:80]!r}")]

    def _on_malformed(self, event: MalformedMessage, now: float) -> list[Effect]:
        message = f"Hydra sent a message that is no event ({event.reason}, {event.size} bytes)"
        return [Report(Severity.WARNING, message)]

    def _on_warning(self, event: WarningEvent, now: float) -> list[Effect]:
        nested = event.warning or ErrorDetail()
        code = event.code or nested.code
        message = event.message or nested.message or ""
        if code == MODEL_DEPRECATED:
            message = f"model {self.model!r} is deprecated. {message}"
        return [Report(Severity.WARNING, f"Hydra warns ({code}): {message}".rstrip(": "), code)]

    def _on_error(self, event: ErrorEvent, now: float) -> list[Effect]:
        error = event.error or ErrorDetail()
        if error.event_id in self._create_ids:
            self._unexpect()
            self._asked_for = self._asked_for and self._due.expected > 0
        message = f"Hydra reports {error.code or error.type or 'an error'}: {error.message or ''}"
        message = message.rstrip(": ")
        if self._phase is Phase.CONFIGURING and error.param == VOICE_PARAM:
            # What the session does next is open (protocol §2); it never gets our voice.
            self._handshake_deadline = None
            voice = self._configuration.voice if self._configuration else None
            message = f"Hydra's {self.model} has no voice {voice!r}: {error.message or error.code}"
            return [Fail(FailureKind.CONFIGURATION, message)]
        if error.code == ErrorCode.TOOL_RESPONSE_TIMEOUT:
            unanswered = self._calls.abandon_oldest()
            if not unanswered:
                # All were answered, and the application wanted nothing said about it.
                return [Report(Severity.INFO, message, error.code)]
            names = ", ".join(unanswered.values())
            message = f"{message} (no answer in time from {names}; the turn is abandoned)"
            # What they give later is told as text: the calls mean nothing any more.
            self._orphans.extend(unanswered)
        if error.code in (ErrorCode.SERVER_FULL, ErrorCode.SESSION_ENDED):
            # A close follows, and is what gets reported; should none follow, this tells.
            return [Report(Severity.WARNING, message, error.code)]
        if error.param:
            message = f"{message} (at {error.param})"
        return [Report(Severity.ERROR, message, error.code)]

    # Handshake

    def _on_session_created(self, event: SessionCreated, now: float) -> list[Effect]:
        if self._phase is not Phase.CONNECTED:
            return []
        self._phase = Phase.CREATED
        self._handshake_deadline = None
        return [SessionStarted(event.session_id), *self._send_configuration(now)]

    def _send_configuration(self, now: float) -> list[Effect]:
        configuration = self._configuration
        if configuration is None:
            return []
        self._phase = Phase.CONFIGURING
        self._tools_in_force = configuration.tools or ()
        self._handshake_deadline = now + self._handshake_timeout
        event = SessionConfigure(session=configuration, event_id=self._next_event_id())
        effects: list[Effect] = [Send(event)]
        size = len(encode(event))
        if size > CONFIGURATION_WARNING_BYTES:
            effects.append(Report(Severity.WARNING, _oversize_message(configuration, size)))
        return effects

    def _on_session_configured(self, event: SessionConfigured, now: float) -> list[Effect]:
        if self._phase is not Phase.CONFIGURING:
            return []
        self._phase = Phase.LIVE
        self._handshake_deadline = None
        self._mind_use(now)
        session = event.session or SessionInfo()
        self._output_sample_rate = self._negotiate_rate(session)
        dropped = self._uplink.take_dropped_secs()
        self._sessions += 1
        self._sent_audio_bytes = 0
        effects: list[Effect] = [Ready(session, self._output_sample_rate, dropped)]
        asked = self._configuration or SessionConfiguration()
        if session.voice is not None and session.voice != asked.voice:
            message = f"Hydra speaks with voice {session.voice!r}, not {asked.voice!r} as asked"
            effects.append(Report(Severity.WARNING, message))
        owed, self._owed = self._owed, False
        if asked.generate_initial_response:
            if not self._responses_begun:
                self._asked_for = not self._greeting_doomed
                self._expect_response(now)
                self._due.doomed = int(self._greeting_doomed)
        elif owed and all(request.for_tools for request in self._requests):
            # There are words of the user to be heard again first, if they are words.
            self._requests.append(_Request(None, for_tools=False))
        if self._reply is not None:
            self._reply.sample_rate = self._output_sample_rate
        if self._uplink.keeping:
            # It is sent at twice the pace at which more comes.
            self._replay_until = now + self._uplink.waiting_secs + _REPLAY_SECS
        if dropped:
            message = (
                f"{dropped:.1f} s of what the user said before the session was ready are lost: "
                "it took longer than is kept"
            )
            effects.append(Report(Severity.WARNING, message))
        effects += self._send_tools()
        opening, self._opening = self._opening, ()
        effects += self._send_messages([*opening, *self.take_unsent()])
        return effects + self._append(self._uplink.open(now))

    def _send_tools(self) -> list[Effect]:
        if self._phase is not Phase.LIVE or self._tools_wanted == self._tools_in_force:
            return []
        self._tools_in_force = self._tools_wanted
        return [Send(SessionUpdate.of(self._tools_wanted, event_id=self._next_event_id()))]

    def _negotiate_rate(self, session: SessionInfo) -> int:
        """The rate echoed, else the model's, else the documented one (protocol §2)."""
        echoed = session.output_audio_sample_rate
        if echoed is not None and echoed in _SANE_SAMPLE_RATES:
            return echoed
        known = MODELS.get(self.model)
        return known.output_sample_rate if known else UNKNOWN_MODEL_OUTPUT_SAMPLE_RATE

    # User turns

    def _on_speech_started(self, event: SpeechStarted, now: float) -> list[Effect]:
        if self.user_speaking and event.item_id and event.item_id == self._turn_item:
            return []
        effects = self._stop_user(discarded=False)
        undecided = self._turn
        self._turn = _UserTurn(event.item_id, self._due)
        if undecided is not None:
            self._turn.unheard, self._turn.owed = undecided.unheard, undecided.owed
            if undecided.item_id is not None:
                self._turn.earlier = (*undecided.earlier, undecided.item_id)[-_UNDECIDED_TURNS:]
        self._uplink.keep()
        self._replay_until = None
        self._mind_use(now)
        self._due = _Due()
        self._echo_due_until = now + _ECHO_SECS
        self._echo_of_noise = False
        if self._reply is not None and self._reply.active:
            effects += self._reply.hold()
        return [*effects, UserStarted()]

    def _on_speech_stopped(self, event: SpeechStopped, now: float) -> list[Effect]:
        turn = self._turn
        if turn is None or not turn.speaking:
            return []
        resumed: list[Effect] = []
        reply = self._reply
        if turn.begun_at is not None and reply is not None and reply.held:
            # Nobody has cancelled it, so it is heard now.
            resumed += self._resume(reply)
            if now - turn.begun_at >= _QUICK_SECS:
                # It is what was due before. Had it begun just now, it would be the answer.
                self._expect_response(now)
        elif reply is None or not reply.active:
            # Otherwise the answer was quicker than the word that the turn is over.
            self._expect_response(now)
        silence_secs = self._silence_since(event.audio_end_ms)
        self._uplink.turn_ended(silence_secs)
        effects = [*self._stop_user(discarded=False, silence_secs=silence_secs), *resumed]
        if self._reply is not None and self._reply.heard and self._reply.active:
            self._understood()
        return effects

    def _on_item_added(self, event: ItemAdded, now: float) -> list[Effect]:
        item = event.item
        if item is None:
            return []
        if item.type == "function_call" and item.call_id:
            if self._reply is not None:
                self._calls.announce(item.call_id, self._current_id(), name=item.name)
            else:
                # An item does not say whose it is: it may be late, of a cancelled response.
                self._calls.name(item.call_id, item.name or "")
        elif item.role == "user" and self._turn is not None and self._turn.item_id is None:
            self._turn.item_id = item.id
        return []

    def _on_item_done(self, event: ItemDone, now: float) -> list[Effect]:
        item, turn = event.item, self._turn
        if item is None or turn is None:
            return []
        if item.role != "user" and not (item.role is None and item.id == turn.item_id is not None):
            return []
        if item.id and turn.item_id and item.id != turn.item_id:
            return self._decide_earlier(item.id, turn, real=item.status != "incomplete")
        if item.status == "incomplete":
            return self._discard_turn(turn)
        self._decide_turn()
        return self._kill_what_was_cut(turn)

    def _decide_earlier(self, item_id: str, turn: _UserTurn, *, real: bool) -> list[Effect]:
        """A turn is decided after another has begun, which may yet be noise."""
        if item_id not in turn.earlier:
            return []
        if not real:
            turn.earlier = tuple(i for i in turn.earlier if i != item_id)
            return []
        # What it interrupted stays so, whatever becomes of the other.
        turn.earlier, turn.unheard, turn.owed = (), (), ()
        self._answered_with_user()
        return self._kill_what_was_cut(turn)

    def _kill_what_was_cut(self, turn: _UserTurn) -> list[Effect]:
        """A real turn cut the reply that is held, unless that began within the turn."""
        reply = self._reply
        if reply is None or not reply.held or turn.begun_at is not None:
            return []
        return [*reply.kill()]

    def _discard_turn(self, turn: _UserTurn) -> list[Effect]:
        """The turn was noise: all goes on as if it had not been (T3)."""
        effects = [*self._stop_user(discarded=True), TurnDiscarded()]
        if not turn.due.expected:
            # Else what was said before the noise has no answer yet.
            self._uplink.mark()
        self._turn = None
        self._echo_of_noise = True
        self._due = turn.due
        self._requests.extend(turn.owed)
        reply = self._reply
        if reply is None or not reply.held:
            return effects + self._say_again(turn.unheard)
        return effects + self._resume(reply, turn.unheard)

    def _resume(self, reply: Reply, unheard: Sequence[AudioChunk | TextChunk] = ()) -> list[Effect]:
        """Go on with the current reply, which was held, and end it if there is no more of it."""
        effects: list[Effect] = [*reply.resume(unheard)]
        return effects + (self._end_reply(interrupted=False) if reply.generated else [])

    def _say_again(self, parts: Sequence[AudioChunk | TextChunk]) -> list[Effect]:
        """Say what an interruption that was none threw away."""
        if not parts:
            return []
        if self._reply is not None:
            return [*self._reply.say_again(parts)]
        # It had been generated whole; only its playing was interrupted.
        finished = self._new_reply(None)
        return [*finished.resume(parts), *finished.close(interrupted=False)]

    def _decide_turn(self) -> None:
        """The turn is real. While the user still speaks it stays open, to be closed."""
        if self._turn is None:
            return
        self._answered_with_user()
        self._turn.unheard = ()
        if not self._turn.speaking:
            self._turn = None

    def _answered_with_user(self) -> None:
        """The answer to the user is one to what was typed before, too."""
        self._requests = deque(r for r in self._requests if r.for_tools)

    def _stop_user(self, *, discarded: bool, silence_secs: float = 0.0) -> list[Effect]:
        if self._turn is None or not self._turn.speaking:
            return []
        self._turn.speaking = False
        return [UserStopped(discarded, silence_secs)]

    def _silence_since(self, audio_end_ms: float | None) -> float:
        """How long the server has heard silence since a place in the session; 0 if unknown."""
        if not audio_end_ms:
            return 0.0  # no turn ends where the session begins
        heard_secs = self._sent_audio_bytes / (INPUT_SAMPLE_RATE * BYTES_PER_SAMPLE)
        silence_secs = heard_secs - audio_end_ms / 1000
        return silence_secs if 0.0 <= silence_secs <= _LONGEST_SILENCE_SECS else 0.0

    @property
    def _turn_item(self) -> str | None:
        return self._turn.item_id if self._turn is not None else None

    # Responses

    def _on_response_created(self, event: ResponseCreated, now: float) -> list[Effect]:
        response_id = event.response.id if event.response else None
        if response_id is not None and self._is_known(response_id):
            return []
        return self._begin_reply(response_id, now)

    def _begin_reply(self, response_id: str | None, now: float) -> list[Effect]:
        self._mind_use(now)
        self._responses_begun += 1
        turn = self._turn
        due = turn is not None and turn.speaking and turn.due.expected
        effects = [] if due else self._resume_what_was_due()
        effects += self._end_reply(interrupted=False)
        reply = self._reply = self._new_reply(response_id)
        if turn is not None and due:
            # It may have been due before the user began to speak, who then speaks over it.
            doomed = turn.due.announce()
            turn.begun_at = now
            effects += reply.hold()
        else:
            doomed = self._due.announce()
            self._due.asked_at = None
            self._decide_turn()
            effects += [] if doomed else reply.begin()
        if doomed:
            effects += reply.kill()
            cancel = ResponseCancel(response_id=response_id, event_id=self._next_event_id())
            effects.append(Send(cancel))
        return effects

    def _resume_what_was_due(self) -> list[Effect]:
        """Let be heard what began within the user's turn, and nobody has cancelled."""
        reply, turn = self._reply, self._turn
        if reply is None or not (reply.held and reply.generated):
            return []
        if turn is None or turn.begun_at is None:
            return []
        return self._resume(reply)

    def _new_reply(self, response_id: str | None) -> Reply:
        rate = self._output_sample_rate or self._negotiate_rate(SessionInfo())
        return Reply(response_id, asked_at=self._due.asked_at, sample_rate=rate)

    def _on_audio_delta(self, event: AudioDelta, now: float) -> list[Effect]:
        effects, reply = self._reply_of(event.response_id, now)
        return [*effects, *reply.audio(event.delta, now)] if reply else effects

    def _on_transcript_delta(self, event: TranscriptDelta, now: float) -> list[Effect]:
        effects, reply = self._reply_of(event.response_id, now)
        return [*effects, *reply.text(event.delta, now)] if reply else effects

    def _reply_of(self, response_id: str | None, now: float) -> tuple[list[Effect], Reply | None]:
        """Find the reply that a delta belongs to, begun if the delta is its first sign."""
        reply = self._reply
        if response_id is None or (reply is not None and reply.id == response_id):
            return [], reply
        if response_id in self._retired:
            return [], None
        self._adopt(response_id)
        if reply is not None and reply.id == response_id:
            return [], reply
        effects = self._begin_reply(response_id, now)
        return effects, self._reply

    def _on_response_done(self, event: ResponseDone, now: float) -> list[Effect]:
        self._mind_use(now)
        info = event.response or ResponseInfo()
        if info.id is not None:
            if info.id in self._finished:
                return []
            self._finished.append(info.id)
        effects: list[Effect] = []
        reply, response_id, took = self._reply, info.id, None
        cancelled = info.status == "cancelled"
        self._adopt(info.id)
        if reply is not None and info.id in (None, reply.id):
            response_id = reply.id
            if not cancelled and reply.asked_at is not None:
                took = max(0.0, now - reply.asked_at)
            effects += self._finish_reply(reply, cancelled=cancelled)
            self._asked_for = False
            if info.status == "completed" and reply.active and not self.user_speaking:
                self._understood()
        elif info.id is not None and info.id not in self._retired:
            # It ended before it was announced, and will not be any more.
            self._retired.append(info.id)
            self._unexpect()
        if cancelled and response_id is not None:
            self._cancelled.append(response_id)
        self._calls.complete(info, response_id, now)
        effects.append(ResponseFinished(info.id, info.status, info.usage, took))
        if info.status in ("failed", "incomplete"):
            severity = Severity.ERROR if info.status == "failed" else Severity.WARNING
            effects.append(Report(severity, _unfinished_message(info)))
        return effects + self._ask_about_settled_calls(now)

    def _finish_reply(self, reply: Reply, *, cancelled: bool) -> list[Effect]:
        """Generation has ended; what is held stays until the user's turn is decided."""
        if reply.held and not cancelled:
            reply.generated = True
            return []
        # The server has dropped what the listener still hears, with nobody speaking.
        flush = cancelled and reply.active and reply.heard
        if cancelled and self._turn is not None:
            self._turn.unheard = ()
        effects = self._end_reply(interrupted=cancelled)
        return [*effects, Flush()] if flush else effects

    def _end_reply(self, *, interrupted: bool) -> list[Effect]:
        """The current response is over: nothing with its id passes any more."""
        reply, self._reply = self._reply, None
        if reply is None:
            return []
        if reply.id is not None:
            self._retired.append(reply.id)
        return [*reply.close(interrupted=interrupted)]

    def _is_known(self, response_id: str) -> bool:
        current = self._reply is not None and self._reply.id == response_id
        return current or response_id in self._retired

    def _adopt(self, response_id: str | None) -> None:
        """Take the name that the current response goes by, if it was announced without one."""
        reply = self._reply
        if reply is not None and reply.id is None and response_id not in self._retired:
            reply.id = response_id

    def _current_id(self) -> str | None:
        return self._reply.id if self._reply is not None else None

    def _understood(self) -> None:
        """What the user has said is being answered, or never will be: it is not sent again."""
        if self._uplink.keeping:
            self._user_turns += 1
            self._asked_for = False
            self._uplink.mark()

    def _expect_response(self, now: float) -> None:
        self._due.expect(now)
        self._due_until = now + _DUE_SECS

    def _unexpect(self) -> None:
        """One response that was due will not come."""
        if not self._due.expected and self._turn is not None:
            self._turn.due.withdraw()
        self._due.withdraw()

    def _expire(self, now: float) -> None:
        """What was due and has not come by now is due no more."""
        if self._due.expected and now >= self._due_until:
            self._due = _Due()
            self._asked_for = False
            if not self.user_speaking:
                self._understood()

    def _send_requests(self, now: float) -> list[Effect]:
        """Ask for what waits to be asked for, one at a time, if the way is free."""
        if not self._requests or self._phase is not Phase.LIVE or self.user_speaking:
            return []
        if self._replay_until is not None:
            return []
        self._expire(now)
        if self._due.expected:
            return []
        request = next(filter(self._way_is_free, self._requests), None)
        if request is None:
            return []
        self._requests.remove(request)
        self._asked_for = True
        self._expect_response(now)
        create = ResponseCreate(event_id=self._next_event_id())
        self._create_ids.append(create.event_id or "")
        return [Send(create)]

    def _way_is_free(self, request: _Request) -> bool:
        reply = self._reply
        between = reply is None or not reply.active
        if request.for_tools:
            # A calling response may not be done before its narration has begun (protocol §6).
            return between or (reply is not None and request.tools_of == reply.id)
        # While calls are open, Hydra would take it for the wish to hear of them, or refuse it.
        return between and not self._calls.unsettled

    def _note(self, effects: list[Effect], now: float) -> None:
        """Take note of what the pipeline is told."""
        for effect in effects:
            match effect:
                case VoiceStarted() | ToolCalls():
                    self._asked_for = False
                    self._bot_was_heard = True
                    if not self.user_speaking:
                        self._understood()
                case AudioChunk() | TextChunk() if self._playback is not None:
                    self._playback.add(effect, now)
                case VoiceEnded() if self._playback is not None:
                    self._playback.end()
                case Flush() if self._playback is not None:
                    self._playback.clear()
                case _:
                    pass

    # Tools

    def _on_arguments_delta(self, event: FunctionCallArgumentsDelta, now: float) -> list[Effect]:
        if event.call_id is None or event.response_id in self._cancelled:
            return []
        self._adopt(event.response_id)
        owner = event.response_id or self._current_id()
        name = self._calls.announce(event.call_id, owner, name=event.name, fragment=event.delta)
        return [ToolArguments(event.call_id, name, event.delta)]

    def _on_arguments_done(self, event: FunctionCallArgumentsDone, now: float) -> list[Effect]:
        if event.call_id is None:
            message = "Hydra sent a function call without an id, which cannot be answered"
            return [Report(Severity.WARNING, message)]
        if event.response_id in self._cancelled:
            return []
        self._adopt(event.response_id)
        if event.call_id in self._orphans:
            # Another session's ids are its own.
            self._orphans.remove(event.call_id)
        owner = event.response_id or self._current_id()
        self._calls.call(event.call_id, owner, now, name=event.name, arguments=event.arguments)
        return []

    def _ask_about_settled_calls(self, now: float) -> list[Effect]:
        for settled in self._calls.take_settled(now):
            request = _Request(settled.response_id, for_tools=True)
            if settled.respond:
                self._requests.append(request)
            elif settled.cancelled and self._turn is not None:
                self._turn.owed += (request,)
            elif settled.cancelled and self._echo_of_noise:
                self._requests.append(request)
        return self._send_requests(now)

    # Sending

    def _send_messages(self, messages: Sequence[tuple[MessageRole, str]]) -> list[Effect]:
        return [
            Send(ItemCreate.message(text, role=role, event_id=self._next_event_id()))
            for role, text in messages
        ]

    def _append(self, chunks: list[bytes]) -> list[Effect]:
        self._sent_audio_bytes += sum(map(len, chunks))
        return [Send(InputAudioAppend(audio=chunk)) for chunk in chunks]

    def _next_event_id(self) -> str:
        self._sent_events += 1
        return f"evt_{self._sent_events}"


def _oversize_message(configuration: SessionConfiguration, size: int) -> str:
    instructions = len((configuration.instructions or "").encode())
    tools = sum(len(tool.model_dump_json()) for tool in configuration.tools or ())
    return (
        f"session.configure has {size} bytes (instructions {instructions}, tools {tools}). Hydra "
        "was seen to send no audio at all above some 18 kB: shorten the "
        f"{'instructions' if instructions >= tools else 'tools'}"
    )


def _unfinished_message(info: ResponseInfo) -> str:
    details = info.status_details
    error = details.error if details is not None else None
    reasons = (
        details.reason if details else None,
        error.code if error else None,
        error.message if error else None,
    )
    reason = ": ".join(part for part in reasons if part) or "no reason given"
    return f"Hydra's response ended {info.status} ({reason})"
