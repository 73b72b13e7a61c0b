"""The ways to end a connection from this side."""

import os
import socket
import struct

from websockets.asyncio.server import ServerConnection

from pipecat_hydra.emulator.faults.kinds import Ending

_RESET = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # linger for 0 s


async def end(connection: ServerConnection, how: Ending) -> None:
    """End a connection.

    After `"reset"` it is gone; after `"eof"` it goes when the client closes its side too,
    and nothing may be sent any more; a close frame is answered by the client, or not.
    """
    match how:
        case "reset":
            reset(connection)
        case "eof":
            connection.transport.write_eof()
        case int():
            await connection.close(how)


def reset(connection: ServerConnection) -> None:
    """End a connection by a TCP reset."""
    raw = connection.transport.get_extra_info("socket")
    if not connection.transport.is_closing():
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.transport.abort()
