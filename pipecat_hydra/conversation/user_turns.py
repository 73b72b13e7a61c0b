"""When the user speaks, and whether what was heard was a turn or noise.

Theory of operation. `speech_started` opens a turn and `speech_stopped` stops it. A turn is also
stopped by its item being discarded, by another turn opening, and by the loss of the connection,
so that each `UserStarted` is followed by exactly one `UserStopped` (T2).

A turn is decided when its item is done or a response begins. `completed` or answered, it was
real. `incomplete`, it was noise, and all goes on as if it had not been (T3). Another turn may
open before one is decided. The item of the earlier one is remembered: if it turns out real, what
it interrupted stays interrupted, whatever becomes of the turn after it.

The pipeline answers a `UserStarted` with an interruption of its own. So the first interruption
within a turn, or within a second of its start, is that echo, and is no interruption by anybody
else. The echo may come after the turn was discarded, when all events came in one burst.

What the user said and the session before did not answer is sent again by the next one. Until
that was heard, plus a while, the user may be found to speak in it: the replay. Nothing is asked of
the model until a turn opens in the replay, or the replay ends without one.

Pure: time is a parameter, in seconds of any monotonic clock. Protocol: §5.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from pipecat_hydra.conversation.effects import Effect, UserStopped
from pipecat_hydra.wire.events import ConversationItem

__all__ = ["UserTurns", "Verdict"]

_ECHO_SECS: Final = 1.0
_REPLAY_SECS: Final = 3.0
_UNDECIDED_TURNS: Final = 8


class Verdict(Enum):
    """What an item that is done says of the user's turns."""

    NONE = auto()
    """Nothing: it is not the user's, or of a turn that is decided."""
    REAL = auto()
    """The turn was one."""
    NOISE = auto()
    """The turn was none."""
    EARLIER_REAL = auto()
    """A turn before the one that is open was one."""


@dataclass(slots=True)
class _Turn:
    """The user's turn that is open or not yet decided."""

    item_id: str | None
    speaking: bool = True
    # The items of turns before it that are not decided either.
    earlier: tuple[str, ...] = ()


class UserTurns:
    """The user's turns: started, stopped, decided."""

    def __init__(self) -> None:
        """Start with a user who is silent."""
        self._turn: _Turn | None = None
        self._echo_due_until: float | None = None
        self._was_noise = False
        self._replay_until: float | None = None
        self._understood = 0

    @property
    def undecided(self) -> bool:
        """Whether a turn is open, or over and not decided."""
        return self._turn is not None

    @property
    def speaking(self) -> bool:
        """Whether the user speaks."""
        return self._turn is not None and self._turn.speaking

    @property
    def was_noise(self) -> bool:
        """Whether the last turn was noise, and nobody has interrupted the bot since."""
        return self._was_noise

    @property
    def understood(self) -> int:
        """How many turns the user has spoken that no other session hears."""
        return self._understood

    @property
    def replaying(self) -> bool:
        """Whether the user may still be found to speak in what is sent again."""
        return self._replay_until is not None

    @property
    def deadline(self) -> float | None:
        """When the replay ends; None if there is none."""
        return self._replay_until

    def is_open(self, item_id: str | None) -> bool:
        """Whether the turn of that item is the one in which the user speaks."""
        turn = self._turn
        return turn is not None and turn.speaking and bool(item_id) and item_id == turn.item_id

    def start(self, item_id: str | None, now: float) -> list[Effect]:
        """Open a turn; gives the stop of the one before, if that was open."""
        before = self._turn
        stopped = self.stop(discarded=False)
        self._turn = _Turn(item_id)
        if before is not None and before.item_id is not None:
            self._turn.earlier = (*before.earlier, before.item_id)[-_UNDECIDED_TURNS:]
        self._replay_until = None
        self._echo_due_until = now + _ECHO_SECS
        self._was_noise = False
        return stopped

    def stop(self, *, discarded: bool, silence_secs: float = 0.0) -> list[Effect]:
        """The user stops speaking; the turn is still to be decided.

        Args:
            discarded: Whether the turn is known to be noise.
            silence_secs: How long the server had heard silence by then, as far as known.
        """
        if self._turn is None or not self._turn.speaking:
            return []
        self._turn.speaking = False
        return [UserStopped(discarded, silence_secs)]

    def name(self, item_id: str | None) -> None:
        """Take the item of a turn that began without one."""
        if self._turn is not None and self._turn.item_id is None:
            self._turn.item_id = item_id

    def judge(self, item: ConversationItem) -> Verdict:
        """Say what an item that is done decides; an earlier turn is forgotten by that."""
        turn = self._turn
        if turn is None:
            return Verdict.NONE
        # An item without its role may be the user's all the same.
        nameless = item.role is None and item.id is not None and item.id == turn.item_id
        if item.role != "user" and not nameless:
            return Verdict.NONE
        real = item.status != "incomplete"
        if not (item.id and turn.item_id) or item.id == turn.item_id:
            return Verdict.REAL if real else Verdict.NOISE
        if item.id not in turn.earlier:
            return Verdict.NONE
        if not real:
            turn.earlier = tuple(i for i in turn.earlier if i != item.id)
            return Verdict.NONE
        turn.earlier = ()
        return Verdict.EARLIER_REAL

    def settle(self) -> bool:
        """The turn is real. Returns whether it is over; else it stays open, to be stopped."""
        if self._turn is not None and not self._turn.speaking:
            self._turn = None
        return self._turn is None

    def discard(self) -> None:
        """The turn was noise."""
        self._turn = None
        self._was_noise = True

    def take_echo(self, now: float) -> bool:
        """Whether an interruption is the echo of a turn's start, which comes once."""
        due_until, self._echo_due_until = self._echo_due_until, None
        return due_until is not None and (self.speaking or now <= due_until)

    def interrupted(self) -> None:
        """Somebody else has interrupted the bot: whatever noise cut before stays cut."""
        self._was_noise = False

    def count_understood(self) -> None:
        """One more turn is answered, or never will be."""
        self._understood += 1

    def replay(self, secs: float, now: float) -> None:
        """What the user said before is sent again from now on.

        Args:
            secs: How much of it there is, in seconds.
            now: The time.
        """
        # It is sent at twice the pace at which more comes.
        self._replay_until = now + secs + _REPLAY_SECS

    def take_replayed(self, now: float) -> bool:
        """Whether the replay has ended by now without a word in it; told once."""
        if self._replay_until is None or now < self._replay_until:
            return False
        self._replay_until = None
        return True

    def disconnected(self) -> None:
        """The connection is gone, and with it the turn. The echo may yet come."""
        self._turn = None
        self._replay_until = None
