"""The service that calls talk to, and what a page may choose of it for a call of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pipecat_hydra import HydraLLMService
from pipecat_hydra.wire.protocol import MODELS, UNKNOWN_MODEL_OUTPUT_SAMPLE_RATE

__all__ = ["INSTRUCTIONS_LIMIT", "ChoiceError", "Offered", "Service", "offered_models"]

INSTRUCTIONS_LIMIT: Final = 8_000
"""How many characters of instructions a page may give: half of what a session can be told."""

_CHOICES: Final = ("model", "voice", "instructions")


class ChoiceError(ValueError):
    """What a page has chosen for its call is not valid; the message is for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A model that a page may choose.

    Parameters:
        name: The model.
        voices: Its voices.
        default_voice: The voice it has if none is chosen; `None` if it is not known.
    """

    name: str
    voices: tuple[str, ...]
    default_voice: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The service that calls talk to.

    Parameters:
        api_key: The key.
        base_url: The endpoint, without query.
        model: The model.
        voice: Its voice; `None` for the model's default.
        instructions: The system instruction.
    """

    api_key: str
    base_url: str
    model: str
    voice: str | None
    instructions: str

    def __repr__(self) -> str:
        """Leave out the key."""
        return f"<Service {self.model} at {self.base_url}>"

    @property
    def output_sample_rate(self) -> int:
        """Rate of reply audio in Hz."""
        model = MODELS.get(self.model)
        return model.output_sample_rate if model else UNKNOWN_MODEL_OUTPUT_SAMPLE_RATE

    def chosen(self, choice: object) -> "Service":
        """Return the service with what a page has chosen for its call.

        Args:
            choice: What the page has sent: `None`, or an object with any of `model`, `voice`
                (empty for the model's default) and `instructions`.

        Returns:
            The service; what is not chosen is as it was.

        Raises:
            ChoiceError: The choice is not valid.
        """
        if choice is None:
            return self
        wanted = _texts(choice)
        name = wanted.get("model", self.model)
        models = {model.name: model for model in offered_models(self)}
        if name not in models:
            raise ChoiceError(f"There is no model {name[:40]!r}.")
        # The voice that the server was started with need not be one of another model.
        voice = wanted.get("voice", self.voice if name == self.model else None) or None
        if voice is not None and voice not in models[name].voices:
            raise ChoiceError(f"The model {name} has no voice {voice[:40]!r}.")
        instructions = wanted.get("instructions", self.instructions)
        if len(instructions) > INSTRUCTIONS_LIMIT:
            raise ChoiceError(
                f"The instructions are too long: at most {INSTRUCTIONS_LIMIT} characters are taken."
            )
        return replace(self, model=name, voice=voice, instructions=instructions)

    def create(self, **more: Any) -> HydraLLMService:
        """Make the processor for one call.

        Args:
            **more: More arguments of `HydraLLMService`.

        Raises:
            ValueError: An option is not valid.
        """
        return HydraLLMService(
            api_key=self.api_key,
            base_url=self.base_url,
            settings=HydraLLMService.Settings(
                model=self.model, voice=self.voice, system_instruction=self.instructions
            ),
            **more,
        )


def offered_models(service: Service) -> tuple[Offered, ...]:
    """Return the models that a page may choose: the known ones, and that of the service.

    The voice of the service is one of its model, whether it is known or not.
    """
    known = {
        model.name: Offered(name=model.name, voices=model.voices, default_voice=model.default_voice)
        for model in MODELS.values()
    }
    own = known.get(service.model) or Offered(name=service.model, voices=(), default_voice=None)
    if service.voice and service.voice not in own.voices:
        own = replace(own, voices=(service.voice, *own.voices))
    return tuple({**known, own.name: own}.values())


def _texts(choice: object) -> Mapping[str, str]:
    """Return what of a choice concerns the service, as texts by name.

    Pipecat's prebuilt page may send more, for bots that expect it.

    Raises:
        ChoiceError: It is no object, or one of these is no text.
    """
    if not isinstance(choice, dict):
        raise ChoiceError("The settings of the call cannot be read.")
    wanted = {name: choice[name] for name in _CHOICES if name in choice}
    if not all(isinstance(value, str) for value in wanted.values()):
        raise ChoiceError("The settings of the call cannot be read.")
    return wanted
