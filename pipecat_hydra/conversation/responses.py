"""The responses of a session: which one is current, held, dead, and what of it was not heard.

Theory of operation. At most one response is current; `reply.py` holds what there is to say of
one. It becomes current by `response.created`, or by its first delta should that event be missing.
It ceases to be at `response.done` or when another takes its place. Its id is then retired: nothing
with a retired id ever passes (A5).

A response over which the user begins to speak is held, for nothing is known yet. It may be a
barge-in: the server then cancels the response, completes the user's item, or makes a new
response, and the held one is dead. Or it was noise: what was kept passes, and the response goes on.

A response that was due before the user spoke, and begins while the user speaks, is held as well.
Unless the server cancels it, it is heard when the user has stopped, before the answer to the user.

An interruption by somebody else than the user kills the current response and cancels it by its id
(T4).

A response that was announced and of which nothing comes for long has stalled. It is cancelled by
its id and given up (P1).

What of a response has entered the pipeline lies in the transport for seconds, and an interruption
throws it away. `playback.py` remembers it, so that noise costs the listener nothing: what was cut
is kept here until the turn is decided, and said again if that was noise (T3).

Pure: time is a parameter, in seconds of any monotonic clock. Protocol: §3, §5.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
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
from pipecat_hydra.conversation.playback import Playback
from pipecat_hydra.conversation.reply import Reply
from pipecat_hydra.wire.events import ResponseCancel, ResponseInfo

__all__ = ["EndedResponse", "Responses"]

_REMEMBERED_IDS: Final = 256
# How long before the word that the user has stopped an answer to the user may begin.
_QUICK_SECS: Final = 1.0
# Hydra sends a reply ten times faster than it is spoken (protocol §5).
_STALL_SECS: Final = 12.0


@dataclass(frozen=True, slots=True)
class EndedResponse:
    """What the end of a response comes to.

    Parameters:
        effects: What the pipeline is told.
        response_id: Its id, if it ever had one.
        announced: Whether it was current, or had been. If not, it will not be any more.
        current: Whether it was current.
        answered: Whether it came to its end by itself, and nobody interrupted it.
        took: Seconds from asking to finishing, for a response that ended by itself.
    """

    effects: list[Effect]
    response_id: str | None
    announced: bool = True
    current: bool = False
    answered: bool = False
    took: float | None = None


class Responses:
    """The current response, those that are over, and what of them was not heard."""

    def __init__(self, *, event_ids: EventIds, resume_after_noise: bool):
        """Start with no response.

        Args:
            event_ids: Numbers what is sent.
            resume_after_noise: Whether what noise cut off is said again.
        """
        self._event_ids = event_ids
        self._reply: Reply | None = None
        # When the current response began, if it did while the user spoke.
        self._began_over_user_at: float | None = None
        # When something of the current response came last.
        self._progress_at = 0.0
        self._retired: deque[str] = deque(maxlen=_REMEMBERED_IDS)
        self._finished: deque[str] = deque(maxlen=_REMEMBERED_IDS)
        self._begun = 0
        self._playback = Playback()
        self._resumes_after_noise = resume_after_noise
        # What an interruption, which may be by noise, threw away of what was being played.
        self._unheard: list[AudioChunk | TextChunk] = []
        self._bot_was_heard = False

    #
    # What can be asked
    #

    @property
    def speaking(self) -> bool:
        """Whether a response is in flight that the listener hears."""
        return self._reply is not None and self._reply.active

    @property
    def quiet(self) -> bool:
        """Whether nothing can come any more of the response that there is, if any."""
        return self._reply is None or self._reply.dead

    @property
    def voiced(self) -> bool:
        """Whether audio of the response in flight has entered the pipeline."""
        return self._reply is not None and self._reply.active and self._reply.heard

    @property
    def holds_back(self) -> bool:
        """Whether the user's turn keeps the listener from hearing something."""
        return self.held or bool(self._unheard)

    @property
    def held(self) -> bool:
        """Whether the current response is held."""
        return self._reply is not None and self._reply.held

    @property
    def living(self) -> frozenset[str | None]:
        """The id of the current response, or None for its id; empty if none is alive."""
        return frozenset() if self.quiet else frozenset({self.current_id})

    @property
    def deadline(self) -> float | None:
        """When the current response has stalled; None if it cannot."""
        reply = self._reply
        if reply is None or reply.dead or reply.generated:
            return None
        return self._progress_at + _STALL_SECS

    @property
    def current_id(self) -> str | None:
        """The id of the current response, if there is one and it has an id."""
        return self._reply.id if self._reply is not None else None

    @property
    def is_any(self) -> bool:
        """Whether a response is current."""
        return self._reply is not None

    @property
    def any_begun(self) -> bool:
        """Whether any response has begun in this session."""
        return self._begun > 0

    @property
    def bot_was_heard(self) -> bool:
        """Whether the model has said or done anything in this conversation."""
        return self._bot_was_heard

    #
    # From its beginning to its end
    #

    def is_known(self, response_id: str | None) -> bool:
        """Whether a response that is announced has been before; one without an id has not."""
        return response_id is not None and (
            response_id == self.current_id or response_id in self._retired
        )

    def is_first_sign(self, response_id: str | None) -> bool:
        """Whether a delta belongs to a response that has not begun."""
        if response_id is None or response_id in self._retired:
            return False
        self.adopt(response_id)
        return response_id != self.current_id

    def adopt(self, response_id: str | None) -> None:
        """Take the id that the current response goes by, if it was announced without one."""
        reply = self._reply
        if reply is not None and reply.id is None and response_id not in self._retired:
            reply.id = response_id

    def replace(
        self,
        response_id: str | None,
        now: float,
        *,
        asked_at: float | None,
        sample_rate: int,
        over_user: bool,
    ) -> list[Effect]:
        """Make another response the current one; gives the end of the one before.

        Args:
            response_id: The response; None if the server has not named it.
            now: The time.
            asked_at: When it was asked for, in seconds, if that is known.
            sample_rate: Rate of its audio in Hz, as far as it is known.
            over_user: Whether it was due before the user began to speak, who still speaks. It
                is held.
        """
        effects = [] if over_user else self._resume_what_was_due()
        effects += self._end(interrupted=False)
        self._begun += 1
        self._reply = Reply(response_id, asked_at=asked_at, sample_rate=sample_rate)
        self._progress_at = now
        self._began_over_user_at = now if over_user else None
        if over_user:
            effects += self._reply.hold()
        return effects

    def begin(self, *, doomed: bool) -> list[Effect]:
        """Let the new response be heard, if it is not held; one that is doomed is cancelled."""
        reply = self._reply
        if reply is None:
            return []
        if doomed:
            return [*reply.kill(), self._cancel(reply)]
        return [] if reply.held else [*reply.begin()]

    def audio(self, response_id: str | None, delta: bytes, now: float) -> list[Effect]:
        """Take reply audio; without an id it belongs to the current response."""
        reply = self._reply
        if reply is None or response_id not in (None, reply.id):
            return []
        self._progress_at = now
        return [*reply.audio(delta, now)]

    def text(self, response_id: str | None, delta: str, now: float) -> list[Effect]:
        """Take a phrase; without an id it belongs to the current response."""
        reply = self._reply
        if reply is None or response_id not in (None, reply.id):
            return []
        self._progress_at = now
        return [*reply.text(delta, now)]

    def progressed(self, now: float) -> None:
        """Something other than speech came of the current response, or it waits for others."""
        self._progress_at = now

    def give_up_stalled(self, now: float) -> list[Effect]:
        """Cancel the current response if it has stalled."""
        reply, deadline = self._reply, self.deadline
        if reply is None or deadline is None or now < deadline:
            return []
        message = f"Hydra began a response and did not go on with it for {_STALL_SECS:.0f} s"
        return [*reply.kill(), self._cancel(reply), Report(Severity.WARNING, message)]

    def negotiated(self, sample_rate: int) -> None:
        """The rate of the session's audio is known for sure."""
        if self._reply is not None:
            self._reply.sample_rate = sample_rate

    def done(self, info: ResponseInfo, now: float) -> EndedResponse | None:
        """The server has finished generating a response; None if it has said so before."""
        if info.id is not None:
            if info.id in self._finished:
                return None
            self._finished.append(info.id)
        self.adopt(info.id)
        reply = self._reply
        if reply is None or info.id not in (None, reply.id):
            announced = info.id is None or info.id in self._retired
            if info.id is not None and not announced:
                self._retired.append(info.id)
            return EndedResponse([], info.id, announced=announced)
        cancelled = info.status == "cancelled"
        took = None
        if not cancelled and reply.asked_at is not None:
            took = max(0.0, now - reply.asked_at)
        return EndedResponse(
            self._generated(reply, cancelled=cancelled),
            reply.id,
            current=True,
            answered=info.status == "completed" and reply.active,
            took=took,
        )

    def _generated(self, reply: Reply, *, cancelled: bool) -> list[Effect]:
        """Generation has ended; what is held stays until the user's turn is decided."""
        if reply.held and not cancelled:
            reply.generated = True
            return []
        # The server has dropped what the listener still hears, with nobody speaking.
        flush = cancelled and reply.active and reply.heard
        if cancelled:
            self._unheard = []
        effects = self._end(interrupted=cancelled)
        return [*effects, Flush()] if flush else effects

    def _end(self, *, interrupted: bool) -> list[Effect]:
        """The current response is over: nothing with its id passes any more."""
        reply, self._reply = self._reply, None
        if reply is None:
            return []
        if reply.id is not None:
            self._retired.append(reply.id)
        return [*reply.close(interrupted=interrupted)]

    def disconnected(self) -> list[Effect]:
        """The session is gone: ids mean nothing beyond it."""
        effects = self._end(interrupted=True)
        self._unheard = []
        self._begun = 0
        self._retired.clear()
        self._finished.clear()
        return effects

    #
    # User turns and interruptions
    #

    def turn_started(self) -> list[Effect]:
        """The user begins to speak: hold what is in flight."""
        # One that began over an earlier turn is cut by this one like any other.
        self._began_over_user_at = None
        self._playback.turn_started()
        return [*self._reply.hold()] if self._reply is not None and self._reply.active else []

    def turn_stopped(self, now: float) -> tuple[list[Effect], bool]:
        """The user has stopped: let be heard what began over the user, for nobody has cancelled it.

        Returns:
            What the pipeline is told; and whether the user is answered already, for the answer
            may be quicker than the word that the turn is over.
        """
        reply, began_at = self._reply, self._began_over_user_at
        if reply is None:
            return [], False
        if reply.held and began_at is not None:
            # If it began long ago, it is what was due before.
            return self._resume(reply), now - began_at < _QUICK_SECS
        return [], reply.active

    def turn_is_real(self) -> None:
        """What the user's turn cut stays cut."""
        self._unheard = []

    def drop_what_was_cut(self) -> list[Effect]:
        """A real turn cut the response that is held, unless that began while the user spoke."""
        reply = self._reply
        if reply is None or not reply.held or self._began_over_user_at is not None:
            return []
        return [*reply.kill()]

    def turn_was_noise(self) -> list[Effect]:
        """Go on as if the user had not been heard: what was not heard first, then what was held."""
        reply = self._reply
        if reply is None or not reply.held:
            return self.say_again()
        return self._resume(reply, self._take_unheard())

    def say_again(self) -> list[Effect]:
        """Say what an interruption that was none threw away."""
        unheard = self._take_unheard()
        if not unheard:
            return []
        if self._reply is not None:
            return [*self._reply.say_again(unheard)]
        # It had been generated whole; only its playing was interrupted.
        finished = Reply(None, asked_at=None, sample_rate=0)
        return [*finished.resume(unheard), *finished.close(interrupted=False)]

    def cut(self, now: float, *, answered: bool = False) -> None:
        """The pipeline throws away what it has not played.

        Args:
            now: The time.
            answered: Whether it does so for the user's last turn, which is answered already: only
                the answer is kept.
        """
        unheard = self._playback.cut(now, since_turn=answered)
        if answered:
            self._unheard = unheard
        elif self._resumes_after_noise:
            self._unheard += unheard

    def cancel(self) -> list[Effect]:
        """Stop the current response for good, at the server and in what is being played."""
        self._playback.clear()
        self._unheard = []
        reply = self._reply
        if reply is None or reply.dead:
            return [Discard()]
        effects: list[Effect] = [Discard(), *reply.kill()]
        return effects if reply.generated else [*effects, self._cancel(reply)]

    def _cancel(self, reply: Reply) -> Effect:
        return Send(ResponseCancel(response_id=reply.id, event_id=self._event_ids.next()))

    def _resume_what_was_due(self) -> list[Effect]:
        """Let be heard what began while the user spoke, is generated whole and not cancelled."""
        reply = self._reply
        if reply is None or not (reply.held and reply.generated):
            return []
        return [] if self._began_over_user_at is None else self._resume(reply)

    def _resume(self, reply: Reply, unheard: Sequence[AudioChunk | TextChunk] = ()) -> list[Effect]:
        """Go on with the current reply, which was held, and end it if there is no more of it."""
        effects: list[Effect] = [*reply.resume(unheard)]
        return effects + (self._end(interrupted=False) if reply.generated else [])

    def _take_unheard(self) -> list[AudioChunk | TextChunk]:
        unheard, self._unheard = self._unheard, []
        return unheard

    #
    # Playing
    #

    def note(self, effect: Effect, now: float) -> None:
        """Take note of what the pipeline is told."""
        match effect:
            case VoiceStarted() | ToolCalls():
                self._bot_was_heard = True
            case AudioChunk() | TextChunk():
                self._playback.add(effect, now)
            case VoiceEnded():
                self._playback.end()
            case Flush():
                self._playback.clear()
            case _:
                pass

    def bot_started(self, now: float) -> None:
        """The listener begins to hear the bot, as the output transport reports it."""
        self._playback.started(now)

    def bot_stopped(self) -> None:
        """The listener has heard the bot to the end, or up to an interruption."""
        self._playback.stopped()

    def forget_playback(self) -> None:
        """Forget what was said so far: it will not be told whether it was heard."""
        self._playback.clear()
