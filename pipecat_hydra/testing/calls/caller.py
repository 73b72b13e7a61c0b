"""The user of a call: says recordings, waits for answers, interrupts, and hangs up."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray

from pipecat_hydra.testing.calls.activity import BotActivity
from pipecat_hydra.testing.virtual_transport import VirtualTransport, read_recording
from pipecat_hydra.wire.audio import downmix
from pipecat_hydra.wire.protocol import INPUT_SAMPLE_RATE

__all__ = ["BargeIn", "Caller", "Line", "NoAnswerError", "Recorded", "Said", "Step", "steps_of"]

QUIET_SECS: Final = 0.5
"""The bot has finished when it has nothing to do and has not been heard for so long."""

END_OF_TURN_SECS: Final = 1.5
"""Hydra needs up to 1.2 s of silence to detect the end of a turn (protocol §5)."""

REPLY_LIMIT_SECS: Final = 120.0
"""Longest time to listen to an answer."""

_LOOK_SECS: Final = 0.02

_PAUSE_SECS: Final = 0.1
"""The shortest silence between one reply and the next."""

_FAINT: Final = 33
"""Samples of 16 bits that are no louder are silence: 60 dB below full scale."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Speech of the user.

    Parameters:
        samples: Mono samples, shape `(n,)`.
        sample_rate: Their rate in Hz.
    """

    samples: NDArray[np.int16]
    sample_rate: int = INPUT_SAMPLE_RATE

    def at(self, sample_rate: int) -> NDArray[np.int16]:
        """Return the samples at a rate."""
        if sample_rate == self.sample_rate:
            return self.samples
        return soxr.resample(self.samples, self.sample_rate, sample_rate)

    @property
    def sound_secs(self) -> float:
        """Seconds from the begin to the last sound; silence that follows is not speech."""
        level = np.abs(self.samples.astype(np.int32))
        sounding = np.flatnonzero(level > max(_FAINT, int(level.max()) // 100))
        return float(sounding[-1] + 1) / self.sample_rate if len(sounding) else 0.0


Said: TypeAlias = str | Path | NDArray[np.generic] | Recorded
"""What the user says: a file, samples at 16 kHz, or samples at another rate."""


@dataclass(frozen=True, slots=True)
class BargeIn:
    """Speech with which the user interrupts the bot.

    Parameters:
        recording: What the user says.
        after: Seconds from the first sound of the bot's answer to the begin of the recording.
    """

    recording: Said
    after: float = 1.0


Step: TypeAlias = Said | BargeIn | float
"""Something that the user says, or how many seconds to wait."""


class NoAnswerError(Exception):
    """The bot was not heard within the limit; the message says after what."""


@dataclass(frozen=True, slots=True)
class Line:
    """One recording that the user says.

    Parameters:
        speech: The recording.
        name: What to call it in messages.
        interrupts_after: Seconds from the first sound of the bot; `None` to wait for its end.
        pause: Seconds to wait after it, whatever the bot does; `None` to wait for the answer.
    """

    speech: Recorded
    name: str
    interrupts_after: float | None
    pause: float | None = None


def steps_of(steps: Sequence[Step], find: Callable[[str | Path], Path]) -> list[Line]:
    """Read what the user is to say.

    Args:
        steps: Recordings, and pauses in seconds behind them.
        find: Returns the place of a recording that is given by name.

    Returns:
        The recordings in order.

    Raises:
        TypeError: A step is none of these.
        ValueError: A step cannot be said or waited for.
    """
    lines: list[Line] = []
    for step in steps:
        if isinstance(step, int | float):
            if not lines or lines[-1].pause is not None or step < 0:
                raise ValueError(f"a pause of {step} s must follow a recording, and not be below 0")
            lines[-1] = replace(lines[-1], pause=float(step))
        elif isinstance(step, BargeIn):
            speech, name = _speech(step.recording, find, len(lines))
            lines.append(Line(speech, name, step.after))
        else:
            speech, name = _speech(step, find, len(lines))
            lines.append(Line(speech, name, None))
    return lines


def _speech(said: Said, find: Callable[[str | Path], Path], place: int) -> tuple[Recorded, str]:
    if isinstance(said, Recorded):
        speech, name = said, f"recording {place + 1}"
    elif isinstance(said, np.ndarray):
        speech, name = Recorded(_pcm(said)), f"recording {place + 1}"
    elif isinstance(said, str | Path):
        path = find(said)
        try:
            samples, rate = read_recording(path)
        # A .raw file has no header with a rate; soundfile raises a TypeError for it.
        except (OSError, TypeError, sf.SoundFileError) as error:
            raise ValueError(f"{path} is not audio that can be read: {error}") from None
        speech, name = Recorded(_mono(samples), rate), Path(said).name
    else:
        raise TypeError(
            f"{said!r} cannot be said: give a file, an array of samples at {INPUT_SAMPLE_RATE} Hz, "
            "Recorded(samples, rate), a BargeIn, or a number of seconds to wait"
        )
    if not len(speech.samples):
        raise ValueError(f"{name} holds no audio")
    return speech, name


def _pcm(samples: NDArray[np.generic]) -> NDArray[np.int16]:
    """Return samples as 16 bits; floats are between -1 and 1."""
    if samples.ndim != 1:
        raise ValueError(f"samples have the shape {samples.shape} and must have the shape (n,)")
    if np.issubdtype(samples.dtype, np.floating):
        scaled = np.rint(samples.astype(np.float64) * 32768)
        return scaled.clip(-32768, 32767).astype(np.int16)
    if samples.dtype != np.int16:
        raise ValueError(f"samples are of {samples.dtype} and must be of int16 or of a float type")
    return samples.astype(np.int16)


def _mono(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    return np.rint(downmix(samples.tobytes(), samples.shape[1])).astype(np.int16)


class Caller:
    """Says what a test wants said, each recording when its time has come."""

    def __init__(
        self,
        transport: VirtualTransport,
        activity: BotActivity,
        lines: Sequence[Line],
        *,
        limit_secs: float,
    ) -> None:
        """Create a caller.

        Args:
            transport: The transport of the call.
            activity: Tells whether the bot is done.
            lines: What to say.
            limit_secs: How long to wait for an answer.
        """
        self._transport = transport
        self._timeline = transport.timeline
        self._activity = activity
        self._lines = lines
        self._limit_secs = limit_secs

    async def talk(self, *, after_greeting: bool) -> None:
        """Say everything, and hear the last answer.

        Args:
            after_greeting: Whether the bot speaks first.

        Raises:
            NoAnswerError: The bot was not heard within the limit.
        """
        since = -1.0
        before: Line | None = None
        what = "the bot did not speak first"
        for line in (*self._lines, None):
            is_awaited = after_greeting if before is None else before.pause is None
            if line and line.interrupts_after is not None:
                began = await self._first_sound(since, what)
                await self._timeline.sleep_until(began + line.interrupts_after)
            elif is_awaited:
                await self._answer(since, what)
            elif before is not None:
                await asyncio.sleep(before.pause or 0.0)
            if line is not None:
                since = await self._say(line)
                what = f"the bot did not answer {line.name}"
            before = line

    async def _say(self, line: Line) -> float:
        """Say a recording; return when its last sound was, in seconds on the timeline."""
        microphone = self._transport.microphone
        said = await microphone.say(line.speech.at(microphone.sample_rate))
        assert said.start_secs is not None
        return said.start_secs + line.speech.sound_secs

    async def _first_sound(self, since: float, what: str) -> float:
        """Wait until the bot begins to be heard; return when that was."""
        await self._until(lambda: self._begin_of_answer(since) is not None, what)
        return self._begin_of_answer(since) or since

    async def _answer(self, since: float, what: str) -> None:
        """Wait until the bot has answered and is done.

        A bot that has been heard, and from which nothing comes any more, has answered too, even
        where something is still open, such as a function that never ends. A bot that is heard
        all the time, for instance over music, is listened to for a limited time.
        """
        await self._until(lambda: self._is_answered(since), what)
        limit = self._timeline.secs + REPLY_LIMIT_SECS
        while not self._is_done() and self._silent_secs < self._limit_secs:
            if self._timeline.secs > limit:
                return
            await self._timeline.sleep_until(self._timeline.secs + _LOOK_SECS)

    def _is_answered(self, since: float) -> bool:
        goes_on = self._transport.heard_until_secs > since + END_OF_TURN_SECS
        return goes_on or self._begin_of_answer(since) is not None

    def _begin_of_answer(self, since: float) -> float | None:
        """Return when the bot began to be heard after a moment, with silence before.

        What is still heard of a reply that the user has interrupted is no answer.
        """
        heard = self._transport.heard
        begin = None
        for index in range(len(heard) - 1, -1, -1):
            if heard[index].start_secs <= since:
                break
            silent_since = heard[index - 1].end_secs if index else 0.0
            if heard[index].start_secs - silent_since > _PAUSE_SECS:
                begin = heard[index].start_secs
        return begin

    @property
    def _silent_secs(self) -> float:
        return self._timeline.secs - self._transport.heard_until_secs

    def _is_done(self) -> bool:
        return not self._activity.is_busy and self._silent_secs >= QUIET_SECS

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        limit = self._timeline.secs + END_OF_TURN_SECS + self._limit_secs
        while not condition():
            if self._timeline.secs > limit:
                raise NoAnswerError(f"{what} within {self._limit_secs:g} s")
            await asyncio.sleep(_LOOK_SECS)
