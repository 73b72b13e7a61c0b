"""How much of an old reply enters the pipeline after the user has begun to speak.

The user breaks in after a fifth of a reply, and the server, as if it had not noticed, sends the
rest. None of it may be heard.
"""

import math
import statistics

from benchmarks.bench import NAMES, Bench, Job, Outcome
from benchmarks.cells import LEAN, Cell, Shape
from benchmarks.goals import Goal
from benchmarks.report import Section, Table
from benchmarks.scenarios import REPLY_DELTAS
from benchmarks.server import DELTA_SECS, PAUSE_SECS

__all__ = ["measure"]

_REST_SECS = REPLY_DELTAS * PAUSE_SECS + 0.3
"""After the interruption: until the rest of the reply has come, and before the next one."""


async def measure(bench: Bench) -> Section:
    """Measure the stale audio after each interruption."""
    peers = bench.services()
    options = bench.options
    cell = {"shapes": [Shape(LEAN)], "warm_up_secs": options.warm_up_secs}
    jobs = {
        peer: Job.of(Cell(peer, 1, max(2.0, options.secs), **cell), "late audio") for peer in peers
    }
    outcomes = await bench.measure(jobs, rounds=1)
    stale = {peer: _stale(each[0]) for peer, each in outcomes.items() if each}
    table = Table(["stale audio, s", *(NAMES[peer] for peer in stale)])
    for title, reduced in (("median", statistics.median), ("most", max)):
        table.rows.append([title, *(f"{reduced(v):.2f}" if v else "-" for v in stale.values())])
    text = "Seconds of the old reply that enter after `speech_started`, of a second's reply."
    goals = [Goal("stale audio, s", max(stale["hydra"]), 0.0)] if stale.get("hydra") else []
    return Section("Audio that comes late", text, [table], stale, goals=goals)


def _stale(outcome: Outcome) -> list[float]:
    """The seconds of audio after each second start of speech: the one that breaks into a reply.

    Stale are deltas that the server sent after it, and those that came after the interruption.
    """
    held = outcome.held
    stale: list[float] = []
    for turn in outcome.noted[0].turns[1::2]:
        interrupted = next((at for at in held.interruptions[0] if at > turn), math.inf)
        if held.began < turn < held.began + held.secs - _REST_SECS:
            deltas = [
                sent
                for sent, came in held.first_deltas[0]
                if turn < came < turn + _REST_SECS and (sent > turn or came > interrupted)
            ]
            stale.append(len(deltas) * DELTA_SECS)
    return stale
