"""Runs the benchmark: `python -m benchmarks`; `--help` lists the options."""

import argparse
import asyncio
import shlex
import sys
import time
from pathlib import Path

from benchmarks.bench import NAMES, ROOT, Bench, Options
from benchmarks.report import Section, write
from benchmarks.rows import LONG, ROWS

FULL_SESSIONS = [1, 10, 25, 50, 100]


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure HydraLLMService beside Pipecat's own realtime services.",
    )
    parser.add_argument(
        "--full", action="store_true", help="all numbers of sessions, all peers, all rows"
    )
    parser.add_argument(
        "--rows", nargs="+", choices=list(ROWS), metavar="ROW", help=", ".join(ROWS)
    )
    parser.add_argument(
        "--peers", nargs="+", choices=list(NAMES), metavar="PEER", help=", ".join(NAMES)
    )
    parser.add_argument("--sessions", nargs="+", type=int, help="numbers of sessions in a process")
    parser.add_argument("--rounds", type=int, help="how often each cell is measured at least")
    parser.add_argument("--secs", type=float, help="how long a cell is measured")
    parser.add_argument("--warm-up", type=float, help="how long it is not, before that")
    parser.add_argument(
        "--minutes", type=float, help="no round to settle a ratio begins after that"
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="CHECKOUT",
        help="compare with another checkout; only `replies` of Hydra, if not said otherwise",
    )
    parser.add_argument(
        "--impatient", action="store_true", help="measure once, whoever else uses the machine"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args(arguments)


def options_of(given: argparse.Namespace) -> Options:
    """What the command line asks for."""
    options = Options(full=given.full, against=given.against, patient=not given.impatient)
    if options.full:
        options.sessions, options.secs, options.warm_up_secs = FULL_SESSIONS, 6.0, 1.5
        options.minutes = 90.0
    if options.against is not None:
        options.peers = ["hydra", "before"]
    for name in ("sessions", "peers", "rounds", "secs", "minutes"):
        if getattr(given, name) is not None:
            setattr(options, name, getattr(given, name))
    if given.warm_up is not None:
        options.warm_up_secs = given.warm_up
    return options


async def run(options: Options, rows: list[str]) -> tuple[list[Section], list[str]]:
    """Measure some rows; return what they tell, and what the reader must know."""
    sections: dict[str, Section] = {}
    began = time.monotonic()
    async with Bench(options) as bench:
        # The row that is measured until its ratios are settled takes the time that is left.
        for row in sorted(rows, key=lambda row: row == "replies"):
            print(f"{time.monotonic() - began:5.0f} s  {row}", file=sys.stderr, flush=True)
            sections[row] = await ROWS[row](bench)
        notes = [
            f"{NAMES[name]} is left out: {reason}"
            for name, reason in bench.missing.items()
            if reason
        ]
        notes += [f"failed: {what}" for what in bench.failed]
        if bench.disturbed:
            cells = ", ".join(f"{what} ({use:.0%})" for what, use in bench.disturbed.items())
            notes.append(f"other processes used the machine, in parts of a core: {cells}")
    return [sections[row] for row in ROWS if row in sections], notes


def main(arguments: list[str]) -> None:
    """Measure, write the report, and print it."""
    given = parse(arguments)
    options = options_of(given)
    rows = given.rows
    if rows is None and options.against is not None:
        rows = ["replies"]
    if rows is None:
        rows = [row for row in ROWS if options.full or row not in LONG]
    sections, notes = asyncio.run(run(options, rows))
    command = shlex.join(["python", "-m", "benchmarks", *arguments])
    print(write(sections, notes, command, given.out))
    print(f"Written to {given.out}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
