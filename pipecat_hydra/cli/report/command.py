"""The command `report`: its options, and what it writes where."""

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from pipecat_hydra.cli.terminal import say

if TYPE_CHECKING:
    from pipecat_hydra.cli.report.calls import ReportedCall
    from pipecat_hydra.cli.report.figures import Difference

__all__ = ["add_report"]

_PAGE = Path("report.html")
_PLAIN_WIDTH = 120
"""Number of columns if the output is no terminal, such as a log file."""

_EPILOG = "Exit codes: 0 done, 1 failed, 2 no recording there, or a bad option."


def add_report(app: typer.Typer, edge: Callable[[bool, str], AbstractContextManager[None]]) -> None:
    """Add the command.

    Args:
        app: What it is added to.
        edge: Turns exceptions into messages and exit codes.
    """

    @app.command(epilog=_EPILOG)
    def report(
        calls: Annotated[
            list[Path],
            typer.Argument(
                metavar="CALL...", help="Folders of recorded calls, or folders of such folders."
            ),
        ],
        output: Annotated[
            Path | None,
            typer.Option(
                "--output",
                "-o",
                help="The file that is written.",
                show_default=f"{_PAGE}, and standard output for what is no page",
            ),
        ] = None,
        text: Annotated[bool, typer.Option("--text", help="Show it on the terminal.")] = False,
        json: Annotated[bool, typer.Option("--json", help="Write it as data.")] = False,
        svg: Annotated[bool, typer.Option("--svg", help="Write a picture of one call.")] = False,
        perfetto: Annotated[
            bool,
            typer.Option("--perfetto", help="Write trace events, for ui.perfetto.dev."),
        ] = False,
        compare: Annotated[
            bool,
            typer.Option(
                "--compare",
                help="Compare the latencies of two sides, each a call or a folder of calls.",
            ),
        ] = False,
    ) -> None:
        """Show what recorded calls came to: as a page, a picture, text or data.

        The page is one file that needs no network: both voices as waveforms that can be played,
        turns, replies, barge-ins, tool calls and errors on one time axis, and the latencies as a
        person in the call would measure them, measured in the audio.
        """
        with edge(False, ""):
            formats = [
                name
                for name, is_wanted in (
                    ("text", text),
                    ("json", json),
                    ("svg", svg),
                    ("perfetto", perfetto),
                )
                if is_wanted
            ]
            if len(formats) > 1:
                raise typer.BadParameter(f"--{formats[0]} and --{formats[1]} exclude each other")
            _report(calls, formats[0] if formats else "page", output, compare)


def _report(paths: Sequence[Path], form: str, output: Path | None, compare: bool) -> None:
    from pipecat_hydra.cli.report.calls import open_calls
    from pipecat_hydra.cli.report.figures import compare as compared

    if compare and (len(paths) != 2 or form in ("svg", "perfetto")):
        raise typer.BadParameter("--compare takes two calls or folders, for a page, text or data")
    if compare:
        before, after = ([*open_calls([path])] for path in paths)
        calls, differences = [*before, *after], compared(before, after)
    else:
        calls, differences = open_calls(paths), []
    if form == "svg" and len(calls) > 1:
        raise typer.BadParameter(f"--svg takes one call, and there are {len(calls)}")
    if form == "text" and output is None:
        _show(calls, differences)
        return
    made = _made(form, calls, differences)
    if output is None and form != "page":
        say(made.rstrip("\n"))
        return
    output = output or _PAGE
    output.write_text(made, encoding="utf-8", newline="\n")
    say(f"{output}: {_about(calls)}")


def _made(form: str, calls: "Sequence[ReportedCall]", differences: "Sequence[Difference]") -> str:
    """Make a report in one of its forms."""
    match form:
        case "json":
            from pipecat_hydra.cli.report.document import document

            return json.dumps(document(calls, differences), ensure_ascii=False, indent=2) + "\n"
        case "svg":
            from pipecat_hydra.cli.report.picture import svg

            return svg(calls[0])
        case "perfetto":
            from pipecat_hydra.cli.report.perfetto import trace

            return json.dumps(trace(calls), ensure_ascii=False) + "\n"
        case "text":
            from io import StringIO

            written = StringIO()
            _show(calls, differences, written)
            return written.getvalue()
        case _:
            from pipecat_hydra.cli.report.page import page

            return page(calls, differences)


def _show(
    calls: "Sequence[ReportedCall]",
    differences: "Sequence[Difference]",
    file: IO[str] | None = None,
) -> None:
    from rich.console import Console

    from pipecat_hydra.cli.report.text import show

    console = Console(highlight=False, file=file or sys.stdout)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    show(console, calls, differences)


def _about(calls: "Sequence[ReportedCall]") -> str:
    secs = sum(call.course.secs for call in calls)
    return f"{len(calls)} call{'s'[: len(calls) != 1]}, {secs:.1f} s"
