"""Holds many calls in several processes, and hands back what came of each."""

import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Final

from chaos.checks import Violation
from chaos.clock import run
from chaos.timeline import timeline
from loguru import logger
from support.leftovers import ProcessState
from support.models import models_run_cheaply

from application.checks import violations
from application.plan import Plan
from application.runner import Record, hold

# Of processor time, on a slow machine; a call takes less than a second.
_LONGEST_CALL_SECS: Final = 120.0
# How many calls a process holds before it tells of them.
_PART: Final = 5


@dataclass(frozen=True)
class Outcome:
    """What came of one call.

    Parameters:
        seed: The call.
        runs: How many runs of a pipeline there were.
        sessions: How many sessions there were.
        calls: How many functions were called.
        acts: How often the user and the application did something.
        silence_secs: How long the answer to what was asked last took.
        violations: What was violated.
        story: What happened, if anything was violated.
    """

    seed: int
    runs: int = 0
    sessions: int = 0
    calls: int = 0
    acts: int = 0
    silence_secs: float = 0.0
    violations: tuple[Violation, ...] = ()
    story: str = ""


def judge(seed: int) -> Outcome:
    """Hold a call and check it; a call that hangs or fails is a violation too."""
    before = ProcessState()
    try:
        records = run(hold(Plan.of(seed)), longest_run_secs=_LONGEST_CALL_SECS)
    except Exception:
        failure = Violation(seed, "liveness", "call_comes_to_its_end", traceback.format_exc())
        return Outcome(seed, violations=(failure,), story=str(Plan.of(seed)))
    records[-1].left += before.left_since()
    found = violations(records)
    sessions = [session for record in records for session in record.hydra.sessions]
    return Outcome(
        seed,
        runs=len(records),
        sessions=len(sessions),
        calls=sum(len(session.calls) for session in sessions),
        acts=sum(len(record.deeds) for record in records),
        silence_secs=max(record.silence_secs for record in records),
        violations=tuple(found),
        story="\n".join([*map(str, found), *map(_story, records)]) if found else "",
    )


def _story(record: Record) -> str:
    deeds = [f"{at - record.began:8.3f} ** {act}" for at, act in record.deeds]
    return "\n".join([str(record.laid_down), *deeds, timeline(record)])


def outcomes(seeds: range, *, jobs: int) -> Iterator[Outcome]:
    """Hold calls; gives the outcome of each in the order of the seeds.

    Raises:
        BrokenProcessPool: A process died.
    """
    parts = [seeds[start : start + _PART] for start in range(0, len(seeds), _PART)]
    if jobs == 1:
        for part in parts:
            yield from _judged(part)
        return
    # A process that is forked would have the locks and threads of this one in any state.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for outcome_of_part in pool.map(_judged, parts):
            yield from outcome_of_part


def _judged(seeds: range) -> list[Outcome]:
    logger.remove()
    with models_run_cheaply():
        return [judge(seed) for seed in seeds]
