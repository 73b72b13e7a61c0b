"""The settings of the service: what an application gives, their checks and their defaults."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pipecat.services.settings import LLMSettings
from pipecat.utils.types import NOT_GIVEN, NotGiven, assert_given, is_given

from pipecat_hydra.wire.protocol import DEFAULT_MODEL, MODELS, SERVER_DEFAULT_VOICE, VOICES

__all__ = [
    "HydraLLMSettings",
    "Wanted",
    "complete_settings",
    "default_voice",
    "settings_warnings",
    "useless_settings",
    "voice_warning",
    "wanted",
]


_TEXTS: Final = ("model", "voice", "system_instruction")
_SWITCHES: Final = ("generate_initial_response",)
_SAMPLING: Final = (
    "temperature",
    "max_tokens",
    "top_p",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "seed",
)


@dataclass
class HydraLLMSettings(LLMSettings):
    """Settings of `HydraLLMService`.

    Of the settings that all LLM services share, Hydra has `model` and
    `system_instruction`; the sampling parameters have no effect.

    Parameters:
        voice: The voice the model speaks with, for example `"aria"`. Defaults to the
            model's own; `pipecat_hydra.wire.protocol.MODELS` lists the known rosters.
        generate_initial_response: Whether the model speaks first. None (the
            default): when the pipeline asks for it with an `LLMRunFrame`. True or
            False: always or never.
    """

    voice: str | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    generate_initial_response: bool | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the settings in force ask for, defaults included.

    Parameters:
        model: The model.
        voice: The voice; None for Hydra's default.
        instruction: The system instruction, with what Pipecat and others have added to it.
        speaks_first: Whether the model speaks first; None when the pipeline asks for it.
    """

    model: str
    voice: str | None
    instruction: str | None
    speaks_first: bool | None


def wanted(settings: HydraLLMSettings) -> Wanted:
    """Read complete settings."""
    model = assert_given(settings.model) or DEFAULT_MODEL
    return Wanted(
        model=model,
        voice=assert_given(settings.voice) or default_voice(model),
        instruction=assert_given(settings.system_instruction),
        speaks_first=assert_given(settings.generate_initial_response),
    )


def complete_settings(given: HydraLLMSettings | None, **shorthands: str | None) -> HydraLLMSettings:
    """Make settings with every field initialised, those given and the defaults.

    Args:
        given: The settings that the application gave.
        **shorthands: Settings that it gave as arguments, by name; None if not given. One of
            the names is `instructions`, for `system_instruction`.

    Raises:
        TypeError: If the settings, or one of them, are of the wrong type.
        ValueError: If two of them contradict each other.
    """
    settings = HydraLLMSettings(
        model=DEFAULT_MODEL,
        system_instruction=None,
        temperature=None,
        max_tokens=None,
        top_p=None,
        top_k=None,
        frequency_penalty=None,
        presence_penalty=None,
        seed=None,
        filter_incomplete_user_turns=False,
        user_turn_completion_config=None,
        use_provider_thinking_default=False,
        voice=None,
        generate_initial_response=None,
    )
    said: dict[str, Any] = {}
    if given is not None:
        _check(given)
        settings.apply_update(given)
        said = given.given_fields()
    for argument, value in shorthands.items():
        if value is None:
            continue
        name = "system_instruction" if argument == "instructions" else argument
        if said.get(name) not in (None, value):
            raise ValueError(f"{argument} and {name} of the settings differ: give one of them")
        said[name] = value
        setattr(settings, name, value)
    return settings


def _check(given: object) -> None:
    """Check what an application gave as settings, which a type checker has not seen."""
    if not isinstance(given, LLMSettings):
        message = f"settings must be HydraLLMService.Settings(...), not {type(given).__name__}"
        if isinstance(given, Mapping):
            message += ": write settings=HydraLLMService.Settings(**{...})"
        raise TypeError(message)
    for names, kind in ((_TEXTS, str), (_SWITCHES, bool)):
        for name in names:
            value: object = getattr(given, name, None)
            if is_given(value) and value is not None and not isinstance(value, kind):
                said = type(value).__name__
                raise TypeError(f"settings: {name} must be of type {kind.__name__}, not {said}")


def useless_settings(settings: HydraLLMSettings) -> list[str]:
    """Names of the settings that are given and that Hydra does not have."""
    sampling = [name for name in _SAMPLING if getattr(settings, name) is not None]
    return [*sampling, *settings.extra]


def default_voice(model: str) -> str:
    """The voice to ask for when the application names none. One is always sent."""
    known = MODELS.get(model)
    return known.default_voice if known else SERVER_DEFAULT_VOICE


def voice_warning(model: str, voice: str) -> str | None:
    """What to tell a developer about `voice`, if it is not in the known roster."""
    known = MODELS.get(model)
    voices = known.voices if known else VOICES
    if voice in voices:
        return None
    return (
        f"voice {voice!r} is not in the known roster ({', '.join(voices)}). "
        "Hydra rejects a voice that it does not have"
    )


def settings_warnings(settings: HydraLLMSettings) -> list[str]:
    """What to tell a developer about the model and the voice of complete settings."""
    asked = wanted(settings)
    known = MODELS.get(asked.model)
    warnings: list[str] = []
    if known is not None and known.deprecated:
        warnings.append(f"model {known.name!r} is deprecated; use {DEFAULT_MODEL!r}")
    if asked.voice is not None and (warning := voice_warning(asked.model, asked.voice)):
        warnings.append(warning)
    return warnings
