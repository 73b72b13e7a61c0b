"""Puts the course of a call into lines: with times for people, without for snapshots."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pipecat_hydra.recording.course import Course
from pipecat_hydra.recording.parts import Reply, ToolCall, Turn

__all__ = ["Moment", "moments_of", "shown_timeline"]

_LONGEST: Final = 100
"""How many characters of a value a timeline shows."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened in a call.

    Parameters:
        at: When, in seconds on the time axis of the recording.
        what: What, without anything that differs from run to run.
        detail: More of it, such as how long it took.
    """

    at: float
    what: str
    detail: str = ""


def moments_of(course: Course, ending: str) -> list[Moment]:
    """List what happened in a call, in order.

    Args:
        course: The course of the call.
        ending: How it ended.

    Returns:
        The moments, the end last.
    """
    moments = [*_of_turns(course), *_of_replies(course), *_of_tools(course), *_of_line(course)]
    moments.sort(key=lambda moment: moment.at)
    return [*moments, Moment(course.secs, ending)]


def shown_timeline(moments: list[Moment]) -> str:
    """Show moments as lines with times."""
    if not moments:
        return ""
    return "\n".join(_line(moment) for moment in moments)


def _line(moment: Moment) -> str:
    detail = f"  ({moment.detail})" if moment.detail else ""
    return f"{moment.at:8.2f} s  {_short(moment.what)}{detail}"


def _of_turns(course: Course) -> Iterator[Moment]:
    for turn in course.turns:
        at = turn.began if turn.said_from is None else turn.said_from
        yield Moment(at, _of_turn(turn), _length(at, turn.said_until or turn.ended))


def _of_turn(turn: Turn) -> str:
    if turn.is_discarded:
        return "user makes a noise, which is no turn"
    return (
        f"user says {json.dumps(turn.words, ensure_ascii=False)}" if turn.words else "user speaks"
    )


def _of_replies(course: Course) -> Iterator[Moment]:
    waits = {
        reply.response_id: (reply.heard_from or 0.0) - turn.said_until
        for turn in course.turns
        if turn.said_until is not None and (reply := course.answer_to(turn)) is not None
    }
    for reply in course.replies:
        if reply.heard_from is not None:
            wait = waits.get(reply.response_id)
            after = "" if wait is None else f"{wait:.2f} s after the user, "
            length = _length(reply.heard_from, reply.heard_until)
            if reply.is_cut:
                length = f"{length}, cut: {reply.generated_secs:.2f} s had come"
            yield Moment(reply.heard_from, _of_reply(reply), after + length)
        elif reply.generated_secs:
            yield Moment(reply.created, "bot answers, and is not heard")
    for one in course.interruptions:
        silent = "" if one.secs is None else f"silent {one.secs:.2f} s after the user's first sound"
        yield Moment(one.interrupted, "bot is interrupted", silent)


def _of_reply(reply: Reply) -> str:
    words = " ".join(reply.words.split())
    return f"bot says {json.dumps(words, ensure_ascii=False)}" if words else "bot speaks"


def _of_tools(course: Course) -> Iterator[Moment]:
    for tool in course.tools:
        yield Moment(tool.asked, f"bot calls {tool.name}({_json(tool.arguments)})")
        if tool.answered is not None:
            took = f"{tool.answered - tool.asked:.2f} s after the call"
            yield Moment(tool.answered, f"{tool.name} {_outcome(tool)}", took)


def _outcome(tool: ToolCall) -> str:
    if tool.error is not None:
        return f"fails: {tool.error}"
    if tool.is_cancelled:
        return "is cancelled"
    return f"gives {_json(tool.result)}"


def _of_line(course: Course) -> Iterator[Moment]:
    for loss in course.reconnects:
        yield Moment(loss.began, "the connection is lost", loss.reason)
        if loss.ended is not None:
            yield Moment(loss.ended, "the connection is there again")
    for change in course.settings:
        yield Moment(change.at, f"settings change: {_json(change.settings)}")
    for problem in course.errors:
        yield Moment(problem.at, f"error: {problem.message}", problem.source)


def _length(begin: float, end: float | None) -> str:
    return "" if end is None else f"{end - begin:.2f} s long"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
