"""The ways in which the server ends a session: TCP reset, TCP close, close frame, or mere words."""

import os
import socket
import struct
from typing import Literal

from websockets.asyncio.server import ServerConnection

Ending = Literal["reset", "eof", "session_ended", "internal_error"] | int
"""How a session ends: `"reset"` by a TCP reset, `"eof"` by a TCP close without a close frame (the
client sees code 1006 both times), a number by a close frame with that code. `"session_ended"` and
`"internal_error"`: by an error event with that code and no close; the session is open, says
nothing more and reacts to nothing."""

ANNOUNCED = ("session_ended", "internal_error")
"""The endings that an error event tells and no close follows."""

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
        case _:
            pass


def _reset(connection: ServerConnection) -> None:
    raw = connection.transport.get_extra_info("socket")
    if not connection.transport.is_closing():
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_FOR_0_SECS)
    connection.transport.abort()
