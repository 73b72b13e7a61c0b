"""Questions about the model's replies, and about requests for them (protocol §3, §4, §5)."""

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
from pipecat_hydra.cli.check.scenes.speech import call_id_in
from pipecat_hydra.wire.protocol import (
    BYTES_PER_SAMPLE,
    MODELS,
    UNKNOWN_MODEL_OUTPUT_SAMPLE_RATE,
    ErrorCode,
)

__all__ = ["REPLY_QUESTIONS"]

_DONE: Final = "response.done"
_CREATED: Final = "response.created"
_TRANSCRIPTS: Final = {
    "response.output_audio_transcript.delta": "deltas",
    "response.output_audio_transcript.done": "done",
}
_FAST: Final = 1.5


def _first_reply(logs: Logs) -> list[Entry]:
    """What came of the first reply: all up to the next step of the scene."""
    log = logs.one("reply")
    end = log.step("cancelled nothing")
    return log.server(before=end)


def _first_audio(logs: Logs) -> list[Entry]:
    audio = [entry for entry in _first_reply(logs) if entry.audio]
    if not audio:
        raise NotSeenError("the model did not speak first")
    return audio


def _audio_field(logs: Logs) -> Answer:
    audio = _first_audio(logs)
    names = sorted({entry.audio.name for entry in audio if entry.audio})
    text = " and ".join(names)
    return judged(names == ["delta"], text, text, audio[0])


def _base64(logs: Logs) -> Answer:
    audio = _first_audio(logs)
    broken = [entry for entry in audio if entry.audio and entry.audio.has_lines]
    return judged(not broken, "no", "yes", (broken or audio)[0])


def _samples(logs: Logs) -> Answer:
    audio = _first_audio(logs)
    odd = [entry for entry in audio if entry.audio and entry.audio.size % BYTES_PER_SAMPLE]
    return judged(not odd, "yes", "no: they may end inside a sample", *(odd or audio)[:2])


def _speed(logs: Logs) -> Answer:
    audio = _first_audio(logs)
    log = logs.one("reply")
    size = sum(entry.audio.size for entry in audio if entry.audio)
    secs = size / (BYTES_PER_SAMPLE * _rate(log))
    took = audio[-1].at - audio[0].at
    if len(audio) < 2 or secs < 1.0:
        raise NotSeenError("the reply was too short")
    if took < secs / 1000:
        return as_assumed("all at once", audio[0], audio[-1])
    text = f"{secs / took:.1f} times real time"
    return judged(secs / took >= _FAST, text, text, audio[0], audio[-1])


def _rate(log: SessionLog) -> int:
    configured = log.first("session.configured")
    told = configured and configured.get("session", "output_audio_sample_rate")
    if isinstance(told, int) and told > 0:
        return told
    known = MODELS.get(log.model)
    return known.output_sample_rate if known else UNKNOWN_MODEL_OUTPUT_SAMPLE_RATE


def _done_order(logs: Logs) -> Answer:
    _first_audio(logs)
    reply = _first_reply(logs)
    done = next((entry for entry in reply if entry.type == _DONE), None)
    if done is None:
        raise NotSeenError("response.done did not come")
    late = [entry for entry in reply if entry.audio and entry.place > done.place]
    return judged(not late, "yes", "no: audio follows it", done, *late[-1:])


def _transcripts_in(logs: Logs) -> list[Entry]:
    return [entry for entry in _first_reply(logs) if entry.type in _TRANSCRIPTS]


def _transcripts(logs: Logs) -> Answer:
    _first_audio(logs)
    texts = _transcripts_in(logs)
    if not texts:
        not_lost(logs.one("reply"))
        return as_assumed("no", sure="likely")
    return otherwise("yes", *texts[:2])


def _transcript_events(logs: Logs) -> Answer:
    texts = _transcripts_in(logs)
    if not texts:
        raise NotSeenError("there are no transcripts")
    kinds = sorted({_TRANSCRIPTS[entry.type] for entry in texts})
    text = " and ".join(kinds)
    return judged(kinds == ["deltas"], text, text, texts[0], texts[-1])


def _transcript_order(logs: Logs) -> Answer:
    texts = _transcripts_in(logs)
    done = next((entry for entry in _first_reply(logs) if entry.type == _DONE), None)
    if not texts or done is None:
        raise NotSeenError("there are no transcripts")
    late = [entry for entry in texts if entry.place > done.place]
    return judged(not late, "before it", "after it", done, texts[-1])


def _reply_texts(logs: Logs) -> Answer:
    items = logs.one("reply").reply_items("done")
    if not items:
        raise NotSeenError("no item of a reply was done")
    told = [item for item in items if has_text(item)]
    return judged(not told, "no, it is null", "yes", (told or items)[0])


def has_text(item: Entry) -> bool:
    """Return whether the item of an event has a text."""
    content: Any = item.get("item", "content")
    parts = content if isinstance(content, list) else []
    return any(isinstance(part, dict) and bool(part.get("text")) for part in parts)


def _response_ids(logs: Logs) -> Answer:
    created: list[Entry] = []
    for scene in ("reply", "calls"):
        try:
            created = logs.one(scene).server(_CREATED)
        except NotSeenError:
            continue
        if len(created) > 1:
            break
    if len(created) < 2:
        raise NotSeenError("no session had two responses")
    ids = [entry.get("response", "id") for entry in created]
    evidence = [
        f"{entry.at:.2f} s <- {_CREATED} (id {one})"
        for entry, one in zip(created, ids, strict=True)
    ]
    if not any(ids):
        return otherwise("responses have none", *evidence)
    return judged(len(set(ids)) == len(ids), "unique", "used again", *evidence)


def _late_audio(logs: Logs) -> Answer:
    cancelled = [found for scene in ("cancel", "interruption") if (found := _cut(logs, scene))]
    if not cancelled:
        raise NotSeenError("no response was cancelled")
    late = [(done, audio) for done, audio in cancelled if audio]
    if late:
        done, audio = late[0]
        return otherwise(f"yes: {len(audio)} events", done, audio[-1])
    return as_assumed("no", *(done for done, _ in cancelled), sure="likely")


def _cut(logs: Logs, scene: str) -> tuple[Entry, list[Entry]] | None:
    """The `response.done` of a cancelled response, and the audio that came of it after that."""
    try:
        log = logs.one(scene)
    except NotSeenError:
        return None
    done = next((e for e in log.server(_DONE) if e.get("response", "status") == "cancelled"), None)
    if done is None:
        return None
    following = log.first(_CREATED, after=done)
    audio = [entry for entry in log.server(after=done, before=following) if entry.audio]
    is_lost = not audio and following is None and log.closed_at is not None
    return None if is_lost else (done, audio)


def _cancel(logs: Logs) -> Answer:
    log = logs.one("cancel")
    step = log.step("cancelled")
    if step is None:
        raise NotSeenError("the model did not speak first")
    if log.first(_DONE, before=step) is not None:
        raise NotSeenError("the response was done before it could be cancelled")
    done = log.first(_DONE, after=step)
    if done is None:
        not_lost(log)
        return otherwise("response.done does not come", *log.errors, sure="likely")
    if done.get("response", "status") == "completed" and done.at - step.at < 0.5:
        raise NotSeenError("the response was done before it could be cancelled")
    reason = done.get("response", "status_details", "reason")
    text = f"response.done, {done.get('response', 'status')}, {reason}"
    return judged(reason == "client_cancelled", text, text, done)


def _between(logs: Logs, step: str, next_step: str) -> tuple[Entry, list[Entry]]:
    """The step of the scene `reply`, and what the server sent from there to the next one."""
    log = logs.one("reply")
    begin = log.step(step)
    if begin is None:
        raise NotSeenError(log.close or "the model did not speak first")
    end = log.step(next_step)
    came = log.server(after=begin, before=end)
    if not came:
        not_lost(log)
    return begin, came


def _cancel_idle(logs: Logs) -> Answer:
    _, came = _between(logs, "cancelled nothing", "sent an unknown type")
    told = [entry for entry in came if entry.type in ("error", _DONE)]
    return judged(
        not told, "nothing", "it is answered", *told, sure="likely" if not told else "sure"
    )


def _unknown_types(logs: Logs) -> Answer:
    _, came = _between(logs, "sent an unknown type", "asked out of turn")
    errors = [entry for entry in came if entry.type == "error"]
    if not errors:
        return otherwise("it is ignored", sure="likely")
    code = errors[0].get("error", "code")
    text = f"an error {code}"
    return judged(code == ErrorCode.INVALID_FRAME, text, text, errors[0])


def _create(logs: Logs) -> Answer:
    _, came = _between(logs, "asked out of turn", "sent messages")
    answer = next((entry for entry in came if entry.type in (_CREATED, "error")), None)
    if answer is None:
        return otherwise("nothing", sure="likely")
    return judged(answer.type == _CREATED, "the model speaks", "an error", answer)


def _message_roles(logs: Logs) -> Answer:
    _, came = _between(logs, "sent messages", "asked about messages")
    errors = [entry for entry in came if entry.type == "error"]
    named = [str(entry.get("error", "event_id")).removeprefix("check_") for entry in errors]
    roles = ", ".join(name if name in ("system", "assistant", "user") else "?" for name in named)
    no = f"no: an error for {roles}"
    sure = "sure" if errors else "likely"
    return judged(not errors, "yes: system, assistant and user", no, *errors, sure=sure)


def _messages(logs: Logs) -> Answer:
    step, came = _between(logs, "asked about messages", "")
    answer = next((entry for entry in came if entry.type in (_CREATED, "error")), None)
    if answer is None:
        return otherwise("no: nothing follows", sure="likely")
    if answer.type == "error":
        return otherwise("no: an error", answer)
    if call_id_in(logs.one("reply"), after=step):
        return as_assumed("yes: it does what the message asks for", answer)
    return otherwise("it speaks, but does not do what the message asks for", answer, sure="likely")


REPLY_QUESTIONS: Final = (
    Question(
        "audio-field",
        "In which field of response.output_audio.delta is the audio?",
        "§3",
        "delta",
        ("reply",),
        _audio_field,
    ),
    Question(
        "base64-lines",
        "Is the base64 of the audio broken into lines?",
        "§3",
        "no",
        ("reply",),
        _base64,
    ),
    Question(
        "whole-samples",
        "Does each delta hold whole samples?",
        "§3",
        "yes",
        ("reply",),
        _samples,
    ),
    Question(
        "speed",
        "How fast does the audio of a reply come?",
        "§5",
        f"at {_FAST:g} times real time or faster",
        ("reply",),
        _speed,
    ),
    Question(
        "done-order",
        "Does response.done come after the last audio?",
        "§5",
        "yes",
        ("reply",),
        _done_order,
    ),
    Question(
        "transcripts",
        "Are there transcripts of what the model says?",
        "§3",
        "no",
        ("reply",),
        _transcripts,
    ),
    Question(
        "transcript-events",
        "Which events bring transcripts?",
        "§3",
        "deltas",
        ("reply",),
        _transcript_events,
    ),
    Question(
        "transcript-order",
        "Do transcripts come before or after response.done?",
        "§5",
        "before it",
        ("reply",),
        _transcript_order,
    ),
    Question(
        "reply-texts",
        "Do the items of replies hold their text?",
        "§3",
        "no, it is null",
        ("reply",),
        _reply_texts,
    ),
    Question(
        "response-ids",
        "Which ids do responses have?",
        "§3",
        "unique",
        ("reply", "calls"),
        _response_ids,
    ),
    Question(
        "late-audio",
        "Does audio of a cancelled response come after its response.done?",
        "§5",
        "no",
        ("cancel", "interruption"),
        _late_audio,
    ),
    Question(
        "cancel",
        "What answers response.cancel?",
        "§4",
        "response.done, cancelled, client_cancelled",
        ("cancel",),
        _cancel,
    ),
    Question(
        "cancel-nothing",
        "What answers response.cancel when nothing is in flight?",
        "§4",
        "nothing",
        ("reply",),
        _cancel_idle,
    ),
    Question(
        "unknown-types",
        "What answers an event of an unknown type?",
        "§3",
        f"an error {ErrorCode.INVALID_FRAME}",
        ("reply",),
        _unknown_types,
    ),
    Question(
        "create",
        "What does response.create do when nothing is pending?",
        "§4",
        "the model speaks",
        ("reply",),
        _create,
    ),
    Question(
        "message-roles",
        "Are message items of each role accepted?",
        "§4",
        "yes: system, assistant and user",
        ("reply",),
        _message_roles,
    ),
    Question(
        "messages",
        "Does the model answer a message at the next response.create?",
        "§4",
        "yes",
        ("reply",),
        _messages,
    ),
)
"""These questions, in the order in which they are shown."""
