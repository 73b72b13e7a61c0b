"""The command `replay`: its options, and what it prints."""

import json as json_format
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from pipecat_hydra.cli.signals import run_until_signal
from pipecat_hydra.cli.terminal import say

__all__ = ["add_replay"]

_EPILOG = (
    "Exit codes: 0 done, 1 failed, or there are differences with --strict, 2 no recording there, "
    "or one that cannot be replayed, 130 ended with Ctrl-C, 143 by SIGTERM, 129 by SIGHUP."
)


def add_replay(app: typer.Typer, edge: Callable[[bool, str], AbstractContextManager[None]]) -> None:
    """Add the command.

    Args:
        app: What it is added to.
        edge: Turns exceptions into messages and exit codes.
    """

    @app.command(epilog=_EPILOG)
    def replay(
        call: Annotated[Path, typer.Argument(metavar="CALL", help="Folder of a recorded call.")],
        strict: Annotated[
            bool, typer.Option("--strict", help="Exit with 1 if there are differences.")
        ] = False,
        record: Annotated[
            Path | None,
            typer.Option(
                metavar="DIR",
                help="Keep the recording of the replay in a folder in this one.",
                show_default="kept nowhere",
            ),
        ] = None,
        json: Annotated[bool, typer.Option("--json", help="Print the comparison as data.")] = False,
        bare: Annotated[
            bool, typer.Option("--bare", help="Use a pipeline without context aggregators.")
        ] = False,
        verbose: Annotated[
            bool, typer.Option("--verbose", "-v", help="Show logs, on standard error.")
        ] = False,
    ) -> None:
        """Hold a recorded call again, and say what is different.

        The emulator plays the server's side of the call, with its timing. A pipeline with this
        version of the service hears the recorded microphone, and its functions give the recorded
        results. What it sends, its frames and its latencies are compared with the recording. It
        takes as long as the call did, and needs no key and no network.
        """
        with edge(verbose, ""):
            from pipecat_hydra.cli.replay.run import ReplayOptions
            from pipecat_hydra.cli.replay.run import replay as run
            from pipecat_hydra.cli.talk import Display

            options = ReplayOptions(call=call, record=record, aggregators=not bare)
            with Display(progress=not (verbose or json)) as display:
                comparison = run_until_signal(
                    run(options, progress=lambda now, end: display.advance("replaying", now, end))
                )
            if json:
                say(json_format.dumps(comparison.as_json(), ensure_ascii=False, indent=2))
            else:
                for line in comparison.lines():
                    display.line(line)
            if strict and comparison.differences:
                raise typer.Exit(1)
