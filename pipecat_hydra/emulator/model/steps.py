"""The steps of a reply: speech, tool calls and pauses, in the order in which they happen."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipecat_hydra.emulator.model.sound import TONE_SAMPLE_RATE, load_recording, tones


@dataclass(frozen=True)
class Say:
    """Speak one piece of audio.

    Parameters:
        audio: Mono PCM16 LE. If its rate is the session's output rate, it is sent unchanged.
        sample_rate: Rate of the audio in Hz.
        transcript: The text of the audio, for sessions with transcripts and for
            `EmulatedSession.history`. In a script, placeholders are filled in: in a narration
            `{output}` is all tool outputs and `{outputs[0]}` that of the first call; in a reply
            to message items `{message}` is all their texts and `{messages[0]}` the first.
    """

    audio: bytes = field(repr=False)
    sample_rate: int
    transcript: str = ""

    @classmethod
    def file(cls, path: str | Path, transcript: str = "") -> "Say":
        """Speak a recording in any format of libsndfile, at any rate and channel count.

        Raises:
            OSError: The file cannot be read.
            ValueError: The file is not an audio file.
        """
        audio, sample_rate = load_recording(Path(path))
        return cls(audio, sample_rate, transcript)

    @classmethod
    def tones(cls, secs: float = 0.6, transcript: str = "") -> "Say":
        """Speak two soft tones, one after the other, which need no recording.

        Args:
            secs: Length of both tones together.
            transcript: The text that the tones stand for.
        """
        return cls(tones(secs), TONE_SAMPLE_RATE, transcript)


@dataclass(frozen=True)
class Call:
    """Call a tool of the client.

    Parameters:
        name: Name of the tool, which may be one that the session does not have.
        arguments: The arguments as an object, or as raw text, which may be invalid JSON.
        call_id: The id of the call; `None` generates one.
    """

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict[str, Any])
    call_id: str | None = None

    @property
    def text(self) -> str:
        """The arguments as text, as they are sent."""
        if isinstance(self.arguments, str):
            return self.arguments
        return json.dumps(dict(self.arguments))


@dataclass(frozen=True)
class Pause:
    """Generate nothing for a while.

    Parameters:
        secs: Length of the pause in seconds.
    """

    secs: float


@dataclass(frozen=True)
class Noise:
    """A turn of a script that discards the user's turn as noise, whatever the user says (§5).

    The item of the user's turn ends `incomplete`, and the model does not answer it.
    `EmulatorSettings.cancel_on` decides whether the response in flight is cancelled.
    """


Step = Say | Call | Pause
Turn = Noise | Step | Sequence[Step]
"""What a script does at the end of one turn of the user."""
Reply = Sequence[Step]
"""The steps of one response, between `response.created` and `response.done`."""
