"""`pipecat-hydra replay`: holds a recorded call again, and says what is different.

`recorded` reads from the recording what the pipeline needs, `run` holds the call with the emulator
as the recorded server, and `comparison` compares the recording of the replay with the one that
was replayed. `command` has the options, and imports the others only when it runs.
"""
