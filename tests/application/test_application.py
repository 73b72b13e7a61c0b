"""A few of the calls that `make random` holds by the hundred, and tests of its checks.

A call that fails here is held again by `make random SEED=... CALLS=1`.
"""

import copy
import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from chaos.runner import Pushed
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    ErrorFrame,
    InterruptionFrame,
    TTSAudioRawFrame,
)

from application import Plan, hold, violations
from application.campaign import judge
from application.checks import CHECKS
from application.plan import Edit, Interrupt, Mute, Press, Set, SetTools, Speak, Write
from application.runner import Record
from pipecat_hydra.emulator import EmulatedSession
from pipecat_hydra.emulator import Record as EventRecord
from pipecat_hydra.emulator.conversation.ledger import CallRecord


@pytest.mark.parametrize("seed", range(1, 15))
def test_the_invariants_hold_whatever_the_application_does(seed: int):
    outcome = judge(seed)
    assert not outcome.violations, outcome.story or str(outcome.violations[0])


def test_the_same_seed_gives_the_same_call():
    first, second = judge(19), judge(19)
    assert first.sessions
    assert first == second


def test_a_plan_says_all_that_is_done():
    (told,) = {str(Plan.of(17)), str(Plan.of(17))}
    for _, act in (*Plan.of(17).user, *Plan.of(17).application):
        assert str(act) in told


# Each check can fail: the record of a call that went well, spoilt in one way after the other.

GOOD = Plan(
    seed=1,
    shape="aggregators",
    user=((0.0, Speak("hello")), (1.0, Mute("device", 0.2))),
    application=(
        (0.5, Write("word1z", "append")),
        (2.5, Edit("redact", "")),
        (0.0, SetTools(("quick",))),
        (0.0, Set("voice", "ivy")),
        (0.5, Write("word2z", "send")),
    ),
    greets=None,
    last="append",
    runs_again=False,
    emulator={"min_turn_ms": 600, "calls_done": "before_outputs"},
)

Spoil = Callable[[Record], Any]


def spoilt(record: Record, spoil: Spoil) -> Record:
    """Spoil a copy."""
    names = [field.name for field in dataclasses.fields(record)]
    mine = Record(**{name: copy.copy(getattr(record, name)) for name in names})
    sessions = [copy.copy(session) for session in record.hydra.sessions]
    for session in sessions:
        session.received = [*session.received]
        session.calls = [*session.calls]
    hydra: Any = SimpleNamespace(sessions=sessions, open_sessions=[])
    mine.hydra = hydra
    spoil(mine)
    return mine


def first(record: Record) -> EmulatedSession:
    return record.hydra.sessions[0]


def done(act: Any) -> Spoil:
    """The application did something else, long before the end."""
    return lambda record: record.deeds.append((record.ended - 3.0, act))


def received(kind: str, times: int = 1, **fields: Any) -> Spoil:
    event = EventRecord(1.0, {"type": kind, **fields})
    return lambda record: first(record).received.extend([event] * times)


def called(record: Record) -> None:
    first(record).calls.append(CallRecord(0.1, "resp", "call", "quick", "{}"))


def interrupted(record: Record) -> None:
    audio = [n for n, p in enumerate(record.pushed) if isinstance(p.frame, TTSAudioRawFrame)]
    at = record.pushed[audio[5]].at
    record.pushed.insert(audio[5], Pushed(at, InterruptionFrame(), True))
    record.deeds.append((at, Interrupt("frame")))


def pushed_again(record: Record) -> None:
    starts = (p for p in record.pushed if isinstance(p.frame, BotStartedSpeakingFrame))
    record.pushed.append(next(starts))
    record.pushed.append(record.pushed[-1])


def failed(record: Record) -> None:
    record.pushed.append(Pushed(record.ended, ErrorFrame("Hydra is gone"), False))


def changed(name: str, value: Any) -> Spoil:
    return lambda record: setattr(record, name, value)


SPOILS: list[tuple[str, Spoil]] = [
    ("each_text_is_told_once", received("conversation.item.create", times=2, item="word2z")),
    ("each_text_that_asks_is_told", done(Write("word3z", "send"))),
    ("each_text_that_asks_is_told", done(Press("471147#"))),
    ("what_is_removed_is_in_no_later_session", lambda record: record.removed.update(word2z=0.0)),
    ("the_last_session_is_as_was_asked_last", changed("voice", "zoe")),
    ("the_last_session_is_as_was_asked_last", changed("instruction", "Be long.")),
    ("the_last_session_is_as_was_asked_last", changed("tools", ("slow",))),
    ("every_call_is_answered_once", called),
    ("one_request_each", received("response.create", times=20)),
    ("nothing_of_a_reply_outlasts_an_interruption", interrupted),
    ("no_error_but_of_functions", failed),
    ("no_error_but_of_functions", changed("usable", False)),
    ("the_bot_starts_and_stops", pushed_again),
    ("nobody_waits_in_vain", changed("waited_in_vain", ["an answer"])),
]


async def test_each_check_sees_what_it_is_for():
    (record,) = await hold(GOOD)
    assert violations([record]) == []
    for number, (check, spoil) in enumerate(SPOILS):
        told = [violation.check for violation in violations([spoilt(record, spoil)])]
        assert check in told, f"{number}: {check} did not see it, but {told} did"
    assert {check for check, _ in SPOILS} >= CHECKS
    (violation,) = {v.check for v in violations([record, record])}
    assert violation == "nothing_of_an_earlier_run"
