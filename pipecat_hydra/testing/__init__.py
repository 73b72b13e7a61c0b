"""Tools for tests of a bot: calls through its pipeline, and the transport that makes them.

With pytest, the fixtures `hydra` and `call` hold a call with a bot (`docs/testing.md`), and
`CallResult` says what happened in it. `VirtualTransport` replaces the microphone and the
loudspeaker in any pipeline.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipecat_hydra.testing.calls.caller import BargeIn, Recorded
    from pipecat_hydra.testing.calls.errors import CallError
    from pipecat_hydra.testing.calls.result import CallResult
    from pipecat_hydra.testing.virtual_transport import (
        HeardAudio,
        Microphone,
        Timeline,
        Utterance,
        VirtualTransport,
        VirtualTransportParams,
        read_recording,
    )

__all__ = [
    "BargeIn",
    "CallError",
    "CallResult",
    "HeardAudio",
    "Microphone",
    "Recorded",
    "Timeline",
    "Utterance",
    "VirtualTransport",
    "VirtualTransportParams",
    "read_recording",
]

_CALLS = "pipecat_hydra.testing.calls"
_VIRTUAL_TRANSPORT = "pipecat_hydra.testing.virtual_transport"

# Every run of pytest imports the plugin, which is in this package. Pipecat takes two seconds, so
# it is imported when a test uses something of it.
_HOMES = {
    "BargeIn": f"{_CALLS}.caller",
    "CallError": f"{_CALLS}.errors",
    "CallResult": f"{_CALLS}.result",
    "HeardAudio": _VIRTUAL_TRANSPORT,
    "Microphone": _VIRTUAL_TRANSPORT,
    "Recorded": f"{_CALLS}.caller",
    "Timeline": _VIRTUAL_TRANSPORT,
    "Utterance": _VIRTUAL_TRANSPORT,
    "VirtualTransport": _VIRTUAL_TRANSPORT,
    "VirtualTransportParams": _VIRTUAL_TRANSPORT,
    "read_recording": _VIRTUAL_TRANSPORT,
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
