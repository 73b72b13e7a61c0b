"""The server: its socket, the upgrade of each connection, and its session's handshake.

`emulator` holds `HydraEmulator`. `arrivals` knows the connections from when TCP accepts them.
`session` serves one of them: it takes client events, and hands on what belongs to the
conversation.
"""
