"""What is measured: the services, and the floors beneath them.

A peer stands in the LLM's place of a pipeline, or is a bare client without one. Each gets the
microphone at the rate that it sends, so that none has to resample, but where that is measured.
A service that cannot be imported is left out, and the reason is told.
"""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from pipecat.processors.frame_processor import FrameProcessor

from benchmarks.floors import Nothing, SameAudio

__all__ = ["PEERS", "Peer"]

_KEY: Final = "none"


@dataclass(frozen=True)
class Peer:
    """One service or floor.

    Parameters:
        module: The module of the service.
        make: Makes the processor, of its module, the URL of a server and the session's
            number.
        microphone_rate: What it sends to the server, in Hz.
    """

    module: str
    make: Callable[[Any, str, int], FrameProcessor]
    microphone_rate: int = 24_000

    def load(self) -> ModuleType:
        """Import what it is made of."""
        return importlib.import_module(self.module)

    def own_code(self) -> Path:
        """The folder of the service's own code."""
        path = self.load().__file__
        assert path is not None
        return Path(path).parent


def _hydra(module: Any, url: str, number: int) -> FrameProcessor:
    # What the service finds out where the processors below it are Pipecat's own: that none of them
    # uses the microphone. Of those of this package it cannot know.
    known = inspect.signature(module.HydraLLMService).parameters
    more = {"audio_passthrough": False} if "audio_passthrough" in known else {}
    return module.HydraLLMService(api_key=_KEY, base_url=url, **more)


def _openai(module: Any, url: str, number: int) -> FrameProcessor:
    return module.OpenAIRealtimeLLMService(api_key=_KEY, base_url=url)


def _xai(module: Any, url: str, number: int) -> FrameProcessor:
    return module.GrokRealtimeLLMService(api_key=_KEY, base_url=url)


def _inworld(module: Any, url: str, number: int) -> FrameProcessor:
    return module.InworldRealtimeLLMService(api_key=_KEY, base_url=url)


PEERS: Final[dict[str, Peer]] = {
    "hydra": Peer("pipecat_hydra", _hydra, microphone_rate=16_000),
    "openai": Peer("pipecat.services.openai.realtime.llm", _openai),
    "xai": Peer("pipecat.services.xai.realtime.llm", _xai),
    "inworld": Peer("pipecat.services.inworld.realtime.llm", _inworld),
    "null": Peer("benchmarks.floors", lambda *_: Nothing(), microphone_rate=16_000),
    "null + audio": Peer(
        "benchmarks.floors", lambda _module, _url, number: SameAudio(number), microphone_rate=16_000
    ),
}
