"""Which voice is asked for, once Hydra has rejected one.

The rosters of voices were replaced several times (protocol §2), so a voice that worked yesterday
may be rejected today, even the default. That must not cost a call. Instead of a voice that was
rejected, the last one that Hydra has accepted is asked for, or none, if there is no such voice
for the model: then Hydra speaks with a default of its own. No voice is asked for twice after it
was rejected, so a call makes one attempt more for each, and no loop.
"""

__all__ = ["Voices"]


class Voices:
    """Knows the voices that Hydra has accepted and rejected in this call, for each model."""

    def __init__(self) -> None:
        """Start with nothing known."""
        self._accepted: dict[str, str] = {}
        self._rejected: set[tuple[str, str]] = set()

    def choose(self, model: str, voice: str) -> str | None:
        """Return the voice to ask for where the application wants `voice`; None for no voice."""
        for candidate in (voice, self._accepted.get(model)):
            if candidate is not None and (model, candidate) not in self._rejected:
                return candidate
        return None

    def accept(self, model: str, voice: str) -> None:
        """Note that Hydra speaks with a voice."""
        self._accepted[model] = voice

    def reject(self, model: str, voice: str) -> None:
        """Note that Hydra has rejected a voice."""
        self._rejected.add((model, voice))
