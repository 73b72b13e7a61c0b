"""What calls came to as data: the document that `--json` prints and that the page shows.

`docs/report.schema.json` describes it. Its version rises when a field changes its meaning or goes;
new fields may come without that.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from pipecat_hydra.cli.report.calls import ReportedCall
from pipecat_hydra.cli.report.figures import Difference, spreads
from pipecat_hydra.recording.course import Course

__all__ = ["FORMAT", "VERSION", "call_document", "document"]

FORMAT: Final = "pipecat-hydra report"
VERSION: Final = 1

_DIGITS: Final = 4
"""Of each moment and each length in seconds: more would be made up."""


def document(calls: Sequence[ReportedCall], differences: Sequence[Difference] = ()) -> Any:
    """Return a report as data that JSON can hold.

    Args:
        calls: The calls.
        differences: What a comparison found.

    Returns:
        The document.
    """
    made = {
        "format": FORMAT,
        "version": VERSION,
        "calls": [call_document(call) for call in calls],
        "latencies": {name: spread and asdict(spread) for name, spread in spreads(calls).items()},
    }
    if differences:
        made["comparison"] = [_comparison(difference) for difference in differences]
    return _rounded(made)


def call_document(call: ReportedCall) -> dict[str, Any]:
    """Return a call as data that JSON can hold.

    Args:
        call: The call.

    Returns:
        The part of the document about it.
    """
    course = call.course
    about = {name: call.header(name) for name in ("began", "model", "voice", "url", "package")}
    made = {
        "name": call.name,
        **about,
        "secs": course.secs,
        "is_complete": course.is_complete,
        "is_measured": course.is_measured,
        "turns": [{**asdict(turn), **_answer(course, turn.number)} for turn in course.turns],
        "replies": [{**asdict(reply), "heard_secs": reply.heard_secs} for reply in course.replies],
        "interruptions": [{**asdict(one), "secs": one.secs} for one in course.interruptions],
        "tools": [asdict(tool) for tool in course.tools],
        "sessions": [asdict(session) for session in course.sessions],
        "reconnects": [asdict(reconnect) for reconnect in course.reconnects],
        "errors": [asdict(error) for error in course.errors],
        "settings": [asdict(change) for change in course.settings],
        "latencies": course.latencies,
    }
    return _rounded(made)


def _answer(course: Course, number: int) -> dict[str, Any]:
    """Return the first reply to a turn, and how long after the turn it is heard."""
    turn = course.turns[number - 1]
    reply = course.answer_to(turn)
    ended = turn.said_until if turn.said_until is not None else turn.ended
    if reply is None or reply.heard_from is None or ended is None or turn.is_discarded:
        return {"answered_by": None, "answer_secs": None}
    return {"answered_by": reply.response_id, "answer_secs": reply.heard_from - ended}


def _rounded(value: Any) -> Any:
    """Return a value with all its floats rounded, and with lists for tuples."""
    match value:
        case float():
            return round(value, _DIGITS)
        case dict():
            return {key: _rounded(part) for key, part in value.items()}
        case list() | tuple():
            return [_rounded(part) for part in value]
        case _:
            return value


def _comparison(difference: Difference) -> dict[str, Any]:
    return {
        **asdict(difference),
        "is_within_spread": difference.is_within_spread,
        "verdict": difference.verdict,
    }
