"""Who speaks when: the rules of a conversation that need more than one room.

Theory of operation. What the user says, what the model says and what the model owes depend on each
other. Each has a room of its own (`user_turns.py`, `responses.py`, `owed_replies.py`, and
`toolcalls.py` for the calls that the model makes meanwhile). `TurnTaking` takes the events that
concern more than one of them and holds the rules between them:

**A turn is decided** when its item is done or a response begins. The answer to the user covers what
was typed before it, and what the turn cut stays cut. If the turn was noise, each room gives back
what it set aside: what was due is due again, what was withheld is asked for, what was cut is said
again (T3).

Of a turn that the server has answered, or left undecided for long, nothing is waited for
(`user_turns.py`). A response that is held and completes after the turn's end was not barged in on:
the turn was noise.

**A turn is understood** when something of a response is heard with nobody speaking, when a
response is completed or cancelled, or when none has come for long. No other session hears the
user's words of that turn again.

**The way is free** for a request when the session is live, the user is silent or
answered, no words of the user are being sent again, nothing is due, and nothing else is said.

**An interruption** of the pipeline is the echo of a user turn, or comes from somebody else: the
application, a local VAD, a DTMF key. The server knows nothing of the second kind, so the response
in flight is cancelled by its id, and one that is due as soon as it has an id (T4).

Pure: time is a parameter, in seconds of any monotonic clock. Protocol: §5, §6.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from pipecat_hydra.conversation.diagnostics import report_unfinished
from pipecat_hydra.conversation.effects import (
    Discard,
    Effect,
    Report,
    ResponseFinished,
    Severity,
    ToolArguments,
    ToolCalls,
    TurnConfirmed,
    TurnDiscarded,
    UserStarted,
    VoiceStarted,
)
from pipecat_hydra.conversation.handshake import Handshake, Phase
from pipecat_hydra.conversation.owed_replies import OwedReplies
from pipecat_hydra.conversation.responses import Responses
from pipecat_hydra.conversation.rest_timer import RestTimer
from pipecat_hydra.conversation.toolcalls import OpenCalls
from pipecat_hydra.conversation.uplink import Uplink
from pipecat_hydra.conversation.user_turns import UserTurns, Verdict
from pipecat_hydra.wire.events import (
    AudioDelta,
    FunctionCallArgumentsDelta,
    FunctionCallArgumentsDone,
    ItemAdded,
    ItemDone,
    ResponseCreated,
    ResponseDone,
    ResponseInfo,
    SpeechStarted,
    SpeechStopped,
    TranscriptDelta,
)

__all__ = ["EventHandlers", "TurnTaking"]

EventHandlers: TypeAlias = dict[type[Any], Callable[[Any, float], list[Effect]]]
"""What takes a server event of each type, with the time, and gives the effects."""


class TurnTaking:
    """Has user turns, responses, owed replies and function calls act on each other."""

    def __init__(
        self,
        *,
        handshake: Handshake,
        turns: UserTurns,
        responses: Responses,
        owed: OwedReplies,
        calls: OpenCalls,
        uplink: Uplink,
        rest: RestTimer,
    ):
        """Join the rooms of one conversation.

        Args:
            handshake: Says whether the session is live.
            turns: The user's turns.
            responses: The model's responses.
            owed: The replies that the model owes.
            calls: The function calls.
            uplink: Keeps the user's words until they are understood.
            rest: Is told that the session is used.
        """
        self._handshake = handshake
        self._turns = turns
        self._responses = responses
        self._owed = owed
        self._calls = calls
        self._uplink = uplink
        self._rest = rest
        self.handlers: Final[EventHandlers] = {
            SpeechStarted: self._on_speech_started,
            SpeechStopped: self._on_speech_stopped,
            ItemAdded: self._on_item_added,
            ItemDone: self._on_item_done,
            ResponseCreated: self._on_response_created,
            AudioDelta: self._on_audio_delta,
            TranscriptDelta: self._on_transcript_delta,
            FunctionCallArgumentsDelta: self._on_arguments_delta,
            FunctionCallArgumentsDone: self._on_arguments_done,
            ResponseDone: self._on_response_done,
        }
        """The events that this takes, by type. `conclude` follows each."""

    @property
    def engaged(self) -> bool:
        """Whether the session that there is, or that begins, has still something to say."""
        return self._responses.speaking or self._owed.pending or self._calls.unsettled

    @property
    def at_boundary(self) -> bool:
        """Whether nobody speaks, nothing is generated or due, and no call is open."""
        return self._responses.quiet and not self._turns.listening and not self.engaged

    def conclude(self, effects: Sequence[Effect], now: float) -> list[Effect]:
        """End the step of an event: make the calls that are whole, ask for what may be asked.

        Args:
            effects: What the event came to so far.
            now: The time.

        Returns:
            All that the event comes to.
        """
        told = [*effects, *self._take_gathered(now)]
        self.note(told, now)
        return told + self.ask(now)

    def _take_gathered(self, now: float) -> list[ToolCalls]:
        """Take the calls to make by now; of a response that is over they do not wait for ever."""
        self._calls.bound(self._responses.living, now)
        return self._calls.take_gathered(now)

    def tick(self, now: float) -> list[Effect]:
        """Do what is due at `now`, after `expire`."""
        told = [*self._give_up(now), *self._take_gathered(now)]
        self.note(told, now)
        if self._turns.take_replayed(now):
            # There was no word in it.
            self._understood()
        return [*told, *self.go_on_after_calls(now)]

    def _give_up(self, now: float) -> list[Effect]:
        """Wait no longer for what the server has left undone for long (P1)."""
        effects: list[Effect] = []
        if self._turns.is_too_long(now):
            # Whatever it is, it is no cough. That the server answers it is uncertain, so what is
            # wanted is asked for.
            effects += self._decide_turn(answers_typed=False)
            effects += self._responses.drop_what_was_cut()
            effects += self._stop_turn(now, answer_due=not self._owed.waiting)
        if self._turns.is_never_decided(now):
            effects += self._discard_turn()
        if self._calls.awaited:
            # It may be done only when its calls are answered (protocol §6).
            self._responses.progressed(now)
        if stalled := self._responses.give_up_stalled(now):
            self._owed.heard()
            if not self._turns.listening:
                self._understood()
        return effects + stalled

    def note(self, effects: Sequence[Effect], now: float) -> None:
        """Take note of what the pipeline is told."""
        for effect in effects:
            self._responses.note(effect, now)
            if isinstance(effect, VoiceStarted | ToolCalls):
                self._owed.heard()
                if not self._turns.listening:
                    self._understood()

    def expire(self, now: float) -> None:
        """What was due and has not come by now is due no more."""
        if self._owed.expire(now) and not self._turns.listening:
            self._understood()

    def ask(self, now: float) -> list[Effect]:
        """Ask for what waits to be asked for, if the way is free."""
        if not self._owed.waiting or not self._handshake.live:
            return []
        if self._turns.listening or self._turns.replaying:
            return []
        self.expire(now)
        return self._owed.ask(
            now,
            speaking=self._responses.speaking,
            response_id=self._responses.current_id,
            calling=self._calls.unsettled,
        )

    # User turns

    def _on_speech_started(self, event: SpeechStarted, now: float) -> list[Effect]:
        if self._turns.is_open(event.item_id):
            return []
        self._rest.used(now)
        self._uplink.keep()
        self._owed.turn_started()
        stopped = self._turns.start(event.item_id, now)
        return [*stopped, *self._responses.turn_started(), UserStarted()]

    def _on_speech_stopped(self, event: SpeechStopped, now: float) -> list[Effect]:
        if not self._turns.speaking:
            return []
        return self._stop_turn(now, self._uplink.silence_since(event.audio_end_ms))

    def _stop_turn(
        self, now: float, silence_secs: float = 0.0, *, answer_due: bool = True
    ) -> list[Effect]:
        """The user has stopped: an answer is due, unless it has come already."""
        resumed, is_answer = self._responses.turn_stopped(now)
        if answer_due and not (is_answer or self._turns.answered):
            self._owed.expect(now)
        self._uplink.turn_ended(silence_secs)
        stopped = self._turns.stop(discarded=False, silence_secs=silence_secs)
        if not self._turns.may_be_noise:
            if self._turns.settle():
                self._owed.turn_is_over()
        else:
            self._turns.await_decision(now, soon=self._responses.holds_back)
        if self._responses.voiced:
            self._understood()
        return [*stopped, *resumed]

    def _on_item_added(self, event: ItemAdded, now: float) -> list[Effect]:
        item = event.item
        if item is None:
            return []
        if item.type == "function_call" and item.call_id:
            if self._responses.is_any:
                self._calls.announce(item.call_id, self._responses.current_id, name=item.name)
            else:
                # An item does not say whose it is: it may be late, of a cancelled response.
                self._calls.name(item.call_id, item.name or "")
        elif item.role == "user":
            self._turns.name(item.id)
        return []

    def _on_item_done(self, event: ItemDone, now: float) -> list[Effect]:
        match self._turns.judge(event.item) if event.item is not None else Verdict.NONE:
            case Verdict.NONE:
                return []
            case Verdict.NOISE:
                return self._discard_turn()
            case Verdict.REAL:
                confirmed = self._decide_turn()
            case Verdict.EARLIER_REAL:
                self._owed.earlier_turn_is_real()
                self._responses.turn_is_real()
                confirmed = self._confirm()
        return [*confirmed, *self._responses.drop_what_was_cut()]

    def _decide_turn(self, *, answers_typed: bool = True) -> list[Effect]:
        """The turn is real. While the user still speaks it stays open, to be stopped.

        Args:
            answers_typed: Whether the answer to it is one to what was typed before, too.
        """
        if not self._turns.undecided:
            return []
        confirmed = self._confirm() if self._turns.may_be_noise else []
        if answers_typed:
            self._owed.turn_is_real()
        self._responses.turn_is_real()
        if self._turns.settle():
            self._owed.turn_is_over()
        return confirmed

    def _confirm(self) -> list[Effect]:
        """Tell once that a turn is real, if functions run that wait for it (F4)."""
        return [TurnConfirmed()] if self._calls.may_run else []

    def _discard_turn(self) -> list[Effect]:
        """The turn was noise: all goes on as if it had not been (T3)."""
        stopped = self._turns.stop(discarded=True)
        if not self._owed.due_before_turn:
            # Else what was said before the noise has no answer yet.
            self._uplink.mark()
        self._turns.discard()
        self._owed.turn_was_noise()
        return [*stopped, TurnDiscarded(), *self._responses.turn_was_noise()]

    def _understood(self) -> None:
        """What the user has said is being answered, or never will be: it is not sent again."""
        if self._uplink.keeping:
            self._uplink.mark()
            self._turns.count_understood()
            self._owed.understood()

    # Interruptions

    def may_be_noise(self, now: float) -> bool:
        """Whether an interruption now is the echo of a user turn that may be noise, or was."""
        undecided = self._turns.may_be_noise or self._turns.was_noise
        return undecided and self._turns.echo_is_due(now)

    def interrupted(self, now: float, *, late: bool = False) -> list[Effect]:
        """The pipeline was interrupted: by the echo of a user turn, or by somebody else.

        Args:
            now: The time.
            late: Whether it is the echo of the last turn, which is over.
        """
        was_noise = self._turns.was_noise
        answered = late and not (self._turns.undecided or was_noise)
        self._responses.cut(now, answered=answered)
        if not (self._turns.take_echo(now) or (late and not was_noise)):
            return self.cancel(now)
        if self._turns.may_be_noise:
            if not self._turns.speaking:
                self._turns.await_decision(now, soon=self._responses.holds_back)
            return []
        if not (answered or was_noise):
            self._responses.turn_is_real()
            return []
        # Before the interruption had come round the turn was found to be noise, or answered.
        effects: list[Effect] = [Discard(), *self._responses.say_again()]
        self.note(effects, now)
        return effects

    def cancel(self, now: float) -> list[Effect]:
        """Stop the reply in flight, or the one that is due; its playing stops too."""
        self.expire(now)
        self._owed.cancel(configuring=self._handshake.phase is Phase.CONFIGURING)
        self._turns.interrupted()
        if not self._turns.listening:
            self._understood()
        return self._responses.cancel()

    def request(self, now: float) -> list[Effect]:
        """The application wants a reply."""
        self._rest.used(now)
        unanswered_turn = self._uplink.keeping and not self._turns.speaking
        self._owed.want(unanswered_turn=unanswered_turn)
        return self.ask(now)

    # Responses

    def _on_response_created(self, event: ResponseCreated, now: float) -> list[Effect]:
        response_id = event.response.id if event.response else None
        return [] if self._responses.is_known(response_id) else self._begin(response_id, now)

    def _on_audio_delta(self, event: AudioDelta, now: float) -> list[Effect]:
        effects = self._begin_if_new(event.response_id, now)
        return effects + self._responses.audio(event.response_id, event.delta, now)

    def _on_transcript_delta(self, event: TranscriptDelta, now: float) -> list[Effect]:
        effects = self._begin_if_new(event.response_id, now)
        return effects + self._responses.text(event.response_id, event.delta, now)

    def _begin_if_new(self, response_id: str | None, now: float) -> list[Effect]:
        return self._begin(response_id, now) if self._responses.is_first_sign(response_id) else []

    def _begin(self, response_id: str | None, now: float) -> list[Effect]:
        """A response begins. It decides the user's turn, unless it was due before that."""
        self._rest.used(now)
        over_user = self._turns.speaking and self._owed.due_before_turn
        doomed, asked_at = self._owed.announced(over_user=over_user)
        effects = self._responses.replace(
            response_id,
            now,
            asked_at=asked_at,
            sample_rate=self._handshake.expected_sample_rate,
            over_user=over_user,
        )
        if not over_user:
            effects += self._decide_turn()
            self._turns.answer()
        return effects + self._responses.begin(doomed=doomed)

    def _on_response_done(self, event: ResponseDone, now: float) -> list[Effect]:
        self._rest.used(now)
        info = event.response or ResponseInfo()
        if info.status == "cancelled" and self._responses.speaking:
            # By the server, for the user goes on in the same breath.
            self._turns.answer(broken_off=True)
        ended = self._responses.done(info, now)
        if ended is None:
            return []
        if ended.current:
            self._owed.heard()
        elif not ended.announced:
            self._owed.withdraw()
        if ended.answered and not self._turns.listening:
            self._understood()
        self._calls.complete(info, ended.response_id, now)
        finished = ResponseFinished(info.id, info.status, info.usage, ended.took)
        effects = [*ended.effects, finished, *report_unfinished(info)]
        over = self._turns.may_be_noise and not self._turns.speaking
        if over and info.status == "completed" and ended.current and self._responses.held:
            effects += self._discard_turn()
        return effects + self.go_on_after_calls(now)

    # Function calls

    def _on_arguments_delta(self, event: FunctionCallArgumentsDelta, now: float) -> list[Effect]:
        if event.call_id is None or self._calls.is_void(event.response_id):
            return []
        self._responses.adopt(event.response_id)
        self._responses.progressed(now)
        owner = event.response_id or self._responses.current_id
        name = self._calls.announce(event.call_id, owner, name=event.name, fragment=event.delta)
        return [ToolArguments(event.call_id, name, event.delta)]

    def _on_arguments_done(self, event: FunctionCallArgumentsDone, now: float) -> list[Effect]:
        if event.call_id is None:
            message = "Hydra sent a function call without an id, which cannot be answered"
            return [Report(Severity.WARNING, message)]
        if not self._calls.is_void(event.response_id):
            self._responses.adopt(event.response_id)
            self._responses.progressed(now)
            owner = event.response_id or self._responses.current_id
            self._calls.call(event.call_id, owner, now, name=event.name, arguments=event.arguments)
        return []

    def go_on_after_calls(self, now: float) -> list[Effect]:
        """Have the model go on about the calls that are all answered."""
        for settled in self._calls.take_settled(now):
            if settled.respond:
                self._owed.want_about_calls(settled.response_id)
            elif settled.cancelled and self._turns.may_be_noise:
                self._owed.withhold_about_calls(settled.response_id)
            elif settled.cancelled and self._turns.was_noise:
                self._owed.want_about_calls(settled.response_id)
        return self.ask(now)
