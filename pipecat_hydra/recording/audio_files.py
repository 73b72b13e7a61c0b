"""The audio of a recording: writes and reads FLAC files, also those that were never closed.

The encoder writes whole blocks straight to the file, so a killed process leaves all audio but for
the last block, a fraction of a second. What such a file lacks is its length, which is written when
it is closed. libsndfile then opens it and reads on, but cannot seek in it.
"""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray
from typing_extensions import override

__all__ = ["FlacWriter", "read_flac", "resampled"]

# What of a file that was cut off in a block cannot be read is at most so much.
_READ_SAMPLES: Final = 4096
# The encoder's second lowest effort: 0.6 has the same cost and size, 1.0 twice the cost.
_COMPRESSION: Final = 0.25


class FlacWriter:
    """Appends mono samples to a new FLAC file."""

    def __init__(self, path: Path, rate: int):
        """Create the file.

        Args:
            path: The file, which must not exist.
            rate: Its rate in Hz.

        Raises:
            OSError: It cannot be created.
        """
        # libsndfile would only say "System error".
        path.touch(exist_ok=False)
        with _as_os_error():
            self._file = sf.SoundFile(
                path, "w", rate, 1, "PCM_16", format="FLAC", compression_level=_COMPRESSION
            )

    def append(self, pieces: Iterable[bytes]) -> None:
        """Append PCM16.

        Raises:
            OSError: The disk is full, or takes nothing.
        """
        with _as_os_error():
            self._file.write(np.frombuffer(b"".join(pieces), "<i2"))

    def close(self) -> None:
        """Write the rest and the length of the file.

        Raises:
            OSError: The disk is full, or takes nothing.
        """
        with _as_os_error():
            self._file.close()


class _OpenEnded(sf.SoundFile):
    """A file whose length is not known, read from its beginning to its end."""

    @override
    def seekable(self) -> bool:
        return False


def read_flac(path: Path) -> tuple[NDArray[np.int16], int]:
    """Read a file as far as it goes.

    Args:
        path: The file.

    Returns:
        Mono samples and the rate in Hz; no samples and a rate of 0 of a file that ends before its
        header does.
    """
    try:
        file = _OpenEnded(path)
    except sf.LibsndfileError:
        return np.zeros(0, np.int16), 0
    with file:
        blocks = list(_blocks(file))
        samples = np.concatenate(blocks) if blocks else np.zeros(0, np.int16)
        return samples, file.samplerate


def resampled(samples: NDArray[np.int16], rate: int, new_rate: int) -> NDArray[np.int16]:
    """Convert samples to another rate."""
    return samples if rate == new_rate else np.asarray(soxr.resample(samples, rate, new_rate))


@contextmanager
def _as_os_error() -> Generator[None]:
    """Raise what libsndfile says as what it is: it hides the system's own error."""
    try:
        yield
    except sf.LibsndfileError as error:
        raise OSError(f"the audio cannot be written ({error}): is the disk full?") from None


def _blocks(file: sf.SoundFile) -> Iterable[NDArray[np.int16]]:
    while True:
        try:
            block = np.asarray(file.read(_READ_SAMPLES, dtype="int16"), np.int16)
        except sf.LibsndfileError:
            return  # a block that was cut off
        if not len(block):
            return
        yield block
