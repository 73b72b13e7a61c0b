"""Standard output: whatever becomes of it, and whatever it cannot show, a command goes on."""

import io
import os
import sys
from contextlib import suppress

import typer

__all__ = ["abandon", "prepare", "say"]


def prepare() -> None:
    """Have characters that its encoding lacks written as escapes, as on standard error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Write a line, if anybody still reads.

    Args:
        line: The line, without line break.
    """
    try:
        typer.echo(line)
    except OSError:
        abandon()


def abandon() -> None:
    """Write to nowhere from now on: who read has gone, as `head` does.

    What is still buffered would fail once more when the interpreter ends.
    """
    # A stream without a file is in memory: it goes nowhere.
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, sys.stdout.fileno())
        finally:
            os.close(nowhere)
