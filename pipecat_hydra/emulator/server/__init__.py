"""The server: its socket, its upgrade requests, and the sessions that it serves.

`emulator` holds `HydraEmulator`. `arrivals` tracks connections from when TCP accepts them, and
applies the faults of the upgrade. `session` serves one connection: it dispatches client events, and
passes on those that belong to the conversation. `uplink` limits how fast user audio may come.
"""
