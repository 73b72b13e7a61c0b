"""The service's constructor arguments: their checks, and what the environment says in their place.

Pipecat's base classes take any keyword and drop those that they do not know, so a misspelt
argument would change nothing and say nothing. Here all arguments are checked, before anything is
built: unknown names against the constructors of the service and its bases, values against the
annotations of the service's constructor, and numbers against the table below. Each error names
the argument and says what to give. None of them shows a key. What has passed is one value,
`Arguments`, from which the parts of the service are built.

Three variables stand in for arguments that are not given, so that any bot can talk to another
server, and be recorded, without an edit: `SMALLEST_API_KEY`, `HYDRA_BASE_URL` and `HYDRA_RECORD`.
"""

import inspect
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from numbers import Real
from types import NoneType, UnionType
from typing import Any, Final, Literal, Self, Union, cast, get_args, get_origin, get_type_hints

from pydantic import SecretStr

from pipecat_hydra.recording.recorder import RECORD_VARIABLE, HydraRecorder
from pipecat_hydra.service.briefing.briefing import HistoryStyle
from pipecat_hydra.service.in_force import ServiceTools, checked_tools
from pipecat_hydra.service.keypad import KeypadUse
from pipecat_hydra.service.phrases import FixedPhrases
from pipecat_hydra.service.settings import HydraLLMSettings, complete_settings, wanted
from pipecat_hydra.service.turns import TurnFrames
from pipecat_hydra.service.user_audio import SpeakerPolicy
from pipecat_hydra.session.capacity import Capacity
from pipecat_hydra.session.endpoint import Endpoint
from pipecat_hydra.session.keys import Keyring, KeySource
from pipecat_hydra.session.retries import RetryPolicy
from pipecat_hydra.wire.protocol import BASE_URL_VARIABLE, DEFAULT_BASE_URL, KEY_VARIABLE

__all__ = ["Arguments", "keyring_for"]


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What a number may be.

    Parameters:
        lowest: The lowest that it may be.
        above: Whether it has to be greater than that.
        highest: The highest that it may be.
        hint: What to do instead of giving a number out of the bounds.
    """

    lowest: float = 0.0
    above: bool = False
    highest: float = math.inf
    hint: str = ""

    def problem(self, value: float) -> str:
        """Say what is wrong with a number; nothing if nothing is."""
        if not math.isfinite(value):
            return "must be a finite number"
        if value < self.lowest or (self.above and value == self.lowest):
            relation = "greater than" if self.above else "at least"
            return f"must be {relation} {self.lowest:g}"
        return f"must be at most {self.highest:g}" if value > self.highest else ""


_HOUR: Final = 3600.0
_FOR_EVER: Final = "None is no limit"

# By name, those of Pipecat's LLMService included.
_BOUNDS: Final = {
    "open_timeout_secs": _Bounds(above=True, highest=_HOUR),
    "handshake_timeout_secs": _Bounds(above=True, highest=_HOUR),
    "kickoff_timeout_secs": _Bounds(highest=_HOUR),
    "end_timeout_secs": _Bounds(highest=_HOUR),
    # The user's audio waits there before it is sent, so nothing that is shorter than an
    # audio frame of the transport would let any of it through.
    "preroll_secs": _Bounds(
        0.5, highest=_HOUR, hint="all of the user's audio goes through it; leave it out for 10 s"
    ),
    "unused_timeout_secs": _Bounds(above=True, hint=_FOR_EVER),
    "idle_timeout_secs": _Bounds(above=True, hint=_FOR_EVER),
    "max_session_secs": _Bounds(1.0, hint=_FOR_EVER),
    "max_call_secs": _Bounds(above=True, hint=_FOR_EVER),
    "context_limit_bytes": _Bounds(
        2000, hint="less would not hold what a session is told; None is no limit"
    ),
    "context_warning_bytes": _Bounds(above=True, hint="None is no warning"),
    "longest_turn_secs": _Bounds(
        1.0, highest=_HOUR, hint="a turn that is longer is taken to be over; leave it out for 60 s"
    ),
    "joined_audio_secs": _Bounds(highest=10.0, hint="0 makes a frame of each delta"),
    "function_call_timeout_secs": _Bounds(above=True, hint=_FOR_EVER),
    "no_result_timeout_secs": _Bounds(hint=_FOR_EVER),
    "max_tool_rounds": _Bounds(1, hint=_FOR_EVER),
}


# Arguments that are short for a setting.
_SHORTHANDS: Final = ("model", "voice", "system_instruction", "instructions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The checked arguments of a service, one field for each; `HydraLLMService` describes them.

    Parameters:
        keyring: Has the key.
        endpoint: The endpoint without a key, and the model to begin with.
        settings: The settings of the service, complete. They change while it runs.
    """

    keyring: Keyring
    endpoint: Endpoint
    settings: HydraLLMSettings
    tools: ServiceTools | None
    turn_frames: TurnFrames
    history: HistoryStyle
    context_limit_bytes: int | None
    context_warning_bytes: int | None
    vad_frames: bool
    fixed_phrases: FixedPhrases
    keypad: KeypadUse
    resume_after_noise: bool
    joined_audio_secs: float
    speakers: SpeakerPolicy
    start_audio_paused: bool
    audio_passthrough: bool | None
    open_timeout_secs: float
    handshake_timeout_secs: float
    kickoff_timeout_secs: float
    end_timeout_secs: float
    preroll_secs: float
    unused_timeout_secs: float | None
    idle_timeout_secs: float | None
    max_session_secs: float | None
    max_call_secs: float | None
    no_result_timeout_secs: float | None
    max_tool_rounds: int | None
    longest_turn_secs: float
    retry: RetryPolicy | None
    capacity: Capacity | None
    recorder: HydraRecorder | None

    @classmethod
    def checked(
        cls, kind: type[Any], constructor: Callable[..., None], given: Mapping[str, Any]
    ) -> Self:
        """Check what a constructor was given.

        Args:
            kind: The class of the object under construction, whose bases take `**kwargs`.
            constructor: The constructor.
            given: Its local variables: its arguments and, in the place of the key, `keyring`.

        Raises:
            TypeError: If an argument is unknown, or of the wrong type.
            ValueError: If an argument is none of its choices or out of its bounds, contradicts
                the settings, is no URL of a WebSocket, or is a tool that is no JSON.
        """
        _check_names(kind, given["kwargs"])
        _check_values(constructor, given)
        settings = complete_settings(
            given["settings"], **{name: given[name] for name in _SHORTHANDS}
        )
        # What is wrong with the URL shows here, not in the background.
        endpoint = Endpoint(
            _base_url_or_default(given["base_url"]),
            wanted(settings).model,
            SecretStr("none yet"),
            given["auth"],
            given["ssl"],
            given["proxy"],
        )
        values: dict[str, Any] = {
            **given,
            "settings": settings,
            "endpoint": endpoint,
            "tools": checked_tools(given["tools"]),
            "recorder": given["recorder"] or _recorder_of_environment(),
        }
        return cls(**{field.name: values[field.name] for field in fields(cls)})


def keyring_for(api_key: str | KeySource | None) -> Keyring:
    """Return a keyring with the key that is given, else with that of the environment.

    Raises:
        TypeError: If the key is of the wrong type.
        ValueError: If there is none.
    """
    if api_key is not None:
        return Keyring(api_key)
    if key := os.environ.get(KEY_VARIABLE, "").strip():
        return Keyring(key)
    raise ValueError(
        f"there is no API key: set {KEY_VARIABLE}, or pass api_key. To try a bot without an "
        "account, run `pipecat-hydra emulator`, and set the variables that it prints"
    )


def _base_url_or_default(base_url: str | None) -> str:
    """Return the endpoint that is given, else that of the environment, else the public one."""
    return base_url or os.environ.get(BASE_URL_VARIABLE, "").strip() or DEFAULT_BASE_URL


def _recorder_of_environment() -> HydraRecorder | None:
    folder = os.environ.get(RECORD_VARIABLE, "").strip()
    return HydraRecorder(folder) if folder else None


def _check_names(kind: type[Any], names: Mapping[str, Any]) -> None:
    known = set(_parameters(kind))
    for name in names:
        if name in known:
            continue
        settings = {field.name for field in fields(HydraLLMSettings)}
        if name in settings:
            hint = f". It is a setting: settings=HydraLLMService.Settings({name}=...)"
        else:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
        raise TypeError(f"HydraLLMService has no argument {name!r}{hint}")


def _check_values(constructor: Callable[..., None], given: Mapping[str, Any]) -> None:
    """Check the values that a constructor, or by its `**kwargs` one of its bases, was given."""
    for name, value in given["kwargs"].items():
        if name in _BOUNDS and value is not None:
            _check_number(name, value)
    for name, hint in get_type_hints(constructor).items():
        # Settings are checked where they are completed.
        if name in given and name not in ("settings", "kwargs"):
            _check(name, given[name], hint)


def _parameters(kind: type[Any]) -> Iterator[str]:
    """Names of the parameters of a class's constructor and of those of its bases."""
    for base in kind.__mro__:
        if base is not object and "__init__" in vars(base):
            for parameter in inspect.signature(base.__init__).parameters.values():
                if parameter.name != "self" and parameter.kind not in (
                    inspect.Parameter.VAR_KEYWORD,
                    inspect.Parameter.VAR_POSITIONAL,
                ):
                    yield parameter.name


def _check(name: str, value: object, hint: Any) -> None:
    """Check a value against an annotation; what is not simple, its user checks."""
    if get_origin(hint) in (Union, UnionType):
        hints = [each for each in get_args(hint) if each is not NoneType]
        if len(hints) > 1 or (value is None and len(hints) < len(get_args(hint))):
            return
        (hint,) = hints
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if value not in choices:
            said = ", ".join(map(repr, choices))
            raise ValueError(f"{name} must be one of {said}, not {value!r}")
    elif hint is float:
        _check_number(name, value)
    elif hint is int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be a whole number, not {value!r}")
        _check_number(name, value)
    elif isinstance(hint, type) and not isinstance(value, cast("type[Any]", hint)):
        raise TypeError(f"{name} must be of type {hint.__name__}, not {type(value).__name__}")


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        of_what = " of seconds" if name.endswith("_secs") else ""
        raise TypeError(f"{name} must be a number{of_what}, not {value!r}")
    bounds = _BOUNDS[name]
    if problem := bounds.problem(float(value)):
        hint = f" ({bounds.hint})" if bounds.hint else ""
        raise ValueError(f"{name} {problem}, not {value}{hint}")
