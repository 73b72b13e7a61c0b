"""Records one call in a thread of its own, so that no frame waits for it.

The event loop puts on a tape what happens (tape.py): messages as they are on the wire, audio as
it was written, and a line for each thing that is seldom. The thread takes it off twice a second,
in short steps, because the event loop waits for a thread that computes: it makes lines and FLAC
of it (call_files.py) and hands them to the operating system.

A disk that is full or a folder that cannot be written ends the recording and nothing else: there
is one error in the log, and, if there is room for it, one as the last record.
"""

import json
import threading
import time
from pathlib import Path
from typing import Any, Final

from loguru import logger

from pipecat_hydra.recording.call_files import Beginning, CallFiles
from pipecat_hydra.recording.format import Source
from pipecat_hydra.recording.tape import Kind, Tape
from pipecat_hydra.recording.wire_events import Redaction

__all__ = ["CallWriter"]

_FLUSH_SECS: Final = 0.5
# A step is a fraction of a millisecond. Where more waits, the event loop has its turn between two.
_STEP_ENTRIES: Final = 64
_PAUSE_SECS: Final = 0.0005


class CallWriter:
    """Records one call from its making on. You must `end` it, and then `close` it."""

    def __init__(
        self,
        root: Path,
        *,
        model: str,
        facts: dict[str, Any],
        keeps_audio: bool = True,
        redaction: Redaction | None = None,
    ):
        """Begin to record.

        Args:
            root: The folder in which the folder of the call is made.
            model: Hydra's model, which says the rate of its audio until the session does.
            facts: More for the header: voice, URL.
            keeps_audio: Whether audio is kept.
            redaction: Applied to texts; None for none.
        """
        self._root = root
        self._beginning = Beginning(time.monotonic(), time.time(), model, facts)
        self._keeps_audio = keeps_audio
        self._redaction = redaction
        self._folder: Path | None = None
        self._has_ended = False
        self._wake = threading.Event()
        self._tape = Tape(self._wake.set)
        # A process that exits without ending its calls does not wait for it.
        self._thread = threading.Thread(target=self._run, name="hydra-recorder", daemon=True)
        self._thread.start()

    @property
    def folder(self) -> Path | None:
        """The folder of the call; None until it is made, or if it cannot be made."""
        return self._folder

    def sent(self, message: bytes, audio: bytes) -> None:
        """Record a message that is sent to Hydra.

        Args:
            message: As it is on the wire.
            audio: The PCM16 that it has in base64; none if it has none.
        """
        self._tape.put(Kind.SENT, time.monotonic(), (message, audio), len(message) + len(audio))

    def received(self, message: bytes | bytearray, audio: bytes) -> None:
        """Record a message that came from Hydra; see `sent`."""
        self._tape.put(Kind.RECEIVED, time.monotonic(), (message, audio), len(message) + len(audio))

    def heard(self, at: float, pcm: bytes, rate: int, channels: int) -> None:
        """Record audio that the output transport took.

        Args:
            at: When it was written, by the monotonic clock.
            pcm: Interleaved PCM16.
            rate: Its rate in Hz.
            channels: Its number of channels.
        """
        self._tape.put(Kind.HEARD, at, (pcm, rate, channels), len(pcm))

    def note(self, source: Source, kind: str, /, **fields: Any) -> None:
        """Record something that happens.

        Args:
            source: Where it comes from.
            kind: What it is.
            **fields: What is to be said of it. What is no JSON is kept as text.
        """
        # Now, because the application may change the values later.
        text = _written(fields)
        self._tape.put(Kind.NOTE, time.monotonic(), (source, kind, text), len(text))

    def hide(self, secret: str) -> None:
        """Write a text nowhere from now on, whatever it comes in."""
        self._tape.put(Kind.HIDE, time.monotonic(), secret, len(secret))

    def end(self, reason: str) -> None:
        """End the recording; what comes later is not recorded. Idempotent.

        Args:
            reason: Why the call has ended.
        """
        if self._has_ended:
            return
        self._has_ended = True
        self._tape.end(time.monotonic(), reason)
        self._wake.set()

    def close(self) -> None:
        """Wait until all that was recorded is written. It blocks, so call it in a thread."""
        self._thread.join()

    def _run(self) -> None:
        files: CallFiles | None = None
        failure = ""
        try:
            files = CallFiles(
                self._root,
                self._beginning,
                keeps_audio=self._keeps_audio,
                redaction=self._redaction,
            )
            self._folder = files.folder
            while not self._write_waiting(files):
                self._wake.wait(_FLUSH_SECS)
                self._wake.clear()
        except OSError as error:
            failure = error.strerror or str(error)
        except Exception as error:
            # A bug, which must not cost more than the recording.
            logger.exception("the recording of the call failed")
            failure = f"{type(error).__name__}: {error}"
        self._tape.close()
        if failure:
            where = self._folder or self._root
            logger.error(f"the recording of the call ends, in {where}: {failure}. The call goes on")
        if files is not None:
            files.close(failure)

    def _write_waiting(self, files: CallFiles) -> bool:
        """Write what waits; return whether the recording has ended."""
        while entries := self._tape.take(_STEP_ENTRIES):
            files.write(entries)
            last = entries[-1]
            if last.kind == Kind.END:
                files.flush()
                return True
            if len(entries) < _STEP_ENTRIES:
                files.flush(last.at)
                break
            time.sleep(_PAUSE_SECS)
        return False


def _written(fields: dict[str, Any]) -> str:
    """Write fields as JSON; what cannot be written is written as text."""
    try:
        return json.dumps(fields, default=str)
    except (TypeError, ValueError, RecursionError):
        return json.dumps({name: repr(value) for name, value in fields.items()})
