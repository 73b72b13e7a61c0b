"""The tables and plots of turns after turns."""

import math
import statistics
from collections.abc import Sequence

from benchmarks.bench import BARE, FLOORS, NAMES, Bench
from benchmarks.figures import described, ms, percentile
from benchmarks.goals import Goal
from benchmarks.plots import Plot
from benchmarks.report import Table
from benchmarks.rows.reply_figures import Figures, Key, Measured, ratios_to

__all__ = ["goals", "memory", "plots", "table"]

_FULL = 0.9
"""A process that uses so much of its core has filled it."""


def table(bench: Bench, measured: Measured, rival: str, *, lean: bool) -> Table:
    """Costs and latencies of all peers in one kind of worker."""
    peers = [peer for peer in bench.peers if any(key.peer == peer for key in measured)]
    worker = "lean" if lean else "default"
    made = Table([f"{worker} worker", *(NAMES[peer] for peer in peers), "Hydra, relative"])
    for sessions in bench.options.sessions:
        ratios = ratios_to(measured, rival, lean=lean, sessions=sessions)
        cells = {peer: measured.get(Key(peer, lean, sessions), []) for peer in peers}
        for title, figures, names in _lines(cells):
            if any(figure != "-" for figure in figures):
                relative = [described(ratios[name]) for name in names if name in ratios]
                row = [f"{sessions}: {title}", *figures, " / ".join(relative) or "-"]
                made.rows.append(row)
    return made


def goals(bench: Bench, measured: Measured) -> list[Goal]:
    """What Hydra's costs and latencies are to be beside OpenAI's."""
    made: list[Goal] = []
    for sessions in bench.options.sessions:
        for lean in (False, True):
            ours, theirs, floor = (
                measured.get(Key(peer, lean, sessions), [])
                for peer in ("hydra", "openai", "null + audio")
            )
            if ours and theirs:
                found = ratios_to(measured, "openai", lean=lean, sessions=sessions)
                full = _cpu(theirs) * sessions / 60 > _FULL
                where = f"{sessions} sessions, {'lean' if lean else 'default'} worker"
                made += [
                    Goal(f"{name} beside OpenAI's, {where}", ratio.value, limit)
                    for key, name, limit in _limits(sessions, full=full)
                    if (ratio := found.get(key)) is not None
                ]
            if ours and floor and sessions == 1:
                above = percentile(_all(ours, "first"), 50) - percentile(_all(floor, "first"), 50)
                worker = "lean" if lean else "default"
                made.append(Goal(f"first delta above the floor, ms, alone, {worker}", above, 0.7))
    return made


def _limits(sessions: int, *, full: bool) -> list[tuple[str, str, float]]:
    """The ratios that have limits: name of the ratio, words for it, limit."""
    delta = 0.5 if full else 1.0
    limits = [
        ("first 50", "first delta, p50,", delta),
        ("first 99", "first delta, p99,", delta),
        ("interruptions 50", "interruption, p50,", 1.0),
    ]
    if sessions >= 10:
        limits += [
            ("interruptions 99", "interruption, p99,", 0.6),
            ("cpu", "CPU", 0.8),
            ("above null", "CPU above the null pipeline", 0.5),
        ]
    return limits


def _lines(
    cells: dict[str, Sequence[Figures]],
) -> list[tuple[str, list[str], list[str]]]:
    """The lines of one number of sessions: title, figures, and the names of the ratios."""
    cpu = {peer: _cpu(each) for peer, each in cells.items()}
    null = cpu.get("null", math.nan)
    above = [math.nan if peer in FLOORS else secs - null for peer, secs in cpu.items()]
    first, interruptions, pushes = (
        [ms(_all(each, name)) for each in cells.values()]
        for name in ("first", "interruptions", "pushes")
    )
    started = "`speech_started` → interruption"
    return [
        ("CPU s a session-minute", [_number(secs) for secs in cpu.values()], ["cpu"]),
        ("above the null pipeline", [_number(secs) for secs in above], ["above null"]),
        ("first delta → output", first, ["first 50", "first 99"]),
        (started, interruptions, ["interruptions 50", "interruptions 99"]),
        ("arrival of the delta → push", pushes, []),
    ]


def _cpu(each: Sequence[Figures]) -> float:
    return statistics.median(figures.cpu for figures in each) if each else math.nan


def _all(each: Sequence[Figures], name: str) -> list[float]:
    return [value for figures in each for value in getattr(figures, name)]


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def memory(bench: Bench, measured: Measured) -> Table:
    """What each further session adds to the process."""
    few, many = min(bench.options.sessions), max(bench.options.sessions)
    peers = [peer for peer in bench.peers if peer not in BARE]
    made = Table(["memory, MiB", *(NAMES[peer] for peer in peers)])
    for lean in (False, True) if many > few else ():
        row = [f"each session from {few} to {many}, {'lean' if lean else 'default'} worker"]
        for peer in peers:
            sides = [
                [figures.rss_mib for figures in measured.get(Key(peer, lean, sessions), [])]
                for sessions in (few, many)
            ]
            if all(sides):
                grown = statistics.median(sides[1]) - statistics.median(sides[0])
                row.append(f"{grown / (many - few):.2f}")
            else:
                row.append("-")
        made.rows.append(row)
    return made


def plots(bench: Bench, measured: Measured) -> dict[str, Plot]:
    """Costs and latencies over the number of sessions."""
    made: dict[str, Plot] = {}
    if len(bench.options.sessions) < 2:
        return made
    for lean in (False, True):
        worker = "lean" if lean else "default"
        for name, title in (
            ("cpu", "CPU s a session-minute"),
            ("first", "first delta to output, p99 ms"),
            ("interruptions", "speech_started to interruption, p99 ms"),
        ):
            plot = Plot(title, f"{worker} worker", limit=20.0 if name == "first" else None)
            for peer in bench.peers:
                line: list[tuple[float, float]] = []
                for sessions in bench.options.sessions:
                    each = measured.get(Key(peer, lean, sessions), [])
                    if each and name == "cpu":
                        line.append((sessions, statistics.median(f.cpu for f in each)))
                    elif each and (values := _all(each, name)):
                        line.append((sessions, percentile(values, 99)))
                plot.lines[NAMES[peer]] = line
            made[f"{name}-{worker}.svg"] = plot
    return made
