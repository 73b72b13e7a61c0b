"""The interface of responders, which decide what the emulated model says, and the echo responder.

The server calls `Responder.begin` once for each session. The `Dialogue` that it returns is asked
for a reply at each turn of the user, after tool calls, and at each other `response.create`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipecat_hydra.emulator.model.sound import duration
from pipecat_hydra.emulator.model.steps import Reply, Say
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE, INPUT_SAMPLE_RATE

SEPARATOR = "; "
"""Separates the texts of several outputs or messages in one transcript."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One turn of the user, as the model heard it.

    Parameters:
        audio: Mono PCM16 LE, from a little before the first sound.
        sample_rate: Rate of the audio in Hz, always 16 000.
    """

    audio: bytes = field(repr=False)
    sample_rate: int = INPUT_SAMPLE_RATE

    @property
    def secs(self) -> float:
        """Length of the turn in seconds."""
        return duration(self.audio, self.sample_rate)


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """The output of a tool call, as the client sent it.

    Parameters:
        call_id: Id of the call.
        name: Name of the tool.
        output: Text of the output.
    """

    call_id: str
    name: str
    output: str = field(repr=False)


class Dialogue(Protocol):
    """Decides what the model says in one session. A reply of `None` is silence.

    The methods are called on the event loop and must not block.
    """

    def greet(self) -> Reply | None:
        """Return the greeting; called if the session has `generate_initial_response`."""
        ...

    def is_noise(self) -> bool:
        """Return whether the turn that the user begins is to be discarded as noise.

        Called once at each `speech_started`. A discarded turn is not passed to `answer`.
        """
        ...

    def answer(self, heard: Heard) -> Reply | None:
        """Return the reply to a turn of the user."""
        ...

    def narrate(self, outputs: Sequence[ToolOutput]) -> Reply | None:
        """Return the reply to tool outputs; called at the `response.create` that follows them.

        Args:
            outputs: One for each call of a response, in the order of the calls. There are fewer
                if the client sent `response.create` before all outputs (§6).
        """
        ...

    def prompted(self, messages: Sequence[str]) -> Reply | None:
        """Return the reply to a `response.create` while no tool output waits for one.

        Args:
            messages: Texts of the `message` items since the last call.
        """
        ...


class Responder(Protocol):
    """Creates the dialogue of each session."""

    def begin(self) -> Dialogue:
        """Return the dialogue of a new session."""
        ...


@dataclass(frozen=True)
class Echo:
    """Repeats what the user said. Greetings and replies to outputs and texts are two soft tones.

    The transcripts of the tones contain the outputs and texts.

    Parameters:
        max_secs: Longest echo in seconds.
    """

    max_secs: float = 30.0

    def begin(self) -> "Echo":
        """Return the echo itself, which has no state."""
        return self

    def greet(self) -> Reply:
        """Greet with two tones."""
        return [Say.tones(transcript="Hello, this is the Hydra emulator.")]

    def is_noise(self) -> bool:
        """Discard no turn."""
        return False

    def answer(self, heard: Heard) -> Reply:
        """Repeat the turn."""
        limit = int(self.max_secs * heard.sample_rate) * BYTES_PER_SAMPLE
        text = f"This is an echo of {heard.secs:.1f} seconds."
        return [Say(heard.audio[:limit], heard.sample_rate, text)]

    def narrate(self, outputs: Sequence[ToolOutput]) -> Reply:
        """Acknowledge tool outputs with two tones."""
        return [Say.tones(transcript=f"The tool says: {SEPARATOR.join(o.output for o in outputs)}")]

    def prompted(self, messages: Sequence[str]) -> Reply:
        """Acknowledge texts with two tones."""
        text = f"You wrote: {SEPARATOR.join(messages)}" if messages else "You wrote nothing."
        return [Say.tones(transcript=text)]
