"""Writes one recorded call: makes records and audio of what was taken off the tape.

Everything here runs in the recorder's thread. Lines and audio are collected, and `flush` hands
them to the operating system; what it has, a killed process does not take along.
"""

import json
import os
import platform
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, NamedTuple, cast
from urllib.parse import quote, quote_plus

from pipecat_hydra.recording.audio_files import FlacWriter
from pipecat_hydra.recording.format import (
    CALL_FILE,
    FORMAT,
    HEARD_AUDIO,
    USER_AUDIO,
    VERSION,
    bot_audio_of,
)
from pipecat_hydra.recording.heard import HeardAudio
from pipecat_hydra.recording.received import Part, ReceivedAudio
from pipecat_hydra.recording.tape import Entry, Kind
from pipecat_hydra.recording.wire_events import Redaction, read_event, to_json, without_audio
from pipecat_hydra.wire.protocol import (
    BYTES_PER_SAMPLE,
    INPUT_SAMPLE_RATE,
    MODELS,
    UNKNOWN_MODEL_OUTPUT_SAMPLE_RATE,
)

__all__ = ["Beginning", "CallFiles"]

_RATES: Final = range(8_000, 48_001)
_SESSION_EVENTS: Final = ("session.created", "session.configured", "session.updated")
_HIDDEN: Final = b"[key]"
_SECRET_CHARS: Final = 8
# So many calls may begin in one second: two of 65 536 names are seldom the same.
_TRIES: Final = 20


class Beginning(NamedTuple):
    """What is known when a call begins.

    Parameters:
        t: The monotonic time.
        at: The wall clock's, in Unix seconds.
        model: Hydra's model.
        facts: More for the header: voice, URL.
    """

    t: float
    at: float
    model: str
    facts: Mapping[str, Any]


class _Track:
    """An audio file of the call, and the samples that are yet to be written to it."""

    def __init__(self, name: str, rate: int, folder: Path | None):
        self.name = name
        self.rate = rate
        self._samples = 0
        self._waiting: list[bytes] = []
        self._file = FlacWriter(folder / name, rate) if folder is not None else None

    def add(self, pcm: bytes) -> tuple[int, int]:
        """Append PCM16; return its place in the file and its length, in samples."""
        samples = len(pcm) // BYTES_PER_SAMPLE
        first = self._samples
        self._samples += samples
        if self._file is not None:
            self._waiting.append(pcm[: samples * BYTES_PER_SAMPLE])
        return first, samples

    def flush(self) -> None:
        if self._file is not None and self._waiting:
            waiting, self._waiting = self._waiting, []
            self._file.append(waiting)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def facts(self) -> dict[str, int]:
        return {"rate": self.rate, "samples": self._samples}


class CallFiles:
    """The files of one call. After making it you must `close` it, however it goes on."""

    def __init__(
        self,
        root: Path,
        beginning: Beginning,
        *,
        keeps_audio: bool,
        redaction: Redaction | None,
    ):
        """Make the folder of the call, and write the header.

        Args:
            root: Where the folder is made.
            beginning: When the call began, and with what.
            keeps_audio: Whether audio is kept.
            redaction: Applied to texts; None for none.

        Raises:
            OSError: The folder or a file cannot be made.
        """
        self.folder: Path = _made_folder(root, datetime.fromtimestamp(beginning.at, UTC))
        self._began = beginning
        self._audio_folder = self.folder if keeps_audio else None
        self._redaction = redaction
        self._lines: list[bytes] = []
        self._secrets: set[bytes] = set()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
        # Python's own buffers would keep what a killed process loses.
        self._file = os.open(self.folder / CALL_FILE, flags, 0o644)
        self._session = 0
        self._is_opening = False
        self._rate = _rate_of(beginning.model)
        self._tracks: dict[str, _Track] = {}
        self._bot: _Track | None = None
        self._bots = 0
        self._received = ReceivedAudio()
        self._now = beginning.t
        self._heard: HeardAudio | None = None
        self._lines.append(to_json(_header(beginning)) + b"\n")
        self.flush()

    def write(self, entries: list[Entry]) -> None:
        """Make records and audio of entries."""
        for entry in entries:
            self._now = entry.at
            match entry.kind:
                case Kind.SENT:
                    self._event(entry.at, b"client", *entry.payload)
                case Kind.RECEIVED:
                    self._event(entry.at, b"server", *entry.payload)
                case Kind.HEARD:
                    self._write_heard(entry.at, *entry.payload)
                case Kind.NOTE:
                    self._note(entry.at, *entry.payload)
                case Kind.DROPPED:
                    self._dropped(entry.at, *entry.payload)
                case Kind.HIDE:
                    self._hide(entry.payload)
                case _:
                    self._end(entry.at, entry.payload)

    def flush(self, until: float | None = None) -> None:
        """Hand all to the operating system.

        Args:
            until: Up to when all that happened is known, by the monotonic clock.

        Raises:
            OSError: The disk is full, or takes nothing.
        """
        if until is not None and self._heard is not None:
            self._take_heard(self._heard, until - self._began.t)
        for track in self._tracks.values():
            track.flush()
        lines, self._lines = b"".join(self._lines), []
        # The longest first, because one may be a part of another.
        for secret in sorted(self._secrets, key=len, reverse=True):
            lines = lines.replace(secret, _HIDDEN)
        while lines:
            lines = lines[os.write(self._file, lines) :]

    def close(self, failure: str = "") -> None:
        """Close all files.

        Args:
            failure: Why the recording cannot go on, if that is so. It is the last record, if there
                is room for it.
        """
        for track in self._tracks.values():
            with suppress(OSError):
                track.close()
        with suppress(OSError):
            if failure:
                line = self._line(self._now, "call", "recorder_error", {"message": failure})
                # A line may have been written in part.
                os.write(self._file, b"\n" + line)
        os.close(self._file)

    def _event(self, at: float, source: bytes, message: bytes, audio: bytes) -> None:
        if self._is_opening:
            # Attempts that fail have no messages, and no number.
            self._is_opening = False
            self._session += 1
        text = without_audio(message, audio) if audio else None
        if text is None:
            event = read_event(message, self._redaction)
            if event is None:
                self._malformed(at, source, message)
                return
            text, audio = event.text, event.audio
            if event.data.get("type") in _SESSION_EVENTS:
                self._negotiated(event.data)
        reference = b""
        if audio:
            track = self._user_track() if source == b"client" else self._bot_track()
            first, samples = track.add(audio)
            reference = b',"audio":["%s",%d,%d]' % (track.name.encode(), first, samples)
            if track is self._bot:
                self._received.add(audio[: samples * BYTES_PER_SAMPLE])
        secs = at - self._began.t
        self._lines.append(
            b'{"t":%.6f,"at":%.6f,"source":"%s","session":%d,"event":%s%s}\n'
            % (secs, self._began.at + secs, source, self._session, text, reference)
        )

    def _malformed(self, at: float, source: bytes, message: bytes) -> None:
        text = message.decode(errors="replace")
        fields = {"raw": text} if self._redaction is None else {"bytes": len(message)}
        self._lines.append(self._line(at, source.decode(), "malformed", fields))

    def _note(self, at: float, source: str, kind: str, fields: str) -> None:
        data: dict[str, Any] = json.loads(fields)
        if source == "call" and kind == "session_opening":
            self._is_opening = True
            self._rate = _rate_of(data.get("model", self._began.model))
        elif kind == "interruption" and self._heard is not None:
            self._heard.interrupt(at - self._began.t)
        if self._redaction is not None:
            data = self._redaction.apply({"type": kind, **data})
        self._lines.append(self._line(at, source, kind, data))

    def _hide(self, secret: str) -> None:
        # Pipecat masks keys in errors, but of one with a space only what is before that.
        for part in (secret, *secret.split()):
            # What is shorter or a number is the key of an emulator, and may be part of anything.
            if len(part) >= _SECRET_CHARS and not part.isdecimal():
                self._secrets |= {to_json(spelt(part))[1:-1] for spelt in (str, quote, quote_plus)}

    def _dropped(self, at: float, entries: int, since: float) -> None:
        why = "the recorder had no room for it: the disk is too slow"
        fields = {"secs": round(at - since, 3), "entries": entries, "why": why}
        self._lines.append(self._line(at, "call", "dropped", fields))

    def _end(self, at: float, reason: str) -> None:
        if self._heard is not None:
            # What the transport still plays is not heard for long.
            self._heard.interrupt(at - self._began.t)
            self._take_heard(self._heard, float("inf"))
        audio = {track.name: track.facts for track in self._tracks.values()}
        for track in self._tracks.values():
            track.flush()
        secs = at - self._began.t
        end = {"type": "end", "t": round(secs, 6), "at": self._at(secs)}
        self._lines.append(to_json({**end, "reason": reason, "audio": audio}) + b"\n")

    def _write_heard(self, at: float, pcm: bytes, rate: int, channels: int) -> None:
        if self._heard is None:
            self._heard = HeardAudio(rate)
        self._heard.write(at - self._began.t, pcm, rate, channels)

    def _take_heard(self, heard: HeardAudio, until_secs: float) -> None:
        for run in heard.take(until_secs):
            at = self._began.t + run.first_sample / heard.rate
            for part in self._parts(run.pcm, heard.rate):
                samples = len(part.pcm) // BYTES_PER_SAMPLE
                if part.first_sample is None:
                    name, (first, _) = HEARD_AUDIO, self._heard_track(heard.rate).add(part.pcm)
                else:
                    name, first = bot_audio_of(self._bots), part.first_sample
                audio = {"audio": [name, first, samples]}
                self._lines.append(self._line(at, "pipeline", "heard", audio))
                at += samples / heard.rate

    def _parts(self, pcm: bytes, rate: int) -> Iterable[Part]:
        """Divide what was heard into what was received and what was not."""
        if self._bot is not None and self._bot.rate == rate:
            return self._received.parts(pcm)
        return [Part(pcm, None)]

    def _user_track(self) -> _Track:
        return self._tracks.get(USER_AUDIO) or self._open(USER_AUDIO, INPUT_SAMPLE_RATE)

    def _heard_track(self, rate: int) -> _Track:
        return self._tracks.get(HEARD_AUDIO) or self._open(HEARD_AUDIO, rate)

    def _bot_track(self) -> _Track:
        """The file of the bot's audio at the rate of the session."""
        if self._bot is None or self._bot.rate != self._rate:
            self._bots += 1
            self._bot = self._open(bot_audio_of(self._bots), self._rate)
            self._received = ReceivedAudio()
        return self._bot

    def _negotiated(self, event: dict[str, Any]) -> None:
        """Note the rate that a session speaks with."""
        session: Any = event.get("session")
        if isinstance(session, dict):
            rate = cast("dict[str, Any]", session).get("output_audio_sample_rate")
            if isinstance(rate, int) and rate in _RATES:
                self._rate = rate

    def _open(self, name: str, rate: int) -> _Track:
        track = self._tracks[name] = _Track(name, rate, self._audio_folder)
        return track

    def _line(self, at: float, source: str, kind: str, fields: Mapping[str, Any]) -> bytes:
        secs = at - self._began.t
        about = {"t": round(secs, 6), "at": self._at(secs), "source": source, "type": kind}
        return to_json({**about, **fields}) + b"\n"

    def _at(self, secs: float) -> float:
        return round(self._began.at + secs, 6)


def _rate_of(model: Any) -> int:
    known = MODELS.get(model)
    return known.output_sample_rate if known is not None else UNKNOWN_MODEL_OUTPUT_SAMPLE_RATE


def _header(beginning: Beginning) -> dict[str, Any]:
    began = datetime.fromtimestamp(beginning.at, UTC)
    return {
        "type": "header",
        "format": FORMAT,
        "version": VERSION,
        "began": f"{began:%Y-%m-%dT%H:%M:%S.%fZ}",
        "t": 0.0,
        "at": round(beginning.at, 6),
        "package": _version("pipecat-hydra"),
        "python": platform.python_version(),
        "pipecat": _version("pipecat-ai"),
        "model": beginning.model,
        **beginning.facts,
    }


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _made_folder(root: Path, began: datetime) -> Path:
    """Make a folder that is named by when the call began."""
    root.mkdir(parents=True, exist_ok=True)
    for _ in range(_TRIES):
        folder = root / f"{began:%Y-%m-%dT%H-%M-%S}-{secrets.token_hex(2)}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{root} has too many calls of {began:%Y-%m-%dT%H-%M-%S}")
