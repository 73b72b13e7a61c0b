"""Options of several commands, and those of `talk` that gate a build: repetition and limits."""

import os
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from pipecat_hydra.wire.protocol import BASE_URL_VARIABLE, DEFAULT_BASE_URL, KEY_VARIABLE

__all__ = [
    "AsJson",
    "Emulated",
    "Instructions",
    "MaxAnswer",
    "MaxBargeIn",
    "MaxToolTurn",
    "Model",
    "Repeat",
    "Url",
    "Verbose",
    "Voice",
    "endpoint_of",
]

Verbose: TypeAlias = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show logs, on standard error.")
]

Emulated: TypeAlias = Annotated[
    bool,
    typer.Option("--emulator", help=f"Talk to the embedded emulator, as without {KEY_VARIABLE}."),
]

Model: TypeAlias = Annotated[str, typer.Option(help="Hydra model.")]

Voice: TypeAlias = Annotated[
    str | None, typer.Option(help="Its voice.", show_default="the model's")
]

Instructions: TypeAlias = Annotated[
    str | None, typer.Option(help="System instruction.", show_default="a concise assistant")
]

Url: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Endpoint.", show_default=f"{BASE_URL_VARIABLE}, else {DEFAULT_BASE_URL}"),
]

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


def endpoint_of(emulator: bool, script: Path | None, url: str | None) -> tuple[str, str]:
    """Return the key for Hydra, which is empty for the emulator, and the endpoint.

    Args:
        emulator: Whether the embedded emulator is asked for.
        script: What it answers by.
        url: The endpoint that is asked for.

    Raises:
        BadParameter: The options contradict each other, or the environment has no key.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if emulator or script is not None:
        if url:
            option = "--script" if script else "--emulator"
            raise typer.BadParameter(f"{option} and --url exclude each other")
        return "", DEFAULT_BASE_URL
    base_url = url or os.environ.get(BASE_URL_VARIABLE, "").strip()
    if base_url and not key:
        source = "--url" if url else BASE_URL_VARIABLE
        raise typer.BadParameter(f"{source} needs a key: set {KEY_VARIABLE}")
    return key, base_url or DEFAULT_BASE_URL
