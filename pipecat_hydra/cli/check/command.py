"""The command `check`: its options, its exit codes, and what it writes where."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipecat_hydra.cli.options import Model, Url, Verbose, Voice, endpoint_of
from pipecat_hydra.cli.signals import run_until_signal
from pipecat_hydra.cli.terminal import say
from pipecat_hydra.wire.protocol import DEFAULT_MODEL, KEY_VARIABLE

if TYPE_CHECKING:
    from pipecat_hydra.cli.check.questions import Question
    from pipecat_hydra.cli.check.run import CheckOptions, Findings

__all__ = ["add_check"]

_EPILOG = (
    "Exit codes: 0 nothing differs from what this version assumes, 1 something does, 2 bad option, "
    "or no server that can be asked: the key is refused, it is at capacity, it is not Hydra. 130 "
    "ended with Ctrl-C, 143 by SIGTERM, 129 by SIGHUP: what is known so far is shown."
)


def add_check(app: typer.Typer, edge: Callable[[bool, str], AbstractContextManager[None]]) -> None:
    """Add the command.

    Args:
        app: What it is added to.
        edge: Turns exceptions into messages and exit codes.
    """

    @app.command(epilog=_EPILOG)
    def check(
        only: Annotated[
            list[str] | None,
            typer.Option(
                metavar="ID",
                help="Ask only this question; may be given many times.",
                show_default="all but capacity",
            ),
        ] = None,
        capacity: Annotated[
            bool,
            typer.Option(
                "--capacity",
                help="Ask too how many sessions there may be: opens sessions until one is refused.",
            ),
        ] = False,
        emulator: Annotated[
            bool, typer.Option("--emulator", help="Ask the embedded emulator, to try the command.")
        ] = False,
        model: Model = DEFAULT_MODEL,
        voice: Voice = None,
        url: Url = None,
        output: Annotated[
            Path | None,
            typer.Option("--output", "-o", metavar="FILE", help="Write a report, in Markdown."),
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print it as data.")] = False,
        record: Annotated[
            Path | None,
            typer.Option(
                metavar="DIR",
                help="Keep the recording of each scene in a folder in DIR.",
                show_default="kept nowhere",
            ),
        ] = None,
        cost: Annotated[
            bool, typer.Option("--cost", help="Say what it would cost, and open nothing.")
        ] = False,
        list_all: Annotated[
            bool, typer.Option("--list", help="List the questions, and open nothing.")
        ] = False,
        verbose: Verbose = False,
    ) -> None:
        """Ask the service what its documentation leaves open, and compare with what is assumed.

        Takes about two minutes, and some minutes of session, which are paid for; `--cost` says how
        many. It speaks recorded sentences, and keeps no audio unless told to. What differs from
        what this version of the package assumes is in bold. The report holds neither the key nor
        audio, so that it can be attached to an issue.
        """
        key, base_url = ("", "") if cost or list_all else endpoint_of(emulator, None, url)
        with edge(verbose, key):
            from pipecat_hydra.cli.check.run import CheckOptions
            from pipecat_hydra.cli.check.show import show_cost, show_questions

            questions = _chosen(only, is_capacity_asked=capacity)
            if list_all:
                show_questions(questions)
            elif cost:
                show_cost(questions)
            else:
                options = CheckOptions(
                    questions=questions,
                    api_key=key,
                    base_url=base_url,
                    is_emulated=emulator,
                    model=model,
                    voice=voice,
                    record=record,
                )
                _check(options, output, as_json)


def _chosen(only: Sequence[str] | None, *, is_capacity_asked: bool) -> "list[Question]":
    """Return the questions that are to be asked, in the order in which they are shown."""
    from pipecat_hydra.cli.check.questions import QUESTIONS
    from pipecat_hydra.cli.check.run import CAPACITY

    for name in only or ():
        if name not in QUESTIONS:
            near = get_close_matches(name, QUESTIONS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else "; --list shows all"
            raise typer.BadParameter(f"there is no question {name!r}{hint}")
    wanted = set(only or QUESTIONS) - {CAPACITY}
    if is_capacity_asked or CAPACITY in (only or ()):
        wanted.add(CAPACITY)
    return [question for name, question in QUESTIONS.items() if name in wanted]


def _check(options: "CheckOptions", output: Path | None, as_json: bool) -> None:
    from pipecat_hydra.cli.check.report import verdicts
    from pipecat_hydra.cli.check.run import check
    from pipecat_hydra.cli.check.show import show_scene
    from pipecat_hydra.cli.talk.errors import ExitCode, TalkError

    if not (options.api_key or options.is_emulated):
        raise TalkError(
            f"there is no key: set {KEY_VARIABLE} to one of yours, or try the command with "
            "--emulator. --cost says what it costs, and --list what it asks",
            ExitCode.USAGE,
        )
    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        raise TalkError(f"the report cannot be written: {output} is no file", ExitCode.USAGE)
    findings = run_until_signal(
        check(
            options,
            on_scene=_nothing if as_json else show_scene,
            on_end=lambda findings: _tell(findings, output, as_json),
        )
    )
    if verdicts(findings)["otherwise"]:
        raise typer.Exit(ExitCode.FAILED)


def _tell(findings: "Findings", output: Path | None, as_json: bool) -> None:
    """Print what was found, and write the report."""
    from pipecat_hydra.cli.check import report
    from pipecat_hydra.cli.check.show import show

    if as_json:
        say(json.dumps(report.as_json(findings), ensure_ascii=False, indent=2))
    else:
        show(findings)
    if output is not None:
        output.write_text(report.markdown(findings), encoding="utf-8", newline="\n")
        typer.echo(f"{output}: the report", err=as_json)


def _nothing(_: object) -> None:
    pass
