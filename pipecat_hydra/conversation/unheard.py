"""Keeps the parts of a reply that an interruption threw away, until the user's turn is decided.

Theory of operation. An interruption makes the transport throw away what it has not played. Whether
the interruption was a turn of the user is known only later. Until then `Unheard` keeps the parts
that `Playback` gives as not heard. If the turn was noise, they are taken and said again (T3). If
the turn is real, or somebody else interrupts, they are forgotten. Several noises in a row may cut
what was said again, so parts add up.

The echo of a turn may come when the answer to that turn is being said already. Then the answer
alone is kept, and is said again whatever the application asks for after noise.

Pure: time is a parameter, in seconds of any monotonic clock.
"""

from pipecat_hydra.conversation.effects import AudioChunk, TextChunk
from pipecat_hydra.conversation.playback import Playback

__all__ = ["Unheard"]


class Unheard:
    """The parts that were thrown away unplayed, and may have to be said again."""

    def __init__(self, playback: Playback, *, resume_after_noise: bool):
        """Start with no parts.

        Args:
            playback: What is being played.
            resume_after_noise: Whether the parts that noise cut off are kept.
        """
        self._playback = playback
        self._resumes_after_noise = resume_after_noise
        self._parts: list[AudioChunk | TextChunk] = []

    @property
    def is_any(self) -> bool:
        """Whether parts are kept."""
        return bool(self._parts)

    def cut(self, now: float, *, answered: bool = False) -> None:
        """Keep the parts that the pipeline throws away unplayed.

        Args:
            now: The time.
            answered: Whether for a turn that is answered already: only the answer is kept.
        """
        parts = self._playback.cut(now, since_turn=answered)
        if answered:
            self._parts = parts
        elif self._resumes_after_noise:
            self._parts += parts

    def take(self) -> list[AudioChunk | TextChunk]:
        """Remove the parts, and return them to be said again."""
        parts, self._parts = self._parts, []
        return parts

    def forget(self) -> None:
        """Forget the parts: the user's turn is real, or somebody else has interrupted."""
        self._parts = []
