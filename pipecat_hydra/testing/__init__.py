"""What tests of a bot use: a transport with a recording for a microphone."""

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
