"""A few dozen of the calls that `make chaos` holds by the hundred, and tests of its checks.

A call that fails here is held again by `make chaos SEED=... CALLS=1`.
"""

import asyncio
import copy
import dataclasses
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from loguru import logger
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InterruptionFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    UserStoppedSpeakingFrame,
)

from chaos import CallPlan, Evidence, campaign, hold, violations
from chaos.campaign import judge
from chaos.checks import CHECKS
from chaos.clock import run
from chaos.plan import Interrupt, Lose, Speak, Wait
from chaos.runner import KEY_MARK, Pushed, watched_logs
from chaos.timeline import timeline
from pipecat_hydra.emulator import EmulatedSession, FaultPlan, OutputRecord, Record
from pipecat_hydra.wire.protocol import ErrorCode

# In calls 41 and 1016 only its item tells that a turn is over. In call 7113 a response waits for
# the user to stop speaking until the call is cancelled. In call 12291 no word says that a turn is
# over, and its answer comes while the server seems to owe another one.
SEEDS = [*range(1, 36), 41, 1016, 7113, 12291]
STARTED = "input_audio_buffer.speech_started"
APPEND = "input_audio_buffer.append"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_invariants_hold_whatever_goes_wrong(seed: int):
    outcome = judge(CallPlan.of(seed))
    assert not outcome.violations, outcome.story or str(outcome.violations[0])


# In these two the server refuses, loses or ends connections, and attempts are delayed.
@pytest.mark.parametrize("seed", [7005, 7006])
def test_the_same_seed_gives_the_same_call(seed: int):
    first, second = judge(CallPlan.of(seed)), judge(CallPlan.of(seed))
    assert first.sessions
    assert first.faults
    assert first == second


def test_executors_work_in_the_thread_of_the_loop():
    job = asyncio.to_thread(threading.get_ident)
    assert run(job, longest_run_secs=5.0) == threading.get_ident()


@pytest.mark.realtime
def test_calls_are_spread_over_processes():
    command = [sys.executable, "-m", "chaos", "--seed=1", "--calls=3", "--jobs=2"]
    tests = Path(__file__).parent.parent
    told = subprocess.run(command, cwd=tests, capture_output=True, text=True, timeout=120)
    alone = [judge(CallPlan.of(seed)) for seed in (1, 2, 3)]
    sessions = sum(outcome.sessions for outcome in alone)
    events = sum(outcome.events for outcome in alone)
    assert f"with {sessions} sessions and {events} events" in told.stdout
    assert told.returncode == 0


def test_a_call_that_hangs_is_told_with_what_waits(monkeypatch: pytest.MonkeyPatch):
    async def wait_for_ever(_: CallPlan) -> Evidence:
        while True:
            await asyncio.sleep(1)

    monkeypatch.setattr(campaign, "hold", wait_for_ever)
    monkeypatch.setattr(campaign, "_LONGEST_CALL_SECS", 0.1)
    (violation,) = judge(CallPlan.of(1)).violations
    assert "it ran for 0.1 s of processor time" in violation.text
    assert "test_chaos.py" in violation.text


def log_a_key() -> None:
    logger.debug(f"connecting with {KEY_MARK}")


def log_a_local_of_an_exception() -> None:
    key = KEY_MARK
    try:
        raise ValueError(len(key) // 0)
    except ZeroDivisionError:
        logger.exception("it failed")


def log_by_the_standard_library() -> None:
    logging.getLogger("websockets.client").debug("> Authorization: %s", KEY_MARK)


@pytest.mark.parametrize(
    "tell", [log_a_key, log_a_local_of_an_exception, log_by_the_standard_library]
)
def test_a_key_in_the_log_is_found(tell: Callable[[], None]):
    with watched_logs() as leaked:
        logger.debug("connecting")
        tell()
    assert len(leaked) == 1


# Each check can fail: the evidence of a call that went well, spoilt in one way after the other.

# By this seed the model says something, then calls a function and tells of it, then speaks again.
GOOD = CallPlan(
    seed=725,
    shape="bare",
    faults=FaultPlan(),
    acts=(Speak("hello"), Wait(1.5), Lose(1011), Speak("hello"), Wait(1.0)),
    emulator={"min_turn_ms": 600, "delivery_speed": 3.0, "late_audio_after_cancel_ms": 100},
)

Spoil = Callable[[Evidence], Any]


def spoilt(evidence: Evidence, spoil: Spoil) -> Evidence:
    """Spoil a copy."""
    sessions = [_copy(session) for session in evidence.hydra.sessions]
    hydra: Any = SimpleNamespace(sessions=sessions, open_sessions=[])
    copied = {
        field.name: copy.copy(getattr(evidence, field.name))
        for field in dataclasses.fields(evidence)
    }
    mine = Evidence(**copied | {"hydra": hydra})
    spoil(mine)
    return mine


def _copy(session: EmulatedSession) -> EmulatedSession:
    mine = copy.copy(session)
    for name, value in vars(session).items():
        if isinstance(value, list | dict | bytearray):
            setattr(mine, name, copy.copy(value))
    mine.calls = [dataclasses.replace(call, outputs=[*call.outputs]) for call in session.calls]
    return mine


def last(evidence: Evidence) -> EmulatedSession:
    return evidence.hydra.sessions[-1]


def place(evidence: Evidence, kind: type[Frame], nth: int = 0) -> int:
    """Where the nth frame of a kind is that went downstream."""
    pushed = enumerate(evidence.pushed)
    return [n for n, p in pushed if p.downstream and isinstance(p.frame, kind)][nth]


def without(kind: type[Frame], nth: int = 0) -> Spoil:
    return lambda evidence: evidence.pushed.pop(place(evidence, kind, nth))


def again(kind: type[Frame], nth: int = 0, times: int = 1) -> Spoil:
    def spoil(evidence: Evidence) -> None:
        n = place(evidence, kind, nth)
        evidence.pushed[n:n] = [evidence.pushed[n]] * times

    return spoil


def sounding(pcm: bytes | None = None, rate: int = 24_000) -> Spoil:
    """Other audio in one frame."""

    def spoil(evidence: Evidence) -> None:
        n = place(evidence, TTSAudioRawFrame, 5)
        before = evidence.pushed[n]
        assert isinstance(before.frame, TTSAudioRawFrame)
        audio = before.frame.audio if pcm is None else pcm
        evidence.pushed[n] = Pushed(before.at, TTSAudioRawFrame(audio, rate, 1), True)

    return spoil


def upstream(change: Callable[[list[Pushed], Pushed], Any]) -> Spoil:
    def spoil(evidence: Evidence) -> None:
        (error,) = (p for p in evidence.pushed if isinstance(p.frame, ErrorFrame))
        change(evidence.pushed, error)

    return spoil


def received(kind: str, times: int = 1, **fields: Any) -> Spoil:
    """More events from the client, just before the end."""

    def spoil(evidence: Evidence) -> None:
        session = last(evidence)
        at = session.received[-1].time
        session.received += [Record(at, {"type": kind, **fields}, 640)] * times

    return spoil


def refused(evidence: Evidence) -> None:
    error = {"type": "error", "error": {"code": ErrorCode.INVALID_REQUEST}}
    last(evidence).sent.append(Record(1.0, error))


def gap(evidence: Evidence) -> None:
    session = last(evidence)
    session.received = [r for r in session.received if not (r.type == APPEND and 1 < r.time < 3)]


def words(change: Callable[[bytearray, int], Any]) -> Spoil:
    """What the last session heard of the last that was said, changed at a place within it."""

    def spoil(evidence: Evidence) -> None:
        audio = last(evidence)._received_audio
        change(audio, audio.find(evidence.said[-1].pcm[32_000:32_640]))

    return spoil


def deaf(evidence: Evidence) -> None:
    """Hydra hears the user while it speaks, and the client goes on all the same."""
    session = last(evidence)
    deltas = [n for n, record in enumerate(session.sent) if record.audio_bytes]
    n = deltas[-5]
    event = {"type": STARTED, "item_id": "item_of_the_test"}
    session.sent.insert(n, Record(session.sent[n].time, event))


def endless(evidence: Evidence) -> None:
    """The application interrupts the first response, which goes on for seconds."""
    session = evidence.hydra.sessions[0]
    (begun, *_) = session.sent_of("response.created")
    for n, record in enumerate(session.sent):
        if record.type == "response.done":
            session.sent[n] = dataclasses.replace(record, time=begun.time + 9.0)
    at = evidence.opened[session.id] + begun.time + 4.0  # long after the turn
    evidence.acts.append((at, Interrupt("frame")))


def stray(evidence: Evidence) -> None:
    last(evidence).stray_outputs.append(OutputRecord(1.0, "call_of_the_test", "", False))


def unanswered(evidence: Evidence) -> None:
    for call in last(evidence).calls:
        call.time -= 2.0
        call.outputs.clear()


def ended_by_nobody(evidence: Evidence) -> None:
    evidence.hydra.sessions[0].injected.clear()


SPOILS: list[tuple[str, Spoil]] = [
    ("nothing_before_configured", lambda e: setattr(last(e), "early_audio_events", 1)),
    ("whole_samples_at_one_rate", sounding(b"\1\2" * 2_000)),
    ("whole_samples_at_one_rate", sounding(b"\1")),
    ("whole_samples_at_one_rate", sounding(rate=16_000)),
    ("replies_are_whole", without(TTSAudioRawFrame, 5)),
    ("replies_are_whole", without(TTSAudioRawFrame)),
    ("replies_are_whole", without(TTSAudioRawFrame, -1)),
    ("nothing_after_an_interruption", deaf),
    ("brackets_match", without(TTSStoppedFrame)),
    ("brackets_match", again(TTSStoppedFrame)),
    ("every_turn_ends", without(UserStoppedSpeakingFrame)),
    ("every_turn_ends", again(UserStoppedSpeakingFrame)),
    ("one_request_each", received("response.create", times=3)),
    ("as_the_policy_says", lambda e: e.story.append(("on_reconnecting", (1, 99.0)))),
    ("as_the_policy_says", lambda e: e.story.append(("on_reconnecting", (7, 0.1)))),
    ("no_event_ends_it", ended_by_nobody),
    ("server_has_no_complaint", refused),
    ("no_key_in_logs", lambda e: e.logged.append("a line with the key")),
    ("nothing_is_left", lambda e: e.left.append("task 1")),
    ("not_too_fast", received(APPEND, times=50)),
    ("every_word_arrives", words(lambda audio, n: audio.__delitem__(slice(n, n + 3_200)))),
    ("every_word_arrives", words(lambda audio, n: audio.extend(audio[n : n + 3_200]))),
    ("nothing_within_words", words(lambda audio, n: audio.__setitem__(slice(n, n), bytes(640)))),
    ("silence_keeps_it_alive", gap),
    ("listener_hears_it", lambda e: e.heard.clear()),
    ("one_interruption_each", without(InterruptionFrame)),
    ("one_interruption_each", again(InterruptionFrame, times=2)),
    ("nothing_is_said_twice", again(TTSAudioRawFrame, 5)),
    ("interruptions_cancel", received("response.cancel", response_id="resp_of_the_test")),
    ("interruptions_cancel", endless),
    ("every_call_is_answered", unanswered),
    ("every_call_is_answered", stray),
    (
        "every_call_is_answered",
        lambda e: last(e).calls[0].outputs.append(last(e).calls[0].outputs[0]),
    ),
    ("one_error_for_each_loss", upstream(list.remove)),
    ("one_error_for_each_loss", upstream(list.append)),
    ("it_ends_in_time", lambda e: setattr(e, "end_secs", 40.0)),
    ("nobody_waits_in_vain", lambda e: e.waited_in_vain.append("an answer")),
]


async def test_each_check_sees_what_it_is_for():
    evidence = await hold(GOOD)
    found = violations(evidence)
    assert not found, "\n".join([*map(str, found), timeline(evidence)])
    for number, (check, spoil) in enumerate(SPOILS):
        found = violations(spoilt(evidence, spoil))
        told = [violation.check for violation in found]
        assert check in told, f"{number}: {check} did not see it, but {told} did"
    assert {check for check, _ in SPOILS} == CHECKS
