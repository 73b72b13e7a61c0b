"""Compares the latencies of one run or several with limits, so that a build can be stopped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipecat_hydra.cli.talk.report import Report
from pipecat_hydra.cli.talk.session import TalkOptions
from pipecat_hydra.recording.spread import Spread

__all__ = ["Excess", "Limits", "Run", "as_json", "excesses", "spreads"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The longest latencies that are accepted, in seconds; `None` for no limit.

    The names are those of `pipecat_hydra.recording.course.Course.latencies`.
    """

    answer: float | None = None
    barge_in: float | None = None
    tool_turn: float | None = None

    def named(self) -> dict[str, float]:
        """Return the limits that there are, by the names of the latencies."""
        limits = {
            "answer": self.answer,
            "barge_in": self.barge_in,
            "tool_turn": self.tool_turn,
        }
        return {name: limit for name, limit in limits.items() if limit is not None}


@dataclass(frozen=True, slots=True)
class Run:
    """One run of `pipecat-hydra talk`.

    Parameters:
        number: Counted from 1.
        report: Its figures.
        options: Its options.
    """

    number: int
    report: Report
    options: TalkOptions


@dataclass(frozen=True, slots=True)
class Excess:
    """A latency that is longer than its limit, or was not measured at all.

    Parameters:
        latency: Its name.
        run: Number of the run.
        limit: The limit in seconds.
        secs: The latency in seconds; `None` if the run had none.
        place: Which one it is of those of the run, from 1.
    """

    latency: str
    run: int
    limit: float
    secs: float | None = None
    place: int | None = None

    def __str__(self) -> str:
        """Say what was exceeded, by how much and where."""
        if self.secs is None:
            return f"no {self.latency} was measured in run {self.run}: its limit says nothing"
        return (
            f"{self.latency} {self.place} of run {self.run} took {self.secs:.2f} s, "
            f"{self.secs - self.limit:.2f} s more than {self.limit:g} s"
        )


def excesses(runs: Sequence[Run], limits: Limits) -> list[Excess]:
    """Find the latencies that exceed their limits.

    Args:
        runs: The runs.
        limits: The limits.

    Returns:
        What exceeds them, run by run. A run without any latency of a kind that has a limit does
        not pass either, since the limit would be kept by a bot that never answers.
    """
    return [found for run in runs for found in _excesses_of(run, limits)]


def _excesses_of(run: Run, limits: Limits) -> Iterator[Excess]:
    for name, limit in limits.named().items():
        values = run.report.latencies[name]
        if not values:
            yield Excess(name, run.number, limit)
        for place, secs in enumerate(values, 1):
            if secs > limit:
                yield Excess(name, run.number, limit, secs, place)


def spreads(runs: Sequence[Run]) -> dict[str, Spread]:
    """Compute how the latencies of all runs are spread.

    Args:
        runs: The runs.

    Returns:
        The spread of each latency that was measured at least once.
    """
    values: dict[str, list[float]] = {}
    for run in runs:
        for name, measured in run.report.latencies.items():
            values.setdefault(name, []).extend(measured)
    found = {name: Spread.of(measured) for name, measured in values.items()}
    return {name: spread for name, spread in found.items() if spread is not None}


def as_json(runs: Sequence[Run], limits: Limits, failure: str | None = None) -> dict[str, Any]:
    """Return what machines read; `docs/testing.md` documents it.

    Args:
        runs: The runs.
        limits: The limits.
        failure: Why there are no more runs, if one has failed.

    Returns:
        An object for JSON.
    """
    exceeded = excesses(runs, limits)
    return {
        "version": 1,
        "passed": not exceeded and failure is None,
        "failure": failure,
        "limits": limits.named(),
        "exceeded": [
            {
                "run": one.run,
                "latency": one.latency,
                "number": one.place,
                "secs": _rounded(one.secs),
                "limit": one.limit,
                "over": None if one.secs is None else _rounded(one.secs - one.limit),
            }
            for one in exceeded
        ],
        "latencies": {
            name: {
                "count": spread.count,
                "p50": _rounded(spread.p50),
                "p90": _rounded(spread.p90),
                "p95": _rounded(spread.p95),
                "least": _rounded(spread.least),
                "most": _rounded(spread.most),
            }
            for name, spread in spreads(runs).items()
        },
        "runs": [_run_as_json(run) for run in runs],
    }


def _run_as_json(run: Run) -> dict[str, Any]:
    report = run.report
    return {
        "run": run.number,
        "conversation": str(run.options.output),
        "secs": _rounded(report.length_secs),
        "latencies": {
            name: [_rounded(value) for value in values] for name, values in report.latencies.items()
        },
        "errors": report.errors,
        "turns": [
            {
                "turn": row.turn.number,
                "user_from": _rounded(row.user_start_secs),
                "user_until": _rounded(row.user_end_secs),
                "bot_from": _rounded(row.reply_start_secs),
                "bot_until": _rounded(row.reply_end_secs),
                "interrupted": row.turn.interrupted_secs is not None,
                "calls": row.turn.calls,
                "received_bytes": row.turn.received_bytes,
                "heard_bytes": row.heard_bytes,
                "prompt_tokens": row.turn.prompt_tokens,
                "completion_tokens": row.turn.completion_tokens,
            }
            for row in report.rows
        ],
    }


def _rounded(secs: float | None) -> float | None:
    return None if secs is None else round(secs, 3)
