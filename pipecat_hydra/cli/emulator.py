"""Serves the emulator on the command line, and prints what happens in its sessions."""

import asyncio
import signal
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from loguru import logger

from pipecat_hydra.cli.terminal import say
from pipecat_hydra.emulator import Activity, HydraEmulator
from pipecat_hydra.wire.protocol import BASE_URL_VARIABLE, KEY_VARIABLE

if TYPE_CHECKING:
    from loguru import Message


async def serve(hydra: HydraEmulator, host: str, port: int) -> None:
    """Serve until the process is told to end, and say how to connect.

    Args:
        hydra: The emulator, which is not started.
        host: The host that it is to listen on, for messages.
        port: Its port, for messages.

    Raises:
        TalkError: The emulator cannot listen there.
    """
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows has none of this: there Ctrl-C ends it as a KeyboardInterrupt.
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        await hydra.start()
    except OSError as error:
        # It loads Pipecat, which the emulator does not need.
        from pipecat_hydra.cli.listening import cannot_listen

        raise cannot_listen(host, port, error) from error
    async with AsyncExitStack() as stack:
        stack.push_async_callback(hydra.stop)
        say(f"Hydra emulator at {hydra.url}, key {hydra.api_key}; Ctrl-C ends it. Try:")
        say(f"  {KEY_VARIABLE}={hydra.api_key} pipecat-hydra talk IN.wav --url {hydra.url}")
        say(f"  {KEY_VARIABLE}={hydra.api_key} {BASE_URL_VARIABLE}={hydra.url} python any_bot.py")
        if hydra.faults.faults:
            say(f"faults: {hydra.faults}")
        await ended.wait()
    say("ended")


def show_activity(activity: Activity) -> None:
    """Print an activity, except for audio events, which come dozens of times a second."""
    session, record, injected = activity.session, activity.record, activity.fault
    if injected is not None:
        about = f" ({injected.detail})" if injected.detail else ""
        say(f"{session.id} {injected.time:8.2f} s  !! {injected.fault}{about}")
    elif record is None:
        code = f", code {session.close_code}" if activity.kind == "closed" else ""
        say(f"{session.id} {session.elapsed:8.2f} s  {activity.kind}{code}")
    elif not record.audio_bytes:
        arrow = "->" if activity.kind == "sent" else "<-"
        # A client chooses the type of an event, which may contain terminal escapes.
        kind = record.type if record.type.isprintable() else ascii(record.type)
        say(f"{session.id} {record.time:8.2f} s  {arrow} {kind}")


def show_warnings() -> None:
    """Print the emulator's warnings, such as why a client was refused.

    A browser shows its page no more than that a connection failed.
    """
    logger.add(_show, level="WARNING", filter="pipecat_hydra.emulator")


def _show(message: "Message") -> None:
    say(message.record["message"])
