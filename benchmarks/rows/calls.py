"""Python calls for a frame of the microphone and for a delta: a cost that hardly depends on chance.

In one session with a lean worker and context aggregators.
"""

from benchmarks.bench import NAMES, Bench, Job
from benchmarks.cells import LEAN, Cell, Shape
from benchmarks.goals import Goal
from benchmarks.report import Section, Table

__all__ = ["measure"]


async def measure(bench: Bench) -> Section:
    """Count the calls of each service."""
    peers = bench.services()
    jobs = {peer: Job.of(_cell(bench, peer), "deltas") for peer in peers}
    outcomes = await bench.measure(jobs, rounds=1)
    counted = {peer: each[0].held.calls for peer, each in outcomes.items() if each}
    table = Table(["Python calls", *(NAMES[peer] for peer in counted)])
    for what, title in (("frame", "a microphone frame"), ("delta", "a delta")):
        for kind, whose in (("own", "the service's own"), ("asyncio", "asyncio's"), ("all", "all")):
            row = [f"{calls[f'{kind} {what}']:.0f}" for calls in counted.values()]
            table.rows.append([f"{title}, {whose}", *row])
    text = "Of functions written in Python; C code is not counted."
    goals = [
        Goal(f"Python calls of the service's own, {title}", counted["hydra"][f"own {what}"], 12)
        for what, title in (("frame", "a microphone frame"), ("delta", "a delta"))
        if "hydra" in counted
    ]
    return Section("Python calls", text, [table], counted, goals=goals)


def _cell(bench: Bench, peer: str) -> Cell:
    secs, warm_up = bench.options.secs, bench.options.warm_up_secs
    return Cell(peer, 1, secs, warm_up, shapes=[Shape(LEAN)], count_calls=True)
