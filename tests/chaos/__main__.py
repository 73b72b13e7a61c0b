"""Hold chaotic calls in virtual time, and say what was violated.

    python -m chaos --seed 1 --calls 200      calls 1 to 200
    python -m chaos --seed 1 --minutes 5      calls 1, 2, 3 … for five minutes
    python -m chaos --seed 17 --calls 1       call 17 alone
    python -m chaos --keep /tmp/chaos         with the story of each call that went wrong

Run in `tests`, or by `make chaos`. Exits with 1 if any invariant was violated.
"""

import argparse
import os
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

from support.virtual_time import real_monotonic

from chaos import CallPlan, Violation
from chaos.campaign import Campaign, Outcome, WorkerError, outcomes
from chaos.clock import INTERRUPTED


class Tally:
    """What there was in all the calls.

    Args:
        keep: The folder for the stories of calls that went wrong; None for none.
    """

    def __init__(self, keep: Path | None) -> None:
        self._keep = keep
        self.calls = self.cancelled = self.sessions = self.events = 0
        self.faults: Counter[str] = Counter()
        self.violations: list[Violation] = []
        self.plans: dict[int, CallPlan] = {}

    def add(self, outcome: Outcome) -> None:
        """Count a call; prints what was violated."""
        self.calls += 1
        self.cancelled += outcome.cancelled
        self.sessions += outcome.sessions
        self.events += outcome.events
        self.faults.update(outcome.faults)
        for violation in outcome.violations:
            self.violations.append(violation)
            self.plans[violation.seed] = outcome.plan
            print(violation, flush=True)
        if outcome.story and self._keep is not None:
            self._keep.mkdir(parents=True, exist_ok=True)
            (self._keep / f"{outcome.plan.seed}.txt").write_text(outcome.story)

    def report(self, secs: float) -> None:
        """Print the counts, and how to hold each call again that went wrong."""
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        print(
            f"{self.calls} calls ({self.cancelled} cancelled) with {self.sessions} sessions and "
            f"{self.events} events in {secs:.0f} s\n{self.faults.total()} faults: {faults}\n"
            f"{len(self.violations)} violations in {len(self.plans)} calls"
        )
        for seed, plan in sorted(self.plans.items()):
            print(f"\n{plan}\n  again: make chaos SEED={seed} CALLS=1")


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, default=1, help="the first call")
    parser.add_argument("--minutes", type=float, default=1.0, help="for how long, in real time")
    parser.add_argument("--calls", type=int, help="how many, instead of for how long")
    cores = os.cpu_count() or 1
    parser.add_argument(
        "--jobs", type=int, default=cores, help=f"in how many processes (here {cores})"
    )
    parser.add_argument("--violence", type=float, help="how much goes wrong, from 0 to 1")
    parser.add_argument("--keep", type=Path, help="where to write what happened in them")
    parser.add_argument("--log", action="store_true", help="show the log at DEBUG; one process")
    given = parser.parse_args()
    if given.keep is not None and given.keep.exists() and not given.keep.is_dir():
        parser.error(f"{given.keep} is a file: --keep takes a folder")
    campaign = Campaign(given.seed, given.calls, given.minutes, given.violence, given.log)
    jobs = 1 if given.log else max(1, min(given.jobs, given.calls or given.jobs))
    tally, began, code = Tally(given.keep), real_monotonic(), 0
    try:
        with closing(outcomes(campaign, jobs=jobs)) as calls:
            for outcome in calls:
                tally.add(outcome)
    except KeyboardInterrupt:
        print("interrupted")
        code = INTERRUPTED
    except WorkerError as error:
        print(f"a process died while it held a call: {error}")
        code = 1
    tally.report(real_monotonic() - began)
    return code or bool(tally.violations)


if __name__ == "__main__":
    sys.exit(main())
