"""Checks what the pipeline is told of the user's turns, and what interrupts the model (T1, T2, T4).

Each turn that Hydra heard is announced once, interrupts once, and ends once. An interruption by
the application cancels the response in flight, by its id.

How many turns the client knew of is certain only within limits: of what the server sent just before
it lost the connection, or just before the client closed it, the client may have got nothing. A
repeated `speech_started` without an id may be a new turn or the same.
"""

from collections.abc import Iterator

from pipecat.frames.frames import (
    InterruptionFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)

from chaos.checks.facts import Facts
from chaos.wire import Reading


def one_interruption_each(facts: Facts) -> Iterator[str]:
    started, _ = facts.announced
    announced = len(facts.of(started))
    most = sum(len(r.turns) + r.starts_repeated for r in facts.readings)
    least = sum(
        turn.at < facts.certain_until(r.session)
        and facts.opened(r.session) + turn.at < facts.listens_until(r.session)
        for r in facts.readings
        for turn in r.turns
    )
    if not least <= announced <= most:
        yield f"{announced} turns announced of {least} to {most} that Hydra heard"
    interruptions = len(facts.of(InterruptionFrame))
    # Hydra may cancel a reply before it says why, or without a reason: that is flushed.
    flushes = sum(response.cancelled for _, response in facts.responses)
    foreign = len(facts.app_interruptions)
    least = 0 if facts.evidence.cancelled else announced
    if not least <= interruptions <= announced + foreign + flushes:
        yield f"{interruptions} interruptions for {announced} turns and {foreign} by others"


def every_turn_ends(facts: Facts) -> Iterator[str]:
    pairs = {facts.announced, (UserStartedSpeakingFrame, UserStoppedSpeakingFrame)}
    for started, stopped in pairs:
        speaking = False
        for pushed in facts.of(started, stopped):
            starts = isinstance(pushed.frame, started)
            if starts == speaking:
                yield f"two {type(pushed.frame).__name__} in a row"
                return
            speaking = starts
        if speaking and not facts.evidence.cancelled:
            yield f"a {started.__name__} without {stopped.__name__}"


def interruptions_cancel(facts: Facts) -> Iterator[str]:
    for reading in facts.readings:
        session = reading.session
        made = {r.event["response"]["id"] for r in session.sent_of("response.created")}
        for cancel in session.received_of("response.cancel"):
            if (cancelled := cancel.event.get("response_id")) not in made:
                yield f"{session.id}: cancels {cancelled}, which was not made there"
        for at in facts.app_interruptions:
            if (running := _runs_on(facts, reading, at)) is not None:
                yield f"{session.id}: {running} went on after an interruption"


def _runs_on(facts: Facts, reading: Reading, at: float) -> str | None:
    """The response that went on for a while after an interruption by the application."""
    session = reading.session
    moment = at - facts.opened(session)
    stalled = facts.stalled_secs(session)
    for response in reading.responses.values():
        began, over = response.at + 0.3 + stalled, response.over_at
        if not began < moment or over is None or over < moment + 1.0 + stalled:
            continue
        near = [turn.at for turn in reading.turns if -0.5 < moment - turn.at < 2.0]
        cancels = session.received_of("response.cancel")
        if session.injected_of("slow_reader") or near:
            continue  # it may have been taken for the echo of a turn
        if not any(cancel.event.get("response_id") == response.id for cancel in cancels):
            return response.id
    return None
