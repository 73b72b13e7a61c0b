"""Questions about connections, models, and how a session ends (protocol §1, §2)."""

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
from pipecat_hydra.wire.protocol import CLOSE_AT_CAPACITY, CLOSE_NORMAL, MODEL_DEPRECATED, MODELS

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
        "session-ended",
        "Does a close follow an error session_ended?",
        "§3",
        "yes",
        ("early audio", "bursts"),
        _session_ended,
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
