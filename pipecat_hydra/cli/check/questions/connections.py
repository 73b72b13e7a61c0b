"""Questions about connections and configurations (protocol §1, §2)."""

from collections.abc import Sequence
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
from pipecat_hydra.cli.check.wire import is_full
from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.wire.protocol import (
    CLOSE_AT_CAPACITY,
    CLOSE_NORMAL,
    MODEL_DEPRECATED,
    MODELS,
    VOICE_PARAM,
    VOICES,
)

__all__ = ["CONNECTION_QUESTIONS"]

_SLOW_SECS: Final = 5.0
_PONG_SECS: Final = 3.0
_IDLE_SECS: Final = (25.0, 35.0)


def _auth_query(logs: Logs) -> Answer:
    return _opens(logs.attempt("connection"))


def _auth_header(logs: Logs) -> Answer:
    return _opens(logs.attempt("header"))


def _opens(log: SessionLog) -> Answer:
    created = log.first("session.created")
    if created is not None:
        return as_assumed("it is accepted", created)
    if log.failure_kind is FailureKind.AUTHENTICATION:
        return otherwise("it is refused", log.failure)
    raise NotSeenError(log.failure or log.close or "session.created did not come")


def _auth_token(logs: Logs) -> Answer:
    taken = {log.label: log.first("session.created") for log in logs.all("token")}
    refused = [place for place, created in taken.items() if created is None]
    evidence = [log.failure for log in logs.all("token")]
    no = f"it is refused in the {' and the '.join(refused)}"
    return judged(not refused, "it is accepted in the query and in a header", no, *evidence)


def _redirect(logs: Logs) -> Answer:
    log = logs.one("connection")
    created = log.first("session.created")
    return judged(not log.is_redirected, "no", "yes, to another path of the same host", created)


def _handshake(logs: Logs) -> Answer:
    log = logs.one("connection")
    configured = log.first("session.configured")
    assert configured is not None
    text = f"after {configured.at:.1f} s"
    evidence = (log.first("session.created"), configured)
    return judged(configured.at <= _SLOW_SECS, text, text, *evidence)


def _pings(logs: Logs) -> Answer:
    log = logs.one("connection")
    pong = log.pong_secs
    if pong is None:
        not_lost(log)
        return otherwise("no pong came within 5 s", sure="likely")
    text = f"yes, after {pong:.2f} s"
    return judged(pong <= _PONG_SECS, text, text, f"pong after {pong:.3f} s")


def _models(logs: Logs) -> Answer:
    known = [log for log in logs.all("models") if log.label in MODELS]
    if not any(log.first("session.created") for log in known):
        raise NotSeenError(known[0].failure or known[0].close or "no model was opened")
    closed = [log for log in known if log.failure_kind is FailureKind.CONFIGURATION]
    if not closed and any(log.first("session.created") is None for log in known):
        raise NotSeenError("not all connections could be made")
    names = ", ".join(log.label for log in closed)
    evidence = [
        log.failure or f"{log.label}: {log.first('session.created')}" for log in closed or known
    ]
    return judged(not closed, f"yes: {', '.join(MODELS)}", f"{names} cannot be opened", *evidence)


def _unknown_model(logs: Logs) -> Answer:
    log = next((log for log in logs.all("models") if log.label not in MODELS), None)
    if log is None:
        raise NotSeenError("the scene did not get so far")
    if log.failure_kind is FailureKind.CONFIGURATION:
        return as_assumed("the upgrade is refused", log.failure)
    if log.failure_kind in (FailureKind.AUTHENTICATION, FailureKind.SERVER):
        return otherwise("the upgrade is refused in another way", log.failure)
    if log.failure:
        raise NotSeenError(log.failure)
    evidence = log.first("error", "session.configured") or log.first()
    return otherwise("a session is opened all the same", evidence, log.close)


def _deprecation(logs: Logs) -> Answer:
    warned = {log.label: log.first("warning") for log in logs.all("models")}
    log = next((log for log in logs.all("models") if log.label == "hydra"), None)
    if log is None or log.first("session.created") is None:
        raise NotSeenError("the model hydra was not opened")
    warning, created = warned["hydra"], log.first("session.created")
    others = [name for name, one in warned.items() if one is not None and name != "hydra"]
    if warning is None or created is None:
        return otherwise("no, there is no warning", created)
    if others:
        return otherwise(f"yes, and of {', '.join(others)} too", warning)
    coded = MODEL_DEPRECATED in (warning.get("code"), warning.get("warning", "code"))
    early = warning.place < created.place
    text = f"yes, {'before' if early else 'after'} session.created"
    return judged(coded and early, text, text, warning, created)


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


def _session_ended(logs: Logs) -> Answer:
    sessions = [*_held(logs, "early audio"), *_held(logs, "bursts")]
    for log in sessions:
        for error in log.errors:
            if error.get("error", "code") == "session_ended":
                return judged(
                    log.closed_at is not None,
                    f"yes, the session is closed with code {log.close_code}",
                    "no, the session stays open",
                    error,
                    log.close,
                )
    raise NotSeenError("no error session_ended came")


def _held(logs: Logs, scene: str) -> Sequence[SessionLog]:
    try:
        return logs.all(scene)
    except NotSeenError:
        return ()


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


def _idle(logs: Logs) -> Answer:
    log = logs.one("idle")
    began = log.step("idle")
    if began is None or is_full(log):
        raise NotSeenError("the session was refused or lost")
    if log.closed_at is None:
        waited = "45 s"
        return otherwise(f"not within {waited}", began)
    secs = log.closed_at - began.at
    right = (
        _IDLE_SECS[0] <= secs <= _IDLE_SECS[1] and log.close_code == CLOSE_NORMAL and not log.errors
    )
    how = f"with code {log.close_code}" if log.close_code is not None else "without a close frame"
    text = f"after {secs:.0f} s, {how}{', with an error' if log.errors else ''}"
    return judged(right, text, text, *log.errors, log.close)


def _capacity(logs: Logs) -> Answer:
    sessions = logs.all("capacity")
    last = sessions[-1]
    opened = sum(log.first("session.created") is not None for log in sessions)
    if not is_full(last):
        if last.failure:
            return otherwise(f"after {opened} the connection fails otherwise", last.failure)
        return as_assumed(f"no cap up to {opened}", last.first("session.created"))
    if last.failure:
        return otherwise(f"{opened}: the upgrade is refused", last.failure)
    closed = f", code {last.close_code}" if last.closed_at is not None else ", no close"
    text = f"{opened}: then server_full{closed}"
    right = last.close_code == CLOSE_AT_CAPACITY
    return judged(right, text, text, *last.errors, last.close)


CONNECTION_QUESTIONS: Final = (
    Question(
        "auth-query",
        "Is the key accepted in the query of the URL?",
        "§1",
        "yes",
        ("connection",),
        _auth_query,
    ),
    Question(
        "auth-header",
        "Is the key accepted in a header, with none in the URL?",
        "§1",
        "yes",
        ("header",),
        _auth_header,
    ),
    Question(
        "auth-token",
        "Is a short-lived token accepted?",
        "§1",
        "yes, in the query and in a header",
        ("token",),
        _auth_token,
    ),
    Question("redirect", "Is the upgrade redirected?", "§1", "no", ("connection",), _redirect),
    Question(
        "handshake",
        "When can a session be used?",
        "§2",
        f"within {_SLOW_SECS:g} s",
        ("connection",),
        _handshake,
    ),
    Question("pings", "Are WebSocket pings answered?", "§1", "yes", ("connection",), _pings),
    Question(
        "models",
        "Can all known models be opened?",
        "§1",
        f"yes: {', '.join(MODELS)}",
        ("models",),
        _models,
    ),
    Question(
        "model-unknown",
        "What does a model that does not exist give?",
        "§1",
        "the upgrade is refused with an HTTP error",
        ("models",),
        _unknown_model,
    ),
    Question(
        "model-warning",
        "Does the deprecated model send a warning?",
        "§2",
        "yes, before session.created, and no other model does",
        ("models",),
        _deprecation,
    ),
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
        "early-audio",
        "What becomes of audio that comes before session.configured?",
        "§2",
        "it is dropped silently",
        ("early audio",),
        _early_audio,
    ),
    Question(
        "session-ended",
        "Does a close follow an error session_ended?",
        "§3",
        "yes",
        ("early audio", "bursts"),
        _session_ended,
    ),
    Question(
        "size",
        "From which size of session.configure on is there no audio?",
        "§2",
        "between 16 and 40 kB",
        ("size",),
        _size,
    ),
    Question(
        "idle",
        "When is a session closed that nobody uses?",
        "§1",
        "after about 30 s, with code 1000 and no error",
        ("idle",),
        _idle,
    ),
    Question(
        "capacity",
        "How many sessions are there at a time, and what then?",
        "§1",
        "any number; then server_full and code 1013",
        ("capacity",),
        _capacity,
    ),
)
"""These questions, in the order in which they are shown."""
