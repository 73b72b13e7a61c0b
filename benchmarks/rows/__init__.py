"""The rows of the benchmark: each module asks one question of all peers.

A row has a coroutine `measure(bench)` that returns a `Section`. `ROWS` has them by the name by
which they are asked for; a quick run leaves out those in `LONG`.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from benchmarks.bench import Bench
from benchmarks.report import Section
from benchmarks.rows import (
    calls,
    capacity,
    context,
    hour,
    imports,
    late_audio,
    microphone,
    recorder,
    replies,
    start,
    switches,
    tools,
)

__all__ = ["LONG", "ROWS"]

ROWS: Final[dict[str, Callable[[Bench], Awaitable[Section]]]] = {
    "replies": replies.measure,
    "tools": tools.measure,
    "calls": calls.measure,
    "late-audio": late_audio.measure,
    "microphone": microphone.measure,
    "start": start.measure,
    "context": context.measure,
    "imports": imports.measure,
    "recorder": recorder.measure,
    "switches": switches.measure,
    "capacity": capacity.measure,
    "hour": hour.measure,
}

LONG: Final = ("recorder", "switches", "capacity", "hour")
