"""The `pipecat-hydra` command: parses options and sets exit codes; other modules do the work."""

import asyncio
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import typer
from loguru import logger

from pipecat_hydra.cli.check.command import add_check
from pipecat_hydra.cli.options import (
    AsJson,
    Emulated,
    Instructions,
    MaxAnswer,
    MaxBargeIn,
    MaxToolTurn,
    Model,
    Repeat,
    Url,
    Verbose,
    Voice,
    endpoint_of,
)
from pipecat_hydra.cli.replay.command import add_replay
from pipecat_hydra.cli.report.command import add_report
from pipecat_hydra.cli.signals import INTERRUPTED, SignalledError, run_until_signal
from pipecat_hydra.cli.terminal import prepare, say
from pipecat_hydra.wire.protocol import DEFAULT_MODEL

app: typer.Typer = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Smallest AI's Hydra speech-to-speech model for Pipecat, and a local emulator of it.",
)


def main() -> None:
    """Run the command."""
    prepare()
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
    "4 key rejected, 5 no network, 6 Hydra at capacity, 7 a limit exceeded, 130 ended with Ctrl-C, "
    "143 by SIGTERM, 129 by SIGHUP; the conversation so far is kept."
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
    emulator: Emulated = False,
    model: Model = DEFAULT_MODEL,
    voice: Voice = None,
    instructions: Instructions = None,
    url: Url = None,
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
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep each run's recording in a folder in DIR, for `report` and `replay`.",
            show_default="$HYDRA_RECORD, else not kept",
        ),
    ] = None,
    repeat: Repeat = 1,
    max_answer: MaxAnswer = None,
    max_tool_turn: MaxToolTurn = None,
    max_barge_in: MaxBargeIn = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Play a recording to Hydra as if it were the microphone, and keep what was heard.

    It is played at real time into a Pipecat pipeline, with silence after it, until the bot
    has finished its last reply. The conversation becomes a stereo file, interruptions
    included, and a table tells turns, latencies, barge-in time, bytes and tokens. With limits
    it is a gate for builds: exit code 7 if a latency is longer, or cannot be measured.
    """
    key, base_url = endpoint_of(emulator, script, url)
    with _edge(verbose, key):
        from pipecat_hydra.cli import talk as talking

        options = talking.TalkOptions(
            recording=recording,
            output=output,
            api_key=key or None,
            base_url=base_url,
            model=model,
            voice=voice,
            instructions=instructions or talking.DEFAULT_INSTRUCTIONS,
            limit_secs=limit,
            greet=greet,
            aggregators=not bare,
            sample_tools=sample_tools,
            script=script,
            record=record,
        )
        limits = talking.Limits(answer=max_answer, tool_turn=max_tool_turn, barge_in=max_barge_in)
        run_until_signal(
            talking.talk_repeatedly(
                options, limits, repeat=repeat, machine=as_json, progress=not verbose
            )
        )


@app.command(
    epilog="Exit codes: 0 ended with Ctrl-C, 1 failed, for instance because the port is taken, "
    "2 bad script or option, 130 ended with Ctrl-C before it listens."
)
def web(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any.")] = 7860,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Host name by which the page may be opened, for instance that of a proxy; may be "
            "given many times.",
            show_default="localhost, IP addresses, this machine's names",
        ),
    ] = None,
    emulator: Emulated = False,
    model: Model = DEFAULT_MODEL,
    voice: Voice = None,
    instructions: Instructions = None,
    url: Url = None,
    script: Annotated[
        Path | None,
        typer.Option(
            help="Talk to the embedded emulator, which answers by this YAML file.",
            show_default="a greeting, two answers with function calls, then echo",
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder in which each call is recorded, in a folder of its own.",
            show_default="a temporary one, until the server ends",
        ),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Serve a page to talk to Hydra on, with a microphone and a browser.

    The page shows what happens as it happens: turns, replies, interruptions, function calls
    with arguments and results, how long answers take. After the call it plays both voices and
    offers them with a report. It needs the extra `web`, which is: pip install aiortc fastapi
    uvicorn. Browsers give the microphone only to pages from localhost or https, so that by
    default only this machine can open it. It takes eight calls at a time.
    """
    key, base_url = endpoint_of(emulator, script, url)
    with _edge(verbose, key):
        # What follows takes some seconds to load.
        say("Starting the page ...")
        from pipecat_hydra.cli import web as page

        options = page.WebOptions(
            host=host,
            port=port,
            allowed_hosts=tuple(allow_host or ()),
            api_key=key or None,
            base_url=base_url,
            model=model,
            voice=voice,
            instructions=instructions or page.DEFAULT_INSTRUCTIONS,
            script=script,
            record=record,
        )
        asyncio.run(page.serve(options, say))


@app.command(
    epilog="Exit codes: 0 ended with Ctrl-C, 1 failed, for instance because the port is taken, "
    "2 bad script, fault or option, 130 ended with Ctrl-C before it listens."
)
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
        bool | None,
        typer.Option(
            "--transcripts/--no-transcripts",
            help="Send transcripts of replies.",
            show_default="if the script has any",
        ),
    ] = None,
    requested_rate: Annotated[
        bool, typer.Option("--requested-rate", help="Reply at the rate that the client asks for.")
    ] = False,
    voices: Annotated[
        Literal["known", "by_model", "any"],
        typer.Option(help="Voices that are accepted: all known ones, those of the model, or any."),
    ] = "known",
    gap_ends_turn: Annotated[
        float | None,
        typer.Option(
            metavar="SECS",
            min=0.1,
            help="Let so many seconds without audio end the user's turn.",
            show_default="only silence does",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="A web page that may connect, such as http://localhost:3000; may be given many "
            "times.",
            show_default="none",
        ),
    ] = None,
    max_sessions: Annotated[
        int | None, typer.Option(min=1, help="Sessions at a time.", show_default="no limit")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND[:OPTION=VALUE,...]",
            help="What goes wrong; may be given many times, see above.",
            show_default="nothing",
        ),
    ] = None,
    fault_seed: Annotated[
        int, typer.Option(help="Where all random choices of faults come from.")
    ] = 0,
    verbose: Verbose = False,
) -> None:
    """Serve Hydra's protocol on this machine, for work without an account.

    It hears speech with a real voice activity detector, answers it, and can be interrupted. A
    client of anybody can be pointed at it: `--requested-rate`, `--voices any`, `--gap-ends-turn`
    and `--allow-origin` are for clients that rely on what Hydra is not known to do.

    Faults, for instance `--fault drop:during=response,secs=0.3,how=1011,times=2`; each takes
    `first=N` and `times=N`, the first connection that has it and how many do (all):

    - `refuse:status=429,retry_after=2` answers the upgrade with an HTTP error

    - `full` is at capacity: `server_full`, then close code 1013

    - `hang:at=upgrade,secs=5` says nothing (secs: or for ever) at the upgrade, or where
      `created` or `configured` is due

    - `reject_voice` rejects any voice

    - `reject_configuration` rejects any configuration

    - `drop:sent=5,of=response.output_audio.delta,how=reset` ends the connection, by `reset`,
      `eof` or a close code, after the nth event `sent` or `received`; or `secs` into the moment
      `during=upgrade`, `session`, `configured`, `user_speech`, `response` or `tool_call`

    - `slow_reader:after_secs=2,secs=5` stops reading (secs: or for ever)

    - `rate:hz=48000` negotiates another rate, from the second connection on

    - `late_audio:ms=400` goes on with audio of a cancelled response

    - `late_end:ms=400,texts=true` ends a response before the last of its audio and texts

    - `odd_splits` cuts audio anywhere, `encoding:key=audio,lines=true` encodes it otherwise

    - `duplicate:probability=0.1`, `reorder:probability=0.1` send events twice, or after the
      next; all faults of single events take `of=TYPE`

    - `missing:probability=0.1,fields=item_id+response.usage` leaves out fields

    - `unknown:probability=0.1`, `garbage:probability=0.1`, `binary:probability=0.1,size=320` send
      events and frames that nobody knows

    - `giant:size=50000000,sent=3` sends one very long event, after the nth

    - `jitter:probability=0.1,secs=0.3` stalls, then sends in a burst

    - `random:violence=0.5` is a mixture of these, made from the seed, that ends
    """
    with _edge(verbose, key):
        from pipecat_hydra.cli import emulator as serving
        from pipecat_hydra.emulator import EmulatorSettings, FaultPlan, HydraEmulator

        if not verbose:
            serving.show_warnings()
        settings = EmulatorSettings(
            delivery_speed=speed,
            response_latency_secs=latency,
            transcripts=transcripts,
            honour_output_rate=requested_rate,
            voices=voices,
            gap_ends_turn_secs=gap_ends_turn,
            allowed_origins=tuple(allow_origin or ()),
            max_sessions=max_sessions,
            record=False,
        )
        hydra = HydraEmulator(
            script or "echo",
            host=host,
            port=port,
            api_key=key,
            settings=settings,
            faults=FaultPlan.parse(fault or (), seed=fault_seed),
            on_activity=serving.show_activity,
        )
        asyncio.run(serving.serve(hydra, host, port))


@contextmanager
def _edge(verbose: bool, key: str) -> Iterator[None]:
    """Turn exceptions of a command into messages and exit codes, without tracebacks and keys."""

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
    # Without a handler, the standard library prints the warnings of other loggers.
    logging.getLogger().addHandler(logging.NullHandler())
    if verbose:
        # `diagnose` would add the values of variables to tracebacks, and so the key.
        logger.add(show, level="DEBUG", diagnose=False)
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except SignalledError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from None
    except Exception as error:
        message, exit_code = _explain(error)
        if not message:
            hint = "" if verbose else "; --verbose shows more"
            summary = " ".join(f"{type(error).__name__}: {error}".split())
            message = f"unexpected error: {summary}{hint}"
        raise fail(message, exit_code) from None


def _explain(error: Exception) -> tuple[str, int]:
    """Return the message and the exit code for an error; no message if it is not expected."""
    try:
        from pipecat_hydra.cli.talk import ExitCode, TalkError
        from pipecat_hydra.emulator import FaultError, OriginError, ScriptError
        from pipecat_hydra.recording import RecordingError
    except Exception:
        # The import of this class itself has failed, because the machine lacks a library.
        return "", 1
    if isinstance(error, TalkError):
        return str(error), error.exit_code
    if isinstance(error, FaultError | OriginError | RecordingError | ScriptError):
        return str(error), ExitCode.USAGE
    if isinstance(error, OSError):
        return str(error) or repr(error), ExitCode.FAILED
    return "", ExitCode.FAILED


add_check(app, _edge)
add_replay(app, _edge)
add_report(app, _edge)

if __name__ == "__main__":
    main()
