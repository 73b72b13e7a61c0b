"""Smallest AI's Hydra speech-to-speech model as a Pipecat service."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipecat_hydra.service import HydraLLMService
    from pipecat_hydra.settings import HydraLLMSettings

__all__ = ["HydraLLMService", "HydraLLMSettings"]


def __getattr__(name: str) -> object:
    # Importing Pipecat takes two seconds; the emulator and `--help` need none of it.
    if name == "HydraLLMService":
        from pipecat_hydra.service import HydraLLMService

        return HydraLLMService
    if name == "HydraLLMSettings":
        from pipecat_hydra.settings import HydraLLMSettings

        return HydraLLMSettings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
