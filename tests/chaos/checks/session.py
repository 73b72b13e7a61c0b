"""Checks the session: losses, attempts, errors, the key, and the end of the call (S2 to S5).

A session that is lost is told by one error and had again, by attempts as the policy has them.
Nothing that the server sends ends a session, and nothing that the client sends is refused. No key
is logged. When the call is over, soon after its end was asked for, nothing is left of it.

Whether a loss has to be told depends on whether the session was in use by then: so there is a
least and a most number of errors. A change of settings ends a session too.
"""

from collections.abc import Iterator

from pipecat.frames.frames import ErrorFrame

from chaos.checks.facts import Facts
from chaos.plan import RETRY, Change
from pipecat_hydra.emulator import Drop
from pipecat_hydra.wire.protocol import ErrorCode

# How errors begin that tell of something else than a lost session.
_NO_LOSS = ("Hydra reports", "Hydra's response ended", "Hydra takes no audio", "Error executing")
_REFUSED = {
    ErrorCode.INVALID_REQUEST,
    ErrorCode.INVALID_FRAME,
    ErrorCode.INVALID_AUDIO,
    ErrorCode.SESSION_ENDED,
}


def one_error_for_each_loss(facts: Facts) -> Iterator[str]:
    frames = [p.frame for p in facts.evidence.pushed if not p.downstream]
    errors = [frame for frame in frames if isinstance(frame, ErrorFrame)]
    lost = [error for error in errors if not error.error.startswith(_NO_LOSS)]
    permanent = [e for e in errors if e.error and _is_permanent(e)]
    if permanent:
        yield f"a permanent error: {permanent[0].error}"
    least, most = _losses(facts)
    if not least <= len(lost) <= most:
        texts = [error.error for error in lost]
        yield f"{len(lost)} errors for {least} to {most} losses: {texts}"
    back = len(facts.evidence.told("on_reconnected"))
    # Of a loss just before the end nobody comes back.
    had = [session for session in facts.sessions if session.configured]
    gone = bool(had) and facts.lost(had[-1])
    if not facts.evidence.cancelled and back not in (len(lost), len(lost) - gone):
        yield f"{back} times reconnected after {len(lost)} losses"
    if facts.evidence.told("on_given_up"):
        yield "given up"
    if not facts.evidence.usable:
        yield "the service is not usable at the end"


def _is_permanent(error: ErrorFrame) -> bool:
    return error.fatal or bool(error.category and error.category.is_permanent)


def _losses(facts: Facts) -> tuple[int, int]:
    """How many sessions were lost while they were in use: at least, and at most."""
    least = most = 0
    for session in facts.sessions:
        if not facts.lost(session):
            continue
        used = bool(session.received_of("input_audio_buffer.append"))
        least += used and facts.closed(session) < facts.listened_until
        most += session.configured
    # A session that cannot be had in the first place, or after a change of settings.
    return least, most + 1 + len(facts.acts(Change))


def as_the_policy_says(facts: Facts) -> Iterator[str]:
    before = 0
    for attempt, delay in facts.evidence.told("on_reconnecting"):
        limit = min(RETRY.longest_delay_secs, RETRY.first_delay_secs * 4 * 2 ** (attempt - 1))
        # A server may ask for a second more (`Retry-After`).
        if not 0 <= delay <= limit + 1.0:
            yield f"a delay of {delay:.2f} s before attempt {attempt}"
        if before and attempt not in (1, before + 1):
            yield f"attempt {attempt} after attempt {before}"
        before = attempt


def no_event_ends_it(facts: Facts) -> Iterator[str]:
    ended = [
        session
        for session in facts.sessions
        if session.configured
        and not facts.lost(session)
        and facts.closed(session) < facts.evidence.ended - 0.1
    ]
    changes = len(facts.acts(Change))
    if len(ended) > changes:
        told = [f"{s.id}: {s.close_code} after {s.elapsed:.1f} s, {s.errors}" for s in ended]
        yield f"{len(ended)} sessions ended by nobody, with {changes} changes of settings: {told}"


def server_has_no_complaint(facts: Facts) -> Iterator[str]:
    for session in facts.sessions:
        drops = [record.fault for record in session.injected_of("drop")]
        by_fault = [fault.how for fault in drops if isinstance(fault, Drop)]
        for record in session.sent_of("error"):
            error = record.event["error"]
            if error and error.get("code") in _REFUSED and error["code"] not in by_fault:
                yield f"{session.id} at {record.time:.2f} s: {error}"


def no_key_in_logs(facts: Facts) -> Iterator[str]:
    if facts.evidence.logged:
        yield f"{len(facts.evidence.logged)} lines, the first: {facts.evidence.logged[0][:300]}"


def nothing_is_left(facts: Facts) -> Iterator[str]:
    yield from facts.evidence.left
    if facts.evidence.hydra.open_sessions:
        yield "a session is open at the server"


def it_ends_in_time(facts: Facts) -> Iterator[str]:
    # A call that is not cancelled plays the last reply to its end.
    limit = 0.5 if facts.evidence.cancelled else 10.0
    if facts.evidence.end_secs > limit:
        yield f"the end took {facts.evidence.end_secs:.1f} s"


def nobody_waits_in_vain(facts: Facts) -> Iterator[str]:
    given_up = [said.name for said in facts.evidence.said if facts.is_given_up(said)]
    for text in facts.evidence.waited_in_vain:
        if not any(f"no answer to {name!r}" in text for name in given_up):
            yield text
