"""What happened in a call, and what a test asserts of it.

Every assertion that fails says what was expected and what was, and then shows the call line by
line, so that most failures are understood without listening to anything. The figures are those of
`pipecat_hydra.recording.course`, which measures in the two voices as they were recorded.
"""

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray

from pipecat_hydra.recording import Record, Recording
from pipecat_hydra.recording.course import Course
from pipecat_hydra.recording.parts import Problem, Reply, ToolCall, Turn
from pipecat_hydra.testing.calls.errors import CallError
from pipecat_hydra.testing.calls.timeline import moments_of, shown_timeline

__all__ = ["CallAudio", "CallResult", "Ending", "Words"]

_HEADER: Final = "# The course of a call; pytest --hydra-update writes it.\n"


class Ending(Enum):
    """How a call ended; the value says it to people."""

    USER = "user hangs up"
    BOT = "bot ends the call"
    CANCELLED = "user hangs up, and the bot goes on: it is cancelled"


@dataclass(frozen=True, slots=True)
class Words:
    """What was said, where it is known.

    Parameters:
        at: When it began, in seconds.
        who: `"user"` or `"bot"`.
        text: The words.
    """

    at: float
    who: str
    text: str


@dataclass(frozen=True, slots=True)
class CallAudio:
    """Both voices of a call, on the time axis of its timeline.

    Parameters:
        samples: Shape `(n, 2)`: the user, and the bot as heard.
        rate: Rate in Hz.
    """

    samples: NDArray[np.int16]
    rate: int

    @classmethod
    def of(cls, recording: Recording) -> "CallAudio":
        """Lay both voices of a recording side by side."""
        voices = [recording.user_track(), recording.heard_track()]
        rate = max(*(voice.rate for voice in voices), 1)
        sides = [
            voice.samples
            if voice.rate in (0, rate)
            else soxr.resample(voice.samples, voice.rate, rate)
            for voice in voices
        ]
        samples = np.zeros((max(map(len, sides)), 2), np.int16)
        for channel, side in enumerate(sides):
            samples[: len(side), channel] = side
        return cls(samples, rate)

    def save(self, path: str | Path) -> None:
        """Write both voices to an audio file, the user left and the bot right.

        Args:
            path: The file. Its suffix names the format, for instance `.wav`.
        """
        sf.write(path, self.samples, self.rate, subtype="PCM_16")


class CallResult:
    """What happened in a call.

    Attributes:
        course: The course of the call, measured: turns, replies, interruptions, tools, latencies.
        recording: The recording that it was read from.
        recordings: The recordings of all services of the bot, in order. `course` is that of the
            first which was in use.
        ending: How the call ended.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        ending: Ending,
        *,
        base: Path = Path(),
        update_courses: bool = False,
    ) -> None:
        """Read recordings.

        Args:
            recordings: One for each service, at least one.
            ending: How the call ended.
            base: The folder for the files of `assert_course`.
            update_courses: Whether `assert_course` writes files that differ.
        """
        self.recordings: list[Recording] = list(recordings)
        self.ending = ending
        self._base = base
        self._update_courses = update_courses
        courses = [Course.of(recording) for recording in recordings]
        used = [place for place, one in enumerate(courses) if one.turns or one.replies]
        place = used[0] if used else 0
        self.recording: Recording = self.recordings[place]
        self.course: Course = courses[place]

    @classmethod
    def read(
        cls, folders: Sequence[Path], ending: Ending, *, base: Path, update_courses: bool
    ) -> "CallResult":
        """Read what the services of a bot have recorded.

        Args:
            folders: A folder for each of them.
            ending: How the call ended.
            base: The folder for the files of `assert_course`.
            update_courses: Whether `assert_course` writes files that differ.

        Returns:
            The result.

        Raises:
            CallError: No service has recorded anything.
        """
        if not folders:
            raise CallError(
                "nothing was recorded: the bot has no HydraLLMService, or one with a recorder of "
                "its own, which a test has to leave out"
            )
        recordings = [Recording.open(folder) for folder in folders]
        return cls(recordings, ending, base=base, update_courses=update_courses)

    def __repr__(self) -> str:
        """Show the call, for the failures of a test's own assertions."""
        return f"<CallResult\n{self.timeline}\n>"

    @property
    def turns(self) -> list[Turn]:
        """The turns of the user, in order, without noise."""
        return [turn for turn in self.course.turns if not turn.is_discarded]

    @property
    def replies(self) -> list[Reply]:
        """The replies of the bot that were heard, in order."""
        return [reply for reply in self.course.replies if reply.heard_from is not None]

    @property
    def words(self) -> list[Words]:
        """What both have said, where it is known, in order."""
        said = [Words(turn.began, "user", turn.words) for turn in self.turns if turn.words]
        said += [Words(r.created, "bot", r.words) for r in self.course.replies if r.words]
        return sorted(said, key=lambda words: words.at)

    @property
    def tools(self) -> list[ToolCall]:
        """The calls of functions, in order, each with name, arguments and result."""
        return self.course.tools

    @property
    def latencies(self) -> dict[str, list[float]]:
        """Seconds, as heard: `answer`, `barge_in`, `tool_turn` and `ttfb`, in order."""
        return self.course.latencies

    @property
    def errors(self) -> list[Problem]:
        """What went wrong, as the service, Hydra and the pipeline have reported it."""
        return self.course.errors

    @property
    def events(self) -> Sequence[Record]:
        """All that was recorded: events of both directions, and frames of the pipeline."""
        return self.recording.records

    @property
    def audio(self) -> CallAudio:
        """Both voices; `result.audio.save("call.wav")` writes them."""
        return CallAudio.of(self.recording)

    @property
    def timeline(self) -> str:
        """The call, line by line, with times."""
        return shown_timeline(moments_of(self.course, self.ending.value))

    def explained(self, failure: str) -> str:
        """Return a failure with the call that it is about."""
        return (
            f"{failure}\n\nThe call:\n{self.timeline}\n\n"
            f"To see and hear it: pipecat-hydra report {self.recording.folder}"
        )

    def assert_called(self, name: str, /, **arguments: Any) -> ToolCall:
        """Assert that the bot has called a function.

        Args:
            name: Name of the function.
            **arguments: Arguments that it was called with; there may be more.

        Returns:
            The first such call.

        Raises:
            AssertionError: There is none.
        """
        __tracebackhide__ = True
        calls = [tool for tool in self.tools if tool.name == name]
        for tool in calls:
            if _has(tool.arguments, arguments):
                return tool
        if calls:
            were = ", and ".join(_shown(tool.arguments) for tool in calls)
            self._fail(f"{name} was not called with {_shown(arguments)}: it was called with {were}")
        others = ", ".join(dict.fromkeys(tool.name for tool in self.tools))
        self._fail(f"{name} was not called; {f'{others} was' if others else 'no function was'}")

    def assert_not_called(self, name: str, /) -> None:
        """Assert that the bot has not called a function.

        Args:
            name: Name of the function.

        Raises:
            AssertionError: It has.
        """
        __tracebackhide__ = True
        calls = [_shown(tool.arguments) for tool in self.tools if tool.name == name]
        if calls:
            self._fail(f"{name} was called with {', and '.join(calls)}")

    def assert_said(self, text: str | re.Pattern[str]) -> None:
        """Assert that the bot has said something.

        Args:
            text: A part of it, in any case and with any white space, or a pattern.

        Raises:
            AssertionError: It has not, or Hydra sent no words.
        """
        __tracebackhide__ = True
        said = [words.text for words in self.words if words.who == "bot"]
        if not said:
            self._fail(
                f"whether the bot said {_wanted(text)} is not known: Hydra sent no words of what "
                "it said; give the emulator a script with transcripts"
            )
        if not any(_is_in(text, words) for words in said):
            were = ", ".join(json.dumps(words, ensure_ascii=False) for words in said)
            self._fail(f"the bot did not say {_wanted(text)}; it said {were}")

    def assert_answered_within(self, secs: float) -> None:
        """Assert that each answer began soon: from the user's last sound to the bot's first.

        Answers that needed a function are not counted; see `assert_tool_turn_within`.

        Args:
            secs: The limit in seconds.

        Raises:
            AssertionError: An answer was later, or there was none.
        """
        __tracebackhide__ = True
        self._assert_within("answer", "answered", secs)

    def assert_tool_turn_within(self, secs: float) -> None:
        """Assert that answers with functions began soon: from the user's last sound.

        Args:
            secs: The limit in seconds, up to the first sound about the result.

        Raises:
            AssertionError: An answer was later, or no answer needed a function.
        """
        __tracebackhide__ = True
        self._assert_within("tool_turn", "answered by a function", secs)

    def assert_barge_in_within(self, secs: float) -> None:
        """Assert that the bot was silent soon each time that it was interrupted.

        Args:
            secs: The limit in seconds, from the user's first sound to the bot's last.

        Raises:
            AssertionError: The bot went on for longer, or was not interrupted.
        """
        __tracebackhide__ = True
        self._assert_within("barge_in", "interrupted", secs)

    def assert_no_errors(self) -> None:
        """Assert that nothing went wrong.

        Raises:
            AssertionError: Something did.
        """
        __tracebackhide__ = True
        if self.errors:
            shown = "".join(f"\n  {one.at:.2f} s  {one.message}" for one in self.errors)
            self._fail(f"{_count(len(self.errors), 'error')}:{shown}")

    def assert_ended_by(self, who: str) -> None:
        """Assert who ended the call.

        Args:
            who: `"user"`, who hangs up when all is said, or `"bot"`.

        Raises:
            AssertionError: The other one did, or the bot went on after the user had hung up.
            ValueError: There is nobody else.
        """
        __tracebackhide__ = True
        endings = {"user": Ending.USER, "bot": Ending.BOT}
        if who not in endings:
            raise ValueError(f"who={who!r} must be 'user' or 'bot'")
        if self.ending is not endings[who]:
            self._fail(f"the call did not end by the {who}: {self.ending.value}")

    def assert_course(self, path: str | Path) -> None:
        """Assert that the call went as it is written in a file: what happened, and in which order.

        Args:
            path: A text file, beside the test unless absolute. `pytest --hydra-update` writes it.

        Raises:
            AssertionError: The call went otherwise, or there is no such file.
        """
        __tracebackhide__ = True
        file = self._base / path
        moments = moments_of(self.course, self.ending.value)
        is_now = _HEADER + "".join(f"{moment.what}\n" for moment in moments)
        if self._update_courses:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(is_now, encoding="utf-8")
            return
        if not file.is_file():
            self._fail(f"there is no file {file}: pytest --hydra-update writes it")
        expected = file.read_text(encoding="utf-8")
        if expected != is_now:
            lines = difflib.unified_diff(
                expected.splitlines(),
                is_now.splitlines(),
                str(path),
                "this call",
                lineterm="",
                n=99,
            )
            self._fail(
                "the call went otherwise than before; if that is right, pytest --hydra-update "
                "writes the file anew\n" + "\n".join(lines)
            )

    def _assert_within(self, latency: str, what: str, secs: float) -> None:
        __tracebackhide__ = True
        values = self.latencies[latency]
        if not values:
            self._fail(f"the bot was never {what}" if latency == "barge_in" else _unanswered(what))
        late = [value for value in values if value > secs]
        if late:
            were = ", ".join(f"{value:.2f} s" for value in values)
            longest, count = max(late), f"{len(late)} of {len(values)}"
            self._fail(
                f"{latency} took {longest:.2f} s, which is {longest - secs:.2f} s more than "
                f"{secs:g} s ({count} took too long: {were})"
            )

    def _fail(self, failure: str) -> NoReturn:
        __tracebackhide__ = True
        raise AssertionError(self.explained(failure))


def _has(arguments: Any, wanted: dict[str, Any]) -> bool:
    if not wanted:
        return True
    return isinstance(arguments, dict) and all(
        name in arguments and arguments[name] == value for name, value in wanted.items()
    )


def _is_in(text: str | re.Pattern[str], words: str) -> bool:
    if isinstance(text, re.Pattern):
        return text.search(words) is not None
    return " ".join(text.split()).casefold() in " ".join(words.split()).casefold()


def _wanted(text: str | re.Pattern[str]) -> str:
    return f"what matches {text.pattern!r}" if isinstance(text, re.Pattern) else json.dumps(text)


def _shown(arguments: Any) -> str:
    if isinstance(arguments, dict):
        return ", ".join(f"{name}={value!r}" for name, value in arguments.items()) or "no arguments"
    return repr(arguments)


def _unanswered(what: str) -> str:
    return f"no turn of the user was {what}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"
