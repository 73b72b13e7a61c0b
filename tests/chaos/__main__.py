"""Hold chaotic calls until the time is over, and say what was violated.

    python -m chaos --seed 1 --minutes 5      calls 1, 2, 3 … for five minutes
    python -m chaos --seed 17 --calls 1       call 17 alone
    python -m chaos --keep /tmp/chaos         with the story of each call that went wrong

Exits with 1 if any invariant was violated.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from pathlib import Path

from loguru import logger

from chaos import CallPlan, Evidence, Violation, hold, violations
from chaos.leaks import open_files, threads
from chaos.runner import watched_logs
from chaos.timeline import timeline


class Tally:
    """What there was in all the calls."""

    def __init__(self, keep: Path | None) -> None:
        self._keep = keep
        self.calls = self.sessions = self.cancelled = self.starved = 0
        self.faults: Counter[str] = Counter()
        self.violations: list[Violation] = []
        self.plans: dict[int, CallPlan] = {}
        self.worst_lag_secs = 0.0

    async def add(self, evidence: Evidence) -> None:
        self.calls += 1
        self.cancelled += evidence.cancelled
        self.starved += evidence.starved
        self.sessions += len(evidence.hydra.sessions)
        self.faults.update(fault.kind for fault in evidence.hydra.injected)
        self.worst_lag_secs = max(self.worst_lag_secs, evidence.worst_lag_secs)
        # Beside the calls that go on meanwhile, which must not stand still for it.
        found = await asyncio.to_thread(violations, evidence)
        for violation in found:
            self.violations.append(violation)
            self.plans[violation.seed] = evidence.plan
            print(violation, flush=True)
        if found and self._keep is not None:
            self._keep.mkdir(parents=True, exist_ok=True)
            story = "\n".join([*map(str, found), timeline(evidence)])
            (self._keep / f"{evidence.plan.seed}.txt").write_text(story)

    def report(self, secs: float) -> None:
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        print(
            f"{self.calls} calls ({self.cancelled} cancelled, {self.starved} starved) with "
            f"{self.sessions} sessions in {secs:.0f} s; the event loop stood still for "
            f"{self.worst_lag_secs * 1000:.0f} ms at most\n{self.faults.total()} faults: {faults}\n"
            f"{len(self.violations)} violations in {len(self.plans)} calls"
        )


async def run(
    tally: Tally,
    seed: int,
    *,
    calls: int | None,
    minutes: float,
    at_once: int,
    violence: float | None,
) -> None:
    """Hold calls, several at once."""
    began, given = time.monotonic(), 0

    async def keep_calling() -> None:
        nonlocal given
        while given < calls if calls else time.monotonic() - began < 60 * minutes:
            number, given = seed + given, given + 1
            plan = CallPlan.of(number, **({} if violence is None else {"violence": violence}))
            await tally.add(await hold(plan))

    await asyncio.gather(*(keep_calling() for _ in range(at_once)))
    await asyncio.get_running_loop().shutdown_default_executor()


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, default=1, help="the first call")
    parser.add_argument("--minutes", type=float, default=1.0, help="for how long")
    parser.add_argument("--calls", type=int, help="how many, instead of for how long")
    parser.add_argument("--at-once", type=int, default=6, help="how many at the same time")
    parser.add_argument("--violence", type=float, help="how much goes wrong, from 0 to 1")
    parser.add_argument("--keep", type=Path, help="where to write what happened in them")
    parser.add_argument("--log", action="store_true", help="show the log at DEBUG")
    given = parser.parse_args()
    if given.keep is not None and given.keep.exists() and not given.keep.is_dir():
        parser.error(f"{given.keep} is a file: --keep takes a folder")
    logger.remove()
    if given.log:
        logger.add(sys.stderr, level="DEBUG")
    files, began = open_files(), time.monotonic()
    tally = Tally(given.keep)
    with watched_logs():
        asyncio.run(
            run(
                tally,
                given.seed,
                calls=given.calls,
                minutes=given.minutes,
                at_once=given.at_once,
                violence=given.violence,
            )
        )
    tally.report(time.monotonic() - began)
    print(f"{len(open_files()) - len(files)} files and {len(threads()) - 1} threads left open")
    for number, plan in tally.plans.items():
        print(f"\n{plan}\n  again: make chaos SEED={number} CALLS=1")
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
