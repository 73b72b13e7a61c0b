"""How many sessions one core holds, until the first delta of a reply comes late.

The largest number of sessions with which 99 of 100 first deltas are at the output within 20 ms,
found by halving the range up to the largest number of sessions that is asked for. Each probe is a
cell; the numbers that are tried are some 10 % apart, and no answer is finer than that.
"""

import statistics

from benchmarks.bench import NAMES, Bench
from benchmarks.figures import described, percentile, ratio
from benchmarks.goals import Goal
from benchmarks.report import Section, Table
from benchmarks.rows.replies import job
from benchmarks.rows.reply_figures import Figures, Key

__all__ = ["LIMIT_MS", "measure"]

LIMIT_MS = 20.0
_NUMBERS = (
    *(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41),
    *(45, 50, 55, 60, 66, 73, 80, 90, 100),
)


async def measure(bench: Bench) -> Section:
    """Look for the largest number of each service, in turns."""
    peers = bench.services("null + audio")
    numbers: dict[tuple[str, bool], list[float]] = {}
    for _ in range(bench.options.rounds):
        for lean in (False, True):
            for peer in peers:
                found = await _largest(bench, peer, lean=lean)
                numbers.setdefault((peer, lean), []).append(found)
    table = Table(["sessions a core", *(NAMES[peer] for peer in peers), "Hydra, relative"])
    goals: list[Goal] = []
    for lean in (False, True):
        medians = {peer: statistics.median(numbers[peer, lean]) for peer in peers}
        row = [f"{median:.0f}" for median in medians.values()]
        ours, theirs = numbers.get(("hydra", lean), []), numbers.get(("openai", lean), [])
        worker = "lean worker" if lean else "default worker"
        found = ratio(ours, theirs)
        table.rows.append([worker, *row, described(found)])
        if found is not None:
            text = f"sessions a core beside OpenAI's, {worker}"
            goals.append(Goal(text, found.value, 1.5, at_least=True))
    text = f"The most sessions with which the p99 of the first delta is below {LIMIT_MS:.0f} ms."
    told = {f"{peer} {'lean' if lean else 'default'}": n for (peer, lean), n in numbers.items()}
    return Section("Capacity", text, [table], told, goals=goals)


async def _largest(bench: Bench, peer: str, *, lean: bool) -> int:
    numbers = [number for number in _NUMBERS if number <= max(bench.options.sessions)]
    low, high = 0, len(numbers)
    while low < high:
        middle = (low + high) // 2
        outcome = await bench.run(job(bench, Key(peer, lean, numbers[middle])))
        first = Figures.of(outcome).first if outcome is not None else []
        if first and percentile(first, 99) < LIMIT_MS:
            low = middle + 1
        else:
            high = middle
    return numbers[low - 1] if low else 0
