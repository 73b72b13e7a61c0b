"""What the cells of turns after turns tell, and Hydra's ratios to a rival."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from benchmarks.bench import Outcome
from benchmarks.figures import Ratio, percentile, ratio

__all__ = ["Figures", "Key", "Measured", "ratios_to"]


_LATEST_SECS: Final = 0.3
"""So long before the end the last turn begins whose interruption is waited for."""


class Key(NamedTuple):
    """A cell: whose, in which worker, and how many sessions."""

    peer: str
    lean: bool
    sessions: int

    @property
    def worker(self) -> str:
        """The kind of worker, in words."""
        return "lean" if self.lean else "default"


@dataclass
class Figures:
    """What a cell tells; times in ms.

    Parameters:
        cpu: Processor seconds for a minute of a session.
        first: From the first delta on the wire to the output.
        interruptions: From `speech_started` on the wire to the output.
        missed: How many interruptions never came.
        pushes: From the arrival of the first delta to its push, of one session alone.
        rss_mib: Memory of the process.
    """

    cpu: float
    first: list[float]
    interruptions: list[float]
    missed: int
    pushes: list[float]
    rss_mib: float

    @staticmethod
    def of(outcome: Outcome) -> "Figures":
        """Join what the two processes of a cell have told."""
        held = outcome.held
        times = [1000 * (came - sent) for each in held.first_deltas for sent, came in each]
        interruptions: list[float] = []
        missed = 0
        for number, came in enumerate(held.interruptions):
            noted = outcome.noted.get(number)
            turns = noted.turns if noted is not None else held.turns[number]
            for turn, following in pairwise([*turns, math.inf]):
                if not held.began <= turn < held.began + held.secs - _LATEST_SECS:
                    continue
                first = next((at for at in came if turn <= at < following), None)
                if first is None:
                    missed += 1
                else:
                    interruptions.append(1000 * (first - turn))
        return Figures(held.cpu, times, interruptions, missed, held.pushes, held.rss_mib)


Measured = Mapping[Key, Sequence[Figures]]


def ratios_to(
    measured: Measured, rival: str, *, lean: bool, sessions: int
) -> dict[str, Ratio | None]:
    """Hydra's figures as parts of a rival's, each of the same round."""
    ours = measured.get(Key("hydra", lean, sessions), [])
    theirs = measured.get(Key(rival, lean, sessions), [])
    null = [figures.cpu for figures in measured.get(Key("null", lean, sessions), [])]
    cpu = [figures.cpu for figures in ours], [figures.cpu for figures in theirs]
    found: dict[str, Ratio | None] = {"cpu": ratio(*cpu)}
    if null:
        above = [[a - b for a, b in zip(each, null, strict=False)] for each in cpu]
        found["above null"] = ratio(*above)
    for percent in (50, 99):
        for name in ("first", "interruptions"):
            sides = [
                [percentile(getattr(figures, name), percent) for figures in side]
                for side in (ours, theirs)
            ]
            found[f"{name} {percent}"] = ratio(*sides)
    # One session has too few replies in a round for a 99th percentile to be anything.
    return found if sessions > 1 else {k: v for k, v in found.items() if not k.endswith("99")}
