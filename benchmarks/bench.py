"""The harness: runs cells on quiet cores, in turns, until their ratios are known.

A `Bench` has one process for each checkout of the package, which forks for each cell, and starts a
server for each cell. A cell during which other processes used more than a twentieth of a core is
thrown away and measured again, a few times; then the quietest one is taken, and the report says so.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from benchmarks.cells import Cell, Held
from benchmarks.server import Noted, Plan

__all__ = ["BARE", "FLOORS", "NAMES", "ROOT", "Bench", "Job", "Options", "Outcome", "environment"]

ROOT: Final = Path(__file__).resolve().parent.parent

NAMES: Final = {
    "bare json": "bare client, JSON",
    "bare one-pass": "bare client, one pass",
    "null": "null pipeline",
    "null + audio": "null + same audio",
    "openai": "OpenAI",
    "xai": "xAI",
    "inworld": "Inworld",
    "hydra": "Hydra",
    "before": "Hydra, other checkout",
}
"""Of the peers, in the order of the columns."""

BARE: Final = ("bare json", "bare one-pass")
FLOORS: Final = (*BARE, "null", "null + audio")
_JUDGED: Final = ("hydra", "before", "openai")
_QUIET: Final = 0.05
_RETRIES: Final = 2
_GRACE_SECS: Final = 60.0
_DIALECTS: Final = {"openai": "realtime", "inworld": "realtime", "xai": "xai"}

K = TypeVar("K")


@dataclass
class Options:
    """What to measure.

    Parameters:
        full: All numbers of sessions, all peers in all rows, and the rows that take long.
        sessions: Numbers of sessions in a process.
        peers: Names of peers.
        rounds: How often each cell is measured at least.
        secs: How long a cell is measured.
        warm_up_secs: How long it is not, before that.
        minutes: After that time no further round is begun to settle a ratio.
        against: Another checkout of the package, to compare with.
        patient: Whether a cell is measured again when others used the machine.
    """

    full: bool = False
    sessions: list[int] = field(default_factory=lambda: [1, 10])
    peers: list[str] = field(default_factory=lambda: list(NAMES))
    rounds: int = 3
    secs: float = 2.5
    warm_up_secs: float = 0.7
    minutes: float = 6.0
    against: Path | None = None
    patient: bool = True


@dataclass(frozen=True)
class Job:
    """A cell that is to be measured in turns with others, and what its server does."""

    cell: Cell
    plan: Plan

    @staticmethod
    def of(cell: Cell, scenario: str, **plan: Any) -> "Job":
        """A job with the protocol that the peer speaks."""
        dialect = _DIALECTS.get(cell.peer, "hydra")
        return Job(cell, Plan(scenario, dialect, **plan))


@dataclass
class Outcome:
    """What both processes of a cell have told."""

    held: Held
    noted: dict[int, Noted]


class Bench:
    """Runs cells. Use as a context manager."""

    def __init__(self, options: Options):
        """Start with nothing measured.

        Args:
            options: What to measure.
        """
        self.options = options
        self.missing: dict[str, str] = {}
        self.disturbed: dict[str, float] = {}
        """How much of a core other processes used at most, for each kind of cell."""
        self.failed: list[str] = []
        self._until = time.monotonic() + 60 * options.minutes
        self._cores = sorted(os.sched_getaffinity(0))
        self._holders: dict[str, Process] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="benchmark-")

    async def __aenter__(self) -> Self:
        """Start the processes that hold cells."""
        await self._start_holder("hydra", ROOT)
        if self.options.against is not None:
            await self._start_holder("before", self.options.against)
        else:
            self.missing.setdefault("before", "")
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the processes."""
        for holder in self._holders.values():
            assert holder.stdin is not None
            holder.stdin.close()
            await holder.wait()
        self._folder.cleanup()

    @property
    def peers(self) -> list[str]:
        """The peers that are measured, in the order of the columns."""
        return [name for name in NAMES if name in self.options.peers and name not in self.missing]

    def services(self, *floors: str) -> list[str]:
        """Hydra and OpenAI, in a full run all services; and of the floors those named."""
        return [
            name
            for name in self.peers
            if (name in floors if name in FLOORS else name in _JUDGED or self.options.full)
        ]

    async def measure(
        self,
        jobs: Mapping[K, Job],
        *,
        rounds: int | None = None,
        settled: Callable[[Mapping[K, Sequence[Outcome]]], set[K]] | None = None,
        once: Collection[K] = (),
    ) -> dict[K, list[Outcome]]:
        """Measure cells in turns, round after round.

        Args:
            jobs: The cells by a name.
            rounds: How often each is measured at least; as the options say if `None`.
            settled: Tells which cells need no further round. All, if `None`.
            once: Those that are measured in the first round only.

        Returns:
            The outcomes of each, one a round.
        """
        outcomes: dict[K, list[Outcome]] = {name: [] for name in jobs}
        wanted = self.options.rounds if rounds is None else rounds
        open_jobs = dict(jobs)
        number = 0
        while open_jobs and (number < wanted or time.monotonic() < self._until):
            names = list(open_jobs)
            # Each goes first as often as the others.
            for name in names[number % len(names) :] + names[: number % len(names)]:
                outcome = await self.run(open_jobs[name])
                if outcome is None:
                    del open_jobs[name]
                else:
                    outcomes[name].append(outcome)
            number += 1
            open_jobs = {name: job for name, job in open_jobs.items() if name not in once}
            if number >= wanted:
                done = set(open_jobs) if settled is None else settled(outcomes)
                open_jobs = {name: job for name, job in open_jobs.items() if name not in done}
        return outcomes

    async def run(self, job: Job) -> Outcome | None:
        """Measure one cell, again if others used the machine; `None` if it failed."""
        best: Outcome | None = None
        for _ in range(1 + _RETRIES * self.options.patient):
            outcome = await self._run_once(job)
            if outcome is None:
                self.failed.append(f"{job.cell.sessions} x {NAMES[job.cell.peer]}")
                return None
            if best is None or outcome.held.foreign < best.held.foreign:
                best = outcome
            if best.held.foreign < _QUIET:
                return best
        assert best is not None
        what = f"{job.cell.sessions} x {NAMES[job.cell.peer]}, {job.plan.scenario}"
        self.disturbed[what] = max(self.disturbed.get(what, 0.0), best.held.foreign)
        return best

    async def _run_once(self, job: Job) -> Outcome | None:
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.server", job.plan.text()),
            stdin=PIPE,
            stdout=PIPE,
            cwd=ROOT,
            env=environment(),
        )
        assert server.stdout is not None
        os.sched_setaffinity(server.pid, {self._cores[0]})
        url = f"ws://127.0.0.1:{int(await server.stdout.readline())}"
        cell = replace(job.cell, url=url, server=server.pid, core=self._cores[-1])
        told = await self._hold(cell)
        # This closes its standard input.
        noted, _ = await server.communicate(b"")
        if told is None:
            return None
        sessions = {int(number): Noted(**note) for number, note in json.loads(noted).items()}
        return Outcome(Held(**told), sessions)

    async def _hold(self, cell: Cell) -> dict[str, Any] | None:
        """Have the cell held; it uses the package of the peer's checkout."""
        holder = self._holders["before" if cell.peer == "before" else "hydra"]
        assert holder.stdin is not None
        assert holder.stdout is not None
        cell = replace(cell, peer="hydra") if cell.peer == "before" else cell
        holder.stdin.write(cell.text().encode() + b"\n")
        limit = cell.secs * 3 + cell.warm_up_secs + cell.sessions * cell.stagger_secs
        async with asyncio.timeout(limit + _GRACE_SECS):
            return json.loads(await holder.stdout.readline())

    def _folder_of(self, name: str, checkout: Path) -> Path:
        """Make a folder with the package of a checkout and the benchmarks of this one."""
        folder = Path(self._folder.name, name)
        folder.mkdir()
        (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
        (folder / "pipecat_hydra").symlink_to(checkout.resolve() / "pipecat_hydra")
        return folder

    async def _start_holder(self, name: str, checkout: Path) -> None:
        """Start the process that holds the cells of one checkout."""
        holder = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.held"),
            stdin=PIPE,
            stdout=PIPE,
            cwd=self._folder_of(name, checkout),
            env=environment(),
            limit=2**28,
        )
        assert holder.stdout is not None
        self._holders[name] = holder
        missing = json.loads(await holder.stdout.readline())
        if "hydra" in missing:
            sys.exit(f"{checkout} cannot be measured: {missing['hydra']}")
        self.missing |= missing


def environment() -> dict[str, str]:
    """The environment of a process that is measured."""
    # The directory in which a process starts decides which package it measures.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {**environment, "LOGURU_LEVEL": "WARNING", "OPENBLAS_NUM_THREADS": "1"}
