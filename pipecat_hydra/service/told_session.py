"""What the session was told when it was configured, and whether it is outdated.

Theory of operation. Hydra freezes a session when it is configured, so a session that differs
from what the application now asks for has to be replaced (S1). It is outdated if

- the application has since asked for another model, voice or instruction;
- the conversation was reset, in the context or by `reset_conversation()`;
- another service of a switcher has had the call since, or the application asks for a new
  session by `renew_session()`;
- what it was told in all comes near the limit (`briefing/budget.py`);
- Hydra has rejected its voice. Such a session is dead: Hydra never configures it, so it is
  replaced at once (`voices.py` says with which voice), and any other one at a turn boundary.
"""

from dataclasses import dataclass, replace

from pipecat_hydra.service.briefing.briefing import Briefing
from pipecat_hydra.service.briefing.budget import SessionBudget
from pipecat_hydra.service.dialer import Dialer
from pipecat_hydra.service.settings import HydraLLMSettings, Wanted, wanted
from pipecat_hydra.service.voices import Voices

__all__ = ["ToldSession"]


@dataclass(slots=True)
class _Told:
    """What one session was told when it was configured.

    Parameters:
        asked: What the application asked for.
        knows_all: Whether it was told the whole conversation before it.
        is_superseded: Whether another one has to follow, whatever the settings say.
        is_rejected: Whether Hydra has rejected the voice.
    """

    asked: Wanted
    knows_all: bool
    is_superseded: bool = False
    is_rejected: bool = False


class ToldSession:
    """Knows what the session was told when it was configured, and whether it is outdated."""

    def __init__(
        self,
        settings: HydraLLMSettings,
        dialer: Dialer,
        briefing: Briefing,
        budget: SessionBudget,
    ):
        """Start with no session.

        Args:
            settings: The service's settings, which change while it runs.
            dialer: Knows for which model the connection was opened.
            briefing: Knows whether the conversation was reset.
            budget: Knows whether the session was told as much as it may be told.
        """
        self._settings = settings
        self._dialer = dialer
        self._briefing = briefing
        self._budget = budget
        self._voices = Voices()
        self._told: _Told | None = None

    @property
    def wanted(self) -> Wanted:
        """What the application asks for, but for a voice that Hydra has rejected."""
        asked = wanted(self._settings)
        if asked.voice is None:
            return asked
        return replace(asked, voice=self._voices.choose(asked.model, asked.voice))

    @property
    def knows_all(self) -> bool:
        """Whether the session was told the whole conversation before it."""
        return self._told is None or self._told.knows_all

    @property
    def is_dead(self) -> bool:
        """Whether Hydra will never configure the session."""
        return self._told is not None and self._told.is_rejected

    @property
    def is_for_other_model(self) -> bool:
        """Whether the socket that is open is for another model than is now asked for."""
        return self._dialer.model != self.wanted.model

    @property
    def is_outdated(self) -> bool:
        """Whether the session was told something else than the application now asks for (S1)."""
        asked, told = self.wanted, self._told
        return told is not None and (
            told.is_superseded
            or told.is_rejected
            or (told.asked.voice, told.asked.instruction) != (asked.voice, asked.instruction)
            or self._briefing.is_reset
            or self._budget.is_spent
        )

    def configured(self, *, knows_all: bool) -> None:
        """Record that a session is told what the application asks for now.

        Args:
            knows_all: Whether it is told the whole conversation before it.
        """
        self._told = _Told(self.wanted, knows_all)

    def supersede(self) -> None:
        """Record that another session has to follow, whatever the settings say."""
        if self._told is not None:
            self._told.is_superseded = True

    def accepted(self) -> None:
        """Record that Hydra has taken what the session was told."""
        if self._told is not None and self._told.asked.voice is not None:
            self._voices.accept(self._told.asked.model, self._told.asked.voice)

    def reject_voice(self) -> str | None:
        """Record that Hydra has rejected the voice that the session was told.

        Returns:
            What the next session asks for instead, for a person; None if this one asked for no
            voice, so that there is nothing left to try.
        """
        told = self._told
        if told is None or told.asked.voice is None:
            return None
        told.is_rejected = True
        self._voices.reject(told.asked.model, told.asked.voice)
        follower = self.wanted.voice
        if follower is None:
            return "trying once more without a voice, so the bot speaks with Hydra's default"
        # Of the settings, too: they are to say what is true.
        self._settings.voice = follower
        return f"{follower!r} stays in force"
