"""Words for a port that a command cannot listen on, the same for each command."""

import errno
import os
import socket

from pipecat_hydra.cli.talk.errors import ExitCode, TalkError

__all__ = ["cannot_listen"]


def cannot_listen(host: str, port: int, error: OSError | UnicodeError) -> TalkError:
    """Make the error for an address that cannot be listened on.

    Args:
        host: The host that was given.
        port: The port that was given.
        error: What the operating system says.

    Returns:
        The error to end with, which says why and what to do.
    """
    if isinstance(error, socket.gaierror | UnicodeError):
        return TalkError(f"there is no address for the host {host!r}", ExitCode.USAGE)
    why = os.strerror(error.errno or 0).lower()
    here = error.errno != errno.EADDRNOTAVAIL
    hint = "; choose another with --port (0 takes any that is free)" if here else ""
    return TalkError(f"cannot listen on {host}, port {port}: {why}{hint}")
