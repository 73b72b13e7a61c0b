"""Records calls: what an application gives to the service."""

from pathlib import Path
from typing import Any, Final

from pipecat_hydra.recording.wire_events import Redact, Redaction
from pipecat_hydra.recording.writer import CallWriter

__all__ = ["RECORD_VARIABLE", "HydraRecorder"]

RECORD_VARIABLE: Final = "HYDRA_RECORD"
"""The environment variable with the folder to record calls in, for a service without a recorder."""


class HydraRecorder:
    """Records each call of a service in a folder of its own.

    A recording has every event of the wire both ways, what happened in the pipeline, and both
    voices; `docs/recording.md` describes it. The API key is never in it. One recorder may serve
    several services, and one pipeline after another.

    Example::

        llm = HydraLLMService(recorder=HydraRecorder("calls/"))
    """

    def __init__(self, folder: str | Path, *, audio: bool = True, redact: Redact | None = None):
        """Make a recorder. Nothing is written before a call begins.

        Args:
            folder: Where the folders of the calls are made. It is made if it is not there.
            audio: Whether audio is kept. Without it, records refer to audio that is not there.
            redact: Asked what is kept of each text: `redact(kind, value)` returns it. The kind is
                `"user_text"`, `"bot_text"`, `"instructions"`, `"arguments"` or `"result"`. Of a
                text that comes in pieces it is asked for each piece. It is called in the recorder's
                own thread.

        Raises:
            TypeError: If an argument is of the wrong type.
        """
        if not isinstance(folder, str | Path):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"folder must be a path, not {type(folder).__name__}")
        if redact is not None and not callable(redact):
            raise TypeError(f"redact must be a function, not {type(redact).__name__}")
        self._root = Path(folder)
        self._keeps_audio = audio
        self._redact = redact
        self._newest: CallWriter | None = None

    @property
    def folder(self) -> Path | None:
        """The folder of the call that began last; None before it is made."""
        return self._newest.folder if self._newest is not None else None

    def begin(self, *, model: str, **facts: Any) -> CallWriter:
        """Begin to record a call. The service calls this.

        Args:
            model: Hydra's model.
            **facts: More for the header.
        """
        self._newest = CallWriter(
            self._root,
            model=model,
            facts=facts,
            keeps_audio=self._keeps_audio,
            redaction=Redaction(self._redact) if self._redact is not None else None,
        )
        return self._newest
