"""The arithmetic of the tables: percentiles, and ratios with what is known of them."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Ratio", "described", "ms", "percentile", "ratio"]

SETTLED = 0.10
"""A ratio is settled when its spread is below this."""


@dataclass(frozen=True)
class Ratio:
    """The ratio of two peers.

    Parameters:
        value: Median of the ratios of all rounds.
        spread: Width, as a part of the value, of the interval that very likely holds the true
            median: the notch of a box plot, 3.14 interquartile ranges over the root of the number
            of rounds. Infinite with fewer than three rounds.
    """

    value: float
    spread: float

    @property
    def is_settled(self) -> bool:
        """Whether another run would hardly tell another ratio."""
        return self.spread < SETTLED

    def __str__(self) -> str:
        if math.isinf(self.spread):
            return f"{self.value:.2f} (too few rounds)"
        mark = "" if self.is_settled else " (not settled)"
        return f"{self.value:.2f} ± {self.spread / 2:.0%}{mark}"


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which so many percent are; NaN if there are none."""
    if len(values) < 2:
        return values[0] if values else math.nan
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio | None:
    """The ratio of two peers' figures, of which those at the same place are of the same round."""
    pairs = zip(above, below, strict=False)
    ratios = [a / b for a, b in pairs if b > 0 and not math.isnan(a / b)]
    if not ratios:
        return None
    median = statistics.median(ratios)
    if len(ratios) < 3 or median <= 0:
        return Ratio(median, math.inf)
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(median, 3.14 * (high - low) / math.sqrt(len(ratios)) / median)


def described(found: Ratio | None) -> str:
    """A ratio, or that there is none."""
    return "-" if found is None else str(found)


def ms(values: Sequence[float]) -> str:
    """Median and 99th percentile of times in ms."""
    if not values:
        return "-"
    return f"{percentile(values, 50):.2f} / {percentile(values, 99):.2f}"
