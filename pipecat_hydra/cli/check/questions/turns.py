"""Questions about the user's turns and audio (protocol §4, §5)."""

from typing import Final

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
from pipecat_hydra.cli.check.questions.replies import has_text

__all__ = ["TURN_QUESTIONS"]

_STARTED: Final = "input_audio_buffer.speech_started"
_STOPPED: Final = "input_audio_buffer.speech_stopped"
_CREATED: Final = "response.created"
_DONE: Final = "response.done"
_AT_ONCE_SECS: Final = 0.4


def _turn(logs: Logs) -> SessionLog:
    """The session in which the user says a greeting, if that was heard."""
    log = logs.one("turn")
    if log.first(_STARTED, _CREATED) is None:
        raise NotSeenError(log.close or "the greeting was not heard")
    return log


def _stopped(logs: Logs) -> Answer:
    log = _turn(logs)
    stopped = log.first(_STOPPED)
    if stopped is None:
        not_lost(log)
    evidence = (log.first(_STARTED), stopped, log.first(_CREATED))
    return judged(stopped is not None, "yes", "no", *evidence)


def _stopped_order(logs: Logs) -> Answer:
    log = _turn(logs)
    stopped, created = log.first(_STOPPED), log.first(_CREATED)
    if stopped is None or created is None:
        raise NotSeenError("there is no speech_stopped, or no reply")
    early = stopped.place < created.place
    return judged(early, "before it", "after it", *sorted((stopped, created), key=_place))


def _user_items(logs: Logs) -> Answer:
    log = _turn(logs)
    items = [*log.user_items("added"), *log.user_items("done")]
    if not items:
        not_lost(log)
    return judged(bool(items), "yes", "no", *items, log.first(_CREATED))


def _user_items_order(logs: Logs) -> Answer:
    log = _turn(logs)
    started = log.first(_STARTED)
    added = next(iter(log.user_items("added")), None)
    if started is None or added is None:
        raise NotSeenError("there is no speech_started, or no item")
    early = added.at - started.at < _AT_ONCE_SECS
    return judged(early, "when the user starts", "when the turn ends", started, added)


def _user_texts(logs: Logs) -> Answer:
    items = _turn(logs).user_items("done")
    if not items:
        raise NotSeenError("there are no items of the user's turns")
    told = [item for item in items if has_text(item)]
    return judged(not told, "no, it is null", "yes", (told or items)[0])


def _replies(logs: Logs) -> Answer:
    log = _turn(logs)
    created = log.server(_CREATED)
    if not created:
        not_lost(log)
    return judged(len(created) == 1, "one", f"{len(created)}", *created)


def _backchannels(logs: Logs) -> Answer:
    log = logs.one("calls")
    said = log.step("asked the question")
    if said is None or log.first(_STARTED) is None:
        raise NotSeenError("the question was not heard")
    early = [entry for entry in log.server(before=said) if entry.type == _CREATED or entry.audio]
    return judged(not early, "no", "yes", *early[:2], sure="sure" if early else "likely")


def _interruption(logs: Logs) -> Answer:
    log = logs.one("interruption")
    spoke = log.step("spoke")
    if spoke is None:
        raise NotSeenError("the model did not speak first")
    started, created = log.first(_STARTED, after=spoke), log.first(_CREATED, after=spoke)
    done = log.first(_DONE)
    if started is None and created is None:
        raise NotSeenError("the user was not heard")
    first = started or created
    if done is not None and first is not None and done.place < first.place:
        raise NotSeenError("the reply was generated before the user was heard")
    if started is None:
        return otherwise("no: only the next response.created tells it", created, done)
    reason = done and done.get("response", "status_details", "reason")
    if done is None:
        not_lost(log)
    if done is None or (created is not None and done.place > created.place):
        return otherwise("the response is not done before the next one", started, created, done)
    text = f"speech_started, then response.done, {done.get('response', 'status')}, {reason}"
    return judged(reason == "interrupted", text, text, started, done, created)


class _Noise:
    """What came of the noise."""

    def __init__(self, logs: Logs):
        self.log = log = logs.one("noise")
        self.made = made = log.step("made a noise")
        if made is None:
            raise NotSeenError("the model did not speak first")
        self.started = log.first(_STARTED, after=made)
        self.answered = log.first(_CREATED, after=made)
        items = [item for item in log.user_items("done") if item.place > made.place]
        self.discarded = _with_status(items, "incomplete")
        self.completed = _with_status(items, "completed")


def _with_status(items: list[Entry], status: str) -> Entry | None:
    return next((item for item in items if item.get("item", "status") == status), None)


def _noise(logs: Logs) -> Answer:
    noise = _Noise(logs)
    if noise.answered is not None or noise.completed is not None:
        return otherwise("a turn of the user", noise.started, noise.completed, noise.answered)
    if noise.discarded is not None:
        return as_assumed("a turn that is discarded", noise.started, noise.discarded)
    not_lost(noise.log)
    if noise.started is None:
        return as_assumed("nothing: it is not noticed", sure="likely")
    return otherwise("a turn that is neither discarded nor answered", noise.started)


def _noise_stopped(logs: Logs) -> Answer:
    noise = _Noise(logs)
    if noise.started is None or noise.discarded is None:
        raise NotSeenError("no turn was discarded")
    stopped = noise.log.first(_STOPPED, after=noise.started, before=noise.discarded)
    return judged(stopped is not None, "yes", "no", noise.started, stopped, noise.discarded)


def _noise_cancels(logs: Logs) -> Answer:
    noise = _Noise(logs)
    if noise.started is None or noise.discarded is None:
        raise NotSeenError("no turn was discarded")
    done = noise.log.first(_DONE)
    if done is not None and done.place < noise.started.place:
        raise NotSeenError("the reply was generated before the noise was heard")
    if done is None:
        not_lost(noise.log)
    cancelled = done is not None and done.get("response", "status") == "cancelled"
    return judged(cancelled, "yes", "no, it goes on", noise.started, done, noise.discarded)


def _gap(logs: Logs) -> Answer:
    log = logs.one("gap")
    gap, silence = log.step("gap"), log.step("silence")
    if gap is None or log.first(_STARTED, before=silence) is None:
        raise NotSeenError("the greeting was not heard")
    told = log.first(_STOPPED, _CREATED, after=gap, before=silence)
    ended = log.first(_STOPPED, _CREATED, after=gap)
    if told is None and ended is None:
        raise NotSeenError("the turn did not end")
    return judged(told is None, "no, silence has to come", "yes", told or ended)


class _Burst:
    """Judges whether the server takes audio that comes faster than real time."""

    def __init__(self, step: str, refusal: str, *, is_taken: bool = True):
        self._step = step
        self._refusal = refusal
        self._is_taken = is_taken

    def __call__(self, logs: Logs) -> Answer:
        log = logs.one("bursts")
        step = log.step(self._step)
        if step is None:
            raise NotSeenError("the session had ended before")
        following = next(
            (e for e in log.entries if e.source == "scene" and e.place > step.place), None
        )
        errors = log.server("error", after=step, before=following)
        lost = following is None and log.close_code is not None
        if following is None and not errors and not lost:
            not_lost(log)
        taken = not errors and not lost
        answer = as_assumed if taken == self._is_taken else otherwise
        evidence = (step, *errors, log.close if lost else None, following)
        return answer("yes" if taken else self._refusal, *evidence)


def _place(entry: Entry) -> int:
    return entry.place


_REFUSED: Final = "no, the session is ended"

TURN_QUESTIONS: Final = (
    Question(
        "stopped",
        "Does speech_stopped tell the end of a turn?",
        "§3",
        "yes",
        ("turn",),
        _stopped,
    ),
    Question(
        "stopped-order",
        "Does speech_stopped come before or after the reply begins?",
        "§3",
        "before it",
        ("turn",),
        _stopped_order,
    ),
    Question(
        "user-items",
        "Do the user's turns have items?",
        "§3",
        "yes",
        ("turn",),
        _user_items,
    ),
    Question(
        "user-items-order",
        "When is the item of a turn added?",
        "§3",
        "when the user starts",
        ("turn",),
        _user_items_order,
    ),
    Question(
        "user-texts",
        "Do the items of the user's turns hold what was said?",
        "§3",
        "no, it is null",
        ("turn",),
        _user_texts,
    ),
    Question(
        "replies",
        "How many responses has a turn?",
        "§5",
        "one",
        ("turn",),
        _replies,
    ),
    Question(
        "backchannels",
        "Does the model speak while the user speaks?",
        "§5",
        "no",
        ("calls",),
        _backchannels,
    ),
    Question(
        "interruption",
        "What tells that the user has interrupted a reply?",
        "§5",
        "speech_started, then response.done, cancelled, interrupted",
        ("interruption",),
        _interruption,
    ),
    Question(
        "noise",
        "What does a noise of a quarter of a second give?",
        "§5",
        "nothing, or a turn that is discarded",
        ("noise",),
        _noise,
    ),
    Question(
        "noise-stopped",
        "Does speech_stopped come before a turn is discarded?",
        "§5",
        "yes",
        ("noise",),
        _noise_stopped,
    ),
    Question(
        "noise-cancels",
        "Does a turn that is discarded cancel the reply?",
        "§5",
        "yes",
        ("noise",),
        _noise_cancels,
    ),
    Question(
        "gap",
        "Does a gap without audio end a turn?",
        "§5",
        "no, silence has to come",
        ("gap",),
        _gap,
    ),
    Question(
        "stall",
        "May 1.5 s of audio come at once, as after a stall of the network?",
        "§3",
        "yes",
        ("bursts",),
        _Burst("stall", _REFUSED),
    ),
    Question(
        "pre-roll",
        "May audio come at twice real time, as after a reconnect?",
        "§3",
        "yes",
        ("bursts",),
        _Burst("pre-roll", _REFUSED),
    ),
    Question(
        "dump",
        "May 10 s of audio come at once?",
        "§3",
        _REFUSED,
        ("bursts",),
        _Burst("dump", _REFUSED, is_taken=False),
    ),
)
"""These questions, in the order in which they are shown."""
