"""Runs one conversation or several, and compares their latencies with limits."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from pipecat_hydra.cli.talk.display import Display
from pipecat_hydra.cli.talk.errors import ExitCode, TalkError
from pipecat_hydra.cli.talk.limits import Limits, Run, as_json, excesses, spreads
from pipecat_hydra.cli.talk.session import TalkOptions, talk
from pipecat_hydra.cli.terminal import say

__all__ = ["talk_repeatedly"]


async def talk_repeatedly(
    options: TalkOptions,
    limits: Limits,
    *,
    repeat: int = 1,
    machine: bool = False,
    progress: bool = True,
) -> None:
    """Play a recording to Hydra, once or several times, and stop a build that has become slow.

    Args:
        options: The recording, and the service to talk to. If there are several runs, the name of
            the output has the number of the run.
        limits: The longest latencies that are accepted.
        repeat: How many runs there are, one after the other.
        machine: Whether standard output is JSON, and what happens is shown on standard error.
        progress: Whether there is a progress bar on a terminal.

    Raises:
        TalkError: A run failed, and there are no more; or a latency has exceeded its limit.
        ScriptError: The emulator's script cannot be used.
    """
    runs: list[Run] = []
    failure: TalkError | None = None
    display = _display(machine, progress)
    for number in range(1, repeat + 1):
        display = _display(machine, progress)
        run_options = (
            options if repeat == 1 else replace(options, output=_numbered(options, number))
        )
        with display:
            if repeat > 1:
                display.line(f"run {number} of {repeat}")
            try:
                report = await talk(run_options, display)
            except TalkError as error:
                run = f"run {number} of {repeat}: " if repeat > 1 else ""
                failure = TalkError(f"{run}{error}", error.exit_code)
                break
        runs.append(Run(number, report, run_options))
    if machine:
        say(json.dumps(as_json(runs, limits, failure and str(failure)), indent=2))
    elif len(runs) > 1:
        display.spreads(spreads(runs), len(runs))
    if failure is not None:
        raise failure
    _check(runs, limits)


def _display(machine: bool, progress: bool) -> Display:
    console = Console(stderr=True, highlight=False) if machine else None
    return Display(console, progress=progress)


def _numbered(options: TalkOptions, number: int) -> Path:
    output = options.output
    return output.with_name(f"{output.stem}-{number}{output.suffix}")


def _check(runs: Sequence[Run], limits: Limits) -> None:
    exceeded = excesses(runs, limits)
    if exceeded:
        raise TalkError("; ".join(map(str, exceeded)), ExitCode.EXCEEDED)
