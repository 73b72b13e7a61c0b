"""Checks the record of a call: what the application did against what came of it.

`chaos.checks` has the checks that hold of any call. Those that are used here count acts of the
application in its words, in which the record has them too.
"""

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final

from chaos.checks import Facts, Violation
from chaos.checks import violations as any_violations
from chaos.runner import Pushed
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ErrorFrame,
    InterruptionFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
)

from application.plan import Begin, Edit, Interrupt, Press, Write
from application.runner import Record
from application.tools import FUNCTION_SECS
from pipecat_hydra.emulator import EmulatedSession

_OF_ANY_CALL: Final = {
    "nothing_before_configured",
    "whole_samples_at_one_rate",
    "replies_are_whole",
    "nothing_after_an_interruption",
    "nothing_is_said_twice",
    "brackets_match",
    "listener_hears_it",
    "one_interruption_each",
    "every_turn_ends",
    "interruptions_cancel",
    "no_event_ends_it",
    "server_has_no_complaint",
    "nothing_is_left",
    "it_ends_in_time",
    "not_too_fast",
    "silence_keeps_it_alive",
    "nobody_waits_in_vain",
}
_IN_TIME_SECS: Final = 0.6
"""How long a function takes that does not wait, with the way to the server and back."""
_SPOKEN: Final = (TTSStartedFrame, TTSAudioRawFrame)
_ON_ITS_WAY_SECS: Final = 0.3
"""How long a frame may take through the pipeline, at most."""
_KEYED_SECS: Final = 2.5
"""How long keys may take until they are told."""


def violations(records: list[Record]) -> list[Violation]:
    """Check all that must hold; empty if the call went as it should."""
    found: list[Violation] = []
    for record in records:
        found += [v for v in any_violations(record) if v.check in _OF_ANY_CALL]
        facts = Facts(record)
        found += [
            Violation(record.plan.seed, invariant, check.__name__.strip("_"), text)
            for invariant, check in _CHECKS
            for text in check(facts, record)
        ]
    for earlier, later in pairwise(records):
        found += [
            Violation(later.plan.seed, "C1", "nothing_of_an_earlier_run", word)
            for word in _words(earlier)
            if any(word in told for _, told in _told(later))
        ]
    return found


def _told(record: Record) -> list[tuple[EmulatedSession, str]]:
    """All that each session was told, but audio."""
    return [
        (
            session,
            json.dumps([r.event for r in session.received if not r.audio_bytes]),
        )
        for session in record.hydra.sessions
    ]


def _words(record: Record) -> list[str]:
    """The words that the application wrote and the keys that the user pressed, in order."""
    written = [act for _, act in record.deeds if isinstance(act, Write | Press)]
    return [act.word for act in written]


def _each_text_is_told_once(_: Facts, record: Record) -> Iterator[str]:
    for session, told in _told(record):
        for word in _words(record):
            if told.count(word) > 1:
                yield f"{session.id}: {word} was told {told.count(word)} times"


def _each_text_that_asks_is_told(_: Facts, record: Record) -> Iterator[str]:
    everything = "".join(told for _, told in _told(record))
    for at, act in record.deeds:
        if not isinstance(act, Write | Press) or act.word in record.removed:
            continue
        asks, told_secs = (True, _KEYED_SECS) if isinstance(act, Press) else (act.asks, 1.0)
        if not asks or act.word in everything or at > record.ended - told_secs:
            continue
        # No interruption drops a key.
        is_dropped = isinstance(act, Write) and _may_be_dropped(record, at)
        if is_dropped or _may_be_removed(record, at):
            continue
        yield f"{act.word} was told nowhere"


def _may_be_dropped(record: Record, at: float) -> bool:
    """Whether an interruption may have dropped a frame that was queued at some time."""
    return any(
        at - _ON_ITS_WAY_SECS < pushed.at < at + _ON_ITS_WAY_SECS
        for pushed in record.pushed
        if isinstance(pushed.frame, InterruptionFrame)
    )


def _may_be_removed(record: Record, at: float) -> bool:
    """Whether the conversation was reset after some time: what was not told yet is not told."""
    return any(
        then > at and (act == Begin("reset") or (isinstance(act, Edit) and act.how != "redact"))
        for then, act in record.deeds
    )


def _what_is_removed_is_in_no_later_session(facts: Facts, record: Record) -> Iterator[str]:
    for session, told in _told(record):
        configured = [r.time for r in session.received_of("session.configure")]
        if not configured:
            continue
        began = facts.opened(session) + configured[0]
        for word, removed in record.removed.items():
            if word in told and began > removed + 0.05:
                yield f"{session.id}: {word}, which had been removed"


def _the_last_session_is_as_was_asked_last(_: Facts, record: Record) -> Iterator[str]:
    if record.cancelled or not record.hydra.sessions:
        return
    session = record.hydra.sessions[-1]
    told = session.configuration or {}
    if told.get("voice") != record.voice:
        yield f"{session.id}: the voice is {told.get('voice')}, not {record.voice}"
    if record.instruction not in str(told.get("instructions")):
        yield f"{session.id}: {record.instruction!r} is not in {told.get('instructions')!r}"
    updates = [r.event["session"] for r in session.received_of("session.update")]
    tools = [update["tools"] for update in [told, *updates] if "tools" in update]
    names = {tool["name"] for tool in (tools or [[]])[-1]}
    if names != set(record.tools):
        yield f"{session.id}: the functions are {names}, not {record.tools}"


def _every_call_is_answered_once(facts: Facts, record: Record) -> Iterator[str]:
    for session in record.hydra.sessions:
        if session.stray_outputs:
            yield f"{session.id}: outputs for {[o.call_id for o in session.stray_outputs]}"
        until = min(record.ended, facts.closed(session)) - facts.opened(session)
        for call in session.calls:
            if len(call.outputs) > 1:
                yield f"{session.id}: {call.name} was answered {len(call.outputs)} times"
            waits = FUNCTION_SECS if call.name in ("never", "returns") else 0.0
            due = call.time + waits + _IN_TIME_SECS
            if not call.outputs and not call.abandoned and due < until:
                yield f"{session.id}: {call.name} was not answered in {until - call.time:.1f} s"


def _one_request_each(facts: Facts, record: Record) -> Iterator[str]:
    asked = len(record.acts)
    for session in record.hydra.sessions:
        for narration in session.narrations:
            if narration.missing:
                yield f"{session.id}: asked with {len(narration.missing)} calls not answered"
        batches = {call.response_id for call in session.calls}
        later = sum(call.name == "later" for call in session.calls)
        requests = len(session.received_of("response.create"))
        if requests > len(batches) + later + asked:
            yield f"{session.id}: {requests} response.create for {len(batches)} batches"
        asked += len(batches) + later


def _nothing_of_a_reply_outlasts_an_interruption(facts: Facts, record: Record) -> Iterator[str]:
    for at in (at for at, act in record.deeds if isinstance(act, Interrupt | Press)):
        index = next((n for n, pushed in enumerate(facts.down) if _interrupts(pushed, at)), None)
        if index is None:
            continue
        after = (p.frame for p in facts.down[index:] if isinstance(p.frame, _SPOKEN))
        if isinstance(next(after, None), TTSAudioRawFrame):
            yield f"the bot speaks on after {at - record.began:.3f}"
        for session, response in facts.responses:
            places = [place for _, place in facts.stretches_of(response)]
            if any(place < index for place in places) and any(place > index for place in places):
                yield f"{session.id}: {response.id} is heard again after {at - record.began:.3f}"


def _interrupts(pushed: Pushed, at: float) -> bool:
    """Whether a frame is the interruption that was asked for at some time."""
    is_in_time = at <= pushed.at < at + _ON_ITS_WAY_SECS
    return is_in_time and isinstance(pushed.frame, InterruptionFrame)


def _no_error_but_of_functions(_: Facts, record: Record) -> Iterator[str]:
    for pushed in record.pushed:
        if isinstance(pushed.frame, ErrorFrame) and "function" not in pushed.frame.error:
            yield pushed.frame.error
    if not record.usable:
        yield "the service is not usable at the end"


def _the_bot_starts_and_stops(_: Facts, record: Record) -> Iterator[str]:
    kinds = (BotStartedSpeakingFrame, BotStoppedSpeakingFrame)
    told = [type(p.frame) for p in record.pushed if not p.downstream and isinstance(p.frame, kinds)]
    for before, after in pairwise(told):
        if before is after:
            yield f"two {after.__name__} in a row"


_Check = Callable[[Facts, Record], Iterator[str]]

_CHECKS: Final[list[tuple[str, _Check]]] = [
    ("C1", _each_text_is_told_once),
    ("C1", _each_text_that_asks_is_told),
    ("C1", _what_is_removed_is_in_no_later_session),
    ("S1", _the_last_session_is_as_was_asked_last),
    ("F1", _every_call_is_answered_once),
    ("F2", _one_request_each),
    ("T4", _nothing_of_a_reply_outlasts_an_interruption),
    ("S2", _no_error_but_of_functions),
    ("A6", _the_bot_starts_and_stops),
]

CHECKS: Final = frozenset(check.__name__.strip("_") for _, check in _CHECKS)
"""The names of the checks that are made here, of one run."""
