"""Whether a call that lasts takes more and more memory: an hour, in virtual time."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE

from benchmarks.bench import NAMES, ROOT, Bench, environment
from benchmarks.report import Section, Table

__all__ = ["measure"]

_SECS = 3_600.0
_QUICK_SECS = 60.0


async def measure(bench: Bench) -> Section:
    """Hold an hour's call of Hydra and of OpenAI; a quick run holds a minute."""
    secs = _SECS if bench.options.full else _QUICK_SECS
    peers = [peer for peer in ("openai", "hydra") if peer in bench.peers]
    memory = {peer: await _held(peer, secs) for peer in peers}
    table = Table(["memory, MiB", *(NAMES[peer] for peer in peers)])
    for part in (0, len(memory[peers[0]]) // 2, len(memory[peers[0]]) - 1):
        minutes = secs * part / (len(memory[peers[0]]) - 1) / 60
        row = [f"{memory[peer][part]:.1f}" for peer in peers]
        table.rows.append([f"after {minutes:g} minutes", *row])
    text = "Of one process with one call and its server; turn after turn, lean worker."
    return Section("A long call", text, [table], memory)


async def _held(peer: str, secs: float) -> list[float]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.virtual_hour", peer, str(secs)),
        stdout=PIPE,
        cwd=ROOT,
        env=environment(),
    )
    told, _ = await process.communicate()
    if process.returncode:
        sys.exit(f"the long call of {peer} failed")
    return json.loads(told)
