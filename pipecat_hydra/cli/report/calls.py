"""Opens the recordings that are named on the command line."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipecat_hydra.recording import Recording, RecordingError
from pipecat_hydra.recording.course import Course
from pipecat_hydra.recording.format import CALL_FILE

__all__ = ["ReportedCall", "open_calls"]


@dataclass(frozen=True, slots=True)
class ReportedCall:
    """A recorded call that is reported.

    Parameters:
        name: Name of its folder.
        recording: The recording.
        course: What it came to.
    """

    name: str
    recording: Recording
    course: Course

    @classmethod
    def open(cls, folder: Path) -> "ReportedCall":
        """Read and measure a call.

        Args:
            folder: The folder of its recording.

        Returns:
            The call.

        Raises:
            RecordingError: There is no recording, it is empty, or this version cannot read it.
        """
        recording = Recording.open(folder)
        if not recording.records:
            raise RecordingError(f"{folder} is empty: the call ended before anything happened")
        return cls(recording.folder.resolve().name, recording, Course.of(recording))

    def header(self, name: str) -> str:
        """Return a field of the recording's header as text, empty if there is none."""
        value = self.recording.header.get(name)
        return "" if value is None else str(value)


def open_calls(paths: Iterable[Path]) -> list[ReportedCall]:
    """Read and measure calls.

    Args:
        paths: Folders of recordings, and folders that have such folders.

    Returns:
        The calls, in the order of the paths, and by name within a folder.

    Raises:
        RecordingError: There is no recording in one of them, or this version cannot read it.
    """
    return [ReportedCall.open(folder) for path in paths for folder in _folders(path)]


def _folders(path: Path) -> list[Path]:
    if not path.exists():
        raise RecordingError(f"no such folder: {path}")
    if path.name == CALL_FILE or (path / CALL_FILE).exists():
        return [path]
    found = sorted(file.parent for file in path.glob(f"*/{CALL_FILE}")) if path.is_dir() else []
    if not found:
        raise RecordingError(
            f"{path} has no recording of a call: name a folder that has {CALL_FILE}, or a folder "
            "of such folders"
        )
    return found
