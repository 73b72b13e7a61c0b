"""The emulator's side of the wire: the events, the ends of a connection, a queue, the log.

`events` has what all events share, `client_events` parses what a client sends, and
`server_events` builds what the server sends. `ending` ends a connection. `backlog` queues what
waits to be sent or processed. `logs` keeps keys and users' words out of the log. Nothing here
depends on a session.
"""
