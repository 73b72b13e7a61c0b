"""Try a sample of mutants, and say which of them no test kills.

    python -m mutation                            260 mutants of the pure core, drawn with seed 1
    python -m mutation --seed 7 --sample 500      others, and more of them
    python -m mutation --all --only uplink        all mutants of the modules of this name
    python -m mutation --keep mutants.json        with what became of each mutant
    python -m mutation --again mutants.json       only those that survived, with the same seed

Exits with 1 if the tests fail without any mutant.
"""

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Final

from mutation.mutants import Mutant, mutants_of, sample_of
from mutation.trial import Outcome, Trial, module_name, preload

ROOT: Final = Path(__file__).resolve().parents[2]
CODE: Final = ("pipecat_hydra/conversation", "pipecat_hydra/service/briefing")
# Of processor time; a mutant may take some times longer than the code, but not for ever.
_LEAST_SECS: Final = 30
_BASELINE_SECS: Final = 600
_SLOWER: Final = 4


@dataclass(frozen=True)
class Tests:
    """The files of tests of one folder, the quickest first, and how long they all take."""

    files: tuple[Path, ...]
    cpu_secs: int

    def of(self, module: Path) -> list[Path]:
        """The files for a module, its own first."""
        return sorted(self.files, key=lambda file: file.name != f"test_{module.name}")


def tests_of(folder: Path) -> Tests:
    """Find the tests of a folder, and see that they pass.

    Raises:
        ValueError: They fail.
    """
    mirror = Path("tests", *folder.parts[1:])
    files = sorted(mirror.glob("test_*.py"))
    outcome = Trial(files, None, _BASELINE_SECS).outcome()
    if outcome.failed is not None or not outcome.passed:
        raise ValueError(f"{mirror} fails without a mutant: {outcome.failed or 'no test'}")
    secs = sum(outcome.secs.values())
    print(f"{mirror}: {outcome.passed} tests pass in {secs:.0f} s", flush=True)
    files.sort(key=lambda file: outcome.secs.get(file.as_posix(), 0.0))
    return Tests(tuple(files), max(_LEAST_SECS, round(_SLOWER * secs)))


def trials(
    mutants: Sequence[Mutant], tests: dict[Path, Tests], at_once: int
) -> Iterator[tuple[Mutant, Outcome]]:
    """Try mutants, some at the same time, and give each with what became of it."""
    waiting = [*reversed(mutants)]
    running: dict[int, tuple[Mutant, Trial]] = {}
    while waiting or running:
        while waiting and len(running) < at_once:
            mutant = waiting.pop()
            of_folder = tests[mutant.path.parent]
            trial = Trial(of_folder.of(mutant.path), mutant, of_folder.cpu_secs)
            running[trial.sentinel] = mutant, trial
        for sentinel in wait([*running]):
            assert isinstance(sentinel, int)
            mutant, trial = running.pop(sentinel)
            yield mutant, trial.outcome()


def table(results: Sequence[tuple[Mutant, Outcome]], found: Sequence[Mutant]) -> str:
    """The score by module."""
    rows: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for mutant in found:
        for name in (mutant.path.as_posix(), "all"):
            rows[name][0] += 1
    for mutant, outcome in results:
        for name in (mutant.path.as_posix(), "all"):
            rows[name][1] += 1
            rows[name][2] += outcome.failed is not None
    lines = [
        f"{'module':50} {'mutants':>8} {'tried':>6} {'killed':>6} {'survived':>8} {'score':>7}"
    ]
    for name in sorted(rows, key=lambda name: (name == "all", name)):
        mutants, tried, killed = rows[name]
        score = f"{killed / tried:7.1%}" if tried else ""
        lines.append(f"{name:50} {mutants:8} {tried:6} {killed:6} {tried - killed:8} {score:>7}")
    return "\n".join(lines)


def record_of(mutant: Mutant, outcome: Outcome) -> dict[str, Any]:
    """One result, for a file."""
    return {
        "path": mutant.path.as_posix(),
        "line": mutant.line,
        "operator": mutant.operator,
        "before": mutant.before,
        "after": mutant.after,
        "rank": mutant.rank,
        "killed_by": outcome.failed,
    }


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m mutation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, default=1, help="decides the sample")
    parser.add_argument("--sample", type=int, default=260, help="how many mutants")
    parser.add_argument("--all", action="store_true", help="all mutants, not a sample")
    parser.add_argument("--only", nargs="*", help="the modules of these names alone")
    parser.add_argument("--at-once", type=int, default=1, help="how many at the same time")
    parser.add_argument("--keep", type=Path, help="where to write what became of each mutant")
    parser.add_argument("--again", type=Path, help="such a file: only the survivors in it")
    given = parser.parse_args()
    again = json.loads(given.again.read_text()) if given.again else None
    keep = given.keep.resolve() if given.keep else None
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    # The compiled tests serve all trials. The mutants are never written.
    sys.dont_write_bytecode = False
    os.environ["CI"] = "true"  # the same examples each time: see tests/conftest.py
    paths = sorted(path for folder in CODE for path in Path(folder).glob("*.py"))
    if given.only:
        paths = [path for path in paths if path.stem in given.only]
    found = [m for path in paths for m in mutants_of(path, path.read_text(), given.seed)]
    if again is not None:
        survived = {(r["path"], r["rank"]) for r in again if r["killed_by"] is None}
        drawn = [m for m in found if (m.path.as_posix(), m.rank) in survived]
    else:
        drawn = found if given.all else sample_of(found, given.sample)
    preload([module_name(path) for path in paths])
    try:
        tests = {folder: tests_of(folder) for folder in {mutant.path.parent for mutant in drawn}}
    except ValueError as error:
        print(error)
        return 1
    began, results = time.monotonic(), list[tuple[Mutant, Outcome]]()
    for mutant, outcome in trials(drawn, tests, given.at_once):
        results.append((mutant, outcome))
        fate = "survives" if outcome.failed is None else f"killed by {outcome.failed}"
        print(f"{len(results)}/{len(drawn)} {mutant}: {fate}", flush=True)
        if keep is not None:
            kept = [record_of(*result) for result in results]
            keep.write_text(json.dumps(kept, indent=1, ensure_ascii=False))
    print(f"\nSurvivors:\n{chr(10).join(str(m) for m, o in results if o.failed is None)}")
    print(f"\n{table(results, found)}")
    print(f"\nseed {given.seed}, {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
