"""Checks what Hydra received of the user's audio (A1, A3).

Nothing comes before the session is configured, and nothing faster than Hydra takes it. All that
the user said comes, once and in order, with nothing else within it: what was said while there was
no session is sent by the next one. Silence takes the place of a quiet microphone.

A server that does not read (`SlowReader`) gets what was sent in a burst, so that nothing can be
said of its pace; what it had not read when the connection was lost is not to be found at all. Of a
call that is cancelled, what was still to be sent is missing at the end, and nowhere else.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from chaos.checks.facts import BLOCK, INPUT_BYTES_PER_SEC, Facts, block
from chaos.runner import Said
from pipecat_hydra.emulator import EmulatedSession

_OWED_SECS: Final = 0.42
"""How long a line may be quiet before silence is sent for that time."""


def nothing_before_configured(facts: Facts) -> Iterator[str]:
    for session in facts.sessions:
        if session.early_audio_events:
            yield f"{session.id}: {session.early_audio_events} appends before session.configured"


def not_too_fast(facts: Facts) -> Iterator[str]:
    for session in facts.sessions:
        if session.injected_of("slow_reader"):
            continue  # what it reads after a pause comes in a burst
        allowed = 0.2 + _held_up_secs(session)  # some chunks that are sent together
        configured = session.sent_of("session.configured")
        last = configured[0].time if configured else 0.0
        level = since_configured = worst = 0.0
        for record in session.received_of("input_audio_buffer.append"):
            secs = record.audio_bytes / INPUT_BYTES_PER_SEC
            gained = secs - 2.0 * (record.time - last)
            last = record.time
            since_configured += gained
            level = max(secs, level + gained)
            # What a quiet line owes comes at once.
            worst = max(worst, level - _OWED_SECS, since_configured)
        if worst > allowed:
            yield f"{session.id}: {worst:.2f} s of audio came ahead of twice real time"


def _held_up_secs(session: EmulatedSession) -> float:
    """How long frames of megabytes, which fill all buffers, may keep a server from reading."""
    return 0.6 if session.injected_of("giant") else 0.0


def every_word_arrives(facts: Facts) -> Iterator[str]:
    received: list[tuple[Said, int, bool]] = []
    for nth, said in enumerate(facts.evidence.said):
        came = {n for places in facts.places[nth] for n in places}
        received += [(said, n, n in came) for n in range(len(said.pcm) // BLOCK)]
        for session, found in zip(facts.sessions, facts.places[nth], strict=True):
            audio = session.received_audio
            twice = [n for n, at in found.items() if audio.find(block(said, n), at + 1) >= 0]
            if twice:
                yield f"{session.id}: {len(twice)} blocks of {said.name!r} came twice"
    if facts.evidence.cancelled or _still_sent_at_the_end(facts, received):
        # What waits is dropped, and all goes in order: so nothing is left out before the last.
        while received and not received[-1][2]:
            received.pop()
    for said in facts.evidence.said:
        missing = [n for of, n, came in received if of is said and not came]
        if missing and not (_unread(facts, said) or facts.is_given_up(said)):
            first, last = missing[0] * 0.02, (missing[-1] + 1) * 0.02
            yield (
                f"{len(missing)} blocks of {said.name!r} never came, between {first:.2f} and "
                f"{last:.2f} s of it"
            )


def _still_sent_at_the_end(facts: Facts, received: list[tuple[Said, int, bool]]) -> bool:
    """Whether what was kept while there was no session had not all been sent by then."""
    said, n = next(((said, n) for said, n, came in reversed(received) if came), (None, 0))
    if said is None:
        # Of nothing that has come: whether the last session began only then.
        configured = [
            facts.opened(session) + record.time
            for session in facts.sessions
            for record in session.sent_of("session.configured")
        ]
        return max(configured, default=0.0) > facts.evidence.ended - 0.5
    at = 0.0
    for session in facts.sessions:
        place, passed = session.received_audio.find(block(said, n)), 0
        for record in session.received_of("input_audio_buffer.append") if place >= 0 else ():
            passed += record.audio_bytes
            if passed >= place + BLOCK:
                at = max(at, facts.opened(session) + record.time)
                break
    return at > facts.evidence.ended - 0.5


def nothing_within_words(facts: Facts) -> Iterator[str]:
    for said, places in zip(facts.evidence.said, facts.places, strict=True):
        for session, found in zip(facts.sessions, places, strict=True):
            for n, place in found.items():
                after = found.get(n + 1)
                if after is not None and after != place + BLOCK:
                    secs = (after - place - BLOCK) / INPUT_BYTES_PER_SEC
                    yield f"{session.id}: {secs:.3f} s of something else within {said.name!r}"


def silence_keeps_it_alive(facts: Facts) -> Iterator[str]:
    for session in facts.sessions:
        if session.injected_of("slow_reader"):
            continue
        times = [record.time for record in session.received_of("input_audio_buffer.append")]
        gaps = np.diff(times)
        if len(gaps) and gaps.max() > _OWED_SECS + 0.03 + _held_up_secs(session):
            at = times[int(gaps.argmax())]
            yield f"{session.id}: no audio for {gaps.max():.2f} s from {at:.2f} s on"


def _unread(facts: Facts, said: Said) -> bool:
    """Whether a session was lost that had not read what was said by then."""
    for session in facts.sessions:
        slow = session.injected_of("slow_reader")
        if slow and facts.lost(session) and facts.closed(session) > said.began:
            return True
    return False
