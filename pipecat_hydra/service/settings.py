"""What an application may ask of Hydra, and change by a settings frame."""

from dataclasses import dataclass, field

from pipecat.services.settings import LLMSettings
from pipecat.utils.types import NOT_GIVEN, NotGiven

from pipecat_hydra.wire.protocol import DEFAULT_MODEL, MODELS, SERVER_DEFAULT_VOICE

__all__ = ["HydraLLMSettings", "default_voice", "voice_warning"]


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
