"""A call as trace events, which Perfetto (ui.perfetto.dev) and Chrome's tracing page show.

The format is the JSON Object Format of Chrome's trace events: complete events (`X`) for what
lasts, instants (`i`) for what happens. Times are microseconds. Each call is a process, and each
kind of thing in it a thread.
"""

from collections.abc import Sequence
from typing import Any, Final

from pipecat_hydra.cli.report.calls import ReportedCall
from pipecat_hydra.recording.course import Course

__all__ = ["trace"]

_THREADS: Final = ("user", "replies generated", "replies heard", "latencies", "tools", "line")


def trace(calls: Sequence[ReportedCall]) -> dict[str, Any]:
    """Return calls as a trace.

    Args:
        calls: The calls.

    Returns:
        The trace, as data that JSON can hold.
    """
    events: list[dict[str, Any]] = []
    for process, call in enumerate(calls, 1):
        events.append(_name("process_name", process, 0, call.name))
        for thread, name in enumerate(_THREADS, 1):
            events.append(_name("thread_name", process, thread, name))
        events += [{**event, "pid": process} for event in _events(call.course)]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _events(course: Course) -> list[dict[str, Any]]:
    return [*_voices(course), *_latencies(course), *_tools(course), *_line(course)]


def _voices(course: Course) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for turn in course.turns:
        begin = turn.said_from if turn.said_from is not None else turn.began
        end = turn.said_until if turn.said_until is not None else turn.ended
        name = f"turn {turn.number}" + (" (discarded)" if turn.is_discarded else "")
        events.append(_span("user", name, begin, _or(end, course.secs), words=turn.words))
    for reply in course.replies:
        of = {"words": reply.words, "status": reply.status, "turn": reply.turn}
        name, end = reply.response_id or "response", _or(reply.ended, course.secs)
        more = {"generated_secs": reply.generated_secs, "heard_secs": reply.heard_secs}
        events.append(_span("replies generated", name, reply.created, end, **of, **more))
        cut = " (cut)" if reply.is_cut else ""
        for begin, end in reply.heard:
            events.append(_span("replies heard", name + cut, begin, end, **of))
    return events


def _latencies(course: Course) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for turn in course.turns:
        reply = course.answer_to(turn)
        end = turn.said_until if turn.said_until is not None else turn.ended
        if reply and reply.heard_from is not None and end is not None and end < reply.heard_from:
            events.append(_span("latencies", "answer", end, reply.heard_from, turn=turn.number))
    for one in course.interruptions:
        if one.speech_began is not None:
            events.append(
                _span("latencies", "barge-in", one.speech_began, one.silent_at, turn=one.turn)
            )
    return events


def _tools(course: Course) -> list[dict[str, Any]]:
    return [
        _span(
            "tools",
            tool.name,
            tool.asked,
            _or(tool.answered, course.secs),
            call_id=tool.call_id,
            arguments=tool.arguments,
            result=tool.result,
            error=tool.error,
        )
        for tool in course.tools
    ]


def _line(course: Course) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for session in course.sessions:
        begins = (session.opening, session.open, session.configured)
        begin = next((moment for moment in begins if moment is not None), 0.0)
        end = _or(session.closed, course.secs)
        events.append(_span("line", f"session {session.number}", begin, end, reason=session.reason))
    for lost in course.reconnects:
        events.append(
            _instant("reconnecting", lost.began, reason=lost.reason, is_restored=lost.is_restored)
        )
    for change in course.settings:
        events.append(_instant("settings", change.at, **change.settings))
    for error in course.errors:
        events.append(_instant("error", error.at, message=error.message, source=error.source))
    if not course.is_complete:
        events.append(_instant("the recording was cut off", course.secs))
    return events


def _or(moment: float | None, otherwise: float) -> float:
    return otherwise if moment is None else moment


def _span(thread: str, name: str, begin: float, end: float, **args: Any) -> dict[str, Any]:
    return {
        "ph": "X",
        "name": name,
        "cat": thread,
        "tid": _THREADS.index(thread) + 1,
        "ts": round(1e6 * begin),
        "dur": round(1e6 * max(0.0, end - begin)),
        "args": args,
    }


def _instant(name: str, at: float, **args: Any) -> dict[str, Any]:
    thread = _THREADS.index("line") + 1
    ts = round(1e6 * at)
    return {"ph": "i", "s": "t", "name": name, "cat": "line", "tid": thread, "ts": ts, "args": args}


def _name(kind: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": process, "tid": thread, "args": {"name": name}}
