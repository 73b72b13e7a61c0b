"""The ways in which the server ends a connection: TCP reset, TCP close, or a close frame."""

import os
import socket
import struct
from typing import Literal

from websockets.asyncio.server import ServerConnection

Ending = Literal["reset", "eof"] | int
"""How a connection ends: `"reset"` by a TCP reset, `"eof"` by a TCP close without a close
frame (the client sees code 1006 both times), a number by a close frame with that code."""

_LINGER_FOR_0_SECS = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


async def end(connection: ServerConnection, how: Ending) -> None:
    """End a connection.

    After `"reset"` the connection is gone. After `"eof"` nothing may be sent any more, and the
    connection goes when the client closes its side. A close frame waits for the client's answer.
    """
    match how:
        case "reset":
            _reset(connection)
        case "eof":
            connection.transport.write_eof()
        case int():
            await connection.close(how)


def _reset(connection: ServerConnection) -> None:
    raw = connection.transport.get_extra_info("socket")
    if not connection.transport.is_closing():
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_FOR_0_SECS)
    connection.transport.abort()
