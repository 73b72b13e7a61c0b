"""Figures over many calls: how each latency is spread, and whether it moved between two sides.

Theory of the comparison. Each side is one call or several. What is compared is the median of all
values of a latency on each side. How much a median moves by chance is what the values of one side
differ among themselves: a median of `n` values that vary by `s` is known to about `1.25 s / sqrt n`
(its standard error, for values that are spread like the normal distribution). Calls of one side
may differ from each other by more than their values do within a call, for instance by the time of
day. So the medians of the calls count too, when there are several. A difference of less than
twice the error of both sides is within the spread: it may be chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

from pipecat_hydra.cli.report.calls import ReportedCall
from pipecat_hydra.recording.course import LATENCIES
from pipecat_hydra.recording.spread import Spread

__all__ = ["DEFINITIONS", "TITLES", "Difference", "compare", "spreads", "values_of"]

TITLES = {
    "answer": "Answer",
    "barge_in": "Barge-in",
    "tool_turn": "Tool turn",
    "ttfb": "TTFB",
}
"""What each latency is called in a report."""

DEFINITIONS = {
    "answer": "from the user's last sound to the first sound of the reply, as heard",
    "barge_in": "from the first sound of the user who interrupts to the last of the reply",
    "tool_turn": "from the user's last sound to the first sound about the tool's result",
    "ttfb": "time to first byte, as the pipeline measures it",
}
"""What each latency means."""

_MEDIAN_ERROR = 1.25
_ERRORS_APART = 2.0


@dataclass(frozen=True, slots=True)
class Difference:
    """How a latency of one side of a comparison differs from the other side's.

    Parameters:
        name: Name of the latency.
        before: Its spread on the first side; `None` without a value.
        after: Its spread on the second side.
        moved: Seconds that the median moved; `None` if a side has no value.
        noise: Seconds that it may move by chance; `None` if a side has too few values to tell.
    """

    name: str
    before: Spread | None
    after: Spread | None
    moved: float | None
    noise: float | None

    @property
    def is_within_spread(self) -> bool | None:
        """Whether the difference may be chance; `None` if that cannot be told."""
        if self.moved is None or self.noise is None:
            return None
        return abs(self.moved) <= self.noise

    @property
    def verdict(self) -> str:
        """What the difference means, in a few words."""
        if self.moved is None:
            return "no values to compare"
        if self.noise is None:
            return "too few values to tell"
        if self.is_within_spread:
            return f"within the spread (±{1000 * self.noise:.0f} ms)"
        return "slower" if self.moved > 0 else "faster"


def values_of(calls: Sequence[ReportedCall], name: str) -> list[float]:
    """Return all values of a latency in some calls.

    Args:
        calls: The calls.
        name: Name of the latency.

    Returns:
        The values in seconds, call by call.
    """
    return [value for call in calls for value in call.course.latencies[name]]


def spreads(calls: Sequence[ReportedCall]) -> dict[str, Spread | None]:
    """Compute the spread of each latency over some calls.

    Args:
        calls: The calls.

    Returns:
        For each latency its spread; `None` without a value.
    """
    return {name: Spread.of(values_of(calls, name)) for name in LATENCIES}


def compare(before: Sequence[ReportedCall], after: Sequence[ReportedCall]) -> list[Difference]:
    """Compare the latencies of two sides.

    Args:
        before: The calls of the first side.
        after: The calls of the second side.

    Returns:
        The difference of each latency.
    """
    return [_difference(name, before, after) for name in LATENCIES]


def _difference(
    name: str, before: Sequence[ReportedCall], after: Sequence[ReportedCall]
) -> Difference:
    spread_before = Spread.of(values_of(before, name))
    spread_after = Spread.of(values_of(after, name))
    moved = noise = None
    if spread_before and spread_after:
        moved = spread_after.p50 - spread_before.p50
        errors = [_error(before, name), _error(after, name)]
        known = [error for error in errors if error is not None]
        if len(known) == len(errors):
            noise = _ERRORS_APART * sum(error**2 for error in known) ** 0.5
    return Difference(name, spread_before, spread_after, moved, noise)


def _error(calls: Sequence[ReportedCall], name: str) -> float | None:
    """Return how well the median of a latency is known, in seconds; `None` with one value."""
    values = values_of(calls, name)
    if len(values) < 2:
        return None
    error = _MEDIAN_ERROR * stdev(values) / len(values) ** 0.5
    each = [spread.p50 for call in calls if (spread := Spread.of(call.course.latencies[name]))]
    return max(error, _MEDIAN_ERROR * stdev(each) / len(each) ** 0.5) if len(each) > 1 else error
