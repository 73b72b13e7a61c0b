"""The emulator's side of the wire: events, the ways to end a connection, and what waits in line.

Nothing here knows of sessions. `events` checks what a client sends and builds what the server
sends; the other modules serve whoever writes to a socket or reads from it.
"""
