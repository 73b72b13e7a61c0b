"""What the emulated model says and does: the steps of a reply, and who decides on them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from pipecat_hydra.emulator.model.sound import TONE_SAMPLE_RATE, duration, load_recording, tones
from pipecat_hydra.emulator.wire.events import new_id
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE, INPUT_SAMPLE_RATE


@dataclass(frozen=True)
class Say:
    """Speak: one stretch of audio.

    Parameters:
        audio: Mono PCM16 LE. At the session's output rate its bytes are sent unchanged.
        sample_rate: Its rate in Hz.
        transcript: What is said, for sessions with transcripts and for
            `EmulatedSession.history`. In the narration of a script, `{output}` stands for
            the tool outputs and `{outputs[0]}` for that of the first call; in a script's
            reply to message items so do `{message}` and `{messages[0]}` for their texts.
    """

    audio: bytes = field(repr=False)
    sample_rate: int
    transcript: str = ""

    @classmethod
    def file(cls, path: str | Path, transcript: str = "") -> "Say":
        """Speak a recording of any format, rate and channel count.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is no audio file.
        """
        audio, sample_rate = load_recording(Path(path))
        return cls(audio, sample_rate, transcript)

    @classmethod
    def tones(cls, secs: float = 0.6, transcript: str = "") -> "Say":
        """Speak two soft tones, which need no recording.

        Args:
            secs: Their length together.
            transcript: What is said.
        """
        return cls(tones(secs), TONE_SAMPLE_RATE, transcript)


@dataclass(frozen=True)
class Call:
    """Call a tool of the client's.

    Parameters:
        name: The tool; it need not be one that the session knows.
        arguments: An object, or raw text that need not be JSON.
        call_id: The id of the call; made up when `None`.
    """

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict[str, Any])
    call_id: str | None = None

    @property
    def text(self) -> str:
        """The arguments as they go over the wire."""
        if isinstance(self.arguments, str):
            return self.arguments
        return json.dumps(dict(self.arguments))


@dataclass(frozen=True)
class Pause:
    """Think: nothing is generated for a while.

    Parameters:
        secs: For how long.
    """

    secs: float


@dataclass(frozen=True)
class Noise:
    """As a turn of a script: take what the user says for noise, whatever it is (§5).

    The turn's item ends `incomplete` and is not answered; what becomes of the reply that
    is in flight goes by `EmulatorSettings.cancel_on`.
    """


Step = Say | Call | Pause
Turn = Noise | Step | Sequence[Step]
"""What a script lays down for one turn of the user's."""
Reply = Sequence[Step]
"""One response: what is generated between `response.created` and `response.done`."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A turn of the user's.

    Parameters:
        audio: Mono PCM16 LE at 16 kHz, from a little before the first sound.
        sample_rate: 16 000 Hz.
    """

    audio: bytes = field(repr=False)
    sample_rate: int = INPUT_SAMPLE_RATE

    @property
    def secs(self) -> float:
        """Length in seconds."""
        return duration(self.audio, self.sample_rate)


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """The answer to a tool call.

    Parameters:
        call_id: The call.
        name: The tool.
        output: What the client answered.
    """

    call_id: str
    name: str
    output: str = field(repr=False)


class Dialogue(Protocol):
    """The model's part in one session; `None` for a reply is to stay silent.

    The methods run on the event loop and must not block.
    """

    def greet(self) -> Reply | None:
        """Speak first, when `generate_initial_response` asks for it."""
        ...

    def is_noise(self) -> bool:
        """Whether the turn that the user begins is to be discarded, whatever is said.

        Asked once at each `speech_started`; the turn is not given to `answer` then.
        """
        ...

    def answer(self, heard: Heard) -> Reply | None:
        """Reply to a turn of the user's."""
        ...

    def narrate(self, outputs: Sequence[ToolOutput]) -> Reply | None:
        """Go on after tool calls, when `response.create` asks for it.

        Args:
            outputs: One for each call of a response, in the order of the calls; fewer when
                the client asked before it had posted them all (§6).
        """
        ...

    def prompted(self, messages: Sequence[str]) -> Reply | None:
        """Reply to a `response.create` with no tool output pending.

        Args:
            messages: Texts of the `message` items since this was asked last.
        """
        ...


class Responder(Protocol):
    """Decides what the emulated model says."""

    def begin(self) -> Dialogue:
        """Take part in a new session."""
        ...


@dataclass(frozen=True)
class Echo:
    """Says back what it heard; greets, narrates and answers texts with two soft tones.

    Its transcripts hold the outputs and texts that it was given.

    Parameters:
        max_secs: Longest echo.
    """

    max_secs: float = 30.0

    def begin(self) -> "Echo":
        """Return itself: an echo remembers nothing."""
        return self

    def greet(self) -> Reply:
        """Greet with two tones."""
        return [Say.tones(transcript="Hello, this is the Hydra emulator.")]

    def is_noise(self) -> bool:
        """Take nothing for noise."""
        return False

    def answer(self, heard: Heard) -> Reply:
        """Say the turn back."""
        limit = int(self.max_secs * heard.sample_rate) * BYTES_PER_SAMPLE
        text = f"This is an echo of {heard.secs:.1f} seconds."
        return [Say(heard.audio[:limit], heard.sample_rate, text)]

    def narrate(self, outputs: Sequence[ToolOutput]) -> Reply:
        """Acknowledge tool outputs with two tones."""
        return [Say.tones(transcript=f"The tool says: {_joined(outputs)}")]

    def prompted(self, messages: Sequence[str]) -> Reply:
        """Acknowledge texts with two tones."""
        text = f"You wrote: {_SEPARATOR.join(messages)}" if messages else "You wrote nothing."
        return [Say.tones(transcript=text)]


@dataclass(frozen=True)
class Script:
    """Replies that are laid down, turn by turn.

    A turn is one step or several. A batch of calls ends a response: what follows it in the
    turn is the narration, said once the client has posted outputs and `response.create`.
    A narration that the script does not lay down is two soft tones, whose transcript says
    what the tools said.

    Parameters:
        turns: What to do at the end of each of the user's turns, in order; every session
            starts from the first. A `response.create` with no tool pending is a turn too,
            which passes over `Noise`.
        greeting: What to say first, when the session asks for it; two tones when `None`.
        then: What to do after the last turn: `"echo"`, `"repeat"` from the first, or
            `"silence"`.
    """

    turns: Sequence[Turn]
    greeting: Step | Sequence[Step] | None = None
    then: Literal["echo", "repeat", "silence"] = "echo"

    def __post_init__(self) -> None:
        for place, turn in enumerate(self.turns):
            for step in () if isinstance(turn, Noise) else _steps(turn):
                if not isinstance(step, Say | Call | Pause):  # pyright: ignore[reportUnnecessaryIsInstance]
                    raise TypeError(
                        f"turn {place} of the script: {type(step).__name__} is not a Say, "
                        "a Call or a Pause"
                    )

    def begin(self) -> "_ScriptedDialogue":
        """Take part in a new session, from the first turn."""
        return _ScriptedDialogue(self)


class _ScriptedDialogue:
    """One session's place in a script."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._next = 0
        self._narrations: dict[str, list[Step]] = {}  # by the calls that they follow
        self._echo = Echo()

    def greet(self) -> Reply | None:
        if self._script.greeting is None:
            return self._echo.greet()
        return self._first_response(_steps(self._script.greeting))

    def is_noise(self) -> bool:
        noise = isinstance(self._peek(), Noise)
        self._next += noise
        return noise

    def answer(self, heard: Heard) -> Reply | None:
        steps = self._turn()
        if steps is None:
            return self._echo.answer(heard) if self._script.then == "echo" else None
        return self._first_response(steps)

    def narrate(self, outputs: Sequence[ToolOutput]) -> Reply | None:
        steps: list[Step] = []
        for output in outputs:
            # Half the outputs of a batch get all of its narration, the rest get tones.
            steps = steps or self._narrations.get(output.call_id, [])
        self._narrations = {
            call_id: rest for call_id, rest in self._narrations.items() if rest is not steps
        }
        if not steps:
            return self._echo.narrate(outputs)
        return _filled(self._first_response(steps), "output", [o.output for o in outputs])

    def prompted(self, messages: Sequence[str]) -> Reply | None:
        steps = self._turn()
        if steps is None:
            return self._echo.prompted(messages) if self._script.then == "echo" else None
        return _filled(self._first_response(steps), "message", messages)

    def _peek(self) -> Turn | None:
        turns = self._script.turns
        if self._next >= len(turns) and self._script.then == "repeat":
            self._next = 0
        return turns[self._next] if self._next < len(turns) else None

    def _turn(self) -> list[Step] | None:
        # No round without end: a script that repeats nothing but noise is over after one.
        for _ in self._script.turns:
            turn = self._peek()
            if turn is None:
                break
            self._next += 1
            if not isinstance(turn, Noise):
                return _steps(turn)
        return None

    def _first_response(self, steps: list[Step]) -> Reply | None:
        """Take the steps up to the end of the first batch of calls; keep the rest."""
        end = 0
        for place, step in enumerate(steps):
            if isinstance(step, Call):
                end = place + 1
            elif end and isinstance(step, Say):
                break
        end = end or len(steps)
        response = [
            replace(step, call_id=step.call_id or new_id("call"))
            if isinstance(step, Call)
            else step
            for step in steps[:end]
        ]
        rest = steps[end:]
        self._narrations |= {
            step.call_id: rest for step in response if isinstance(step, Call) and step.call_id
        }
        return response or None


_SEPARATOR = "; "
_PLACEHOLDER = re.compile(r"\{(output|message)(?:s\[(\d+)\])?\}")


def _joined(outputs: Sequence[ToolOutput]) -> str:
    return _SEPARATOR.join(output.output for output in outputs)


def _filled(reply: Reply | None, kind: str, texts: Sequence[str]) -> Reply | None:
    """Put texts where transcripts have placeholders of a kind; any other braces stay."""

    def fill(match: re.Match[str]) -> str:
        if match[1] != kind:
            return match[0]
        if match[2] is None:
            return _SEPARATOR.join(texts)
        return "".join(texts[int(match[2]) :][:1])

    return reply and [
        replace(step, transcript=_PLACEHOLDER.sub(fill, step.transcript))
        if isinstance(step, Say)
        else step
        for step in reply
    ]


def _steps(turn: Step | Sequence[Step]) -> list[Step]:
    return list(turn) if isinstance(turn, Sequence) else [turn]
