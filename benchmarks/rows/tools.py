"""From a function's arguments to the request to narrate its output, in each order of the server.

`response.done` of the response that called comes before the output can, after it, or only when the
narration has begun; the protocol leaves that open. A service that waits for it in the last order
never asks. Each turn must bring one request, and never two.
"""

import math
from typing import Final

from benchmarks.bench import NAMES, Bench, Job, Outcome
from benchmarks.cells import LEAN, Cell, Shape
from benchmarks.figures import ms, percentile
from benchmarks.goals import Goal
from benchmarks.report import Section, Table

__all__ = ["measure"]

_ORDERS: Final = {
    "before": "before the output",
    "after": "after the output",
    "narration": "with the narration",
}
_SECS_A_TURN: Final = 0.7
_LONGEST_MS: Final = 30.0

ToolTurn = tuple[float | None, float | None, int]
Turns = dict[str, list[ToolTurn]]
"""The tool turns of one peer, by the order."""


async def measure(bench: Bench) -> Section:
    """Measure tool turns, one session for each order."""
    peers = bench.services("bare json")
    jobs = {peer: Job.of(_cell(bench, peer), "tools", orders=list(_ORDERS)) for peer in peers}
    outcomes = await bench.measure(jobs, rounds=min(bench.options.rounds, 2))
    turns = {peer: _turns(outcomes[peer]) for peer in peers}
    table = Table(["`response.done` comes …", *(NAMES[peer] for peer in peers)])
    for order, words in _ORDERS.items():
        whole = [ms(_times(turns[peer][order], 0)) for peer in peers]
        after = [ms(_times(turns[peer][order], 1)) for peer in peers]
        table.rows += [[words, *whole], [f"{words}, after the output", *after]]
    text = (
        "From the arguments on the wire to `response.create`, p50 / p99 in ms; below, the part of "
        "it after the output. A dash: it never asked. The first turn of a session, from which a "
        "service may learn the order, is left out."
    )
    return Section("Tool turns", text, [table], turns, goals=_goals(turns))


def _cell(bench: Bench, peer: str) -> Cell:
    return Cell(
        peer,
        len(_ORDERS),
        secs=max(3 * _SECS_A_TURN, 2 * bench.options.secs),
        warm_up_secs=bench.options.warm_up_secs,
        shapes=[Shape(LEAN, tools=True)],
    )


def _turns(outcomes: list[Outcome]) -> Turns:
    """The tool turns of each order, without each session's first."""
    return {
        order: [turn for outcome in outcomes for turn in outcome.noted[number].tools[1:]]
        for number, order in enumerate(_ORDERS)
    }


def _times(turns: list[ToolTurn], part: int) -> list[float]:
    return [time for turn in turns if (time := turn[part]) is not None]


def _goals(turns: dict[str, Turns]) -> list[Goal]:
    """Each order is fast, the usual one faster than OpenAI's, and no turn is narrated twice."""
    if "hydra" not in turns:
        return []
    ours = turns["hydra"]
    goals = [
        Goal(f"tool turn, p50 ms, {words}", percentile(_times(ours[order], 0), 50), _LONGEST_MS)
        for order, words in _ORDERS.items()
    ]
    if "openai" in turns:
        theirs = percentile(_times(turns["openai"]["before"], 0), 50)
        goals.append(Goal("the same, before, beside OpenAI's", goals[0].value / theirs, 1.0))
    requests = [turn[2] for each in ours.values() for turn in each]
    goals.append(Goal("requests to narrate, in a turn", max(requests, default=math.nan), 1))
    return goals
