"""Shows a conversation on the terminal: lines as things happen, a progress bar, a table."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from pipecat_hydra.cli.talk.report import DEFINITIONS, Report, Row
from pipecat_hydra.cli.terminal import abandon
from pipecat_hydra.recording.spread import Spread

__all__ = ["Display"]

_PLAIN_WIDTH = 120
"""Number of columns if the output is no terminal, such as a log file."""

_HEADERS = (
    "turn",
    "user\nspoke, s",
    "reply\nheard, s",
    "first audio, s\nspeech / turn",
    "TTFB\ns",
    "barge-in\ns",
    "reply bytes\nreceived / heard",
    "tokens\nin / out",
)


class _StandardOutput(Console):
    """A console whose reader may go away, without an error that would end the conversation."""

    @override
    def on_broken_pipe(self) -> None:
        abandon()


class Display:
    """Shows a conversation on a terminal, and as plain lines on any other output.

    Use as a context manager: the progress bar is shown from `__enter__` to `__exit__`.
    """

    def __init__(self, console: Console | None = None, *, progress: bool = True):
        """Create a display.

        Args:
            console: Where to show it, standard output by default.
            progress: Whether there is a progress bar, if the console is a terminal.
        """
        self._console = console or _StandardOutput(highlight=False)
        if console is None and not self._console.is_terminal:
            self._console.width = _PLAIN_WIDTH
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.1f} of {task.total:.1f} s"),
            console=self._console,
            transient=True,
            disable=not (progress and self._console.is_terminal),
        )
        self._task = self._progress.add_task("starting", total=0.0)

    def __enter__(self) -> Self:
        """Show the progress bar."""
        self._progress.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the progress bar."""
        self._progress.stop()

    def line(self, text: str) -> None:
        """Show a line.

        Args:
            text: The line, without markup. Terminal control characters are escaped.
        """
        plain = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
        self._console.print(Text(plain), soft_wrap=True)

    def note(self, secs: float, what: str) -> None:
        """Show that something happened.

        Args:
            secs: When it happened, in seconds since the start.
            what: What happened, in a few words.
        """
        self.line(f"{max(0.0, secs):7.2f} s  {what}")

    def advance(self, what: str, secs: float, total_secs: float) -> None:
        """Move the progress bar.

        Args:
            what: Name of what is in progress.
            secs: How much of it is done, in seconds.
            total_secs: Its whole length in seconds.
        """
        self._progress.update(
            self._task, description=what, completed=min(secs, total_secs), total=total_secs
        )

    def report(self, report: Report) -> None:
        """Show the table of a finished conversation, and what its figures mean.

        Args:
            report: The figures.
        """
        self._progress.stop()
        table = _table(report)
        unlimited = self._console.options.update_width(1_000)
        if self._console.measure(table, options=unlimited).maximum > self._console.width:
            table = _upright_table(report)
        self._console.print(table)
        self.line(
            f"{len(report.rows)} turn{'s'[: len(report.rows) != 1]} in {report.length_secs:.1f} s, "
            f"{report.microphone_bytes} bytes of microphone audio"
        )
        for definition in DEFINITIONS:
            self._console.print(Text(definition, style="dim"), soft_wrap=True)

    def spreads(self, spreads: Mapping[str, Spread], runs: int) -> None:
        """Show how the latencies of several runs are spread.

        Args:
            spreads: The spread of each latency.
            runs: How many runs there were.
        """
        self._progress.stop()
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for header in (f"{runs} runs", "count", "p50, s", "p95, s", "least, s", "most, s"):
            table.add_column(header, justify="right", no_wrap=True)
        table.columns[0].justify = "left"
        for name, one in spreads.items():
            figures = (one.p50, one.p95, one.least, one.most)
            table.add_row(name.replace("_", " "), str(one.count), *map(_secs, figures))
        self._console.print(table)


def _table(report: Report) -> Table:
    """Build the table with one line for each turn."""
    headers, *lines = _figures(report)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    return table


def _upright_table(report: Report) -> Table:
    """Build the table with one column for each turn, which is half as wide."""
    numbers, *lines = zip(*_figures(report), strict=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number in numbers:
        table.add_column(number, justify="right", no_wrap=True)
    table.columns[0].justify = "left"
    for header, *cells in lines:
        table.add_row(header.replace("\n", " "), *cells)
    return table


def _figures(report: Report) -> list[list[str]]:
    """Return what a table shows: the headers, then the figures of each turn."""
    figures = [list(_HEADERS), *(_cells(row) for row in report.rows)]
    if any(row.turn.calls for row in report.rows):
        counts = [str(row.turn.calls) for row in report.rows]
        for line, cell in zip(figures, ["calls", *counts], strict=True):
            line.append(cell)
    return figures


def _cells(row: Row) -> list[str]:
    reply = _span(row.reply_start_secs, row.reply_end_secs)
    if row.turn.interrupted_secs is not None:
        reply += " cut"
    tokens = (row.turn.prompt_tokens, row.turn.completion_tokens)
    return [
        str(row.turn.number),
        _span(row.user_start_secs, row.user_end_secs),
        reply,
        _pair(_secs(row.first_audio_after_speech_secs), _secs(row.first_audio_after_report_secs)),
        _secs(row.turn.ttfb_secs),
        _secs(row.barge_in_secs),
        _pair(str(row.turn.received_bytes), str(row.heard_bytes)),
        _pair(*("-" if count is None else str(count) for count in tokens)),
    ]


def _secs(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _span(start: float | None, end: float | None) -> str:
    return f"{_secs(start)} - {_secs(end)}" if start is not None else "-"


def _pair(first: str, second: str) -> str:
    return f"{first} / {second}"
