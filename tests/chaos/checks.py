"""Checks the evidence of a call against the invariants of the design.

Each check knows one invariant, and which part of it a fault makes uncheckable. There are three
reasons:

- What the server sent just before it lost the connection may never have come: a reset throws away
  what the client has not read. Then only an upper limit of what the client knew is certain.
- An event without its ids or roles (`Missing`) cannot be understood by anybody: a turn whose end
  does not say whose it is stays undecided.
- A server that does not read (`SlowReader`) gets what was sent in a burst, and some of it not at
  all when the connection is lost meanwhile.

Times are those of the virtual clock: no machine is too slow for a call, so that limits of time
hold as they are written.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import soxr
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)

from chaos.plan import RETRY, Ask, Change, Interrupt, Type
from chaos.runner import Evidence, Pushed, Said
from chaos.wire import Reading, Response, Stretch, Turn, covered, stretches
from pipecat_hydra.emulator import EmulatedSession, Jitter
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE, INPUT_SAMPLE_RATE, ErrorCode

_INPUT_BYTES_PER_SEC = INPUT_SAMPLE_RATE * BYTES_PER_SAMPLE
_BLOCK = 640
_CHUNK_SECS = 0.04
_IN_FLIGHT_SECS = 0.2
# How errors begin that tell of something else than a lost session.
_NO_LOSS = ("Hydra reports", "Hydra's response ended", "Hydra takes no audio", "Error executing")
_REFUSED = {
    ErrorCode.INVALID_REQUEST,
    ErrorCode.INVALID_FRAME,
    ErrorCode.INVALID_AUDIO,
    ErrorCode.SESSION_ENDED,
}


@dataclass(frozen=True)
class Violation:
    """Something that must not be.

    Parameters:
        seed: Of the call.
        invariant: Its name in the design.
        check: The name of the check that tells.
        text: The evidence.
    """

    seed: int
    invariant: str
    check: str
    text: str

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.invariant} ({self.check}): {self.text}"


def violations(evidence: Evidence) -> list[Violation]:
    """Check all invariants; none is violated in a call that went as it should."""
    facts = Facts(evidence)
    return [
        Violation(evidence.plan.seed, invariant, _name(check), text)
        for invariant, check in _CHECKS
        for text in check(facts)
    ]


class Facts:
    """What more than one check asks of the evidence."""

    def __init__(self, evidence: Evidence):
        self.evidence = evidence
        self.plan = evidence.plan
        self.sessions = evidence.hydra.sessions
        self.readings = [Reading(session) for session in self.sessions]

    def opened(self, session: EmulatedSession) -> float:
        return self.evidence.opened[session.id]

    def closed(self, session: EmulatedSession) -> float:
        return self.evidence.closed.get(session.id, float("inf"))

    def lost(self, session: EmulatedSession) -> bool:
        """Whether the server ended it, by a fault."""
        return bool(session.injected_of("drop"))

    def certain_until(self, session: EmulatedSession) -> float:
        """Up to when all that was sent has come to the client, in seconds of the session."""
        if not self.lost(session):
            return float("inf")
        stalls = [fault.fault for fault in session.injected_of("jitter")]
        stalled = sum(fault.secs for fault in stalls if isinstance(fault, Jitter))
        lived = self.closed(session) - self.opened(session)
        return lived - _IN_FLIGHT_SECS - stalled

    @cached_property
    def down(self) -> list[Pushed]:
        return [pushed for pushed in self.evidence.pushed if pushed.downstream]

    def of(self, *kinds: type[Frame]) -> list[Pushed]:
        return [pushed for pushed in self.down if isinstance(pushed.frame, kinds)]

    def acts(self, *kinds: type) -> list[float]:
        """When acts of these kinds were done."""
        return [at for at, act in self.evidence.acts if isinstance(act, kinds)]

    @property
    def announced(self) -> tuple[type[Frame], type[Frame]]:
        """The frames by which the service tells of turns in this shape of pipeline."""
        if self.plan.shape == "aggregators":
            return ProposedUserStartedSpeakingFrame, ProposedUserStoppedSpeakingFrame
        return UserStartedSpeakingFrame, UserStoppedSpeakingFrame

    @cached_property
    def places(self) -> list[list[dict[int, int]]]:
        """For each utterance and session: which blocks the session received, and where."""
        heard = [session.received_audio for session in self.sessions]
        return [[_places(said, audio) for audio in heard] for said in self.evidence.said]

    @cached_property
    def app_interruptions(self) -> list[float]:
        typed = [at for at, act in self.evidence.acts if act == Type("interrupt")]
        return self.acts(Interrupt) + typed

    @cached_property
    def rate(self) -> int:
        """The rate of the first audio in the pipeline, in Hz; 0 if there was none."""
        first = next((p.frame for p in self.of(TTSAudioRawFrame)), None)
        return first.sample_rate if isinstance(first, TTSAudioRawFrame) else 0

    @cached_property
    def responses(self) -> list[tuple[EmulatedSession, Response]]:
        """All responses, with their sessions, in order."""
        return [(r.session, response) for r in self.readings for response in r.responses.values()]

    @cached_property
    def brackets(self) -> list[list[int]]:
        """The audio of each voiced bracket: where its frames are in `down`."""
        found: list[list[int]] = []
        for index, pushed in enumerate(self.down):
            if isinstance(pushed.frame, TTSStartedFrame) or not found:
                found.append([])
            if isinstance(pushed.frame, TTSAudioRawFrame):
                found[-1].append(index)
        return [bracket for bracket in found if bracket]

    @cached_property
    def said(self) -> tuple[list[tuple[Stretch, int]], list[str]]:
        """Stretches of responses, with where they are in `down`, and what is strange."""
        exact = [r for _, r in self.responses if r.rate == self.rate]
        found: list[tuple[Stretch, int]] = []
        strange: list[str] = []
        for bracket in self.brackets:
            audio = [_audio(self.down[index]) for index in bracket]
            data = b"".join(audio)
            parts, rest = stretches(data, exact)
            unknown = sum(end - start for start, end in rest)
            if unknown and not self._is_resampled(data):
                strange.append(f"{unknown} of {len(data)} bytes that Hydra never sent")
            ends = np.cumsum([len(pcm) for pcm in audio])
            for part in parts:
                found.append((part, bracket[int(np.searchsorted(ends, part.place, side="right"))]))
        return found, strange

    def _is_resampled(self, data: bytes) -> bool:
        """Whether it is audio of a response of another rate, to be told by its likeness."""
        others = [r for _, r in self.responses if r.rate != self.rate and r.pcm]
        piece = np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float64)
        for response in others:
            whole = np.frombuffer(response.pcm[: len(response.pcm) // 2 * 2], "<i2")
            same_rate = soxr.resample(whole.astype(np.float64), response.rate, self.rate)
            if _likeness(same_rate, piece) > 0.9:
                return True
        return False

    def stretches_of(self, response: Response) -> list[tuple[Stretch, int]]:
        return [(part, index) for part, index in self.said[0] if part.response is response]


def _audio(pushed: Pushed) -> bytes:
    assert isinstance(pushed.frame, TTSAudioRawFrame)
    return pushed.frame.audio


def _places(said: Said, audio: bytes) -> dict[int, int]:
    found = {n: audio.find(_block(said, n)) for n in range(len(said.pcm) // _BLOCK)}
    return {n: place for n, place in found.items() if place >= 0}


def _block(said: Said, n: int) -> bytes:
    return said.pcm[n * _BLOCK : (n + 1) * _BLOCK]


def _likeness(whole: np.ndarray, piece: np.ndarray) -> float:
    """How alike a piece is to some place of the whole; 1 is the same."""
    size = 1 << (len(whole) + len(piece)).bit_length()
    products = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(piece, size)), size)
    shift = int(np.argmax(products[: len(whole)]))
    there = whole[shift : shift + len(piece)]
    # What a resampler gives out last may be cut off.
    piece = piece[: len(there)]
    return float(np.dot(there, piece) / (np.linalg.norm(there) * np.linalg.norm(piece) + 1e-9))


# Audio in.


def _nothing_before_configured(facts: Facts) -> Iterator[str]:
    for session in facts.sessions:
        if session.early_audio_events:
            yield f"{session.id}: {session.early_audio_events} appends before session.configured"


def _not_too_fast(facts: Facts) -> Iterator[str]:
    for session in facts.sessions:
        if session.injected_of("slow_reader"):
            continue  # what it reads after a pause comes in a burst
        allowed = 0.2 + _held_up_secs(session)  # some chunks that are sent together
        level, worst, last = 0.0, 0.0, 0.0
        for record in session.received_of("input_audio_buffer.append"):
            level = max(0.0, level - 2.0 * (record.time - last))
            last = record.time
            level += record.audio_bytes / _INPUT_BYTES_PER_SEC
            worst = max(worst, level)
        if worst > allowed:
            yield f"{session.id}: {worst:.2f} s of audio came ahead of twice real time"


def _held_up_secs(session: EmulatedSession) -> float:
    """How long frames of megabytes, which fill all buffers, may keep a server from reading."""
    return 0.6 if session.injected_of("giant") else 0.0


def _every_word_arrives(facts: Facts) -> Iterator[str]:
    received: list[tuple[Said, int, bool]] = []
    for nth, said in enumerate(facts.evidence.said):
        came = {n for places in facts.places[nth] for n in places}
        received += [(said, n, n in came) for n in range(len(said.pcm) // _BLOCK)]
        for session, found in zip(facts.sessions, facts.places[nth], strict=True):
            audio = session.received_audio
            twice = [n for n, at in found.items() if audio.find(_block(said, n), at + 1) >= 0]
            if twice:
                yield f"{session.id}: {len(twice)} blocks of {said.name!r} came twice"
    if facts.evidence.cancelled or _still_sent_at_the_end(facts, received):
        # What waits is dropped, and all goes in order: so nothing is left out before the last.
        while received and not received[-1][2]:
            received.pop()
    for said in facts.evidence.said:
        missing = [n for of, n, came in received if of is said and not came]
        if missing and not _unread(facts, said):
            first, last = missing[0] * 0.02, (missing[-1] + 1) * 0.02
            yield (
                f"{len(missing)} blocks of {said.name!r} never came, between {first:.2f} and "
                f"{last:.2f} s of it"
            )


def _still_sent_at_the_end(facts: Facts, received: list[tuple[Said, int, bool]]) -> bool:
    """Whether what was kept while there was no session had not all been sent by then."""
    said, n = next(((said, n) for said, n, came in reversed(received) if came), (None, 0))
    if said is None:
        return False
    at = 0.0
    for session in facts.sessions:
        place, passed = session.received_audio.find(_block(said, n)), 0
        for record in session.received_of("input_audio_buffer.append") if place >= 0 else ():
            passed += record.audio_bytes
            if passed >= place + _BLOCK:
                at = max(at, facts.opened(session) + record.time)
                break
    return at > facts.evidence.ended - 0.5


def _nothing_within_words(facts: Facts) -> Iterator[str]:
    for said, places in zip(facts.evidence.said, facts.places, strict=True):
        for session, found in zip(facts.sessions, places, strict=True):
            for n, place in found.items():
                after = found.get(n + 1)
                if after is not None and after != place + _BLOCK:
                    secs = (after - place - _BLOCK) / _INPUT_BYTES_PER_SEC
                    yield f"{session.id}: {secs:.3f} s of something else within {said.name!r}"


def _silence_keeps_it_alive(facts: Facts) -> Iterator[str]:
    for session in facts.sessions:
        if session.injected_of("slow_reader"):
            continue
        times = [record.time for record in session.received_of("input_audio_buffer.append")]
        gaps = np.diff(times)
        if len(gaps) and gaps.max() > 0.45 + _held_up_secs(session):  # it begins after 0.4 s
            at = times[int(gaps.argmax())]
            yield f"{session.id}: no audio for {gaps.max():.2f} s from {at:.2f} s on"


def _unread(facts: Facts, said: Said) -> bool:
    """Whether a session was lost that had not read what was said by then."""
    for session in facts.sessions:
        slow = session.injected_of("slow_reader")
        if slow and facts.lost(session) and facts.closed(session) > said.began:
            return True
    return False


# Audio out.


def _whole_samples_at_one_rate(facts: Facts) -> Iterator[str]:
    frames = [p.frame for p in facts.of(TTSAudioRawFrame)]
    rates = {frame.sample_rate for frame in frames if isinstance(frame, TTSAudioRawFrame)}
    if len(rates) > 1:
        yield f"audio of {sorted(rates)} Hz in one call"
    odd = [f for f in frames if isinstance(f, TTSAudioRawFrame) and len(f.audio) % 2]
    if odd:
        yield f"{len(odd)} frames with half a sample"
    yield from facts.said[1]


def _replies_are_whole(facts: Facts) -> Iterator[str]:
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


def _nothing_after_an_interruption(facts: Facts) -> Iterator[str]:
    for session, response in facts.responses:
        for part, _ in facts.stretches_of(response):
            if part.end > response.audible:
                over = part.end - response.audible
                yield f"{over} bytes of {response.id} ({session.id}) after it was interrupted"


def _nothing_is_said_twice(facts: Facts) -> Iterator[str]:
    for _, response in facts.responses:
        parts = facts.stretches_of(response)
        for (before, first), (part, then) in pairwise(parts):
            between = (pushed.frame for pushed in facts.down[first:then])
            if part.start < before.end and not any(
                isinstance(frame, InterruptionFrame) for frame in between
            ):
                yield f"{before.end - part.start} bytes of {response.id} again, for no reason"


def _brackets_match(facts: Facts) -> Iterator[str]:
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


def _listener_hears_it(facts: Facts) -> Iterator[str]:
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


# Turns.


def _one_interruption_each(facts: Facts) -> Iterator[str]:
    started, _ = facts.announced
    announced = len(facts.of(started))
    most = sum(len(r.turns) + r.starts_repeated for r in facts.readings)
    least = sum(
        turn.at < facts.certain_until(r.session)
        and facts.opened(r.session) + turn.at < _listens_until(facts, r.session)
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


def _end(facts: Facts) -> float:
    return facts.evidence.ended - 0.5


def _listens_until(facts: Facts, session: EmulatedSession) -> float:
    """Up to when a client hears what it is sent: it may close the session itself."""
    return min(_end(facts), facts.closed(session) - 0.3)


def _every_turn_ends(facts: Facts) -> Iterator[str]:
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


def _interruptions_cancel(facts: Facts) -> Iterator[str]:
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
    stalled = sum(f.secs for f in _faults_of(session, Jitter))
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


def _faults_of(session: EmulatedSession, kind: type[Jitter]) -> list[Jitter]:
    return [record.fault for record in session.injected if isinstance(record.fault, kind)]


# Tools.


def _every_call_is_answered(facts: Facts) -> Iterator[str]:
    for session in facts.sessions:
        if session.stray_outputs:
            yield f"{session.id}: outputs for {[o.call_id for o in session.stray_outputs]}"
        until = min(_end(facts), facts.closed(session)) - facts.opened(session)
        slow = sum(f.secs for f in _faults_of(session, Jitter))
        slow += 1.0 * len(session.injected_of("slow_reader"))
        for call in session.calls:
            if len(call.outputs) > 1:
                yield f"{session.id}: {call.name} was answered {len(call.outputs)} times"
            due = call.time + 0.6 + slow
            if not call.outputs and not call.abandoned and due < until:
                waited = until - call.time
                yield f"{session.id}: {call.name} was not answered within {waited:.1f} s"


def _one_request_each(facts: Facts) -> Iterator[str]:
    asked = len(facts.acts(Type, Ask))
    before = 0
    for session in facts.sessions:
        for narration in session.narrations:
            if narration.missing:
                yield f"{session.id}: asked with {len(narration.missing)} calls not answered"
        batches = {call.response_id for call in session.calls}
        late = sum(call.name == "later" for call in session.calls)
        requests = len(session.received_of("response.create"))
        if requests > len(batches) + late + asked + before:
            yield f"{session.id}: {requests} response.create for {len(batches)} batches"
        before += len(session.calls)


# The session.


def _one_error_for_each_loss(facts: Facts) -> Iterator[str]:
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
        least += used and facts.closed(session) < _end(facts)
        most += session.configured
    # A session that cannot be had in the first place, or after a change of settings.
    return least, most + 1 + len(facts.acts(Change))


def _as_the_policy_says(facts: Facts) -> Iterator[str]:
    before = 0
    for attempt, delay in facts.evidence.told("on_reconnecting"):
        limit = min(RETRY.longest_delay_secs, RETRY.first_delay_secs * 4 * 2 ** (attempt - 1))
        # A server may ask for a second more (`Retry-After`).
        if not 0 <= delay <= limit + 1.0:
            yield f"a delay of {delay:.2f} s before attempt {attempt}"
        if before and attempt not in (1, before + 1):
            yield f"attempt {attempt} after attempt {before}"
        before = attempt


def _no_event_ends_it(facts: Facts) -> Iterator[str]:
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


def _server_has_no_complaint(facts: Facts) -> Iterator[str]:
    for session in facts.sessions:
        for record in session.sent_of("error"):
            error = record.event["error"]
            if error and error.get("code") in _REFUSED:
                yield f"{session.id} at {record.time:.2f} s: {error}"


def _no_key_in_logs(facts: Facts) -> Iterator[str]:
    if facts.evidence.logged:
        yield f"{len(facts.evidence.logged)} lines, the first: {facts.evidence.logged[0][:300]}"


def _nothing_is_left(facts: Facts) -> Iterator[str]:
    yield from facts.evidence.left
    if facts.evidence.hydra.open_sessions:
        yield "a session is open at the server"


def _it_ends_in_time(facts: Facts) -> Iterator[str]:
    # A call that is not cancelled plays the last reply to its end.
    limit = 0.5 if facts.evidence.cancelled else 10.0
    if facts.evidence.end_secs > limit:
        yield f"the end took {facts.evidence.end_secs:.1f} s"


def _nobody_waits_in_vain(facts: Facts) -> Iterator[str]:
    yield from facts.evidence.waited_in_vain


_Check = tuple[str, Callable[[Facts], Iterator[str]]]

_CHECKS: list[_Check] = [
    ("A1", _nothing_before_configured),
    ("A4", _whole_samples_at_one_rate),
    ("A4", _replies_are_whole),
    ("A5", _nothing_after_an_interruption),
    ("A6", _brackets_match),
    ("T2", _every_turn_ends),
    ("F2", _one_request_each),
    ("S2", _as_the_policy_says),
    ("S3", _server_has_no_complaint),
    ("S4", _no_key_in_logs),
    ("S5", _nothing_is_left),
    ("A1", _not_too_fast),
    ("A1", _every_word_arrives),
    ("A3", _nothing_within_words),
    ("A3", _silence_keeps_it_alive),
    ("A4", _listener_hears_it),
    ("T1", _one_interruption_each),
    ("T3", _nothing_is_said_twice),
    ("T4", _interruptions_cancel),
    ("F1", _every_call_is_answered),
    ("S2", _one_error_for_each_loss),
    ("S3", _no_event_ends_it),
    ("S5", _it_ends_in_time),
    ("liveness", _nobody_waits_in_vain),
]


def _name(check: Callable[[Facts], Iterator[str]]) -> str:
    return check.__name__.strip("_")


CHECKS = frozenset(_name(check) for _, check in _CHECKS)
"""The names of all checks."""
