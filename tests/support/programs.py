"""Programs of bots that Pipecat's runner serves, run as a reader runs them: without a key."""

import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from support.command import default_sigint

__all__ = ["is_listening", "started", "unused_port"]


def unused_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def is_listening(port: int) -> bool:
    """Tell whether something listens on a port of this machine."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def started(program: Path, port: int, folder: Path) -> Generator["subprocess.Popen[bytes]"]:
    """Start a bot without any key; its log is in the folder."""
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(
            [sys.executable, program, "--port", str(port)],
            cwd=folder,
            env={key: value for key, value in os.environ.items() if "API_KEY" not in key},
            stdout=log,
            stderr=log,
            preexec_fn=None if os.name == "nt" else default_sigint,
        )
    try:
        yield running
    finally:
        running.kill()
        running.wait()
