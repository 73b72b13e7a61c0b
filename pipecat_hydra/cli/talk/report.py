"""Measures a finished conversation: the turns as reported, compared with the audio as heard.

The figures of the audio are those of `pipecat_hydra.recording.course`, which every conversation is
recorded for, so that a latency means the same in `talk`, in a report and in a test. They are laid
on the timeline of the transport, on which the turns were reported and the conversation is written.
"""

from dataclasses import dataclass, field
from typing import overload

from pipecat_hydra.cli.talk.turns import Turn
from pipecat_hydra.recording import Recording
from pipecat_hydra.recording.course import Course
from pipecat_hydra.recording.parts import Reply
from pipecat_hydra.recording.parts import Turn as HeardTurn
from pipecat_hydra.testing import VirtualTransport

__all__ = ["DEFINITIONS", "Report", "Row"]

DEFINITIONS = (
    "first audio: the bot's first sound as heard. speech: after the user's last sound before "
    "Hydra reported the end of the turn. turn: after that report",
    "TTFB: from that report to the first byte of audio, as the service measures it",
    "barge-in: from the first sound of the user who interrupts to the last sound heard of the "
    "reply that is cut",
    "bytes: audio of the reply, PCM16. tokens: read and generated, as Hydra counts",
)
"""What the figures of a `Row` mean, one line each."""


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one turn. Positions are seconds on the timeline; `None` if there is none.

    Parameters:
        turn: The turn as it was reported.
        user_start_secs: The user's first sound.
        user_end_secs: The user's last sound before the end of the turn was reported.
        reply_start_secs: The first sound of the reply, as heard.
        reply_end_secs: The last sound of the reply, as heard.
        barge_in_secs: Seconds from the first sound of the user who interrupts this reply to the
            last sound of the reply; 0 if the reply had ended before.
        heard_bytes: Audio of the reply that was played, in bytes of PCM16.
    """

    turn: Turn
    user_start_secs: float | None
    user_end_secs: float | None
    reply_start_secs: float | None
    reply_end_secs: float | None
    barge_in_secs: float | None
    heard_bytes: int

    @property
    def first_audio_after_speech_secs(self) -> float | None:
        """Seconds from the user's last sound to the first sound of the reply."""
        return _difference(self.reply_start_secs, self.user_end_secs)

    @property
    def first_audio_after_report_secs(self) -> float | None:
        """Seconds from Hydra's report of the end of the turn to the first sound of the reply."""
        return _difference(self.reply_start_secs, self.turn.user_stopped_secs)


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a conversation.

    Parameters:
        rows: One for each turn.
        length_secs: Length of the conversation in seconds.
        microphone_bytes: Audio of the user, silence included, in bytes of PCM16 at the
            microphone's rate.
        latencies: Seconds by the names of `recording.course.LATENCIES`.
        errors: What went wrong.
    """

    rows: list[Row]
    length_secs: float
    microphone_bytes: int
    latencies: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    errors: list[str] = field(default_factory=list[str])

    @classmethod
    def of(cls, turns: list[Turn], transport: VirtualTransport, recording: Recording) -> "Report":
        """Measure a finished conversation.

        Args:
            turns: The turns as they were reported.
            transport: The transport, which played both sides.
            recording: The recording of the conversation.

        Returns:
            The report.
        """
        course = Course.of(recording)
        measured = _Measured(course, transport.timeline.began_at - _began_at(recording))
        return cls(
            rows=[_row(turn, turns, transport, measured) for turn in turns],
            length_secs=max(transport.microphone.position_secs, transport.heard_until_secs),
            microphone_bytes=len(transport.microphone.pcm),
            latencies=course.latencies,
            errors=[problem.message for problem in course.errors],
        )


class _Measured:
    """The course of a recording on the timeline of the conversation."""

    def __init__(self, course: Course, offset_secs: float):
        self._course = course
        self._offset_secs = offset_secs

    def turn(self, turn: Turn) -> HeardTurn | None:
        """Find the turn of the recording that was reported at the same time."""
        began = turn.user_started_secs
        if began is None:
            return None
        return min(
            self._course.turns, key=lambda heard: abs(self.at(heard.began) - began), default=None
        )

    def replies(self, heard: HeardTurn | None) -> list[Reply]:
        """Find what was heard of the replies to a turn; without one, of the greeting."""
        number = heard.number if heard else None
        return [
            reply
            for reply in self._course.replies
            if reply.turn == number and reply.heard_from is not None
        ]

    def barge_in_secs(self, replies: list[Reply]) -> float | None:
        """Return how long the last of some replies went on after the user began to speak."""
        ids = {reply.response_id for reply in replies}
        cuts = [one.secs for one in self._course.interruptions if one.response_id in ids]
        return cuts[-1] if cuts else None

    @overload
    def at(self, secs: float) -> float: ...
    @overload
    def at(self, secs: float | None) -> float | None: ...
    def at(self, secs: float | None) -> float | None:
        """Place a moment of the recording on the timeline."""
        return None if secs is None else secs - self._offset_secs


def _row(turn: Turn, turns: list[Turn], transport: VirtualTransport, measured: _Measured) -> Row:
    heard = measured.turn(turn)
    replies = measured.replies(heard)
    heard_bytes = 0
    if turn.bot_started_secs is not None:
        begin, end = turn.bot_started_secs, _next_reply_secs(turn, turns)
        heard_bytes = sum(
            len(audio.pcm) for audio in transport.heard if begin <= audio.start_secs < end
        )
    return Row(
        turn,
        user_start_secs=measured.at(heard.said_from) if heard else None,
        user_end_secs=measured.at(heard.said_until) if heard else None,
        reply_start_secs=measured.at(replies[0].heard_from) if replies else None,
        reply_end_secs=measured.at(replies[-1].heard_until) if replies else None,
        barge_in_secs=measured.barge_in_secs(replies),
        heard_bytes=heard_bytes,
    )


def _began_at(recording: Recording) -> float:
    """Return when the time axis of a recording begins, in Unix seconds."""
    first = next(iter(recording.records), None)
    return first.at - first.t if first else 0.0


def _next_reply_secs(turn: Turn, turns: list[Turn]) -> float:
    later = (later.bot_started_secs for later in turns[turn.number :])
    return next((secs for secs in later if secs is not None), float("inf"))


def _difference(later: float | None, earlier: float | None) -> float | None:
    return None if later is None or earlier is None else later - earlier
