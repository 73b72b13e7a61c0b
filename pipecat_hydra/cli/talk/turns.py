"""The turns of a conversation as they were reported, without the audio."""

from dataclasses import dataclass

__all__ = ["Turn", "TurnLog"]


@dataclass(slots=True)
class Turn:
    """One turn: what the user said, and what the bot answered. All times are on the timeline.

    Parameters:
        number: Counted from 1.
        user_started_secs: When Hydra reported that the user speaks; `None` if the bot speaks
            first.
        user_stopped_secs: When Hydra reported the end of the user's turn.
        bot_started_secs: When the loudspeaker got the first audio of the reply.
        bot_stopped_secs: When the reply was over, or was cut.
        interrupted_secs: When the reply was interrupted while it was heard.
        ttfb_secs: The service's own time to first byte, from the end of the turn.
        received_bytes: Audio of the reply that came from Hydra, in bytes of PCM16.
        prompt_tokens: Tokens read, as Hydra counts; `None` if it did not say.
        completion_tokens: Tokens generated, likewise.
        calls: How many functions the model called before it had answered.
    """

    number: int
    user_started_secs: float | None = None
    user_stopped_secs: float | None = None
    bot_started_secs: float | None = None
    bot_stopped_secs: float | None = None
    interrupted_secs: float | None = None
    ttfb_secs: float | None = None
    received_bytes: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    calls: int = 0


class TurnLog:
    """Keeps the turns up to date while things are reported.

    Attributes:
        turns: All turns so far, the last of them in progress.
        user_speaking: Whether the user speaks, as far as Hydra has reported.
        bot_speaking: Whether the bot is heard.
    """

    def __init__(self):
        """Create an empty log."""
        self.turns: list[Turn] = []
        self.user_speaking = False
        self.bot_speaking = False
        self._responding: Turn | None = None
        self._in_flight = False
        self._goes_on = False
        # Something of a reply was received that is still to be heard.
        self._unheard = False
        # The bot began to be heard without that: the last piece of what was interrupted.
        self._started_early = False

    @property
    def answered(self) -> bool:
        """Whether a reply to the last turn was heard to its end, and no more of it is to come."""
        if not self.turns or self._in_flight or self._goes_on:
            return False
        return self.turns[-1].bot_stopped_secs is not None

    @property
    def last_event_secs(self) -> float:
        """When the user or the bot last started or stopped; 0 if never."""
        if not self.turns:
            return 0.0
        turn = self.turns[-1]
        times = (
            turn.user_started_secs,
            turn.user_stopped_secs,
            turn.bot_started_secs,
            turn.bot_stopped_secs,
        )
        return max((time for time in times if time is not None), default=0.0)

    def user_started(self, secs: float) -> None:
        """Note that Hydra hears the user."""
        self.user_speaking = True
        self.turns.append(Turn(len(self.turns) + 1, user_started_secs=secs))

    def user_stopped(self, secs: float) -> None:
        """Note that Hydra takes the user's turn as over."""
        self.user_speaking = False
        self._current.user_stopped_secs = secs

    def response_started(self) -> None:
        """Note that a response was begun; it counts for the turn that is current now."""
        self._responding = self._current
        self._in_flight = True
        self._goes_on = False

    def response_ended(self) -> None:
        """Note that a response was received whole, or was cut."""
        self._in_flight = False

    def called(self) -> None:
        """Note that the model calls a function: with what it gives, it will go on."""
        self._answering.calls += 1
        self._goes_on = True

    def audio_received(self, num_bytes: int, secs: float) -> bool:
        """Note audio of a response, and tell whether the bot begins to be heard with it."""
        self._answering.received_bytes += num_bytes
        self._unheard = True
        return self._started_early and self.bot_started(secs)

    def first_byte(self, secs: float) -> None:
        """Note the service's time to first byte; the first of a turn counts."""
        if self._current.ttfb_secs is None:
            self._current.ttfb_secs = secs

    def tokens(self, prompt: int, completion: int) -> None:
        """Note usage. That of an interrupted response comes when the next turn has begun."""
        turn = self._answering
        turn.prompt_tokens = (turn.prompt_tokens or 0) + prompt
        turn.completion_tokens = (turn.completion_tokens or 0) + completion

    def bot_started(self, secs: float) -> bool:
        """Note that the bot begins to be heard, and tell whether it is a reply that is."""
        self._started_early = not self._unheard
        if self._started_early:
            return False
        self.bot_speaking = True
        turn = self._current
        if turn.bot_started_secs is None:
            turn.bot_started_secs = secs
        turn.bot_stopped_secs = None
        return True

    def bot_stopped(self, secs: float) -> bool:
        """Note that the bot is heard no more, and tell whether a reply was."""
        if self._started_early:
            self._started_early = False
            return False
        self.bot_speaking = False
        if (turn := self._heard) is not None:
            turn.bot_stopped_secs = secs
        return True

    def interrupted(self, secs: float) -> bool:
        """Note an interruption, and tell whether anything was heard that it cut."""
        self._unheard = False
        if not self.bot_speaking or (turn := self._heard) is None:
            return False
        turn.interrupted_secs = secs
        return True

    @property
    def _current(self) -> Turn:
        if not self.turns:
            self.turns.append(Turn(1))  # The bot speaks first.
        return self.turns[-1]

    @property
    def _answering(self) -> Turn:
        return self._responding or self._current

    @property
    def _heard(self) -> Turn | None:
        """The turn whose reply was heard last: not the current one when that interrupts it."""
        heard = (turn for turn in reversed(self.turns) if turn.bot_started_secs is not None)
        return next(heard, None)
