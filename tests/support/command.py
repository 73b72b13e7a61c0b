"""The `pipecat-hydra` command for tests: in this process, or in a process of its own.

`run` and `Shell` call the command in this process. Whatever it gives to `asyncio.run` runs in
an event loop with a virtual clock. `command` starts a process, for tests of what only a process
has: a terminal's encoding, a reader who goes away, a signal while sound and sockets are in use.
"""

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, ExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

import pytest
from support.virtual_time import VirtualTimeLoop
from typer.testing import CliRunner, Result

from pipecat_hydra.cli.main import app

KEY = "sk-very-secret"

LONG_SECS = 60.0
"""How long a process, or a peer on WebRTC, may take for a step on a machine that is busy."""

T = TypeVar("T")


class Shell:
    """Runs commands in this process, one after the other, in one event loop.

    The loop goes on between the commands, so that a server which a test has opened with `serve`
    serves the commands that follow.
    """

    def __init__(self):
        self._runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self._served = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._runner:
            self._served.close()

    def serve(self, server: AbstractAsyncContextManager[T]) -> T:
        """Open a server in the loop, and close it when this ends."""
        opened = self._runner.run(server.__aenter__())
        self._served.callback(lambda: self._runner.run(server.__aexit__(None, None, None)))
        return opened

    def run(
        self, *args: object, key: str | None = None, interrupt_after: str | None = None
    ) -> Result:
        """Run a command to its end.

        Args:
            args: The arguments of the command.
            key: The key in the environment.
            interrupt_after: What the command has to print before Ctrl-C is pressed; never
                pressed if `None`.

        Returns:
            The exit code and what was printed.
        """

        def run_in_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
            return self._runner.run(_interrupted(coroutine, interrupt_after))

        environment = {"SMALLEST_API_KEY": key, "COLUMNS": "200"}
        # Where the tests run in the background, a shell has the signal ignored.
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.MonkeyPatch.context() as monkeypatch:
                monkeypatch.setattr(asyncio, "run", run_in_loop)
                return CliRunner().invoke(app, [str(arg) for arg in args], env=environment)
        finally:
            signal.signal(signal.SIGINT, handler)


def run(*args: object, key: str | None = None, interrupt_after: str | None = None) -> Result:
    """Run a command in a `Shell` of its own."""
    with Shell() as shell:
        return shell.run(*args, key=key, interrupt_after=interrupt_after)


async def _interrupted(coroutine: Coroutine[Any, Any, Any], after: str | None) -> Any:
    """Await a coroutine; press Ctrl-C once standard output has a text."""
    if after is None:
        return await coroutine
    pressing = asyncio.create_task(_press_ctrl_c(after.encode()))
    try:
        return await coroutine
    finally:
        pressing.cancel()


async def _press_ctrl_c(after: bytes) -> None:
    # The runner of the commands keeps standard output in memory.
    written = sys.stdout.buffer
    assert isinstance(written, io.BytesIO)
    while after not in written.getvalue():
        await asyncio.sleep(0.01)
        sys.stdout.flush()
    signal.raise_signal(signal.SIGINT)


def assert_failed(result: Result, exit_code: int, message: str) -> None:
    """A command has failed with a message, without a traceback and without the key."""
    assert message in result.stderr
    assert result.exit_code == exit_code
    assert "Traceback" not in result.output
    assert KEY not in result.output


def command(
    *args: object, cwd: str | os.PathLike[str], **variables: str
) -> "subprocess.Popen[str]":
    """Start a command as a process, without a key in its environment."""
    environment = {name: value for name, value in os.environ.items() if "SMALLEST" not in name}
    environment |= variables
    return subprocess.Popen(
        [sys.executable, "-m", "pipecat_hydra.cli.main", *map(str, args)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=None if os.name == "nt" else default_sigint,
    )


def default_sigint() -> None:
    """Let a process that starts be ended by SIGINT.

    A shell that starts the tests in the background would have the signal ignored.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def next_line(process: "subprocess.Popen[str]") -> str:
    """The next line that a process prints."""
    assert process.stdout is not None
    return process.stdout.readline()
