"""What a long past costs: the same turns, with a context that has 10 or 1 000 turns already."""

import statistics

from benchmarks.bench import NAMES, Bench
from benchmarks.figures import ms
from benchmarks.report import Section, Table
from benchmarks.rows.replies import job
from benchmarks.rows.reply_figures import Figures, Key

__all__ = ["measure"]

_PASTS = (10, 1_000)


async def measure(bench: Bench) -> Section:
    """Measure one session with each past."""
    peers = bench.services()
    jobs = {
        (peer, past): job(bench, Key(peer, True, 1), past_turns=past)
        for peer in peers
        for past in _PASTS
    }
    outcomes = await bench.measure(jobs, rounds=min(bench.options.rounds, 2))
    figures = {key: [Figures.of(outcome) for outcome in each] for key, each in outcomes.items()}
    table = Table(["lean worker, one session", *(NAMES[peer] for peer in peers)])
    for past in _PASTS:
        cells = [figures[peer, past] for peer in peers]
        cpu = [f"{statistics.median(f.cpu for f in each):.2f}" if each else "-" for each in cells]
        first = [ms([value for f in each for value in f.first]) for each in cells]
        table.rows.append([f"{past} turns before: CPU s a session-minute", *cpu])
        table.rows.append([f"{past} turns before: first delta → output, ms", *first])
    text = "The context is there when the session begins; it is told to the server before it."
    told = {f"{peer} {past}": [f.cpu for f in each] for (peer, past), each in figures.items()}
    return Section("Growth with the context", text, [table], told)
