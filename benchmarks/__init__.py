"""Measures `HydraLLMService` beside Pipecat's own realtime services, in the same run.

A *cell* is one measurement: so many sessions of one peer, in one kind of pipeline worker, for some
seconds. Each cell has two processes, each on a core of its own: a server (`server`) that speaks the
peer's protocol with as little work as it can, and a process that holds the sessions (`held`). Both
read one clock, so that a time which the server notes and one which the pipeline notes can be
subtracted.

A *row* (`rows`) is a question, such as the time from the first delta to the output. It has the
cells of all peers measured in turns, round after round (`bench`), and makes a table of what they
tell (`report`). Ratios of two peers are those of the same round, so that what slows the whole
machine for a minute slows both.

`python -m benchmarks` runs it; benchmarks/README.md says how to read it.
"""
