"""A log of the turns of a conversation, as frames report them, without the audio."""

from dataclasses import dataclass

__all__ = ["Turn", "TurnLog"]


@dataclass(slots=True)
class Turn:
    """One turn: the user speaks, and the bot answers. All times are seconds on the timeline.

    Parameters:
        number: Counted from 1.
        user_started_secs: When Hydra reported that the user speaks; `None` if the bot speaks
            first.
        user_stopped_secs: When Hydra reported the end of the user's turn.
        bot_started_secs: When the loudspeaker got the first audio of the reply.
        bot_stopped_secs: When the reply ended or was interrupted.
        interrupted_secs: When the reply was interrupted while it was heard.
        ttfb_secs: Time to first byte from the end of the turn, as the service measured it.
        received_bytes: Audio of the reply that came from Hydra, in bytes of PCM16.
        prompt_tokens: Tokens read, as Hydra counts; `None` if it did not report them.
        completion_tokens: Tokens generated, likewise.
        calls: Number of functions that the model called before its answer ended.
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
    """Keeps the turns up to date as events of the conversation are reported.

    Attributes:
        turns: All turns so far, the last of them in progress.
        user_speaking: Whether the user speaks, as Hydra reported it.
        bot_speaking: Whether the bot is heard.
    """

    def __init__(self):
        """Create an empty log."""
        self.turns: list[Turn] = []
        self.user_speaking: bool = False
        self.bot_speaking: bool = False
        self._responding: Turn | None = None
        self._in_flight = False
        self._goes_on = False
        # Whether audio of a reply was received that was not heard yet.
        self._unheard = False
        # Whether the bot is heard without such audio: with the last piece of an interrupted reply.
        self._started_early = False

    @property
    def answered(self) -> bool:
        """Whether the reply to the last turn was heard to its end."""
        if not self.turns or self._in_flight or self._goes_on:
            return False
        return self.turns[-1].bot_stopped_secs is not None

    @property
    def last_event_secs(self) -> float:
        """When the user or the bot last started or stopped to speak; 0 if never."""
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
        """Note that Hydra reports the start of the user's turn."""
        self.user_speaking = True
        self.turns.append(Turn(len(self.turns) + 1, user_started_secs=secs))

    def user_stopped(self, secs: float) -> None:
        """Note that Hydra reports the end of the user's turn."""
        self.user_speaking = False
        self._current.user_stopped_secs = secs

    def response_started(self) -> None:
        """Note that a response started; it belongs to the current turn."""
        self._responding = self._current
        self._in_flight = True
        self._goes_on = False

    def response_ended(self) -> None:
        """Note that a response was received completely or was interrupted."""
        self._in_flight = False

    def called(self) -> None:
        """Note that the model calls a function; the reply goes on after its result."""
        self._answering.calls += 1
        self._goes_on = True

    def audio_received(self, num_bytes: int, secs: float) -> bool:
        """Note audio of a response; return whether the bot starts to be heard with it."""
        self._answering.received_bytes += num_bytes
        self._unheard = True
        return self._started_early and self.bot_started(secs)

    def first_byte(self, secs: float) -> None:
        """Note the service's time to first byte; only the first of a turn counts."""
        if self._current.ttfb_secs is None:
            self._current.ttfb_secs = secs

    def tokens(self, prompt: int, completion: int) -> None:
        """Note token usage; that of an interrupted response comes after the next turn started."""
        turn = self._answering
        turn.prompt_tokens = (turn.prompt_tokens or 0) + prompt
        turn.completion_tokens = (turn.completion_tokens or 0) + completion

    def bot_started(self, secs: float) -> bool:
        """Note that the bot starts to be heard; return whether a reply starts with it."""
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
        """Note that the bot is not heard any more; return whether a reply ended with it."""
        if self._started_early:
            self._started_early = False
            return False
        self.bot_speaking = False
        if (turn := self._heard) is not None:
            turn.bot_stopped_secs = secs
        return True

    def interrupted(self, secs: float) -> bool:
        """Note an interruption; return whether it interrupted a reply that was heard."""
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
        """The turn whose reply was heard last; not the current turn, if that interrupted it."""
        heard = (turn for turn in reversed(self.turns) if turn.bot_started_secs is not None)
        return next(heard, None)
