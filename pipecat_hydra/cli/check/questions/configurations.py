"""Questions about what a session is configured with: rates, voices, sizes (protocol §2)."""

from typing import Final

from pipecat_hydra.cli.check.log import SessionLog
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
from pipecat_hydra.wire.protocol import MODELS, VOICE_PARAM, VOICES

__all__ = ["CONFIGURATION_QUESTIONS"]


def _told_rates(logs: Logs) -> dict[str, int]:
    told: dict[str, int] = {}
    for log in logs.all("models"):
        configured = log.first("session.configured")
        rate = configured and configured.get("session", "output_audio_sample_rate")
        if isinstance(rate, int):
            told[log.label] = rate
    return told


def _rate_told(logs: Logs) -> Answer:
    configured = [
        one for log in logs.all("models") if (one := log.first("session.configured")) is not None
    ]
    if not configured:
        raise NotSeenError("no session was configured")
    told = [one for one in configured if one.get("session", "output_audio_sample_rate")]
    return judged(
        len(told) == len(configured), "yes", "no, not for each model", *(told or configured)
    )


def _rates(logs: Logs) -> Answer:
    told = {name: rate for name, rate in _told_rates(logs).items() if name in MODELS}
    if not told:
        raise NotSeenError("no session tells its rate")
    text = ", ".join(f"{name} {rate} Hz" for name, rate in told.items())
    right = all(MODELS[name].output_sample_rate == rate for name, rate in told.items())
    evidence = [
        f"{log.label}: {log.first('session.configured')}"
        for log in logs.all("models")
        if log.label in told
    ]
    return judged(right, text, text, *evidence)


def _requested_rate(logs: Logs) -> Answer:
    log = logs.attempt("rate")
    asked = int(log.label)
    if log.errors and log.first("session.configured") is None:
        return otherwise("a request for it is rejected", log.errors[0])
    own = logs.one("connection").first("session.configured")
    given = logs.one("rate").first("session.configured")
    assert own is not None
    assert given is not None
    own_rate, rate = (e.get("session", "output_audio_sample_rate") for e in (own, given))
    if rate is None:
        raise NotSeenError("the session does not tell its rate")
    if own_rate == asked:
        raise NotSeenError(f"{asked} Hz is the rate of the session anyway")
    text = f"{asked} Hz was asked for, and {rate} Hz is told"
    return judged(rate == own_rate, f"no: {text}", f"yes: {text}", given)


def _accepted(log: SessionLog) -> bool:
    """Whether a voice was accepted: the session is configured, with no error before."""
    answer = log.first("session.configured", "error")
    return answer is not None and answer.type == "session.configured"


def _voices(logs: Logs) -> Answer:
    asked = [log for log in logs.all("voices") if log.label in VOICES]
    accepted = [log for log in asked if _accepted(log)]
    rejected = [log for log in asked if log.errors and not _accepted(log)]
    if not accepted and not rejected:
        raise NotSeenError(asked[0].failure or "no session was configured")
    names = ", ".join(log.label for log in rejected)
    return judged(
        not rejected,
        f"yes: all of {len(accepted)}",
        f"{len(rejected)} of {len(asked)} are rejected: {names}",
        *(log.errors[0] for log in rejected),
        f"{len(accepted)} times session.configured, with no error before",
    )


def _unlisted_voices(logs: Logs) -> Answer:
    asked: dict[str, SessionLog] = {log.label: log for log in logs.all("voices")}
    found = {
        name: _accepted(asked[name])
        for name in ("marin", "wren")
        if name in asked and asked[name].first("session.configured", "error") is not None
    }
    if len(found) < 2:
        raise NotSeenError("the scene did not get so far")
    words = {name: "accepted" if taken else "rejected" for name, taken in found.items()}
    text = f"marin is {words['marin']}, wren is {words['wren']}"
    evidence = [asked[name].first("error", "session.configured") for name in found]
    return judged(found["marin"] and not found["wren"], text, text, *evidence)


def _unknown_voice(logs: Logs) -> Answer:
    log = logs.attempt("rejection")
    answer = log.first("error", "session.configured")
    if answer is None:
        raise NotSeenError(log.failure or log.close or "there was no answer")
    if answer.type == "session.configured":
        return otherwise("it is accepted", answer)
    param = answer.get("error", "param")
    return judged(
        param == VOICE_PARAM, f"an error with param {param}", f"an error with param {param}", answer
    )


def _after_rejection(logs: Logs) -> Answer:
    log = logs.attempt("rejection")
    error, again = log.first("error"), log.step("configured again")
    if error is None:
        raise NotSeenError(log.failure or "no voice was rejected")
    configured = log.first("session.configured")
    if configured is not None and (again is None or configured.place < again.place):
        return otherwise("the session is configured with another voice", error, configured)
    if log.close_code is not None:
        return otherwise("the session is closed", error, log.close)
    not_lost(log)
    if configured is not None:
        return otherwise("another session.configure is answered", error, configured)
    return as_assumed("nothing: it answers no other session.configure", error, sure="likely")


def _bad_field(logs: Logs) -> Answer:
    log = logs.attempt("bad field")
    answer = log.first("error", "session.configured")
    if answer is None:
        if log.close_code is not None:
            return otherwise("the session is closed without an error", log.close)
        raise NotSeenError(log.failure or log.close or "there was no answer")
    if answer.type == "session.configured":
        return otherwise("it is accepted silently", answer)
    if log.closed_at is None:
        return as_assumed("an error, and the session stays open", answer)
    return as_assumed("an error, and the session is closed", answer, log.close)


def _early_audio(logs: Logs) -> Answer:
    log = logs.attempt("early audio")
    created = log.first("session.created")
    if created is None:
        raise NotSeenError(log.failure or log.close or "session.created did not come")
    configured = next(iter(log.client("session.configure")), None)
    if errors := log.server("error", before=configured):
        return otherwise("it is answered by an error", errors[0], log.close)
    if log.close_code is not None:
        return otherwise("the session is closed", log.close)
    not_lost(log)
    return as_assumed("it is dropped silently", log.first("session.configured"))


def _size(logs: Logs) -> Answer:
    heard: dict[int, bool] = {}
    evidence: list[str] = []
    for log in logs.all("size"):
        if log.first("session.configured") is not None:
            if not log.audio:
                not_lost(log)
            heard[int(log.label)] = bool(log.audio)
            evidence.append(f"{log.label} bytes: {log.audio[0] if log.audio else 'no audio'}")
    if len(heard) < 2:
        raise NotSeenError("a session was not configured")
    (small, heard_small), (large, heard_large) = sorted(heard.items())
    if not heard_small:
        return otherwise(f"below {small} bytes there is none", *evidence, sure="likely")
    if heard_large:
        return otherwise(f"there is audio at {large} bytes", *evidence)
    return as_assumed(f"between {small} and {large} bytes", *evidence, sure="likely")


CONFIGURATION_QUESTIONS: Final = (
    Question(
        "rates",
        "At which rate does each model speak?",
        "§2",
        ", ".join(f"{model.name} {model.output_sample_rate} Hz" for model in MODELS.values()),
        ("models",),
        _rates,
    ),
    Question(
        "rate-told",
        "Does session.configured tell the rate of the audio?",
        "§2",
        "yes",
        ("models",),
        _rate_told,
    ),
    Question(
        "rate-requested",
        "Is a requested output rate honoured?",
        "§2",
        "no, so none is requested",
        ("connection", "rate"),
        _requested_rate,
    ),
    Question(
        "voices",
        "Are all known voices accepted on one model?",
        "§2",
        f"yes: all of {len(VOICES)}",
        ("voices",),
        _voices,
    ),
    Question(
        "voices-unlisted",
        "What becomes of voices that are in no list?",
        "§2",
        "marin is accepted, wren is rejected",
        ("voices",),
        _unlisted_voices,
    ),
    Question(
        "voice-unknown",
        "What does a voice that does not exist give?",
        "§2",
        f"an error with param {VOICE_PARAM}",
        ("rejection",),
        _unknown_voice,
    ),
    Question(
        "after-rejection",
        "What does a session do after it has rejected a voice?",
        "§2",
        "nothing; a new session is opened",
        ("rejection",),
        _after_rejection,
    ),
    Question(
        "field-rejected",
        "What does a field of the wrong type in session.configure give?",
        "§2",
        "an error, whether a close follows or not",
        ("bad field",),
        _bad_field,
    ),
    Question(
        "early-audio",
        "What becomes of audio that comes before session.configured?",
        "§2",
        "it is dropped silently",
        ("early audio",),
        _early_audio,
    ),
    Question(
        "size",
        "From which size of session.configure on is there no audio?",
        "§2",
        "between 16 and 40 kB",
        ("size",),
        _size,
    ),
)
"""These questions, in the order in which they are shown."""
