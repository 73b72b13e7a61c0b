"""Who speaks when: the rules of a conversation that need more than one room.

Theory of operation. What the user says, what the model says and what the model owes depend on each
other. Each has a room of its own (`user_turns.py`, `responses.py`, `owed_replies.py`, and
`toolcalls.py` for the calls that the model makes meanwhile). `TurnTaking` takes the events that
concern more than one of them and holds the rules between them. The rules about function calls are
in `call_rules.py`; the others are:

**A turn is decided** when its item is done or a response begins. The answer to the user covers text
that was typed before it, and the reply that the turn cut stays cut. If the turn was noise, each
room restores what it set aside: responses that were due are due again, replies that were withheld
are wanted, and parts of the reply that were cut are said again (T3).

Nothing is waited for in a turn that the server has answered, or has left undecided for long
(`user_turns.py`). If a held response completes after the turn's end, the user did not barge in on
it: the turn was noise.

**A turn is understood** when a response is heard while nobody speaks, when a response is completed
or cancelled, or when none has come for long. Its audio is not sent to another session.

**The way is free** for a request when the session is live, the user is silent or answered, no
audio is being sent again, no response is due, and no response is being heard.

**An interruption** of the pipeline is the echo of a user turn, or comes from somebody else: the
application, a local VAD, a DTMF key. The server knows nothing of the second kind, so the response
in flight is cancelled by its id, and a due response as soon as it has an id (T4).

Pure: time is a parameter, in seconds of any monotonic clock. Protocol: §5, §6.
"""

from collections.abc import Sequence
from typing import Final

from pipecat_hydra.conversation.call_rules import CallRules, EventHandlers
from pipecat_hydra.conversation.diagnostics import report_unfinished
from pipecat_hydra.conversation.effects import (
    Effect,
    ResponseFinished,
    ToolCalls,
    TurnConfirmed,
    TurnDiscarded,
    UserStarted,
    UserTranscript,
    VoiceStarted,
)
from pipecat_hydra.conversation.handshake import Handshake
from pipecat_hydra.conversation.owed_replies import OwedReplies
from pipecat_hydra.conversation.responses import Responses
from pipecat_hydra.conversation.rest_timer import RestTimer
from pipecat_hydra.conversation.toolcalls import OpenCalls
from pipecat_hydra.conversation.uplink import Uplink
from pipecat_hydra.conversation.user_turns import UserTurns, Verdict
from pipecat_hydra.wire.events import (
    AudioDelta,
    AudioDone,
    ConversationItem,
    ItemAdded,
    ItemDone,
    ResponseCreated,
    ResponseDone,
    ResponseInfo,
    SpeechStarted,
    SpeechStopped,
    TranscriptDelta,
    TranscriptDone,
)

__all__ = ["TurnTaking"]


class TurnTaking:
    """Holds the rules between user turns, responses, owed replies and function calls."""

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
            uplink: Keeps the user's audio until it is understood.
            rest: Is told that the session is used.
        """
        self._handshake = handshake
        self._turns = turns
        self._responses = responses
        self._owed = owed
        self._calls = calls
        self._uplink = uplink
        self._rest = rest
        self._call_rules = CallRules(turns=turns, responses=responses, owed=owed, calls=calls)
        self.handlers: Final[EventHandlers] = {
            SpeechStarted: self._on_speech_started,
            SpeechStopped: self._on_speech_stopped,
            ItemAdded: self._on_item_added,
            ItemDone: self._on_item_done,
            ResponseCreated: self._on_response_created,
            AudioDelta: self._on_audio_delta,
            AudioDone: lambda event, now: self._responses.line.audio_is_whole(
                event.response_id, now
            ),
            TranscriptDelta: self._on_transcript_delta,
            TranscriptDone: self._on_transcript_done,
            ResponseDone: self._on_response_done,
            **self._call_rules.handlers,
        }
        """The handlers of the events that this object takes. `conclude` follows each of them."""

    @property
    def engaged(self) -> bool:
        """Whether a reply is in flight, due or wanted, or a call is open."""
        return self._responses.speaking or self._owed.pending or self._calls.unsettled

    @property
    def at_boundary(self) -> bool:
        """Whether nobody speaks, nothing is generated or due, and no call is open."""
        return self._responses.quiet and not self._turns.listening and not self.engaged

    def conclude(self, effects: Sequence[Effect], now: float) -> list[Effect]:
        """End the step of an event: release complete calls, and ask for replies if the way is free.

        Args:
            effects: The effects of the event so far.
            now: The time.

        Returns:
            All effects of the step.
        """
        told = [*effects, *self._call_rules.take_gathered(now)]
        self.note(told, now)
        return told + self.ask(now)

    def tick(self, now: float) -> list[Effect]:
        """Do what is due at `now`, after `expire`."""
        due = self._responses.take_due_audio(now)
        told = [*due, *self._give_up(now), *self._call_rules.take_gathered(now)]
        self.note(told, now)
        if self._turns.take_replayed(now):
            # There was no turn in the audio that was sent again.
            self.understood()
        return [*told, *self.go_on_after_calls(now)]

    def _give_up(self, now: float) -> list[Effect]:
        """Give up turns and responses on which the server does nothing for long (P1)."""
        effects: list[Effect] = []
        if self._turns.is_answered_over(now):
            resumed, _ = self._responses.turn_stopped(now)
            effects += [*self._answer_turn(), *resumed]
        if self._turns.is_too_long(now):
            # Noise does not last that long, so the turn counts as real. The server, which hears
            # it go on, does not answer it, so what is wanted is asked for.
            effects += self._decide_turn(answers_typed=False)
            effects += self._responses.drop_what_was_cut()
            effects += self._stop_turn(now, answer_due=False)
            self._owed.heard()
            self.understood()
        if self._turns.is_never_decided(now):
            effects += self._discard_turn(now)
        if self._calls.awaited:
            # The response may be done only when its calls are answered (protocol §6).
            self._responses.progressed(now)
        if stalled := self._responses.give_up_stalled(now):
            self._owed.heard()
            if not self._turns.listening:
                self.understood()
        return effects + stalled

    def note(self, effects: Sequence[Effect], now: float) -> None:
        """Record the effects that go to the pipeline."""
        for effect in effects:
            self._responses.note(effect, now)
            if isinstance(effect, VoiceStarted | ToolCalls):
                self._owed.heard()
                if not self._turns.listening:
                    self.understood()

    def expire(self, now: float) -> None:
        """Give up due responses whose time is over."""
        if self._owed.expire(now) and not self._turns.listening:
            self.understood()

    def ask(self, now: float) -> list[Effect]:
        """Ask for the next reply that is wanted, if the way is free."""
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
        self._calls.turn_started()
        stopped = self._turns.start(event.item_id, now)
        return [*stopped, *self._responses.turn_started(now), UserStarted()]

    def _on_speech_stopped(self, event: SpeechStopped, now: float) -> list[Effect]:
        return self._stop_turn(now, self._uplink.silence_since(event.audio_end_ms))

    def _stop_turn(
        self, now: float, silence_secs: float = 0.0, *, answer_due: bool = True
    ) -> list[Effect]:
        """Stop the turn, if the user speaks: an answer is due, unless it has come already."""
        if not self._turns.speaking:
            return []
        resumed, is_answer = self._responses.turn_stopped(now)
        if answer_due and not (is_answer or self._turns.answered):
            self._owed.expect(now)
        self._uplink.turn_ended(silence_secs)
        stopped = self._turns.stop(discarded=False, silence_secs=silence_secs)
        if self._turns.may_be_noise:
            self._turns.await_decision(now, soon=self._responses.holds_back)
        elif self._turns.settle():
            self._owed.turn_is_over()
        if self._responses.voiced:
            self.understood()
        return [*stopped, *resumed]

    def _end_real_turn(self, now: float) -> list[Effect]:
        """Decide that the turn is real, and stop it if the server has not said so before."""
        return [*self._decide_turn(), *self._responses.drop_what_was_cut(), *self._stop_turn(now)]

    def _on_item_added(self, event: ItemAdded, now: float) -> list[Effect]:
        item = event.item
        if item is None:
            return []
        if item.type == "function_call" and item.call_id:
            self._call_rules.named(item.call_id, item.name)
        elif item.role == "user":
            self._turns.name(item.id)
        elif item.type == "message":
            self._responses.line.item_began(item.id)
        return []

    def _on_item_done(self, event: ItemDone, now: float) -> list[Effect]:
        item = event.item
        if item is None:
            return []
        if item.type == "function_call":
            self._call_rules.item_is_done(item, now)
            return []
        if item.role == "assistant":
            return self._responses.item_is_done(item, now)
        words = self._turns.transcripts.take(item) if item.role == "user" else None
        transcript = [UserTranscript(words)] if words else []
        return [*transcript, *self._judge(item, now)]

    def _judge(self, item: ConversationItem, now: float) -> list[Effect]:
        """Decide the turn of the user whose item is done."""
        match self._turns.judge(item):
            case Verdict.NONE:
                return []
            case Verdict.NOISE:
                return self._discard_turn(now)
            case Verdict.REAL:
                # `speech_stopped` may come later, or never.
                return self._end_real_turn(now)
            case Verdict.EARLIER_REAL:
                self._owed.earlier_turn_is_real()
                self._responses.unheard.forget()
                return [*self._confirm(), *self._responses.drop_what_was_cut()]

    def _decide_turn(self, *, answers_typed: bool = True) -> list[Effect]:
        """Decide that the turn is real. It stays open while the user still speaks.

        Args:
            answers_typed: Whether the answer to it is one to what was typed before, too.
        """
        if not self._turns.undecided:
            return []
        confirmed = self._confirm() if self._turns.may_be_noise else []
        if answers_typed:
            self._owed.turn_is_real()
        self._responses.unheard.forget()
        if self._turns.settle():
            self._owed.turn_is_over()
        return confirmed

    def _confirm(self) -> list[Effect]:
        """Tell once that a turn is real, if functions run that wait for it (F4)."""
        return [TurnConfirmed()] if self._calls.may_run else []

    def _discard_turn(self, now: float) -> list[Effect]:
        """Discard the turn as noise: restore what it set aside, and resume the reply (T3)."""
        stopped = self._turns.stop(discarded=True)
        if not self._owed.due_before_turn:
            # Otherwise the user's words before the noise have no answer yet, and are kept.
            self._uplink.mark()
        self._turns.discard()
        self._owed.turn_was_noise(now)
        return [*stopped, TurnDiscarded(), *self._responses.turn_was_noise(now)]

    def understood(self) -> None:
        """Count the user's turn as understood, so that its audio is not sent again."""
        if self._uplink.keeping:
            self._uplink.mark()
            self._turns.count_understood()
            self._owed.understood()
            self._calls.turn_is_answered()

    # What the application wants

    def request(self, now: float) -> list[Effect]:
        """Record that the application wants a reply, and ask for it if the way is free."""
        self._rest.used(now)
        unanswered_turn = self._uplink.keeping and not self._turns.speaking
        self._owed.want(unanswered_turn=unanswered_turn)
        return self.ask(now)

    # Responses

    def _on_response_created(self, event: ResponseCreated, now: float) -> list[Effect]:
        response_id = event.response.id if event.response else None
        return [] if self._responses.line.is_known(response_id) else self._begin(response_id, now)

    def _on_audio_delta(self, event: AudioDelta, now: float) -> list[Effect]:
        effects = self._begin_if_new(event.response_id, now)
        return effects + self._responses.audio(event.response_id, event.delta, now)

    def _on_audio_done(self, event: AudioDone, now: float) -> list[Effect]:
        return self._responses.line.audio_is_whole(event.response_id, now)

    def _on_transcript_delta(self, event: TranscriptDelta, now: float) -> list[Effect]:
        effects = self._begin_if_new(event.response_id, now)
        return effects + self._responses.text(
            event.response_id, event.delta, now, item_id=event.item_id
        )

    def _on_transcript_done(self, event: TranscriptDone, now: float) -> list[Effect]:
        return self._responses.whole_text(
            event.response_id, event.transcript, now, item_id=event.item_id
        )

    def _begin_if_new(self, response_id: str | None, now: float) -> list[Effect]:
        if not self._responses.line.is_first_sign(response_id):
            return []
        return self._begin(response_id, now, announced=False)

    def _begin(
        self, response_id: str | None, now: float, *, announced: bool = True
    ) -> list[Effect]:
        """Begin a response. It decides the user's turn, unless it was due before the turn."""
        self._rest.used(now)
        over_user = self._owed.due_before_turn and self._turns.may_be_spoken_over(now)
        doomed, asked_at = self._owed.announced(over_user=over_user)
        effects = self._responses.replace(
            response_id,
            now,
            asked_at=asked_at,
            sample_rate=self._handshake.expected_sample_rate,
            over_user=over_user,
            announced=announced,
        )
        self._calls.response_began(response_id)
        if over_user:
            self._turns.spoken_over()
        else:
            effects += self._answer_turn()
        return effects + self._responses.begin(doomed=doomed)

    def _answer_turn(self) -> list[Effect]:
        """Record that the server answers the user's turn, which is thereby real."""
        confirmed = self._decide_turn()
        self._turns.answer()
        return confirmed

    def _on_response_done(self, event: ResponseDone, now: float) -> list[Effect]:
        self._rest.used(now)
        info = event.response or ResponseInfo()
        broken_off = info.status == "cancelled" and not self._responses.quiet
        ended = self._responses.done(info, now)
        if ended is None:
            return []
        if ended.current:
            self._owed.heard()
            if broken_off:
                # The server has cancelled it, because the user speaks on in the same turn.
                self._turns.answer(broken_off=True)
        elif not ended.announced:
            self._owed.withdraw()
        if ended.answered and not self._turns.listening:
            self.understood()
        self._calls.complete(info, ended.response_id, now)
        finished = ResponseFinished(info.id, info.status, info.usage, ended.took)
        effects = [*ended.effects, finished, *report_unfinished(info)]
        over = self._turns.may_be_noise and not self._turns.speaking
        if over and info.status == "completed" and ended.current and self._responses.held:
            effects += self._discard_turn(now)
        return effects + self.go_on_after_calls(now)

    # Function calls

    def go_on_after_calls(self, now: float) -> list[Effect]:
        """Want a reply about each batch of calls that is settled, and ask if the way is free."""
        self._call_rules.want_replies(now)
        return self.ask(now)
