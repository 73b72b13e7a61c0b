"""When the user speaks, and whether what was heard was a turn or noise.

Theory of operation. `speech_started` opens a turn and `speech_stopped` stops it. A turn is also
stopped when its item is done, when another turn opens, and when the connection is lost, so
that each `UserStarted` is followed by exactly one `UserStopped` (T2).

A turn is decided when its item is done or a response begins. If the item is `completed`, or the
turn is answered, the turn was real, and stays so. If the item is `incomplete`, the turn was noise,
and all goes on as if it had not been (T3). Another turn may open before one is decided. The item of
the earlier turn is remembered: if that turn proves real, what it interrupted stays interrupted,
whatever becomes of the later turn.

The server may answer a turn before it sends `speech_stopped`, which may then come after the answer
is done, or never. Such a turn owes no response and blocks nothing. The user counts as not speaking
in it, unless the server breaks its answer off.

A response that was due before the turn may begin *over* the user. A server that hears the user
speak cancels it. If the server goes on with it for a while after the turn began, the turn is
answered. A response that begins later than that is the answer in any case.

Each turn has an end (P1). A turn that does not stop is taken for stopped after a bound. A turn
that is over and is never decided is taken for noise after a while; the while is shorter when the
turn keeps the listener from hearing something.

The pipeline answers a `UserStarted` with an interruption of its own. So the first interruption
within a turn, or within a second of its start, is that echo, and does not count as an interruption
by somebody else. The echo may come after the turn was discarded, when all events came in one burst.

User turns that a session did not answer are sent again to the next one. During this *replay*, and
for a while after it, the server may find a turn in the audio. Nothing is asked of the model until a
turn opens in the replay, or the replay ends without one.

Pure: time is a parameter, in seconds of any monotonic clock. Protocol: §5.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from pipecat_hydra.conversation.deadlines import earliest
from pipecat_hydra.conversation.effects import Effect, UserStopped
from pipecat_hydra.conversation.transcripts import Transcripts
from pipecat_hydra.wire.events import ConversationItem

__all__ = ["UserTurns", "Verdict"]

_ECHO_SECS: Final = 1.0
_REPLAY_SECS: Final = 3.0
# How long after its end a turn may be decided: if it holds nothing back, and if it does.
_DECIDE_SECS: Final = 8.0
_DECIDE_SOON_SECS: Final = 3.0
# How long after the start of a turn a response that was due before may begin, or be cancelled.
_SPOKEN_OVER_SECS: Final = 3.0
_UNDECIDED_TURNS: Final = 8


class Verdict(Enum):
    """What an item that is done says about the user's turns."""

    NONE = auto()
    """Nothing: the item is not the user's, or its turn is decided already."""
    REAL = auto()
    """The turn is real."""
    NOISE = auto()
    """The turn was noise."""
    EARLIER_REAL = auto()
    """A turn before the open one is real."""


@dataclass(slots=True)
class _Turn:
    """The user's turn that is open or not yet decided."""

    item_id: str | None
    began_at: float
    stops_by: float
    speaking: bool = True
    real: bool = False
    answered: bool = False
    # When it counts as answered by the response that began over it; None if none did.
    answered_by: float | None = None
    # When it is taken for noise, unless it is decided before; None while the user speaks.
    decided_by: float | None = None
    # The items of turns before it that are not decided either.
    earlier: tuple[str, ...] = ()


class UserTurns:
    """The user's turns: started, stopped, decided."""

    def __init__(self, *, longest_turn_secs: float = 60.0) -> None:
        """Start with a user who is silent.

        Args:
            longest_turn_secs: After how long a turn that does not stop is taken for stopped.
        """
        self._longest_turn = longest_turn_secs
        self._turn: _Turn | None = None
        self._echo_due_until: float | None = None
        self._was_noise = False
        self._replay_until: float | None = None
        self._understood = 0
        self.transcripts: Final = Transcripts()
        """What the user has said in words, as far as the server gives them."""

    @property
    def undecided(self) -> bool:
        """Whether a turn is open, or over and not decided."""
        return self._turn is not None

    @property
    def may_be_noise(self) -> bool:
        """Whether a turn is open, or over, and may be noise."""
        return self._turn is not None and not self._turn.real

    @property
    def speaking(self) -> bool:
        """Whether the user speaks, as far as the server has said."""
        return self._turn is not None and self._turn.speaking

    @property
    def answered(self) -> bool:
        """Whether the server has answered the turn that is open."""
        return self._turn is not None and self._turn.answered

    @property
    def listening(self) -> bool:
        """Whether the user speaks and is not answered yet."""
        return self.speaking and not self.answered

    @property
    def was_noise(self) -> bool:
        """Whether the last turn was noise, and nobody has interrupted the bot since."""
        return self._was_noise

    @property
    def understood(self) -> int:
        """How many turns are understood: their audio is not sent to another session."""
        return self._understood

    @property
    def replaying(self) -> bool:
        """Whether a replay goes on, in which a turn may still open."""
        return self._replay_until is not None

    @property
    def deadline(self) -> float | None:
        """When the replay ends, or the turn is answered, ends or is decided; None for never."""
        turn = self._turn
        if turn is None:
            return self._replay_until
        if turn.speaking:
            return earliest(self._replay_until, turn.answered_by, turn.stops_by)
        return earliest(self._replay_until, turn.decided_by)

    def is_open(self, item_id: str | None) -> bool:
        """Whether an item is that of the turn in which the user speaks."""
        turn = self._turn
        return turn is not None and turn.speaking and bool(item_id) and item_id == turn.item_id

    def start(self, item_id: str | None, now: float) -> list[Effect]:
        """Open a turn, and return the stop of the one before, if that was open."""
        before = self._turn
        self.transcripts.turn_started()
        stopped = self.stop(discarded=False)
        self._turn = _Turn(item_id, began_at=now, stops_by=now + self._longest_turn)
        if before is not None and before.item_id is not None and not before.real:
            self._turn.earlier = (*before.earlier, before.item_id)[-_UNDECIDED_TURNS:]
        self._replay_until = None
        self._echo_due_until = now + _ECHO_SECS
        self._was_noise = False
        return stopped

    def stop(self, *, discarded: bool, silence_secs: float = 0.0) -> list[Effect]:
        """Stop the open turn; it is still to be decided.

        Args:
            discarded: Whether the turn is known to be noise.
            silence_secs: How long the server had heard silence by then, as far as known.
        """
        if self._turn is None or not self._turn.speaking:
            return []
        self._turn.speaking = False
        return [UserStopped(discarded, silence_secs)]

    def name(self, item_id: str | None) -> None:
        """Set the item of a turn that began without one."""
        if self._turn is not None and self._turn.item_id is None:
            self._turn.item_id = item_id

    def judge(self, item: ConversationItem) -> Verdict:
        """Return what an item that is done decides; forget the earlier turns that it decides."""
        turn = self._turn
        if turn is None:
            return Verdict.NONE
        # An item without its role may be the user's all the same.
        nameless = item.role is None and item.id is not None and item.id == turn.item_id
        if item.role != "user" and not nameless:
            return Verdict.NONE
        real = item.status != "incomplete"
        if not (item.id and turn.item_id) or item.id == turn.item_id:
            if turn.real and not real:
                return Verdict.NONE
            return Verdict.REAL if real else Verdict.NOISE
        if item.id not in turn.earlier:
            return Verdict.NONE
        if not real:
            turn.earlier = tuple(i for i in turn.earlier if i != item.id)
            return Verdict.NONE
        turn.earlier = ()
        return Verdict.EARLIER_REAL

    def settle(self) -> bool:
        """Decide that the turn is real. Return whether it is over; if not, it is still to stop."""
        if self._turn is not None:
            self._turn.real = True
            if not self._turn.speaking:
                self._turn = None
        return self._turn is None

    def answer(self, *, broken_off: bool = False) -> None:
        """Record that the server answers the open turn, or breaks the answer off."""
        if self.speaking and self._turn is not None:
            self._turn.answered = not broken_off
            self._turn.answered_by = None

    def may_be_spoken_over(self, now: float) -> bool:
        """Whether a response that begins now may be one that was due before the open turn."""
        turn = self._turn
        return turn is not None and turn.speaking and now < turn.began_at + _SPOKEN_OVER_SECS

    def spoken_over(self) -> None:
        """Record that a response that was due before the open turn has begun over it."""
        if self._turn is not None:
            self._turn.answered_by = self._turn.began_at + _SPOKEN_OVER_SECS

    def is_answered_over(self, now: float) -> bool:
        """Whether the server goes on for so long over the open turn that this is the answer."""
        answered_by = self._turn.answered_by if self.speaking and self._turn is not None else None
        return answered_by is not None and now >= answered_by

    def is_too_long(self, now: float) -> bool:
        """Whether the open turn has lasted so long that it is to be taken for stopped."""
        return self._turn is not None and self._turn.speaking and now >= self._turn.stops_by

    def await_decision(self, now: float, *, soon: bool) -> None:
        """Set the time by which the turn, which is over, has to be decided.

        Args:
            now: The time.
            soon: Whether the turn holds parts back that the listener is to hear if it was noise.
        """
        if self._turn is not None and not self._turn.speaking:
            self._turn.decided_by = now + (_DECIDE_SOON_SECS if soon else _DECIDE_SECS)

    def is_never_decided(self, now: float) -> bool:
        """Whether the turn is over, and was not decided in time."""
        decided_by = self._turn.decided_by if self._turn is not None else None
        return decided_by is not None and now >= decided_by

    def discard(self) -> None:
        """Forget the turn, because it was noise."""
        self._turn = None
        self._was_noise = True

    def echo_is_due(self, now: float) -> bool:
        """Whether an interruption now is the echo of a turn's start."""
        due_until = self._echo_due_until
        return due_until is not None and (self.speaking or now <= due_until)

    def take_echo(self, now: float) -> bool:
        """Return whether an interruption is the echo of a turn's start; each start has one."""
        is_echo = self.echo_is_due(now)
        self._echo_due_until = None
        return is_echo

    def interrupted(self) -> None:
        """Record an interruption by somebody else: a reply that noise cut before stays cut."""
        self._was_noise = False

    def count_understood(self) -> None:
        """Count one more turn as understood: answered, or never to be."""
        self._understood += 1
        self.transcripts.understood()

    def replay(self, secs: float, now: float) -> None:
        """Begin a replay: the user's audio is sent again from now on.

        Args:
            secs: How much of it there is, in seconds.
            now: The time.
        """
        # It is sent at twice real time, and audio that comes meanwhile waits behind it.
        self._replay_until = now + secs + _REPLAY_SECS

    def take_replayed(self, now: float) -> bool:
        """Return, once, whether the replay has ended by now without a turn in it."""
        if self._replay_until is None or now < self._replay_until:
            return False
        self._replay_until = None
        return True

    def disconnected(self) -> None:
        """Forget the turn, because the connection is gone. Its echo may still come."""
        self._turn = None
        self.transcripts.disconnected()
        self._replay_until = None
