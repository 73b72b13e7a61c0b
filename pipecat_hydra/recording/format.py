"""The format of a recorded call: names, version, and what one record is.

A recording is a folder. `call.jsonl` has one JSON object on each line: a header, a record for
each thing that happened, and an end. Up to three FLAC files have the audio, which records refer
to by file, first sample and number of samples. Everything is appended and nothing is changed, so
a recording that was cut off is readable up to where it ends, and has no end line.

`docs/recording.md` describes the format for people, `docs/recording.schema.json` for machines.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

__all__ = [
    "BOT_AUDIO",
    "CALL_FILE",
    "FORMAT",
    "HEARD_AUDIO",
    "USER_AUDIO",
    "VERSION",
    "AudioReference",
    "Record",
    "RecordingError",
    "Source",
    "bot_audio_number",
    "bot_audio_of",
]

FORMAT: Final = "pipecat-hydra recording"
"""What the header says that the file is."""

VERSION: Final = 1
"""The version of the format that is written, and the highest that is read."""

CALL_FILE: Final = "call.jsonl"
"""The records."""

USER_AUDIO: Final = "user.flac"
"""The samples that were sent to Hydra, in order: 16 kHz mono."""

BOT_AUDIO: Final = "bot.flac"
"""The samples that came from Hydra, in order; with another rate they go to `bot-2.flac`."""

HEARD_AUDIO: Final = "heard.flac"
"""What left the output transport and is not in the bot's files as it was played, in order."""

Source: TypeAlias = Literal["client", "server", "pipeline", "call"]
"""Where a record comes from: sent to Hydra, received from it, the pipeline, or the call itself."""


class RecordingError(ValueError):
    """A folder is no recording, or one that this version cannot read."""


class AudioReference(NamedTuple):
    """A stretch of one of the audio files.

    Parameters:
        file: Name of the file.
        first_sample: Number of its first sample in the file, from 0.
        samples: How many samples it has.
    """

    file: str
    first_sample: int
    samples: int


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that happened in a call.

    Parameters:
        t: When, in seconds since the header, by the monotonic clock.
        at: When, by the wall clock, in Unix seconds.
        source: Where it comes from.
        type: What it is; of an event, the type of the event.
        data: Of an event, the event without its audio; of other records, their own fields.
        audio: The audio that belongs to it, if there is any.
        session: Number of the session that an event belongs to, from 1.
        held: Of audio that was sent, how long it had been kept before, in seconds, so that its
            last sample was heard at `t - held`. The reader works it out.
        line: Number of its line in `call.jsonl`, from 1.
    """

    t: float
    at: float
    source: Source
    type: str
    data: Mapping[str, Any]
    audio: AudioReference | None = None
    session: int | None = None
    held: float = 0.0
    line: int = 0


def bot_audio_of(number: int) -> str:
    """Return the name of the file for the bot's audio at the rate that came as the n-th, from 1."""
    return BOT_AUDIO if number == 1 else f"bot-{number}.flac"


def bot_audio_number(name: str) -> int | None:
    """Return which file of the bot's audio this is, from 1; None if it is another file."""
    match = re.fullmatch(r"bot(?:-(\d+))?\.flac", name)
    return int(match[1] or 1) if match else None
