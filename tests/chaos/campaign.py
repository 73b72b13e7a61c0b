"""Holds many calls in several processes, and hands back what came of each.

A call in virtual time is nothing but computing, and an event loop computes on one core. So
calls that are held side by side in one loop gain nothing, and each process holds its calls one
after the other: of three processes the first holds calls 1, 4, 7 …, the second 2, 5, 8 … . A
process sends an `Outcome` over a pipe for each call that is over. The pipe ends with the
process, which is how the death of a process is seen.

The process that started the others is the only one that an interrupt from the keyboard
reaches; it ends the others.
"""

import itertools
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from loguru import logger
from support.leftovers import ProcessState
from support.models import models_run_cheaply
from support.virtual_time import real_monotonic

from chaos.checks import Violation, violations
from chaos.clock import run
from chaos.plan import CallPlan
from chaos.runner import Evidence, hold
from chaos.timeline import timeline

# Of processor time, on a slow machine; a call takes a second or two.
_LONGEST_CALL_SECS: Final = 300.0


class WorkerError(Exception):
    """A process that held calls has died."""


@dataclass(frozen=True)
class Outcome:
    """What came of one call.

    Parameters:
        plan: The call.
        sessions: How many sessions there were.
        events: How many events passed on the wire, and frames in the pipeline.
        digest: The order of all of them; the same for the same plan.
        faults: How many faults of each kind there were.
        cancelled: Whether the call was cancelled.
        violations: What was violated.
        story: What happened, if anything was violated.
    """

    plan: CallPlan
    sessions: int = 0
    events: int = 0
    digest: str = ""
    faults: Counter[str] = field(default_factory=Counter[str])
    cancelled: bool = False
    violations: tuple[Violation, ...] = ()
    story: str = ""


@dataclass(frozen=True)
class Campaign:
    """Which calls to hold.

    Parameters:
        seed: The first call.
        calls: How many; None to hold calls for some time.
        minutes: For how long, in real time.
        violence: How much goes wrong, from 0 to 1; None for what `CallPlan.of` takes.
        log: Whether to show the log.
    """

    seed: int
    calls: int | None = None
    minutes: float = 1.0
    violence: float | None = None
    log: bool = False

    def plans(self, number: int, jobs: int) -> Iterator[CallPlan]:
        """The calls of one of several processes, by its number, until the time is over."""
        ends_at = real_monotonic() + 60 * self.minutes
        told = {} if self.violence is None else {"violence": self.violence}
        for nth in itertools.count(number, jobs):
            if nth >= self.calls if self.calls is not None else real_monotonic() >= ends_at:
                return
            yield CallPlan.of(self.seed + nth, **told)


def judge(plan: CallPlan) -> Outcome:
    """Hold a call and check it; a call that hangs or fails is a violation too."""
    before = ProcessState()
    try:
        evidence = run(hold(plan), longest_run_secs=_LONGEST_CALL_SECS)
    except Exception:
        failure = Violation(plan.seed, "liveness", "call_comes_to_its_end", traceback.format_exc())
        return Outcome(plan, violations=(failure,))
    evidence.left += before.left_since()
    found = violations(evidence)
    events = _events(evidence)
    return Outcome(
        plan,
        sessions=len(evidence.hydra.sessions),
        events=len(events),
        digest=sha256("\n".join(events).encode()).hexdigest(),
        faults=Counter(fault.kind for fault in evidence.hydra.injected),
        cancelled=evidence.cancelled,
        violations=tuple(found),
        story="\n".join([*map(str, found), timeline(evidence)]) if found else "",
    )


def _events(evidence: Evidence) -> list[str]:
    """Name all that passed in the pipeline and on the wire of each session, in order."""
    events = [type(pushed.frame).__name__ for pushed in evidence.pushed]
    for session in evidence.hydra.sessions:
        events += [f"received {record.type}" for record in session.received]
        events += [f"sent {record.type}" for record in session.sent]
    return events


def outcomes(campaign: Campaign, *, jobs: int) -> Generator[Outcome]:
    """Hold the calls of a campaign; gives each outcome when its call is over.

    Args:
        campaign: The calls.
        jobs: In how many processes; a single one is this one.

    Raises:
        WorkerError: A process died.
    """
    if jobs == 1:
        return _hold(campaign, 0, 1)
    return _hold_in_processes(campaign, jobs)


def _hold(campaign: Campaign, number: int, jobs: int) -> Generator[Outcome]:
    logger.remove()
    if campaign.log:
        logger.add(sys.stderr, level="DEBUG")
    with models_run_cheaply():
        for plan in campaign.plans(number, jobs):
            yield judge(plan)


def _work(campaign: Campaign, number: int, jobs: int, results: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for outcome in _hold(campaign, number, jobs):
        results.send(outcome)


def _hold_in_processes(campaign: Campaign, jobs: int) -> Generator[Outcome]:
    # A process that is forked would have the locks and threads of this one in any state.
    context = get_context("spawn")
    processes: dict[Any, Any] = {}
    try:
        for number in range(jobs):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(campaign, number, jobs, theirs))
            process.start()
            theirs.close()
            processes[ours] = process
        while processes:
            for pipe in processes.keys() & wait(processes):
                try:
                    yield pipe.recv()
                except EOFError:
                    process = processes.pop(pipe)
                    pipe.close()
                    process.join()
                    if process.exitcode:
                        raise WorkerError(f"{process.name}: {process.exitcode}") from None
    finally:
        for pipe, process in processes.items():
            process.terminate()
            process.join()
            pipe.close()
