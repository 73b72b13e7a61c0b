"""What a check found, as data and as a report that can be attached to an issue.

Neither has the key, audio, or what a voice has said: only questions, answers and events.
"""

import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from pipecat_hydra.cli.check.questions import Answer, Question
from pipecat_hydra.cli.check.run import Findings
from pipecat_hydra.cli.check.scenes import SCENES

__all__ = ["as_json", "markdown", "summary", "verdicts"]


def verdicts(findings: Findings) -> dict[str, int]:
    """Return how many answers there are of each kind."""
    counted = {"as assumed": 0, "otherwise": 0, "not seen": 0}
    for answer in findings.answers().values():
        counted[answer.verdict] += 1
    return counted


def summary(findings: Findings) -> str:
    """Return what came out, on one line."""
    counted = ", ".join(f"{number} {verdict}" for verdict, number in verdicts(findings).items())
    total = len(findings.questions)
    minutes = findings.session_secs / 60
    begun = "" if findings.is_complete else "interrupted; "
    return f"{begun}{total} questions: {counted}; {minutes:.1f} minutes of session"


def as_json(findings: Findings) -> dict[str, Any]:
    """Return what was found, as data."""
    answers = findings.answers()
    return {
        **_facts(findings),
        "is_complete": findings.is_complete,
        "session_secs": round(findings.session_secs, 1),
        "counts": verdicts(findings),
        "questions": [
            {
                "id": question.id,
                "question": question.text,
                "section": question.section,
                "assumed": question.assumes,
                "how": _how(question),
                "verdict": answers[question.id].verdict,
                "answer": answers[question.id].text,
                "evidence": list(answers[question.id].evidence),
                "sure": answers[question.id].sure,
            }
            for question in findings.questions
        ],
    }


def markdown(findings: Findings) -> str:
    """Return the report."""
    return "\n".join(_lines(findings)) + "\n"


def _facts(findings: Findings) -> dict[str, Any]:
    endpoint = findings.endpoint
    return {
        "checked_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "package": version("pipecat-hydra"),
        "python": platform.python_version(),
        "host": endpoint.host,
        "model": endpoint.model,
        "key_in": endpoint.auth,
    }


def _how(question: Question) -> list[str]:
    return [SCENES[name].how for name in question.scenes]


def _lines(findings: Findings) -> Iterator[str]:
    answers = findings.answers()
    yield "# What the server answers"
    yield ""
    yield "Made by `pipecat-hydra check`. There is neither a key nor audio in this report."
    yield ""
    for name, value in _facts(findings).items():
        yield f"- {name.replace('_', ' ')}: {_inline(str(value))}"
    yield f"- {summary(findings)}"
    differing = [q for q in findings.questions if answers[q.id].verdict == "otherwise"]
    yield ""
    yield "## What differs from the assumptions of this version"
    yield ""
    if not differing:
        yield "Nothing that was seen."
    for question in differing:
        yield f"- **{question.id}**: {_inline(question.text)} Assumed: {question.assumes}. "
        yield f"  Seen: **{_inline(answers[question.id].text)}** ({question.section})"
    yield ""
    yield "## All answers"
    yield ""
    yield "| question | assumed | answer | how sure |"
    yield "|---|---|---|---|"
    for question in findings.questions:
        yield _row(question, answers[question.id])
    yield ""
    yield "## Evidence"
    for question in findings.questions:
        answer = answers[question.id]
        yield ""
        yield f"**{question.id}** ({question.section}). {' '.join(_how(question))}"
        yield ""
        for line in answer.evidence or (f"{answer.verdict}: {answer.text}",):
            yield f"- {_code(line)}"


def _row(question: Question, answer: Answer) -> str:
    text = _cell(answer.text)
    if answer.verdict == "otherwise":
        text = f"**{text}**"
    elif answer.verdict == "not seen":
        text = f"not seen: {text}"
    asked = f"`{question.id}` {_cell(question.text)}"
    return f"| {asked} | {_cell(question.assumes)} | {text} | {answer.sure} |"


def _cell(text: str) -> str:
    return _inline(text).replace("|", "\\|")


def _inline(text: str) -> str:
    """Return a text of the server on one line, without what Markdown would take for HTML."""
    return " ".join(_plain(text).split()).replace("<", "&lt;")


def _code(text: str) -> str:
    return f"`{' '.join(_plain(text).split()).replace('`', chr(39))}`"


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() or char.isspace() else "?" for char in text)
