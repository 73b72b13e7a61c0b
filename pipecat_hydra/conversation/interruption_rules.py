"""What an interruption of the pipeline means: the echo of a user turn, or somebody else's wish.

The service tells the pipeline of each user turn, and the pipeline answers with an interruption,
which comes back here: the echo of the turn. It cancels nothing at Hydra, which knows of the turn.
What it throws away in the pipeline is kept until the turn is decided, for the turn may be noise.
Any other interruption stops the reply in flight for good, at Hydra too.

Pure: time is a parameter, in seconds of any monotonic clock.
"""

from pipecat_hydra.conversation.effects import Discard, Effect
from pipecat_hydra.conversation.handshake import Handshake, Phase
from pipecat_hydra.conversation.owed_replies import OwedReplies
from pipecat_hydra.conversation.responses import Responses
from pipecat_hydra.conversation.turn_taking import TurnTaking
from pipecat_hydra.conversation.user_turns import UserTurns

__all__ = ["InterruptionRules"]


class InterruptionRules:
    """Holds the rules about interruptions of the pipeline."""

    def __init__(
        self,
        talk: TurnTaking,
        *,
        handshake: Handshake,
        turns: UserTurns,
        responses: Responses,
        owed: OwedReplies,
    ):
        """Make the rules for rooms.

        Args:
            talk: Holds the rules between the rooms.
            handshake: Says how far the session is.
            turns: The user's turns.
            responses: The model's responses.
            owed: The replies that the model owes.
        """
        self._talk = talk
        self._handshake = handshake
        self._turns = turns
        self._responses = responses
        self._owed = owed

    def may_be_noise(self, now: float) -> bool:
        """Whether an interruption now is the echo of a turn that may be noise, or was (F4)."""
        undecided = self._turns.may_be_noise or self._turns.was_noise
        return undecided and self._turns.echo_is_due(now)

    def interrupted(self, now: float, *, late: bool = False) -> list[Effect]:
        """Handle an interruption of the pipeline: the echo of a user turn, or by somebody else.

        Args:
            now: The time.
            late: Whether it is the echo of the last turn, which is over.
        """
        was_noise = self._turns.was_noise
        answered = late and not (self._turns.undecided or was_noise)
        self._responses.unheard.cut(now, answered=answered)
        if not (self._turns.take_echo(now) or (late and not was_noise)):
            return self.cancel(now)
        if self._turns.may_be_noise:
            if not self._turns.speaking:
                self._turns.await_decision(now, soon=self._responses.holds_back)
            return []
        if not (answered or was_noise):
            self._responses.unheard.forget()
            return []
        # Before its echo came the turn was discarded as noise, or answered.
        effects: list[Effect] = [Discard(), *self._responses.say_again()]
        self._talk.note(effects, now)
        return effects

    def cancel(self, now: float, *, ask: bool = True) -> list[Effect]:
        """Stop the reply in flight, or the one that is due; its playing stops too.

        Args:
            now: The time.
            ask: Whether to ask for what waited for the end of that reply, for the server may not
                tell that it has ended (P1). If not, the application asks next.
        """
        self._talk.expire(now)
        self._owed.cancel(configuring=self._handshake.phase is Phase.CONFIGURING)
        self._turns.interrupted()
        if not self._turns.listening:
            self._talk.understood()
        effects = self._responses.cancel()
        return self._talk.conclude(effects, now) if ask else effects
