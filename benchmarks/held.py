"""The process that is measured: imports all peers once, and holds each cell in a fork of itself.

Run as `python -m benchmarks.held`. It first prints which peers it has. Then it reads cells from its
standard input, one JSON object a line, and for each prints what was measured, again one line: an
object, or a string that says why there is none. A fork begins with all that is imported and none
of what another cell has left behind.

What is in memory after the warm-up is left out of garbage collection: a full collection stops a
process for some 60 ms, once or twice in 15 s, and where it falls is chance.

On Linux. With the working directory on another checkout of the package, that one is measured.
"""

import asyncio
import gc
import importlib
import json
import math
import os
import signal
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path

from loguru import logger
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pipecat.utils.tracing.setup import setup_tracing

from benchmarks.bare import BareClient
from benchmarks.call import Call
from benchmarks.cells import Cell, Held
from benchmarks.load import Load
from benchmarks.peers import PEERS
from benchmarks.python_calls import PythonCalls
from benchmarks.watch import ArrivalWatch

BARE = {"bare json": False, "bare one-pass": True}


Session = Call | BareClient


async def hold(cell: Cell) -> Held:
    """Hold the sessions of a cell, and tell what was measured."""
    if any(shape.traced for shape in cell.shapes):
        setup_tracing("benchmark", exporter=InMemorySpanExporter())
    if not cell.recorded:
        return await _hold(cell)
    with tempfile.TemporaryDirectory(prefix="benchmark-calls-") as folder:
        # The process holds this cell only. A checkout that knows no recorder does not read it.
        os.environ["HYDRA_RECORD"] = folder
        held = await _hold(cell)
        held.recorded_bytes = _size(Path(folder))
        return held


def _recorders_cpu() -> float:
    """Processor seconds that the threads of recorders have taken."""
    threads = [one.ident for one in threading.enumerate() if one.name == "hydra-recorder"]
    return sum(time.clock_gettime(time.pthread_getcpuclockid(one)) for one in threads if one)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.*"))


async def _hold(cell: Cell) -> Held:
    sessions = [_session(cell, number) for number in range(cell.sessions)]
    watch = ArrivalWatch(sessions[0].llm) if cell.watch and isinstance(sessions[0], Call) else None
    for session in sessions:
        await session.start()
        await asyncio.sleep(cell.stagger_secs)
    await asyncio.sleep(cell.warm_up_secs)
    gc.collect()
    gc.freeze()
    if cell.forget:
        for session in sessions:
            session.probe.forget()
    held = Held(began=time.monotonic())
    load = Load(cell.server)
    recorders = _recorders_cpu()
    if cell.count_calls:
        assert isinstance(sessions[0], Call)
        held.calls = await PythonCalls(PEERS[cell.peer].own_code()).count(sessions[0], cell.secs)
    else:
        await asyncio.sleep(cell.secs)
    held.secs = load.secs()
    held.cpu = 60 * load.own() / (held.secs * cell.sessions)
    held.recorder_cpu = 60 * (_recorders_cpu() - recorders) / (held.secs * cell.sessions)
    held.foreign = load.foreign() / held.secs
    held.rss_mib = load.rss_mib()
    ended = sum(session.has_ended for session in sessions)
    for session in sessions:
        _collect(held, session)
    held.pushes = watch.pushes if watch is not None else []
    await asyncio.gather(*(session.end() for session in sessions))
    if ended:
        sys.exit(f"{ended} of {cell.sessions} sessions of {cell.peer} ended before their time")
    return held


def _session(cell: Cell, number: int) -> Session:
    url = f"{cell.url}/{number}"
    if cell.peer in BARE:
        return BareClient(url, one_pass=BARE[cell.peer])
    peer = PEERS[cell.peer]
    return Call(peer.make(peer.load(), url, number), cell.shapes[number % len(cell.shapes)])


def _collect(held: Held, session: Session) -> None:
    held.started.append(session.started)
    held.first_deltas.append(session.probe.first_deltas)
    held.interruptions.append(session.probe.interruptions)
    if isinstance(session, Call):
        held.turns.append(getattr(session.llm, "turns", []))
        held.clicks.append(session.microphone.clicked)


def _missing() -> dict[str, str]:
    """Import all peers; tell which cannot be, and why."""
    missing: dict[str, str] = {}
    for name, peer in PEERS.items():
        try:
            peer.load()
        except Exception as error:
            missing[name] = f"{type(error).__name__}: {error}"
    return missing


def _fork(cell: Cell) -> None:
    """Hold a cell in a fork, which prints what it measured; else print why it did not."""
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        if status:
            hangs = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
            why = f"not done after {cell.longest_secs:.0f} s" if hangs else "the log says why"
            print(json.dumps(why), flush=True)
        return
    code = 1
    try:
        signal.alarm(math.ceil(cell.longest_secs))
        os.sched_setaffinity(0, {cell.core})
        factory = importlib.import_module("uvloop").new_event_loop if cell.uvloop else None
        with asyncio.Runner(loop_factory=factory) as runner:
            print(json.dumps(asdict(runner.run(hold(cell)))), flush=True)
        code = 0
    except SystemExit as error:
        logger.error(error.code)
    except BaseException:
        logger.exception("a cell failed")
    finally:
        os._exit(code)


def main() -> None:
    """Hold what the standard input asks for, until it ends."""
    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    print(json.dumps(_missing()), flush=True)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        _fork(Cell.read(line))


if __name__ == "__main__":
    main()
