"""Smallest AI's Hydra speech-to-speech model as a Pipecat service."""

from pipecat_hydra.service import HydraLLMService
from pipecat_hydra.settings import HydraLLMSettings

__all__ = ["HydraLLMService", "HydraLLMSettings"]
