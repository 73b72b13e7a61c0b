"""How a latency is spread over turns and calls: the one place where percentiles are computed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Spread"]


@dataclass(frozen=True, slots=True)
class Spread:
    """The spread of some measured values.

    Parameters:
        count: How many there are.
        p50: The median.
        p90: What nine of ten do not exceed.
        p95: What nineteen of twenty do not exceed.
        least: The least of them.
        most: The greatest of them.
    """

    count: int
    p50: float
    p90: float
    p95: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread | None":
        """Compute the spread of some values; percentiles are interpolated linearly.

        Args:
            values: The values, in any order.

        Returns:
            Their spread; `None` if there is no value.
        """
        if not values:
            return None
        p50, p90, p95 = (float(value) for value in np.percentile(values, (50, 90, 95)))
        return cls(len(values), p50, p90, p95, min(values), max(values))
