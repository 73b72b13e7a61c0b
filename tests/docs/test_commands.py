"""The commands on the pages: their options, targets and files are there."""

import re
import shlex
from typing import Any

import pytest
import typer
from support.documents import PAGES, ROOT, Page
from typer.core import TyperArgument

from pipecat_hydra.cli.main import app

COMMAND: Any = typer.main.get_command(app)
TARGETS = set(
    re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
)

# What else a reader may be told to type: it is not of this project.
OTHERS = {
    *("bash", "cd", "cp", "done", "exit", "export", "for", "git", "mkdir", "source", "ssh"),
    *(".venv/bin/pytest", "pip", "pipecat", "prometheus", "pytest", "python", "python3"),
}


def lines_of(page: Page) -> list[tuple[int, str]]:
    """The commands of the shell blocks of a page, with their lines; continued lines are one."""
    found: list[tuple[int, str]] = []
    for block in page.blocks("sh", "bash", "shell"):
        code = re.sub(r"\\\n\s*", lambda cut: " ", block.code)
        found += [
            (block.line + at, line.strip())
            for at, line in enumerate(code.splitlines())
            if line.strip() and not line.lstrip().startswith("#")
        ]
    return found


COMMANDS = [(page, at, line) for page in PAGES for at, line in lines_of(page)]
INLINE = [
    (page, word.line, word.to)
    for page in PAGES
    for word in page.code_words()
    if re.match(r"(?:pipecat-hydra|make) [a-z]", word.to)
]


def words_of(line: str) -> list[list[str]]:
    """The commands of a line, without the environment that is set for them."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if word in ("|", "||", "&&", ";", "&"):
            commands.append([])
        elif not (not commands[-1] and re.match(r"[A-Z_]+=", word)):
            commands[-1].append(word)
    return [
        words[1:] if words[0] in ("do", "then", "sudo") else words for words in commands if words
    ]


def check(words: list[str]) -> None:
    match words:
        case ["pipecat-hydra", *rest]:
            check_hydra(rest)
        case ["make", *rest]:
            targets = [word for word in rest if "=" not in word]
            assert set(targets) <= TARGETS
        case ["python", "-m", "benchmarks", *_] | ["python", "-m", "pytest", *_]:
            pass
        case ["python", path, *_] if path.startswith("examples/"):
            assert (ROOT / path).is_file()
        case ["docker" | "kubectl", *rest]:
            assert all((ROOT / word).exists() for word in rest if word.startswith("examples/"))
        case [name, *_]:
            assert name in OTHERS


def check_hydra(words: list[str]) -> None:
    if words[0].startswith("--") or not re.match("[a-z]", words[0]):
        assert words[0] in ("--help", "--version")
        return
    command = COMMAND.commands[words[0]]
    options = {
        name: option
        for option in command.params
        if not isinstance(option, TyperArgument)
        for name in (*option.opts, *option.secondary_opts)
    }
    places = sum(isinstance(p, TyperArgument) for p in command.params)
    is_many = any(isinstance(p, TyperArgument) and p.nargs == -1 for p in command.params)
    rest, given = iter(words[1:]), 0
    for word in rest:
        name, has_value, _ = word.partition("=")
        if name == "--help" or word in (">", "2>", "<"):
            return
        if not name.startswith("-"):
            given += 1
            continue
        assert name in options, f"pipecat-hydra {words[0]} has no {name}"
        if not options[name].is_flag and not has_value:
            next(rest, None)
    assert is_many or given <= places


@pytest.mark.parametrize(("page", "at", "line"), COMMANDS, ids=str)
def test_a_command_of_a_page_is_there(page: Page, at: int, line: str):
    for words in words_of(line):
        check(words)


@pytest.mark.parametrize(("page", "at", "line"), INLINE, ids=str)
def test_a_command_within_a_sentence_is_there(page: Page, at: int, line: str):
    for words in words_of(line):
        check(words)


def test_an_option_that_is_not_there_is_found():
    with pytest.raises(AssertionError, match="has no --speed"):
        check(["pipecat-hydra", "talk", "in.wav", "--speed", "2"])
    with pytest.raises(AssertionError):
        check(["make", "coffee"])
