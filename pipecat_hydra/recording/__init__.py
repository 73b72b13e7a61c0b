"""Keeps whole calls: the format of a recording, its writer and its reader."""

from pipecat_hydra.recording.format import AudioReference, Record, RecordingError
from pipecat_hydra.recording.reader import Recording, Track
from pipecat_hydra.recording.recorder import HydraRecorder

__all__ = ["AudioReference", "HydraRecorder", "Record", "Recording", "RecordingError", "Track"]
