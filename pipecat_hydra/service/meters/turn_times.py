"""Times of a conversation as a person hears it: how soon the bot answers, and falls silent.

Theory of operation. The output transport reports when the bot starts and stops to be heard, and
the server when the user speaks. The two come by different ways, in any order:

**The answer.** It is due from the end of the user's speech, which lies before the server's word of
it by the silence that the server had waited for. The bot is heard after that word as a rule. A
server may tell the end of a turn only when its answer streams, so the start that is reported while
the turn is open counts too. A turn that was noise has no answer. A turn whose end the server does
not place in the audio is not measured, nor is one to which the user has added another turn.

**The silence.** A barge-in begins when the server tells that the user speaks while the bot is
heard, and ends when the bot has stopped. It counts if the turn proves to be noise too, because the
bot has stopped all the same.

Pure: time is a parameter, in seconds of any monotonic clock.
"""

__all__ = ["TurnTimes"]


class TurnTimes:
    """Measures answers and barge-ins. Each method returns what it completes, else None."""

    def __init__(self) -> None:
        """Start with nobody heard."""
        self._is_bot_heard = False
        self._is_turn_open = False
        # When the bot has started to be heard since the user's turn began.
        self._bot_started_at: float | None = None
        # When the user's speech ended, while its answer is due.
        self._spoke_until: float | None = None
        # When the user began to speak over the bot, while that is heard.
        self._barged_in_at: float | None = None

    def user_started(self, now: float) -> None:
        """Record that the user begins to speak."""
        self._is_turn_open = True
        self._bot_started_at = self._spoke_until = None
        self._barged_in_at = now if self._is_bot_heard else None

    def user_stopped(self, now: float, silence_secs: float) -> float | None:
        """Record that the user has stopped, and return how soon the bot has answered, if it has.

        Args:
            now: The time.
            silence_secs: How long the user had been silent; 0 if unknown.
        """
        self._is_turn_open = False
        if not silence_secs:
            return None
        self._spoke_until = now - silence_secs
        return self._answered(self._bot_started_at)

    def turn_discarded(self) -> None:
        """Record that the user's turn was noise."""
        self._is_turn_open = False
        self._spoke_until = None

    def bot_started(self, now: float) -> float | None:
        """Record that the bot begins to be heard, and return how soon it has answered."""
        self._is_bot_heard = True
        self._barged_in_at = None
        if self._is_turn_open:
            self._bot_started_at = now
        return self._answered(now)

    def bot_stopped(self, now: float) -> float | None:
        """Record that the bot is silent, and return how soon after a barge-in it is."""
        self._is_bot_heard = False
        barged_in_at, self._barged_in_at = self._barged_in_at, None
        return None if barged_in_at is None else now - barged_in_at

    def _answered(self, at: float | None) -> float | None:
        spoke_until = self._spoke_until
        if at is None or spoke_until is None or at < spoke_until:
            # What is heard before is the rest of an earlier reply.
            return None
        self._spoke_until = None
        return at - spoke_until
