"""Options of `pipecat-hydra talk` that gate a build: repetition, limits and JSON."""

from typing import Annotated, TypeAlias

import typer

__all__ = ["AsJson", "MaxAnswer", "MaxBargeIn", "MaxToolTurn", "Repeat"]

Repeat: TypeAlias = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="How many times to play it; each has a file of its own."),
]

AsJson: TypeAlias = Annotated[
    bool,
    typer.Option("--json", help="Print the figures as JSON, and the rest on standard error."),
]

MaxAnswer: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="SECS",
        min=0.0,
        help="Fail if an answer is heard later than so long after the user's last sound.",
        show_default="no limit",
    ),
]

MaxToolTurn: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="SECS",
        min=0.0,
        help="The same of answers with the result of a function.",
        show_default="no limit",
    ),
]

MaxBargeIn: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="SECS",
        min=0.0,
        help="Fail if the bot is heard for longer after the first sound of a user who interrupts.",
        show_default="no limit",
    ),
]
