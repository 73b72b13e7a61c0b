"""Smallest AI's Hydra speech-to-speech model as a Pipecat service."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipecat_hydra.recording.recorder import HydraRecorder
    from pipecat_hydra.service.llm import HydraLLMService
    from pipecat_hydra.service.metrics import HydraSessionMetricsData
    from pipecat_hydra.service.settings import HydraLLMSettings
    from pipecat_hydra.session.active_calls import ActiveCalls
    from pipecat_hydra.session.capacity import Capacity, NoPlaceError
    from pipecat_hydra.session.keys import KeySource
    from pipecat_hydra.session.redis_capacity import RedisCapacity
    from pipecat_hydra.session.retries import RetryPolicy

__all__ = [
    "ActiveCalls",
    "Capacity",
    "HydraLLMService",
    "HydraLLMSettings",
    "HydraRecorder",
    "HydraSessionMetricsData",
    "KeySource",
    "NoPlaceError",
    "RedisCapacity",
    "RetryPolicy",
]

# Importing the service takes two seconds, most of it Pipecat. `--help` needs nothing of Pipecat,
# and the emulator only its voice activity detector.
_HOMES = {
    "ActiveCalls": "pipecat_hydra.session.active_calls",
    "Capacity": "pipecat_hydra.session.capacity",
    "HydraLLMService": "pipecat_hydra.service.llm",
    "HydraLLMSettings": "pipecat_hydra.service.settings",
    "HydraRecorder": "pipecat_hydra.recording.recorder",
    "HydraSessionMetricsData": "pipecat_hydra.service.metrics",
    "KeySource": "pipecat_hydra.session.keys",
    "NoPlaceError": "pipecat_hydra.session.capacity",
    "RedisCapacity": "pipecat_hydra.session.redis_capacity",
    "RetryPolicy": "pipecat_hydra.session.retries",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
