"""The script responder: replies that are written down in advance, turn by turn."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipecat_hydra.emulator.model.responders import SEPARATOR, Echo, Heard, ToolOutput
from pipecat_hydra.emulator.model.steps import Call, Noise, Pause, Reply, Say, Step, Turn
from pipecat_hydra.emulator.wire.events import new_id

_PLACEHOLDER = re.compile(r"\{(output|message)(?:s\[(\d+)\])?\}")


@dataclass(frozen=True)
class Script:
    """A responder whose replies are given in advance, turn by turn.

    A turn is one step or several. A batch of calls ends a response. The steps after the batch are
    the narration: they are a response of their own, which begins when the client has sent the
    outputs and `response.create`. If the script has no steps after the batch, the narration is
    two soft tones, whose transcript contains the outputs.

    Parameters:
        turns: What to do at the end of each turn of the user, in order. Every session starts
            with the first. A `response.create` while no tool output waits takes the next turn
            too, and skips `Noise`.
        greeting: What to say first, if the session asks for a greeting; two tones if `None`.
        then: What to do after the last turn: `"echo"`, `"repeat"` from the first turn, or
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

    @property
    def has_transcripts(self) -> bool:
        """Whether any step has a transcript."""
        turns = (self.greeting or (), *(t for t in self.turns if not isinstance(t, Noise)))
        steps = [step for turn in turns for step in _steps(turn)]
        return any(isinstance(step, Say) and bool(step.transcript) for step in steps)

    def begin(self) -> "_ScriptedDialogue":
        """Return the dialogue of a new session, which starts with the first turn."""
        return _ScriptedDialogue(self)


class _ScriptedDialogue:
    """Follows a script through one session."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._next = 0
        self._narrations: dict[str, list[Step]] = {}  # steps after a batch, by call id
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
            # If outputs come in two parts, the first gets the narration, and the second tones.
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
        # One round at most: a script that repeats nothing but noise would loop for ever.
        for _ in self._script.turns:
            turn = self._peek()
            if turn is None:
                break
            self._next += 1
            if not isinstance(turn, Noise):
                return _steps(turn)
        return None

    def _first_response(self, steps: list[Step]) -> Reply | None:
        """Return the steps up to the first batch of calls, and keep the rest for `narrate`."""
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


def _filled(reply: Reply | None, kind: str, texts: Sequence[str]) -> Reply | None:
    """Fill in the placeholders of one kind in transcripts; other braces stay as they are."""

    def fill(match: re.Match[str]) -> str:
        if match[1] != kind:
            return match[0]
        if match[2] is None:
            return SEPARATOR.join(texts)
        return "".join(texts[int(match[2]) :][:1])

    return reply and [
        replace(step, transcript=_PLACEHOLDER.sub(fill, step.transcript))
        if isinstance(step, Say)
        else step
        for step in reply
    ]


def _steps(turn: Step | Sequence[Step]) -> list[Step]:
    return list(turn) if isinstance(turn, Sequence) else [turn]
