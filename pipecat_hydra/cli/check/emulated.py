"""The model that the emulator has for the scenes: it does what they ask the real one for.

It knows no words, so it tells the question about the weather from the greeting by its length.
"""

from collections.abc import Sequence

from pipecat_hydra.emulator import Call, Heard, Reply, Say, ToolOutput

__all__ = ["CheckedModel"]

_QUESTION_SECS = 1.9
_COUNTING_SECS = 24.0
_CALL = Call("get_weather", {"city": "Paris", "unit": "celsius"})


class CheckedModel:
    """Counts when it begins, calls a function about the weather, and is short otherwise."""

    def begin(self) -> "CheckedModel":
        """Return the model itself, which has no state."""
        return self

    def greet(self) -> Reply:
        """Count for long."""
        return [Say.tones(_COUNTING_SECS, "One, two, three, and so on up to sixty.")]

    def is_noise(self) -> bool:
        """Leave it to voice activity detection."""
        return False

    def answer(self, heard: Heard) -> Reply:
        """Call a function if the turn is as long as the question about the weather."""
        return [_CALL] if heard.secs > _QUESTION_SECS else [Say.tones(1.0, "Hello, I am fine.")]

    def narrate(self, outputs: Sequence[ToolOutput]) -> Reply:
        """Tell the weather."""
        return [Say.tones(1.0, "It will be sunny.")]

    def prompted(self, messages: Sequence[str]) -> Reply:
        """Call a function if there are messages, which ask for that."""
        return [_CALL] if messages else [Say.tones(1.0, "Is there anything else?")]
