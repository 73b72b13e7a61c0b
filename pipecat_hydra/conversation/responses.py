"""The responses of a session: which are heard, held or dead, and what is said of them.

Theory of operation. `reply.py` describes a single response, and `reply_line.py` how one follows
another. This module says what the user and others do to the current one.

A response over which the user begins to speak is held, because it is not known yet whether the user
interrupts it. If this is a barge-in, the server cancels the response, completes the user's item or
begins a new response, and the held response is dead. If it is noise, the parts that were kept back
pass, and the response goes on.

A response that was due before the user spoke, and begins while the user speaks, is held as well.
Unless the server cancels it, it is heard when the user has stopped, before the answer to the user.
It may also be that answer, quicker than the word that the user has stopped. So one that nobody
wants to hear, for somebody has interrupted what was due, is cancelled only when the user has
stopped and it has turned out not to be the answer.

An interruption by somebody other than the user kills the current response and cancels it by its id
(T4).

A response that was announced and then stops arriving has stalled. After a while it is cancelled by
its id and given up (P1). A response whose calls are answered and not to be spoken about need not
be done before the model is asked to speak (protocol §6). It rests when nothing comes of it for a
moment.

The audio of a response waits in the transport for seconds, and an interruption throws it away.
`playback.py` remembers it, so that noise costs the listener nothing: `unheard.py` keeps the parts
that were cut until the turn is decided, and they are said again if the turn was noise (T3).

Pure: time is a parameter, in seconds of any monotonic clock. Protocol: §3, §5.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

from pipecat_hydra.conversation.effects import (
    AudioChunk,
    Discard,
    Effect,
    Flush,
    Report,
    Send,
    Severity,
    TextChunk,
    ToolCalls,
    VoiceEnded,
    VoiceStarted,
)
from pipecat_hydra.conversation.event_ids import EventIds
from pipecat_hydra.conversation.joined_audio import JoinedAudio
from pipecat_hydra.conversation.playback import Playback
from pipecat_hydra.conversation.reply import STALL_SECS, Reply
from pipecat_hydra.conversation.reply_line import EndedResponse, ReplyLine
from pipecat_hydra.conversation.unheard import Unheard
from pipecat_hydra.wire.events import (
    AudioDelta,
    ConversationItem,
    ResponseCancel,
    ResponseInfo,
)

__all__ = ["Responses"]

# How long before `speech_stopped` an answer to the user may begin.
_QUICK_SECS: Final = 1.0


class Responses:
    """The responses of a conversation.

    It has a little more than 350 lines: half of them say what can be asked and what a step does.
    """

    def __init__(
        self, *, event_ids: EventIds, resume_after_noise: bool, joined_audio_secs: float = 0.0
    ):
        """Start with no response.

        Args:
            event_ids: Numbers what is sent.
            resume_after_noise: Whether the parts that noise cut off are said again.
            joined_audio_secs: How much audio is joined to one chunk, in seconds; see `JoinedAudio`.
        """
        self._event_ids = event_ids
        self.line: Final = ReplyLine()
        """The current response, the next one, and the ids of those that are over."""
        self._begun = 0
        self.playback: Final = Playback()
        """What is being played, as the output transport reports it."""
        self._new_joined = partial(JoinedAudio, self.playback, chunk_secs=joined_audio_secs)
        self.unheard: Final = Unheard(self.playback, resume_after_noise=resume_after_noise)
        """The parts that an interruption, which may be by noise, threw away unplayed."""
        self._bot_was_heard = False

    # What can be asked

    @property
    def speaking(self) -> bool:
        """Whether a response is in flight that the listener hears, and does not rest."""
        return (
            self.line.current is not None
            and self.line.current.active
            and not self.line.current.rests
        )

    @property
    def heard_at(self) -> float | None:
        """When the last part of the response in flight came; None if none is in flight."""
        return (
            self.line.current.progress_at
            if self.line.current is not None and self.speaking
            else None
        )

    def may_go_on(self, now: float) -> bool:
        """Whether the last audio of the current response may come, although that is done."""
        return self.line.current is not None and self.line.current.may_go_on(now)

    @property
    def quiet(self) -> bool:
        """Whether no response is current, or the current one is dead or rests."""
        return self.line.current is None or self.line.current.dead or self.line.current.rests

    @property
    def voiced(self) -> bool:
        """Whether audio of the response in flight has entered the pipeline."""
        return (
            self.line.current is not None and self.line.current.active and self.line.current.heard
        )

    @property
    def holds_back(self) -> bool:
        """Whether a response is held, or parts that the user's turn cut wait to be said again."""
        return self.held or self.unheard.is_any

    @property
    def held(self) -> bool:
        """Whether the current response is held."""
        return self.line.current is not None and self.line.current.held

    @property
    def living(self) -> frozenset[str | None]:
        """The id of the current response, or None if it has no id; empty if none is alive."""
        return frozenset() if self.quiet else frozenset({self.current_id})

    @property
    def deadline(self) -> float | None:
        """When the current response rests, counts as stalled or gives its place to the next."""
        return self.line.deadline

    @property
    def current_id(self) -> str | None:
        """The id of the current response, if there is one and it has an id."""
        return self.line.current.id if self.line.current is not None else None

    @property
    def is_any(self) -> bool:
        """Whether a response is current: it goes on, or parts of it may still come."""
        return self.line.current is not None

    @property
    def any_begun(self) -> bool:
        """Whether any response has begun in this session."""
        return self._begun > 0

    @property
    def bot_was_heard(self) -> bool:
        """Whether the model has said anything or called a function in this conversation."""
        return self._bot_was_heard

    # From its beginning to its end

    def replace(
        self,
        response_id: str | None,
        now: float,
        *,
        asked_at: float | None,
        sample_rate: int,
        over_user: bool,
        announced: bool = True,
    ) -> list[Effect]:
        """Make another response the current one or the next, and return what that ends.

        Args:
            response_id: The response; None if the server has not named it.
            now: The time.
            asked_at: When it was asked for, in seconds, if that is known.
            sample_rate: Rate of its audio in Hz, as far as it is known.
            over_user: Whether it was due before the user began to speak, who still speaks. It
                is held.
            announced: Whether `response.created` came, and not only a delta.
        """
        self._begun += 1
        reply = Reply(
            response_id,
            asked_at=asked_at,
            sample_rate=sample_rate,
            joined=self._new_joined(),
            now=now,
        )
        reply.announced = announced
        effects = self.line.advance(now)
        if not over_user:
            effects += self._resume_what_was_due(now)
        effects += self.line.put(reply)
        if over_user:
            reply.began_over_user_at = now
            effects += reply.hold()
        return effects

    def begin(self, *, doomed: bool) -> list[Effect]:
        """Open the bracket of the new response unless it is held; cancel it if it is doomed."""
        reply = self.line.current
        if reply is None or self.line.is_any_next:
            return []
        reply.doomed = doomed
        if doomed and not reply.held:
            return self._drop(reply)
        return [] if reply.held else [*reply.begin()]

    def go_on(self, event: AudioDelta, now: float) -> AudioChunk | float | None:
        """Take audio of the response that is being said.

        Afterwards nothing is due earlier than before, except audio in hand.

        Returns:
            The audio that passes; or when what is in hand is due; or None if nothing was done, and
            the event must go the long way.
        """
        reply = self.line.current
        if reply is None or (said := reply.go_on(event, now)) is None:
            return None
        reply.progress_at = now
        if isinstance(said, AudioChunk):
            self.playback.add(said, now)
        return said

    @property
    def audio_deadline(self) -> float | None:
        """When audio in hand must be passed on; None if there is none."""
        return self.line.current.joined.deadline if self.line.current is not None else None

    def take_due_audio(self, now: float) -> list[AudioChunk]:
        """Pass on the audio in hand if the listener has nearly heard what came before."""
        return self.line.current.joined.take_due(now) if self.line.current is not None else []

    def audio(self, response_id: str | None, delta: bytes, now: float) -> list[Effect]:
        """Take reply audio; without an id it belongs to the current response."""
        reply = self.line.find(response_id)
        if reply is None or (reply.generated and reply.audio_is_whole):
            return []
        return [*self.line.wake(reply, now), *reply.audio(delta, now)]

    def text(
        self, response_id: str | None, delta: str, now: float, *, item_id: str | None = None
    ) -> list[Effect]:
        """Take a phrase; without an id it belongs to the current response."""
        reply = self.line.find(response_id)
        if reply is None or not delta or not reply.texts.is_new_phrase(item_id, delta):
            return []
        return [*self.line.wake(reply, now), *reply.text(delta, now)]

    def whole_text(
        self, response_id: str | None, text: str, now: float, *, item_id: str | None
    ) -> list[Effect]:
        """Take the whole text of an item, unless it has come before, in phrases or whole."""
        reply = self.line.find(response_id)
        return [] if reply is None else self._take_whole(reply, item_id, text, now)

    def _take_whole(self, reply: Reply, item_id: str | None, text: str, now: float) -> list[Effect]:
        rest = reply.texts.rest_of(item_id, text) if text else ""
        return [*self.line.wake(reply, now), *reply.text(rest, now)] if rest else []

    def item_is_done(self, item: ConversationItem, now: float) -> list[Effect]:
        """Take the text of an item that the model has said, if the item has any."""
        reply = self.line.of_item(item.id)
        if reply is None or item.status not in (None, "completed"):
            return []
        return self._take_whole(reply, item.id, item.words, now)

    def progressed(self, now: float) -> None:
        """Record that the current response has not stalled, although no audio or text came."""
        if self.line.current is not None and not self.line.is_any_next:
            self.line.current.progress_at = now

    def calls_are_settled(self, response_id: str | None, now: float) -> None:
        """Let a response rest, if it is current: no reply about its calls is wanted."""
        if self.line.current is not None and self.line.current.id == response_id:
            self.line.current.may_rest = True
            self.line.current.progress_at = now

    def give_up_stalled(self, now: float) -> list[Effect]:
        """Cancel the current response if it has stalled, or let it rest if it may.

        If another one is next, that takes its place instead: the user has interrupted this one.
        """
        reply, deadline = self.line.current, self.deadline
        if reply is None or deadline is None or now < deadline:
            return []
        if self.line.is_any_next:
            self.unheard.forget()
            return self.line.supersede(now)
        if reply.may_rest and reply.active:
            return [*reply.rest()]
        message = f"Hydra began a response and did not go on with it for {STALL_SECS:.0f} s"
        return [*self._drop(reply), Report(Severity.WARNING, message)]

    def negotiated(self, sample_rate: int) -> None:
        """Set the sample rate of the current response to the one that the session has."""
        if self.line.current is not None:
            self.line.current.sample_rate = sample_rate

    def done(self, info: ResponseInfo, now: float) -> EndedResponse | None:
        """End a response that the server has finished; return None if it had ended before."""
        was_announced = self.line.was_announced(info.id)
        reply, is_new = self.line.done(info.id)
        if not is_new:
            return None
        if reply is None:
            return EndedResponse([], info.id, announced=was_announced)
        is_cancelled = info.status == "cancelled"
        took = None
        if not is_cancelled and reply.asked_at is not None:
            took = max(0.0, now - reply.asked_at)
        answered = info.status == "completed" and reply.active
        if is_cancelled:
            self.unheard.forget()
        effects: list[Effect] = []
        for item in () if is_cancelled else info.output or ():
            if item.type == "message":
                effects += self._take_whole(reply, item.id, item.words, now)
        effects += self.line.generated(reply, info.status, now)
        return EndedResponse(effects, reply.id, current=True, answered=answered, took=took)

    def disconnected(self) -> list[Effect]:
        """End the current response and forget all ids: the session is gone."""
        self.unheard.forget()
        self._begun = 0
        return self.line.clear()

    # User turns and interruptions

    def turn_started(self, now: float) -> list[Effect]:
        """Hold the current response, because the user begins to speak."""
        self.playback.turn_started()
        effects = self.line.turn_started(now)
        reply = self.line.current
        if reply is None:
            return effects
        if reply.held and reply.doomed:
            # It could have been the answer to an earlier turn only, which this one interrupts.
            return [*effects, *self._drop(reply)]
        # One that began over an earlier turn is cut by this one like any other.
        reply.began_over_user_at = None
        return [*effects, *reply.hold()] if reply.active else effects

    def turn_stopped(self, now: float) -> tuple[list[Effect], bool]:
        """Resume a response that began while the user spoke, now that the user has stopped.

        Returns:
            The effects; and whether the answer has begun already, before `speech_stopped`.
        """
        reply = self.line.current
        if reply is None:
            return [], False
        if reply.held and (began_at := reply.began_over_user_at) is not None:
            # A response that began earlier was due before the turn, and is no answer to it.
            is_answer = now - began_at < _QUICK_SECS
            is_dropped = reply.doomed and not is_answer
            return self._drop(reply) if is_dropped else self._resume(reply, now), is_answer
        return [], reply.active

    def drop_what_was_cut(self) -> list[Effect]:
        """Kill the held response, because the turn is real, unless it began during the turn."""
        reply = self.line.current
        if reply is None or not reply.held or reply.began_over_user_at is not None:
            return []
        return [*reply.kill()]

    def turn_was_noise(self, now: float) -> list[Effect]:
        """Resume the reply after noise: first the parts not heard, then the parts kept back."""
        reply = self.line.current
        if reply is None or not reply.held:
            return self.say_again()
        if reply.doomed:
            return self._drop(reply)
        return self._resume(reply, now, self.unheard.take())

    def say_again(self) -> list[Effect]:
        """Say the parts again that noise threw away."""
        unheard = self.unheard.take()
        if not unheard:
            return []
        reply = self.line.current
        if reply is not None and not (reply.active and reply.rests):
            return [*reply.say_again(unheard)]
        # The response is over; only its playing was interrupted.
        finished = Reply(None, asked_at=None, sample_rate=0, joined=self._new_joined())
        return [*finished.resume(unheard), *finished.close(interrupted=False)]

    def cancel(self) -> list[Effect]:
        """Stop the current response for good, at the server and in the pipeline."""
        self.playback.clear()
        self.unheard.forget()
        effects: list[Effect] = [Discard()]
        for reply in self.line.take_all():
            effects += [] if reply.dead else self._drop(reply)
        return effects

    def _drop(self, reply: Reply) -> list[Effect]:
        """Let no more of a response be heard, and cancel what is still to be generated."""
        effects: list[Effect] = [*reply.kill()]
        if not reply.generated:
            cancel = ResponseCancel(response_id=reply.id, event_id=self._event_ids.next())
            effects.append(Send(cancel))
        return effects

    def _resume_what_was_due(self, now: float) -> list[Effect]:
        """Resume the held response if it began while the user spoke and is generated whole."""
        reply = self.line.current
        if reply is None or not (reply.held and reply.generated) or reply.doomed:
            return []
        return [] if reply.began_over_user_at is None else self._resume(reply, now)

    def _resume(
        self, reply: Reply, now: float, unheard: Sequence[AudioChunk | TextChunk] = ()
    ) -> list[Effect]:
        """Resume the current reply, which was held; its last parts may come after its end."""
        effects: list[Effect] = [*reply.resume(unheard)]
        return effects + (self.line.finish(reply, now) if reply.generated else [])

    # Playing

    def note(self, effect: Effect, now: float) -> None:
        """Record an effect that goes to the pipeline."""
        match effect:
            case VoiceStarted() | ToolCalls():
                self._bot_was_heard = True
            case AudioChunk() | TextChunk():
                self.playback.add(effect, now)
            case VoiceEnded():
                self.playback.end()
            case Flush():
                self.playback.clear()
            case _:
                pass
