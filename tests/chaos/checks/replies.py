"""Checks what becomes of responses, in the pipeline and at the listener (A4, A5, A6, T3).

The audio of a response enters the pipeline whole, from its first sample on, at one rate, within
its brackets. After an interruption no more of it follows, and nothing is said again but after
noise. The listener hears what entered the pipeline.

A response is undisturbed if there is no reason for it not to be heard whole: it came to its end,
the client is sure to have got it, no turn that may be real cut it, no turn held it back, and the
application did not interrupt. Only of such a response the whole is asked for; of each other one,
that nothing is left out in its middle and nothing comes after the cut.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

from pipecat.frames.frames import (
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)

from chaos.checks.facts import Facts
from chaos.wire import Response, Turn, covered, stretches
from pipecat_hydra.emulator import EmulatedSession
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE

_CHUNK_SECS = 0.04


def whole_samples_at_one_rate(facts: Facts) -> Iterator[str]:
    frames = [p.frame for p in facts.of(TTSAudioRawFrame)]
    rates = {frame.sample_rate for frame in frames if isinstance(frame, TTSAudioRawFrame)}
    if len(rates) > 1:
        yield f"audio of {sorted(rates)} Hz in one call"
    odd = [f for f in frames if isinstance(f, TTSAudioRawFrame) and len(f.audio) % 2]
    if odd:
        yield f"{len(odd)} frames with half a sample"
    yield from facts.said[1]


def replies_are_whole(facts: Facts) -> Iterator[str]:
    for session, response in facts.responses:
        parts = facts.stretches_of(response)
        if parts and parts[0][0].start:
            yield f"{response.id} begins {parts[0][0].start} bytes late"
        spans = covered([part for part, _ in parts])
        for (_, end), (start, _) in pairwise(spans):
            yield f"of {response.id} bytes {end} to {start} are left out"
        if not _undisturbed(facts, session, response):
            continue
        end = spans[-1][1] if spans else 0
        wanted = response.passes // 2 * 2
        if end < wanted and (response.rate == facts.rate or not spans):
            if response.rate != facts.rate and facts.rate:
                continue  # it is in there, resampled, and was told by its likeness
            yield f"of {response.id} only {end} of {wanted} bytes entered the pipeline"


def _undisturbed(facts: Facts, session: EmulatedSession, response: Response) -> bool:
    """Whether there is no reason for a response not to be heard whole."""
    over = response.over_at
    if over is None or response.cancelled or over > facts.certain_until(session):
        return False
    if any(turn.noise is not True for turn, _ in response.cuts):
        return False
    begun, ended = facts.opened(session) + response.at, facts.opened(session) + over
    if facts.evidence.cancelled and ended > facts.evidence.ended - 1.0:
        return False
    if response.within is not None and _may_be_open(facts, session, response.within):
        return False  # one that was due before the user spoke waits until the user has stopped
    # Noise in which the client heard nothing more, for the connection went, stays undecided.
    if response.cuts and facts.certain_until(session) < facts.closed(session):
        return False
    return not any(begun - 2.0 < at < ended + 1.0 for at in facts.app_interruptions)


def _may_be_open(facts: Facts, session: EmulatedSession, turn: Turn) -> bool:
    """Whether a turn may be open, for the client, when the call or the session ends."""
    if turn.over_at is None or turn.over_at > facts.certain_until(session):
        return True
    over = facts.opened(session) + turn.over_at
    return facts.evidence.cancelled and over > facts.evidence.ended - 1.0


def nothing_after_an_interruption(facts: Facts) -> Iterator[str]:
    for session, response in facts.responses:
        for part, _ in facts.stretches_of(response):
            if part.end > response.audible:
                over = part.end - response.audible
                yield f"{over} bytes of {response.id} ({session.id}) after it was interrupted"


def nothing_is_said_twice(facts: Facts) -> Iterator[str]:
    for _, response in facts.responses:
        parts = facts.stretches_of(response)
        for (before, first), (part, then) in pairwise(parts):
            between = (pushed.frame for pushed in facts.down[first:then])
            if part.start < before.end and not any(
                isinstance(frame, InterruptionFrame) for frame in between
            ):
                yield f"{before.end - part.start} bytes of {response.id} again, for no reason"


def brackets_match(facts: Facts) -> Iterator[str]:
    wrong, opens = brackets(pushed.frame for pushed in facts.down)
    if wrong:
        yield wrong
    elif opens and not facts.evidence.cancelled:
        yield f"left open at the end: {opens}"


def brackets(frames: Iterable[Frame]) -> tuple[str | None, list[str]]:
    """Follow the brackets of replies: what is wrong with them first, and what is open then."""
    opens: list[str] = []
    for frame in frames:
        before = list(opens)
        match frame:
            case LLMFullResponseStartFrame():
                right = not opens
                opens = ["reply"]
            case TTSStartedFrame():
                right = opens == ["reply"]
                opens = ["reply", "voice"]
            case TTSAudioRawFrame():
                right = opens == ["reply", "voice"]
            case TTSStoppedFrame():
                right = opens == ["reply", "voice"]
                opens = ["reply"]
            case LLMFullResponseEndFrame():
                right = opens == ["reply"]
                opens = []
            case _:
                continue
        if not right:
            return f"{type(frame).__name__} within {before or 'no bracket'}", opens
    return None, opens


def listener_hears_it(facts: Facts) -> Iterator[str]:
    """What entered the pipeline undisturbed is heard; a real turn or the end may cut it off."""
    if any(audio.sample_rate != facts.rate for audio in facts.evidence.heard):
        return
    exact = [r for _, r in facts.responses if r.rate == facts.rate]
    data = b"".join(audio.pcm for audio in facts.evidence.heard)
    parts, _ = stretches(data, exact, padded=True)
    for session, response in facts.responses:
        said = facts.stretches_of(response)
        if not said or response.rate != facts.rate or not _undisturbed(facts, session, response):
            continue
        first = facts.down[said[0][1]].at
        if _may_be_cut_off(facts, session, response, first):
            continue
        spans = covered([part for part in parts if part.response is response])
        wanted = response.passes // 2 * 2
        heard = sum(end - start for start, end in spans)
        # When a reply has been played to its end, Pipecat's output transport throws away what
        # it has of the next one and is not a whole chunk (`_bot_stopped_speaking`).
        if heard < wanted - _CHUNK_SECS * facts.rate * BYTES_PER_SAMPLE:
            yield f"of {response.id}, {wanted} bytes, only {spans} was heard"


def _may_be_cut_off(
    facts: Facts, session: EmulatedSession, response: Response, since: float
) -> bool:
    if facts.evidence.cancelled:
        return True
    if any(at > since - 1.0 for at in facts.app_interruptions):
        return True
    for reading in facts.readings:
        for turn in reading.turns:
            at = facts.opened(reading.session) + turn.at
            if at > since - 1.0 and turn.noise is not True:
                return True
    return False
