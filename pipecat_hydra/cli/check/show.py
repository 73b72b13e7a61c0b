"""Shows a check on the terminal: scenes as they begin, then a table of all answers."""

import sys
from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipecat_hydra.cli.check.questions import Answer, Question
from pipecat_hydra.cli.check.report import summary
from pipecat_hydra.cli.check.run import Findings, cost_secs, scenes_of
from pipecat_hydra.cli.check.scenes import Scene

__all__ = ["show", "show_cost", "show_questions", "show_scene"]

_PLAIN_WIDTH: Final = 160
"""Number of columns if the output is no terminal, such as a log file."""

_STYLES: Final = {"as assumed": "", "otherwise": "bold", "not seen": "dim"}


def show_scene(scene: Scene) -> None:
    """Print what is done now."""
    _console().print(Text(f"{scene.name}: {scene.how}", style="dim"), soft_wrap=True)


def show(findings: Findings) -> None:
    """Print all answers."""
    console = _console()
    answers = findings.answers()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("question", "answer", "evidence", "sure"):
        table.add_column(header, overflow="fold", ratio={"evidence": 5, "sure": 1}.get(header, 4))
    for question in findings.questions:
        table.add_row(*_row(question, answers[question.id]))
    console.print(table)
    console.print(Text(summary(findings)), soft_wrap=True)


def show_questions(questions: Sequence[Question]) -> None:
    """Print what can be asked."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("id", "question", "protocol", "this version assumes"):
        table.add_column(header, overflow="fold")
    for question in questions:
        table.add_row(question.id, question.text, question.section, question.assumes)
    _console().print(table)


def show_cost(questions: Sequence[Question]) -> None:
    """Print what it costs to ask some questions."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("scene")
    table.add_column("what is done", overflow="fold")
    table.add_column("seconds", justify="right")
    for scene in scenes_of(questions):
        table.add_row(scene.name, scene.how, f"{scene.cost_secs:g}")
    console = _console()
    console.print(table)
    minutes = cost_secs(questions) / 60
    console.print(f"about {minutes:.1f} minutes of session; nothing was opened", soft_wrap=True)


def _row(question: Question, answer: Answer) -> list[Text]:
    style = _STYLES[answer.verdict]
    evidence = "\n".join(answer.evidence)
    verdict = "" if answer.verdict == "as assumed" else f"{answer.verdict}: "
    told = f"{verdict}{answer.text}"
    if answer.verdict == "otherwise":
        told += f"\nassumed: {question.assumes}"
    texts = (f"{question.id}\n{question.text}", told, evidence, answer.sure)
    return [Text(_plain(text), style=style) for text in texts]


def _plain(text: str) -> str:
    """Escape what a terminal would take for a command, as a server may send anything."""
    return "".join(
        char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text
    )


def _console() -> Console:
    console = Console(highlight=False, file=sys.stdout)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    return console
