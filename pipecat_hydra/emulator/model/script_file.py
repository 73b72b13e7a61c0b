"""Loads scripts from YAML files. This docstring is the documentation of the format.

A script is a mapping. Paths of recordings are relative to the file::

    greeting:                       # optional; said if the session asks for a greeting
      - say: greeting.wav
        transcript: Good morning.
    turns:                          # one entry for each of the user's turns
      - say: first-answer.wav       # an entry is one step …
        transcript: It is noon.
      - - call: get_weather         # … or a list of steps
          arguments: {city: Paris}  # an object, or a string that is sent as it is
        - call: get_time            # calls in a row are one batch
        - pause: 0.5                # generate nothing for so many seconds
        - say: weather.wav          # after calls: the narration of their outputs
          transcript: "It is {outputs[0]} in Paris."  # {output} is all outputs
      - noise: true                 # discard the user's turn as noise, whatever is said
      - tones: 0.6                  # two soft tones, so many seconds long together
        transcript: "You wrote {message}"  # filled in if the reply answers message items
    then: echo                      # after the last turn: echo (default), repeat or silence

A recording is any audio file that libsndfile reads, at any rate and channel count.
"""

import json
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipecat_hydra.emulator.model.script import Script
from pipecat_hydra.emulator.model.steps import Call, Noise, Pause, Say, Step, Turn


class ScriptError(ValueError):
    """A script file cannot be used; the message names the file and the place in it."""


class _SayStep(BaseModel):
    model_config = ConfigDict(extra="forbid")

    say: str
    transcript: str = ""


class _TonesStep(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tones: float = Field(gt=0, le=60)
    transcript: str = ""


class _CallStep(BaseModel):
    model_config = ConfigDict(extra="forbid")

    call: str
    arguments: dict[str, Any] | str = Field(default_factory=dict[str, Any])
    call_id: str | None = None


class _PauseStep(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pause: float = Field(ge=0)


class _NoiseTurn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    noise: Literal[True]


_STEPS: dict[str, type[_SayStep | _TonesStep | _CallStep | _PauseStep]] = {
    "say": _SayStep,
    "tones": _TonesStep,
    "call": _CallStep,
    "pause": _PauseStep,
}


class _ScriptFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    greeting: list[dict[str, Any]] | dict[str, Any] | None = None
    turns: list[list[dict[str, Any]] | dict[str, Any]] = Field(min_length=1)
    then: Literal["echo", "repeat", "silence"] = "echo"


def load_script(path: str | Path) -> Script:
    """Load a script and its recordings.

    Args:
        path: A YAML file in the format that this module documents.

    Returns:
        The script.

    Raises:
        ScriptError: The file or a recording cannot be read, or the script is not valid.
    """
    return _Reader(Path(path)).read()


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Script:
        try:
            content: object = yaml.safe_load(self._path.read_text(encoding="utf-8"))
        except OSError as exception:
            raise self._error("", exception.strerror or "cannot be read") from None
        except UnicodeDecodeError:
            raise self._error("", "is not UTF-8 text") from None
        # PyYAML raises a plain ValueError for an impossible date such as 2026-13-45.
        except (yaml.YAMLError, ValueError) as exception:
            raise self._error("", f"is not YAML: {exception}") from None
        if not isinstance(content, dict):
            raise self._error("", "must be a mapping with `turns`")
        try:
            script = _ScriptFile.model_validate(content)
        except ValidationError as exception:
            raise self._invalid("", exception) from None
        turns = [self._turn(f"turns[{at}]", turn) for at, turn in enumerate(script.turns)]
        greeting = None
        if script.greeting is not None:
            greeting = self._steps("greeting", script.greeting)
        return Script(turns, greeting=greeting, then=script.then)

    def _turn(self, place: str, turn: list[dict[str, Any]] | dict[str, Any]) -> Turn:
        if isinstance(turn, list) or "noise" not in turn:
            return self._steps(place, turn)
        try:
            _NoiseTurn.model_validate(turn)
        except ValidationError as exception:
            raise self._invalid(place, exception) from None
        return Noise()

    def _steps(self, place: str, steps: list[dict[str, Any]] | dict[str, Any]) -> list[Step]:
        if isinstance(steps, dict):
            return [self._step(place, steps)]
        return [self._step(f"{place}[{at}]", step) for at, step in enumerate(steps)]

    def _step(self, place: str, raw: dict[str, Any]) -> Step:
        kinds = [kind for kind in _STEPS if kind in raw]
        if len(kinds) != 1:
            raise self._error(place, f"must have exactly one of {', '.join(_STEPS)}")
        try:
            step = _STEPS[kinds[0]].model_validate(raw)
        except ValidationError as exception:
            raise self._invalid(place, exception) from None
        match step:
            case _SayStep():
                return self._recording(f"{place}.say", step)
            case _TonesStep():
                return Say.tones(step.tones, step.transcript)
            case _CallStep():
                self._check_json(f"{place}.arguments", step.arguments)
                return Call(step.call, step.arguments, step.call_id)
            case _PauseStep():
                return Pause(step.pause)

    def _check_json(self, place: str, arguments: dict[str, Any] | str) -> None:
        """Refuse values that YAML has and JSON has not, such as a date without quotes."""
        try:
            json.dumps(arguments)
        except (TypeError, ValueError) as exception:
            raise self._error(place, f"{exception}: put it in quotes") from None

    def _recording(self, place: str, step: _SayStep) -> Say:
        path = self._path.parent / step.say
        try:
            return Say.file(path, step.transcript)
        except OSError as exception:
            raise self._error(place, f"{path}: {exception.strerror}") from None
        except ValueError as exception:
            raise self._error(place, f"{path}: {exception}") from None

    def _invalid(self, place: str, exception: ValidationError) -> ScriptError:
        detail = exception.errors(include_url=False, include_input=False)[0]
        for part in detail["loc"]:
            if isinstance(part, int):
                place += f"[{part}]"
            elif part.isidentifier():  # skips labels that Pydantic adds for unions, "list[dict[…]]"
                place += f".{part}" if place else part
        return self._error(place, detail["msg"])

    def _error(self, place: str, problem: str) -> ScriptError:
        return ScriptError(
            f"{self._path}: {place}: {problem}" if place else f"{self._path}: {problem}"
        )
