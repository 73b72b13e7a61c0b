"""Hold calls in which the application does anything, in virtual time; say what was violated.

    python -m application --seed 1 --calls 500       calls 1 to 500
    python -m application --seed 17 --calls 1        call 17 alone, with its story if it is wrong
    python -m application --keep /tmp/application    with the story of each call that went wrong

Run in `tests`, or by `make random`. Exits with 1 if anything was violated.
"""

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

from support.virtual_time import real_monotonic

from application.campaign import Outcome, outcomes
from application.plan import Plan


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m application", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, default=1, help="the first call")
    parser.add_argument("--calls", type=int, default=500, help="how many")
    cores = os.cpu_count() or 1
    parser.add_argument(
        "--jobs", type=int, default=cores, help=f"in how many processes (here {cores})"
    )
    parser.add_argument("--keep", type=Path, help="where to write what happened in them")
    given = parser.parse_args()
    jobs = max(1, min(given.jobs, given.calls))
    began, totals, longest = real_monotonic(), Counter[str](), 0.0
    for outcome in outcomes(range(given.seed, given.seed + given.calls), jobs=jobs):
        longest = max(longest, outcome.silence_secs)
        totals["calls"] += 1
        totals["wrong"] += bool(outcome.violations)
        for name in ("runs", "sessions", "acts"):
            totals[name] += getattr(outcome, name)
        totals["functions called"] += outcome.calls
        _tell(outcome, given.keep, alone=given.calls == 1)
    counts = ", ".join(f"{count} {name}" for name, count in totals.items())
    print(f"{counts} in {real_monotonic() - began:.0f} s; the longest silence {longest:.1f} s")
    return bool(totals["wrong"])


def _tell(outcome: Outcome, keep: Path | None, *, alone: bool) -> None:
    if not outcome.violations:
        return
    print(*outcome.violations, sep="\n")
    print(f"{Plan.of(outcome.seed)}\n  again: make random SEED={outcome.seed} CALLS=1", flush=True)
    if alone and keep is None:
        print(outcome.story)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{outcome.seed}.txt").write_text(outcome.story)


if __name__ == "__main__":
    sys.exit(main())
