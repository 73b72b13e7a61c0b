"""The course of a call as lines of text, in the order in which a person would tell it."""

import json
from dataclasses import dataclass
from typing import Any

from pipecat_hydra.recording.course import Course
from pipecat_hydra.recording.parts import Reply, ToolCall, Turn

__all__ = ["Line", "lines_of"]


@dataclass(frozen=True, slots=True)
class Line:
    """Something that happened in a call.

    Parameters:
        at: When, in seconds.
        kind: `user`, `bot`, `tool`, `line`, `cut` or `error`.
        who: Whose doing it is, in one short word.
        what: What happened. It may have any characters that people said or sent.
        figure: What was measured of it, empty if nothing was.
        details: Values that belong to it, each with a label.
    """

    at: float
    kind: str
    who: str
    what: str
    figure: str = ""
    details: tuple[tuple[str, Any], ...] = ()


def lines_of(course: Course) -> list[Line]:
    """Tell the course of a call.

    Args:
        course: The course.

    Returns:
        Its lines, by time.
    """
    lines = [
        *(_of_turn(turn) for turn in course.turns),
        *(_of_reply(reply, course) for reply in course.replies if reply.generated_secs),
        *(_of_tool(tool) for tool in course.tools),
        *_of_line(course),
    ]
    for one in course.interruptions:
        measured = "" if one.secs is None else f"{1000 * one.secs:.0f} ms to silence"
        lines.append(Line(one.silent_at, "cut", "cut", "silent after a barge-in", measured))
    if not course.is_complete:
        lines.append(Line(course.secs, "error", "end", "the recording is cut off here"))
    return sorted(lines, key=lambda line: line.at)


def _of_turn(turn: Turn) -> Line:
    at = turn.said_from if turn.said_from is not None else turn.began
    if turn.is_discarded:
        return Line(at, "user", "user", "(discarded turn)")
    length = ""
    if turn.said_from is not None and turn.said_until is not None:
        length = f"{turn.said_until - turn.said_from:.1f} s"
    return Line(at, "user", "user", turn.words or "(no words known)", length)


def _of_reply(reply: Reply, course: Course) -> Line:
    at = reply.heard_from if reply.heard_from is not None else reply.created
    words = reply.words or "(no words known)"
    if reply.heard_from is None:
        return Line(at, "bot", "bot", words, f"not heard, {reply.generated_secs:.1f} s generated")
    figures = [f"{reply.heard_secs:.1f} s"]
    if reply.is_cut:
        figures = [f"cut, {reply.heard_secs:.1f} of {reply.generated_secs:.1f} s heard"]
    for turn in course.turns:
        ended = turn.said_until if turn.said_until is not None else turn.ended
        if course.answer_to(turn) is reply and ended is not None and not turn.is_discarded:
            figures.insert(0, f"after {1000 * (reply.heard_from - ended):.0f} ms")
    return Line(at, "bot", "bot", words, ", ".join(figures))


def _of_tool(tool: ToolCall) -> Line:
    what = f"{tool.name}({_compact(tool.arguments)})"
    if tool.error:
        what += f" failed: {tool.error}"
    elif tool.answered is not None:
        what += f" = {_compact(tool.result)}"
    if tool.is_cancelled:
        what += " (cancelled)"
    took, details = "not answered", [("Arguments", tool.arguments)]
    if tool.answered is not None:
        took = f"{1000 * (tool.answered - tool.asked):.0f} ms"
        details.append(("Result", tool.result))
    return Line(tool.asked, "tool", "tool", what, took, tuple(details))


def _of_line(course: Course) -> list[Line]:
    lines: list[Line] = []
    for lost in course.reconnects:
        took = "not restored" if lost.ended is None else f"{lost.ended - lost.began:.2f} s"
        what = "connection lost" + (f": {lost.reason}" if lost.reason else "")
        what += "" if lost.is_restored else "; Hydra does not know all that was said before"
        lines.append(Line(lost.began, "line", "line", what, took))
    for change in course.settings:
        lines.append(Line(change.at, "line", "set", _compact(change.settings), "settings"))
    for error in course.errors:
        lines.append(Line(error.at, "error", "error", error.message, error.source))
    return lines


def _compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
