"""Records the calls of the page's server, and makes the files that a page may have of its call.

Each call is recorded into a folder of its own, in the folder that `--record` names or else in a
temporary one. A call gets an id that nobody can guess, and only its page is told it. What the page
may have is made of the recording once the call has ended: both voices as a WAV file, what the call
came to as JSON, and the report.

Of temporary recordings the newest are kept, until the server ends. A folder of the user's is never
emptied; its older calls just have no id any more.
"""

import asyncio
import json
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import soundfile as sf
from loguru import logger
from typing_extensions import override

from pipecat_hydra.cli.report.calls import ReportedCall
from pipecat_hydra.cli.report.document import document
from pipecat_hydra.cli.report.page import page
from pipecat_hydra.recording import HydraRecorder
from pipecat_hydra.recording.audio_files import resampled
from pipecat_hydra.recording.writer import CallWriter

__all__ = ["RecordedCall", "Recordings"]

_MOST_CALLS: Final = 20
"""How many calls have an id, those in progress included: more than can be held at a time."""

_MOST_WAV_SECS: Final = 3_600.0
"""How long a call may be of which there is a WAV file: some 350 MB."""

_END_LIMIT_SECS: Final = 15.0
"""How long a page may wait for the end of its call, which it has hung up."""


@dataclass(slots=True, kw_only=True)
class RecordedCall:
    """A call that is or was recorded.

    Parameters:
        id: What the page is told, and nobody else.
        recorder: Records it.
        folder: Where its files for the page are.
    """

    id: str
    recorder: "_Recorder"
    folder: Path
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _made: "asyncio.Task[tuple[str, ...]] | None" = None

    @property
    def secs(self) -> float:
        """How long the recording has run, in seconds."""
        return time.monotonic() - self.recorder.began

    def end(self) -> None:
        """Tell that the call has ended and its recording is complete."""
        self._ended.set()

    async def files(self) -> tuple[str, ...]:
        """Return the names of the files for the page, once they are made.

        Raises:
            TimeoutError: The call goes on.
        """
        async with asyncio.timeout(_END_LIMIT_SECS):
            await self._ended.wait()
        recording = self.recorder.folder
        if recording is None:
            return ()
        if self._made is None:
            self._made = asyncio.create_task(asyncio.to_thread(_make, recording, self.folder))
        # A page that asks and goes away stops nothing for one that asks again.
        return await asyncio.shield(self._made)


class _Recorder(HydraRecorder):
    """A recorder of one call, which knows when that began on this process's clock."""

    began = 0.0

    @override
    def begin(self, *, model: str, **facts: Any) -> CallWriter:
        """Begin to record the call."""
        self.began: float = time.monotonic()
        return super().begin(model=model, **facts)


class Recordings:
    """The recorded calls, from `__enter__` to `__exit__`, which deletes the temporary files."""

    def __init__(self, folder: Path | None = None):
        """Create the object, without any call.

        Args:
            folder: Where the calls are recorded, for good; `None` for a temporary folder.
        """
        self._kept = folder
        self._calls: dict[str, RecordedCall] = {}
        self._temporary: TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        """Make the temporary folder."""
        self._temporary = TemporaryDirectory(prefix="pipecat-hydra-", ignore_cleanup_errors=True)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Delete the temporary folder."""
        assert self._temporary is not None
        self._temporary.cleanup()

    def begin(self) -> RecordedCall:
        """Return the recording of a new call."""
        assert self._temporary is not None
        while len(self._calls) >= _MOST_CALLS:
            self._forget(self._calls.pop(next(iter(self._calls))))
        name = secrets.token_urlsafe(18)
        folder = Path(self._temporary.name, name)
        folder.mkdir()
        recorder = _Recorder(self._kept or folder)
        call = self._calls[name] = RecordedCall(id=name, recorder=recorder, folder=folder)
        return call

    def place_of(self, call: RecordedCall) -> str:
        """Return where a call is kept for good, for the end of a line; empty if it is not."""
        kept = call.recorder.folder if self._kept else None
        return f", recorded in {kept}" if kept else ""

    def get(self, name: str) -> RecordedCall | None:
        """Return the call with an id, if there is one."""
        return self._calls.get(name)

    def _forget(self, call: RecordedCall) -> None:
        """Delete the files of a call for its page, and with them a temporary recording."""
        shutil.rmtree(call.folder, ignore_errors=True)


def _make(recorded: Path, folder: Path) -> tuple[str, ...]:
    """Make the files of a call; return the names of those that could be made."""
    try:
        call = ReportedCall.open(recorded)
    except (OSError, ValueError) as error:
        logger.warning(f"The recording of a call cannot be used: {error}")
        return ()
    made: list[str] = []
    for name, write in _FILES.items():
        if name == "call.wav" and call.course.secs > _MOST_WAV_SECS:
            continue
        try:
            write(call, folder / name)
        except (OSError, ValueError) as error:
            logger.warning(f"{name} of a call cannot be made: {error}")
        else:
            made.append(name)
    return tuple(made)


def _write_data(call: ReportedCall, path: Path) -> None:
    path.write_text(json.dumps(document([call]), ensure_ascii=False, indent=2), encoding="utf-8")


def _write_report(call: ReportedCall, path: Path) -> None:
    path.write_text(page([call]), encoding="utf-8", newline="\n")


def _write_wav(call: ReportedCall, path: Path) -> None:
    """Write both voices, left the user and right the bot as heard, at the rate of the bot's."""
    user, heard = call.recording.user_track(), call.recording.heard_track()
    rate = heard.rate or user.rate
    voices = [resampled(user.samples, user.rate, rate), heard.samples]
    both = np.zeros((max(map(len, voices)), len(voices)), np.int16)
    for channel, voice in enumerate(voices):
        both[: len(voice), channel] = voice
    sf.write(path, both, rate, subtype="PCM_16")


_FILES: Final[Mapping[str, Callable[[ReportedCall, Path], None]]] = {
    "call.wav": _write_wav,
    "call.json": _write_data,
    "report.html": _write_report,
}
