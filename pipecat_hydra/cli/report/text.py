"""A report for terminals: the course of each call as lines, and its latencies as a table."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipecat_hydra.cli.report.calls import ReportedCall
from pipecat_hydra.cli.report.figures import DEFINITIONS, TITLES, Difference, spreads
from pipecat_hydra.cli.report.lines import Line, lines_of
from pipecat_hydra.recording.spread import Spread

__all__ = ["show"]

_STYLES = {
    "user": "dark_orange",
    "bot": "cyan",
    "tool": "magenta",
    "line": "blue",
    "cut": "red",
    "error": "bold red",
}


def show(
    console: Console, calls: Sequence[ReportedCall], differences: Sequence[Difference] = ()
) -> None:
    """Print a report.

    Args:
        console: Where to.
        calls: The calls.
        differences: What a comparison found; then the calls themselves are not shown.
    """
    if differences:
        console.print(_comparison(differences))
        return
    for call in calls:
        console.print(Text(_plain(title(call)), style="bold"))
        for line in lines_of(call.course):
            console.print(_line(line), soft_wrap=True)
        console.print()
    console.print(_latencies(spreads(calls)))
    for name, definition in DEFINITIONS.items():
        console.print(Text(f"{TITLES[name]}: {definition}", style="dim"), soft_wrap=True)


def title(call: ReportedCall) -> str:
    """Return what call it is, on one line.

    Args:
        call: The call.

    Returns:
        Its name, its length, the model and the voice.
    """
    about = [call.name, f"{call.course.secs:.1f} s", call.header("model"), call.header("voice")]
    if not call.course.is_complete:
        about[1] += " (cut off)"
    return "  ".join(filter(None, about))


def _line(line: Line) -> Text:
    text = Text(f"{line.at:8.2f} s  ")
    text.append(f"{line.who:5}  ", style=_STYLES[line.kind])
    text.append(_plain(line.what))
    if line.figure:
        text.append(f"  {_plain(line.figure)}", style="dim")
    return text


def _latencies(found: dict[str, Spread | None]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("ms", "n", "p50", "p90", "p95", "least", "most"):
        table.add_column(header, justify="left" if header == "ms" else "right", no_wrap=True)
    for name, spread in found.items():
        table.add_row(TITLES[name], *_figures(spread))
    return table


def _figures(spread: Spread | None) -> list[str]:
    if spread is None:
        return ["0", *["-"] * 5]
    values: list[Any] = [spread.p50, spread.p90, spread.p95, spread.least, spread.most]
    return [str(spread.count), *(f"{1000 * value:.0f}" for value in values)]


def _comparison(differences: Sequence[Difference]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    headers = ("ms", "n", "before p50", "p95", "after p50", "p95", "moved", "")
    for header in headers:
        justify = "left" if header in ("ms", "") else "right"
        table.add_column(header, justify=justify, no_wrap=True)
    for difference in differences:
        before, after = _figures(difference.before), _figures(difference.after)
        moved = "-" if difference.moved is None else f"{1000 * difference.moved:+.0f}"
        style = {"slower": "red", "faster": "green"}.get(difference.verdict, "dim")
        table.add_row(
            TITLES[difference.name],
            f"{before[0]} / {after[0]}",
            before[1],
            before[3],
            after[1],
            after[3],
            moved,
            Text(difference.verdict, style=style),
        )
    return table


def _plain(text: str) -> str:
    """Escape what a terminal would take for a command, as texts of a call may be anybody's."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
