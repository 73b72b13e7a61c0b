"""Holds one call for an hour of virtual time, and tells how its memory grows.

Run as `python -m benchmarks.virtual_hour PEER SECS`. The server is in the same process and the same
loop, since a virtual clock knows nothing of other processes; what it keeps of each turn is a few
numbers. Prints the memory, in MiB, at each tenth of the time.
"""

# ruff: noqa: E402

import asyncio
import gc
import importlib
import json
import sys
from pathlib import Path

# Replaces the clocks of the process, so it comes before all that keeps one of them.
sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
virtual_time = importlib.import_module("support.virtual_time")

# isort: split
from loguru import logger

from benchmarks.call import Call
from benchmarks.cells import LEAN, Shape
from benchmarks.load import Load
from benchmarks.peers import PEERS
from benchmarks.scenarios import SCENARIOS
from benchmarks.server import Plan, Server

_PARTS = 10


async def hold(name: str, secs: float) -> list[float]:
    """Hold the call; return the memory at the beginning and at the end of each part."""
    peer = PEERS[name]
    plan = Plan("turns", "hydra" if name == "hydra" else "realtime")
    memory: list[float] = []
    async with Server(plan, SCENARIOS["turns"]) as server:
        url = f"ws://127.0.0.1:{server.port}/0"
        call = Call(
            peer.make(peer.load(), url, 0), Shape(LEAN, microphone_rate=peer.microphone_rate)
        )
        await call.start()
        await asyncio.sleep(10.0)
        for part in range(1 + _PARTS):
            await asyncio.sleep(secs / _PARTS if part else 0.0)
            # What the harness has seen is not the service's memory.
            call.probe.forget()
            server.noted[0].turns.clear()
            gc.collect()
            memory.append(Load.rss_mib())
        await call.end()
    return memory


def main() -> None:
    """Print the memory as JSON."""
    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    with asyncio.Runner(
        loop_factory=lambda: virtual_time.VirtualTimeLoop(longest_run_secs=float("inf"))
    ) as runner:
        print(json.dumps(runner.run(hold(sys.argv[1], float(sys.argv[2])))))


if __name__ == "__main__":
    main()
