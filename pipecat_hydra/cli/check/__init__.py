"""Asks a server the questions that the protocol document leaves open: `pipecat-hydra check`.

A scene (`scenes/`) holds one or more sessions, in which it provokes what is asked about, and keeps
a log of all that passes on the wire (`log.py`, `wire.py`). A question (`questions/`) is a pure
function of the logs of its scenes. So one session answers many questions, a scene that fails
leaves the others alone, and no question needs a connection to be tested. `run.py` runs the scenes,
`show.py` and `report.py` write down what was found.
"""
