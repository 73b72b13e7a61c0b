"""Goals that Hydra's figures are held against, and whether they are met."""

import math
from dataclasses import dataclass

__all__ = ["Goal"]


@dataclass(frozen=True)
class Goal:
    """One figure and its limit.

    Parameters:
        text: What the figure is.
        value: The figure; NaN if it could not be measured.
        limit: What it may be at most, or has to be at least.
        at_least: Which of the two.
    """

    text: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the figure keeps to its limit; one that is not there does not."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def row(self) -> list[str]:
        """The goal as a row of a table."""
        bound = "at least" if self.at_least else "at most"
        value = "not measured" if math.isnan(self.value) else f"{self.value:.2f}"
        return [self.text, value, f"{bound} {self.limit:g}", "yes" if self.is_met else "no"]
