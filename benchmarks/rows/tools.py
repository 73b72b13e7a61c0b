"""From a function's arguments to the request to narrate its output, in each order of the server.

`response.done` of the response that called comes before the output can, after it, or only when the
narration has begun; the protocol leaves that open. A service that waits for it in the last order
never asks. Each turn must bring one request, and never two.
"""

from benchmarks.bench import FLOORS, NAMES, Bench, Job, Outcome
from benchmarks.cells import Cell, Shape
from benchmarks.figures import ms
from benchmarks.report import Section, Table

__all__ = ["measure"]

_ORDERS = ["before", "after", "narration"]
_SECS_A_TURN = 0.7


async def measure(bench: Bench) -> Section:
    """Measure tool turns, one session for each order."""
    peers = [peer for peer in bench.services("bare json") if peer not in FLOORS or peer in _BARE]
    secs = max(3 * _SECS_A_TURN, 2 * bench.options.secs)
    outcomes = await bench.measure(
        {peer: Job.of(_cell(bench, peer, secs), "tools", orders=_ORDERS) for peer in peers},
        rounds=min(bench.options.rounds, 2),
    )
    table = Table(["`response.done` comes …", *(NAMES[peer] for peer in peers)])
    figures: dict[str, list[list[tuple[float | None, float | None, int]]]] = {}
    section = Section(
        "Tool turns",
        "From the arguments on the wire to `response.create`, p50 / p99 in ms; below, the part of "
        "it after the output. A dash: it never asked. The first turn of a session, from which a "
        "service may learn the order, is left out.",
        [table],
        figures,
    )
    for number, order in enumerate(_ORDERS):
        for part, title in enumerate(("", ", after the output")):
            row = [f"{_WORDS[order]}{title}"]
            for peer in peers:
                turns = _turns(outcomes[peer], number)
                row.append(ms([value for turn in turns if (value := turn[part]) is not None]))
            table.rows.append(row)
    for peer in peers:
        figures[peer] = [_turns(outcomes[peer], number) for number in range(len(_ORDERS))]
        twice = sum(turn[2] > 1 for turns in figures[peer] for turn in turns)
        if twice:
            section.notes.append(f"{NAMES[peer]} asked twice in {twice} turns")
    return section


_BARE = ("bare json",)
_WORDS = {
    "before": "before the output",
    "after": "after the output",
    "narration": "with the narration",
}


def _cell(bench: Bench, peer: str, secs: float) -> Cell:
    shape = Shape(lean=True, tools=True)
    return Cell(peer, len(_ORDERS), secs, bench.options.warm_up_secs, shapes=[shape])


def _turns(outcomes: list[Outcome], number: int) -> list[tuple[float | None, float | None, int]]:
    """The tool turns of one order, without each session's first."""
    return [turn for outcome in outcomes for turn in outcome.noted[number].tools[1:]]
