"""Opens the recording of a call: its records, and both voices on one time axis.

The reader takes what is there. A recording whose process was killed has no end line, perhaps half
a line at its end, and audio files that end a moment before; the reader says that it is not
complete, and where it ends.

Audio is laid on the call's time axis in three different ways. What the listener heard is laid by
its records, each of which tells where its audio begins. The user's audio is laid by when it was
sent. The service may have kept it before, while there was no session, and sends what it has kept in
faster steps than it came in. So the reader goes backwards: each piece ends when it was sent, or
where the piece after it begins, if that is earlier. The bot's audio is laid end to end within a
response, from when its first piece arrived.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from pipecat_hydra.recording.audio_files import read_flac, resampled
from pipecat_hydra.recording.format import (
    BOT_AUDIO,
    CALL_FILE,
    FORMAT,
    HEARD_AUDIO,
    USER_AUDIO,
    VERSION,
    AudioReference,
    Record,
    RecordingError,
    Source,
    bot_audio_number,
)
from pipecat_hydra.wire.protocol import INPUT_SAMPLE_RATE

__all__ = ["Recording", "Track"]

_SOURCES: Final = get_args(Source)
# A call of more than a day would be a mistake in a file, and its tracks too long for the memory.
_LONGEST_SECS: Final = 86_400.0
_OWN_FIELDS: Final = {"t", "at", "source", "type", "session", "audio"}
# How much faster than our clock a microphone's may be: a piece may begin by so much of its length
# before the end of the one before it.
_CLOCK_TOLERANCE: Final = 0.001


@dataclass(frozen=True, slots=True)
class Track:
    """One voice on the call's time axis.

    Parameters:
        samples: Mono; sample `k` is at `k / rate` seconds since the header.
        rate: Rate in Hz.
    """

    samples: NDArray[np.int16]
    rate: int


class Recording:
    """A recorded call. `Recording.open` reads one."""

    def __init__(
        self,
        folder: Path,
        header: Mapping[str, Any],
        records: list[Record],
        end: Mapping[str, Any] | None,
    ):
        """Hold what was read; use `open` instead."""
        self.folder = folder
        self.header = header
        self.records = records
        self._end = end

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read the recording of a call.

        Args:
            path: Its folder, or the file `call.jsonl` in it.

        Returns:
            The recording, with its records in the order of their times.

        Raises:
            RecordingError: There is none, or this version cannot read it.
        """
        folder = Path(path)
        if folder.name == CALL_FILE:
            folder = folder.parent
        lines = _lines(folder)
        _, header = next(lines, (0, None))
        if header is None or header.get("format") != FORMAT:
            raise RecordingError(f"{folder / CALL_FILE} is not the recording of a call")
        version = header.get("version")
        if not isinstance(version, int) or version > VERSION:
            raise RecordingError(
                f"{folder} has version {version!r} of the format, and this pipecat-hydra reads "
                f"{VERSION}: update pipecat-hydra"
            )
        end: Mapping[str, Any] | None = None
        records: list[Record] = []
        for number, line in lines:
            if line.get("type") == "end" and "source" not in line:
                end = line if _is_time(line.get("t")) else None
            elif (record := _record(line, number)) is not None:
                records.append(record)
        records.sort(key=lambda record: record.t)
        return cls(folder, header, _with_times_held(records), end)

    @property
    def is_complete(self) -> bool:
        """Whether the recording was ended, and not cut off."""
        return self._end is not None

    @property
    def reason(self) -> str | None:
        """Why the recording ended; None if it was cut off."""
        return str(self._end.get("reason")) if self._end is not None else None

    @property
    def ended_at(self) -> float:
        """Where the recording ends, in seconds since the header."""
        if self._end is not None:
            return float(self._end["t"])
        return self.records[-1].t if self.records else 0.0

    def samples(self, audio: AudioReference | None) -> NDArray[np.int16]:
        """Return the samples of a reference.

        Args:
            audio: The reference, as in `Record.audio`.

        Returns:
            Mono PCM16. Fewer than the reference says where the recording was cut off, none where
            no audio was kept, or without a reference.
        """
        if audio is None:
            return np.zeros(0, np.int16)
        samples, _ = self._file(audio.file)
        return samples[audio.first_sample : audio.first_sample + audio.samples]

    def rate(self, file: str) -> int:
        """Return the rate of an audio file in Hz; 0 if there is no such file."""
        return self._file(file)[1]

    def user_track(self) -> Track:
        """Lay what the user said on the time axis, when it was said."""
        rate = INPUT_SAMPLE_RATE
        pieces = [
            (record.t - record.held - record.audio.samples / rate, self.samples(record.audio))
            for record in self.records
            if record.source == "client" and record.audio is not None
        ]
        return Track(_laid(pieces, rate), rate)

    def heard_track(self) -> Track:
        """Lay what the listener heard on the time axis: what left the output transport."""
        played = [
            (record.t, record.audio)
            for record in self.records
            if record.type == "heard" and record.source == "pipeline" and record.audio is not None
        ]
        # All of it has the rate of the transport, whichever file it is in.
        rate = next(filter(None, (self.rate(audio.file) for _, audio in played)), 0)
        pieces = [(begins, self.samples(audio)) for begins, audio in played]
        return Track(_laid(pieces, rate), rate)

    def generated_track(self) -> Track:
        """Lay what the bot generated on the time axis, each response from its first audio on."""
        rate = self.rate(BOT_AUDIO)
        if not rate:
            return Track(np.zeros(0, np.int16), 0)
        ends: dict[Any, float] = {}
        pieces: list[tuple[float, NDArray[np.int16]]] = []
        for record in self.records:
            if record.source != "server" or record.audio is None:
                continue
            response = record.session, record.data.get("response_id")
            begins = ends.get(response, record.t)
            samples, own_rate = self.samples(record.audio), self.rate(record.audio.file)
            if own_rate:
                ends[response] = begins + record.audio.samples / own_rate
                pieces.append((begins, resampled(samples, own_rate, rate)))
        return Track(_laid(pieces, rate), rate)

    @cached_property
    def audio_files(self) -> tuple[str, ...]:
        """Names of the audio files that there are."""
        names = {file.name for file in self.folder.glob("*.flac")}
        known = {name for name in names if bot_audio_number(name)} | {USER_AUDIO, HEARD_AUDIO}
        return tuple(sorted(names & known))

    @cached_property
    def _read(self) -> dict[str, tuple[NDArray[np.int16], int]]:
        return {}

    def _file(self, name: str) -> tuple[NDArray[np.int16], int]:
        """Read an audio file, once; nothing if there is none."""
        # A reference is read from a file, so it might name any.
        if name not in self.audio_files:
            return np.zeros(0, np.int16), 0
        if name not in self._read:
            self._read[name] = read_flac(self.folder / name)
        return self._read[name]


def _lines(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number and object of each line of a recording; one that was cut off is left out."""
    try:
        text = (folder / CALL_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        why = error.strerror or "it cannot be read"
        raise RecordingError(f"{folder} has no recording of a call: {CALL_FILE}: {why}") from None
    for number, line in enumerate(text.split("\n"), 1):
        try:
            loaded: object = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(loaded, dict):
            yield number, cast("dict[str, Any]", loaded)


def _record(line: dict[str, Any], number: int) -> Record | None:
    """Make a record of a line; None if the line is none."""
    event: Any = line.get("event")
    data = cast("dict[str, Any]", event) if isinstance(event, dict) else _rest(line)
    t, at, source, session = (line.get(name) for name in ("t", "at", "source", "session"))
    is_whole = (
        _is_time(t)
        and isinstance(at, int | float)
        and source in _SOURCES
        and isinstance(session, int | None)
    )
    if not is_whole:
        return None
    return Record(
        t=float(cast("float", t)),
        at=float(cast("float", at)),
        source=cast("Source", source),
        type=str(line.get("type") or data.get("type")),
        data=data,
        audio=_reference(line.get("audio")),
        session=session,
        line=number,
    )


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= _LONGEST_SECS


def _reference(value: object) -> AudioReference | None:
    """Make a reference of what a line has; None if it is none."""
    match value:
        case [str(file), int(first), int(samples)] if first >= 0 and samples >= 0:
            return AudioReference(file, first, samples)
        case _:
            return None


def _rest(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in _OWN_FIELDS}


def _with_times_held(records: list[Record]) -> list[Record]:
    """Work out for the user's audio how long it had been kept before it was sent."""
    told = list(records)
    begins: dict[int | None, float] = defaultdict(lambda: float("inf"))
    for index in range(len(told) - 1, -1, -1):
        record = told[index]
        if record.source != "client" or record.audio is None:
            continue
        secs = record.audio.samples / INPUT_SAMPLE_RATE
        ends = min(record.t, begins[record.session] + _CLOCK_TOLERANCE * secs)
        begins[record.session] = ends - secs
        if ends < record.t:
            told[index] = replace(record, held=record.t - ends)
    return told


def _laid(pieces: list[tuple[float, NDArray[np.int16]]], rate: int) -> NDArray[np.int16]:
    """Lay pieces of audio at their times, in seconds; silence is between them."""
    placed = [(max(0, round(begins * rate)), samples) for begins, samples in pieces]
    laid = np.zeros(max((first + len(s) for first, s in placed), default=0), np.int16)
    for first, samples in placed:
        laid[first : first + len(samples)] = samples
    return laid
