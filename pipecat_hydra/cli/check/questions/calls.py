"""Questions about function calls (protocol §3, §6)."""

from typing import Any, Final

from pipecat_hydra.cli.check.log import Entry, SessionLog
from pipecat_hydra.cli.check.questions.question import (
    Answer,
    Logs,
    NotSeenError,
    Question,
    as_assumed,
    judged,
    not_lost,
    otherwise,
)
from pipecat_hydra.wire.protocol import ErrorCode

__all__ = ["CALL_QUESTIONS"]

_DELTA: Final = "response.function_call_arguments.delta"
_ARGUMENTS_DONE: Final = "response.function_call_arguments.done"
_CREATED: Final = "response.created"
_DONE: Final = "response.done"
_SHORTEST_WINDOW_SECS: Final = 10.0


def _calling(logs: Logs) -> SessionLog:
    """The session in which the model is asked to call a function, if it has called one."""
    log = logs.one("calls")
    if log.step("called") is None:
        raise NotSeenError(log.close or "the model did not call the function")
    return log


def _calls_told(logs: Logs) -> Answer:
    log = _calling(logs)
    done = log.first(_ARGUMENTS_DONE)
    if done is not None:
        return as_assumed("events for their arguments", done)
    items = log.call_items("done")
    if items:
        return otherwise("their items alone", items[0])
    return otherwise("only the output of response.done", log.first(_DONE))


def _call_items(logs: Logs) -> Answer:
    log = _calling(logs)
    items = [*log.call_items("added"), *log.call_items("done")]
    if not items:
        not_lost(log)
    return judged(bool(items), "yes", "no", *(items or log.server(_ARGUMENTS_DONE, _DONE)[:2]))


def _arguments_done(logs: Logs) -> Entry:
    done = _calling(logs).first(_ARGUMENTS_DONE)
    if done is None:
        raise NotSeenError("there are no events for the arguments")
    return done


def _call_name(logs: Logs) -> Answer:
    done = _arguments_done(logs)
    return judged(bool(done.get("name")), "yes", "no", done)


def _call_delta_names(logs: Logs) -> Answer:
    deltas = _calling(logs).server(_DELTA)
    if len(deltas) < 2:
        raise NotSeenError("the arguments did not come in pieces")
    named = [bool(delta.get("name")) for delta in deltas]
    evidence = [f"{d.at:.2f} s <- {_DELTA} (name {d.get('name')})" for d in deltas[:2]]
    if all(named):
        return otherwise("in each", *evidence)
    return judged(named[0] and sum(named) == 1, "in the first", "in others", *evidence)


def _call_arguments(logs: Logs) -> Answer:
    done = _arguments_done(logs)
    return judged(done.get("arguments") is not None, "yes", "no, only the deltas have them", done)


def _call_arguments_form(logs: Logs) -> Answer:
    log = _calling(logs)
    for entry, value in _whole_arguments(log):
        if isinstance(value, str):
            return as_assumed("text", entry)
        return otherwise("an object", entry)
    raise NotSeenError("no event repeats the arguments")


def _whole_arguments(log: SessionLog) -> list[tuple[Entry, Any]]:
    """The events with whole arguments."""
    found = [(e, e.get("arguments")) for e in log.server(_ARGUMENTS_DONE)]
    found += [(e, e.get("item", "arguments")) for e in log.call_items("done")]
    for entry in log.server(_DONE):
        output: Any = entry.get("response", "output")
        items = [item for item in output if isinstance(item, dict)] if output else []
        found += [(entry, item.get("arguments")) for item in items]
    return [(entry, value) for entry, value in found if value is not None]


def _call_done_order(logs: Logs) -> Answer:
    log = _calling(logs)
    # Only one response is done before, or with, the narration: that of the call.
    done = log.first(_DONE)
    if done is None:
        raise NotSeenError("response.done did not come")
    whole = log.first(_ARGUMENTS_DONE) or next(iter(log.call_items("done")), None)
    answered, asked = log.step("answered"), log.step("asked for narration")
    narration = log.first(_CREATED, after=asked) if asked is not None else None
    evidence = [entry for entry in (whole, answered, asked, narration) if entry is not None]
    if whole is not None and done.place < whole.place:
        text = "before the calls are whole"
    elif answered is None or done.place < answered.place:
        call_is_first = sorted((done, *evidence[:2]), key=_place)
        return as_assumed("once the calls are whole, before they are answered", *call_is_first)
    elif asked is None or done.place < asked.place:
        text = "once the calls are answered"
    elif narration is None or done.place < narration.place:
        text = "after response.create, before the narration begins"
    else:
        text = "after the narration has begun"
    return otherwise(text, *sorted((done, *evidence), key=_place))


def _narration(logs: Logs) -> Answer:
    log = _calling(logs)
    asked = log.step("asked for narration")
    if asked is None:
        raise NotSeenError(log.close or "the call was not answered")
    early = [e for e in log.audio if e.place < asked.place]
    audio = next((e for e in log.audio if e.place > asked.place), None)
    if early:
        answered = log.step("answered")
        evidence = (answered, early[0])
        return otherwise("the model speaks before response.create", *evidence, sure="likely")
    if audio is None:
        not_lost(log)
        return otherwise("no", *log.server("error", after=asked), sure="likely")
    return as_assumed("yes", asked, log.first(_CREATED, after=asked), audio)


def _tool_timeout(logs: Logs) -> Answer:
    log = logs.one("open call")
    called = log.step("called")
    if called is None:
        raise NotSeenError("the model did not call the function")
    error = log.first("error", after=called)
    if error is None:
        if log.close_code is not None:
            return otherwise("the session is closed", log.close)
        not_lost(log)
        return as_assumed("not within 40 s", called, sure="likely")
    whole = log.first(_ARGUMENTS_DONE, _DONE) or called
    code, secs = error.get("error", "code"), error.at - whole.at
    if code != ErrorCode.TOOL_RESPONSE_TIMEOUT:
        return otherwise(f"an error {code}", error)
    text = f"after {secs:.0f} s"
    return judged(secs >= _SHORTEST_WINDOW_SECS, text, text, error)


def _place(entry: Entry) -> int:
    return entry.place


CALL_QUESTIONS: Final = (
    Question(
        "calls-told",
        "Which events tell a call?",
        "§6",
        "events for their arguments",
        ("calls",),
        _calls_told,
    ),
    Question("call-items", "Do calls have items?", "§6", "yes", ("calls",), _call_items),
    Question(
        "call-name",
        "Does arguments.done name the function?",
        "§3",
        "yes",
        ("calls",),
        _call_name,
    ),
    Question(
        "call-delta-names",
        "In which arguments.delta is the name of the function?",
        "§3",
        "in the first",
        ("calls",),
        _call_delta_names,
    ),
    Question(
        "call-arguments",
        "Does arguments.done repeat the arguments?",
        "§3",
        "yes",
        ("calls",),
        _call_arguments,
    ),
    Question(
        "call-arguments-form",
        "Are arguments text or an object?",
        "§3",
        "text",
        ("calls",),
        _call_arguments_form,
    ),
    Question(
        "call-done-order",
        "When does response.done of a calling response come?",
        "§6",
        "once the calls are whole, before they are answered",
        ("calls",),
        _call_done_order,
    ),
    Question(
        "narration",
        "Is a result narrated when response.create asks for it?",
        "§6",
        "yes, and not before",
        ("calls",),
        _narration,
    ),
    Question(
        "tool-timeout",
        "When is a call given up that is not answered?",
        "§3",
        f"not before {_SHORTEST_WINDOW_SECS:g} s",
        ("open call",),
        _tool_timeout,
    ),
)
"""These questions, in the order in which they are shown."""
