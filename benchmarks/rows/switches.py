"""What each thing that can be switched on costs a session of Hydra.

Beginning from a lean worker with uvloop off and a microphone at 16 kHz, one thing at a time.
"""

import statistics
from dataclasses import replace

from benchmarks.bench import Bench, Job
from benchmarks.cells import EXTRAS, LEAN, Cell, Shape
from benchmarks.report import Section, Table

__all__ = ["measure"]


async def measure(bench: Bench) -> Section:
    """Measure the largest number of sessions up to ten with each switch, in turns."""
    sessions = min(10, max(bench.options.sessions))
    lean = Cell(
        "hydra",
        sessions,
        secs=bench.options.secs,
        warm_up_secs=bench.options.warm_up_secs + 0.05 * sessions,
        shapes=[Shape(LEAN)],
    )
    cells = {"lean worker": lean}
    for extra in EXTRAS:
        cells[extra] = replace(lean, shapes=[Shape((extra,))])
    cells["all of these: the default worker"] = replace(lean, shapes=[Shape()])
    cells["tracing, with turn tracking"] = replace(
        lean, shapes=[Shape(("turn tracking",), traced=True)]
    )
    # Speech is as dear to compress as noise.
    cells["a recorder"] = replace(lean, shapes=[Shape(LEAN, noise=True)], recorded=True)
    for rate in (8_000, 24_000, 48_000):
        shape = Shape(LEAN, microphone_rate=rate)
        cells[f"a microphone at {rate // 1000} kHz"] = replace(lean, shapes=[shape])
    cells["uvloop"] = replace(lean, uvloop=True)
    jobs = {name: Job.of(cell, "turns") for name, cell in cells.items()}
    outcomes = await bench.measure(jobs)
    cpu = {name: [outcome.held.cpu for outcome in each] for name, each in outcomes.items()}
    table = Table(["", "CPU s a session-minute", "more than a lean worker"])
    for name, each in cpu.items():
        more = [secs - base for secs, base in zip(each, cpu["lean worker"], strict=False)]
        if each and more:
            table.rows.append(
                [name, f"{statistics.median(each):.2f}", f"{statistics.median(more):+.2f}"]
            )
    text = f"{sessions} sessions in a process; medians of the rounds."
    return Section("What each switch costs", text, [table], cpu)
