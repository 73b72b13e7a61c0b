"""Writes to standard output without failing if its reader is gone or its encoding is limited."""

import io
import os
import sys
from contextlib import suppress

import typer

__all__ = ["abandon", "prepare", "say"]


def prepare() -> None:
    """Write characters that the encoding of standard output lacks as escapes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Write a line, unless the reader is gone.

    Args:
        line: The line, without line break.
    """
    try:
        typer.echo(line)
    except OSError:
        abandon()


def abandon() -> None:
    """Discard all further output, because the reader is gone, for instance `head`.

    Without this the interpreter would fail at its end, when it writes what is still buffered.
    """
    # A stream without a file is in memory, and cannot fail.
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, sys.stdout.fileno())
        finally:
            os.close(nowhere)
