"""The `pipecat-hydra` command: options and exit codes. What is done is done elsewhere."""

import asyncio
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from loguru import logger

from pipecat_hydra.protocol import DEFAULT_BASE_URL, DEFAULT_MODEL

if TYPE_CHECKING:
    from pipecat_hydra.emulator import Activity, HydraEmulator

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Smallest AI's Hydra speech-to-speech model for Pipecat, and a local emulator of it.",
)

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show logs, on standard error.")]

KEY_VARIABLE = "SMALLEST_API_KEY"
INTERRUPTED = 130


def main() -> None:
    """Run the command."""
    app()


@app.callback(invoke_without_command=True)
def _global(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.")
    ] = False,
) -> None:
    if show_version:
        typer.echo(version("pipecat-hydra"))
        raise typer.Exit


@app.command(
    epilog="Exit codes: 0 done, 1 failed, 2 bad file or option, 3 no answer within the limit, "
    "4 key rejected, 5 no network, 6 Hydra at capacity."
)
def talk(
    recording: Annotated[
        Path, typer.Argument(metavar="IN.wav", help="What the user says; any audio file.")
    ],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUT.wav", help="The conversation: left the user, right the bot as heard."
        ),
    ] = Path("conversation.wav"),
    emulator: Annotated[
        bool,
        typer.Option(
            "--emulator",
            help=f"Talk to the embedded emulator, as without {KEY_VARIABLE}.",
        ),
    ] = False,
    model: Annotated[str, typer.Option(help="Hydra model.")] = DEFAULT_MODEL,
    voice: Annotated[
        str | None, typer.Option(help="Its voice.", show_default="the model's")
    ] = None,
    instructions: Annotated[
        str | None, typer.Option(help="System instruction.", show_default="a concise assistant")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Endpoint.", show_default=DEFAULT_BASE_URL)
    ] = None,
    limit: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer.")] = 10.0,
    greet: Annotated[
        bool, typer.Option("--greet", help="Let the bot speak first, and the user after it.")
    ] = False,
    bare: Annotated[
        bool, typer.Option("--bare", help="Use a pipeline without context aggregators.")
    ] = False,
    sample_tools: Annotated[
        bool,
        typer.Option(
            "--sample-tools", help="Offer the model a function, get_weather, with made-up data."
        ),
    ] = False,
    script: Annotated[
        Path | None,
        typer.Option(
            help="Talk to the embedded emulator, which answers by this YAML file.",
            show_default="echo what was said",
        ),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Play a recording to Hydra as if it were the microphone, and keep what was heard.

    It is played at real time into a Pipecat pipeline, with silence after it, until the bot
    has finished its last reply. The conversation becomes a stereo file, interruptions
    included, and a table tells turns, latencies, barge-in time, bytes and tokens.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    emulator = emulator or script is not None
    if emulator and url:
        option = "--script" if script else "--emulator"
        raise typer.BadParameter(f"{option} and --url exclude each other")
    if url and not key:
        raise typer.BadParameter(f"--url needs a key: set {KEY_VARIABLE}")
    if emulator:
        key = ""
    with _edge(verbose, key):
        from pipecat_hydra import talk as talking

        options = talking.TalkOptions(
            recording=recording,
            output=output,
            api_key=key or None,
            base_url=url or DEFAULT_BASE_URL,
            model=model,
            voice=voice,
            instructions=instructions or talking.DEFAULT_INSTRUCTIONS,
            limit_secs=limit,
            greet=greet,
            aggregators=not bare,
            sample_tools=sample_tools,
            script=script,
        )
        with talking.Display(progress=not verbose) as display:
            asyncio.run(talking.talk(options, display))


@app.command(epilog="Exit codes: 0 ended with Ctrl-C, 1 failed, 2 bad script or option.")
def emulator(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any.")] = 8765,
    key: Annotated[str, typer.Option(help="The one key that is accepted.")] = "sk-emulator",
    script: Annotated[
        Path | None,
        typer.Option(help="What to answer, in YAML.", show_default="echo what was said"),
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0.01, help="Speed of reply audio, in times real time.")
    ] = 10.0,
    latency: Annotated[
        float, typer.Option(min=0.0, help="Seconds between the end of a turn and the response.")
    ] = 0.05,
    transcripts: Annotated[
        bool, typer.Option("--transcripts", help="Send transcripts of scripted replies.")
    ] = False,
    max_sessions: Annotated[
        int | None, typer.Option(min=1, help="Sessions at a time.", show_default="no limit")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Serve Hydra's protocol on this machine, for work without an account.

    It hears speech with a real voice activity detector, answers it, and can be interrupted.
    """
    with _edge(verbose, key):
        from pipecat_hydra.emulator import EmulatorSettings, HydraEmulator

        settings = EmulatorSettings(
            delivery_speed=speed,
            response_latency_secs=latency,
            transcripts=transcripts,
            max_sessions=max_sessions,
            record=False,
        )
        hydra = HydraEmulator(
            script or "echo",
            host=host,
            port=port,
            api_key=key,
            settings=settings,
            on_activity=_show_activity,
        )
        asyncio.run(_serve(hydra))


async def _serve(hydra: "HydraEmulator") -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows has none of this: there Ctrl-C ends it as a KeyboardInterrupt.
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with hydra:
        typer.echo(f"Hydra emulator at {hydra.url}, key {hydra.api_key}; Ctrl-C ends it. Try:")
        typer.echo(f"  {KEY_VARIABLE}={hydra.api_key} pipecat-hydra talk IN.wav --url {hydra.url}")
        await ended.wait()
    typer.echo("ended")


def _show_activity(activity: "Activity") -> None:
    """Print what goes on, but for audio, of which there are dozens of events a second."""
    session, record = activity.session, activity.record
    if record is None:
        code = f", code {session.close_code}" if activity.kind == "closed" else ""
        typer.echo(f"{session.id} {session.elapsed:8.2f} s  {activity.kind}{code}")
    elif not record.audio_bytes:
        arrow = "->" if activity.kind == "sent" else "<-"
        typer.echo(f"{session.id} {record.time:8.2f} s  {arrow} {record.type}")


@contextmanager
def _edge(verbose: bool, key: str) -> Iterator[None]:
    """Let no traceback and no key out of a command."""

    def masked(text: str) -> str:
        return text.replace(key, "[REDACTED]") if key else text

    def show(line: str) -> None:
        sys.stderr.write(masked(line))

    def fail(message: str, exit_code: int) -> typer.Exit:
        if verbose:
            typer.echo(masked(traceback.format_exc()), err=True)
        typer.echo(f"pipecat-hydra: {masked(message)}", err=True)
        return typer.Exit(exit_code)

    logger.remove()
    # Else the standard library prints warnings of a logger that has no handler.
    logging.getLogger().addHandler(logging.NullHandler())
    if verbose:
        # With `diagnose` tracebacks would show the values of variables, the key among them.
        logger.add(show, level="DEBUG", diagnose=False)
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        from pipecat_hydra.emulator import EmulatorPortInUseError, ScriptError
        from pipecat_hydra.talk import ExitCode, TalkError

        if isinstance(error, TalkError):
            raise fail(str(error), error.exit_code) from None
        if isinstance(error, ScriptError):
            raise fail(str(error), ExitCode.USAGE) from None
        if isinstance(error, OSError):
            message = error.strerror if isinstance(error, EmulatorPortInUseError) else str(error)
            raise fail(message or repr(error), ExitCode.FAILED) from None
        hint = "" if verbose else "; --verbose shows more"
        summary = " ".join(f"{type(error).__name__}: {error}".split())
        raise fail(f"unexpected error: {summary}{hint}", ExitCode.FAILED) from None


if __name__ == "__main__":
    main()
