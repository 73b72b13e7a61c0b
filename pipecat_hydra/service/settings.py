"""What an application may ask of Hydra, and change by a settings frame."""

from dataclasses import dataclass, field

from pipecat.services.settings import LLMSettings
from pipecat.utils.types import NOT_GIVEN, NotGiven, assert_given

from pipecat_hydra.wire.protocol import DEFAULT_MODEL, MODELS, SERVER_DEFAULT_VOICE

__all__ = [
    "HydraLLMSettings",
    "Wanted",
    "complete_settings",
    "default_voice",
    "settings_warnings",
    "voice_warning",
    "wanted",
]


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
        voice: The voice.
        instruction: The system instruction, with what Pipecat and others have added to it.
        speaks_first: Whether the model speaks first; None when the pipeline asks for it.
    """

    model: str
    voice: str
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


def complete_settings(given: HydraLLMSettings | None) -> HydraLLMSettings:
    """Make settings with every field initialised, those given and the defaults."""
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
    if given is not None:
        settings.apply_update(given)
    return settings


def default_voice(model: str) -> str:
    """The voice to ask for when the application names none. One is always sent."""
    known = MODELS.get(model)
    return known.default_voice if known else SERVER_DEFAULT_VOICE


def voice_warning(model: str, voice: str) -> str | None:
    """What to tell a developer about `voice`, if it is not in the known roster."""
    known = MODELS.get(model)
    if known is None or voice in known.voices:
        return None
    return (
        f"voice {voice!r} is not in the known roster of {model} ({', '.join(known.voices)}). "
        "Hydra rejects a voice it does not have"
    )


def settings_warnings(settings: HydraLLMSettings) -> list[str]:
    """What to tell a developer about the model and the voice of complete settings."""
    asked = wanted(settings)
    known = MODELS.get(asked.model)
    warnings: list[str] = []
    if known is not None and known.deprecated:
        warnings.append(f"model {known.name!r} is deprecated; use {DEFAULT_MODEL!r}")
    if warning := voice_warning(asked.model, asked.voice):
        warnings.append(warning)
    return warnings
