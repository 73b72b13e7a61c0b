"""Tools for tests of a bot: a transport whose microphone is a recording."""

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
    "HeardAudio",
    "Microphone",
    "Timeline",
    "Utterance",
    "VirtualTransport",
    "VirtualTransportParams",
    "read_recording",
]
