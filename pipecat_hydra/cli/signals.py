"""Ends a command by a signal in the same way as by Ctrl-C: what was heard so far is kept.

Ctrl-C is Python's own affair: `asyncio.run` cancels the command, and raises `KeyboardInterrupt`.
SIGTERM (a supervisor, `kill`, `docker stop`) and SIGHUP (the terminal is closed) would end the
process at once. Here they cancel the command too, so that its `finally` blocks run.
"""

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

__all__ = ["INTERRUPTED", "SignalledError", "run_until_signal"]

# What a shell reports of a process that a signal has ended (POSIX).
_SIGNAL_BASE: Final = 128

INTERRUPTED: Final = _SIGNAL_BASE + signal.SIGINT

_ENDING: Final = [
    signal.Signals[name] for name in ("SIGTERM", "SIGHUP") if name in signal.Signals.__members__
]


T = TypeVar("T")


class SignalledError(Exception):
    """A signal has ended the command.

    Attributes:
        exit_code: What the command exits with: 128 and the number of the signal.
    """

    def __init__(self, number: signal.Signals):
        """Create an error.

        Args:
            number: The signal.
        """
        super().__init__(f"ended by {number.name}")
        self.exit_code: int = _SIGNAL_BASE + number


def run_until_signal(command: Coroutine[Any, Any, T]) -> T:
    """Run a command in an event loop of its own, and cancel it at SIGTERM or SIGHUP.

    Args:
        command: The command.

    Returns:
        What the command returns.

    Raises:
        SignalledError: One of the two signals has come.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    return asyncio.run(_run(command))


async def _run(command: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.get_running_loop()
    running = asyncio.current_task()
    assert running is not None
    received: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        # A second signal does not break off what the first has the command save.
        if not received:
            running.cancel()
        received.append(number)

    for number in _ENDING:
        # Under nohup, SIGHUP stays ignored. Windows has no such handlers.
        if signal.getsignal(number) is signal.SIG_DFL:
            with suppress(NotImplementedError):
                loop.add_signal_handler(number, end, number)
    try:
        return await command
    except asyncio.CancelledError:
        if received:
            raise SignalledError(received[0]) from None
        raise
    finally:
        if received:
            # The end of the command is under way: it is not broken off either.
            running.uncancel()
        for number in _ENDING:
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)
