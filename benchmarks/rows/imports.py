"""How long it takes to import a service, in a process that has imported nothing."""

import asyncio
import statistics
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from benchmarks.bench import NAMES, ROOT, Bench, environment
from benchmarks.report import Section, Table

__all__ = ["measure"]

_IMPORTS = {
    "hydra": "from pipecat_hydra import HydraLLMService",
    "before": "from pipecat_hydra import HydraLLMService",
    "openai": "from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService",
    "xai": "from pipecat.services.xai.realtime.llm import GrokRealtimeLLMService",
    "inworld": "from pipecat.services.inworld.realtime.llm import InworldRealtimeLLMService",
}
_PROGRAM = """
import time
began = time.perf_counter()
{}
print(time.perf_counter() - began)
"""


async def measure(bench: Bench) -> Section:
    """Measure the import of each service, in turns."""
    peers = bench.services()
    times: dict[str, list[float]] = {peer: [] for peer in peers}
    for _ in range(bench.options.rounds):
        for peer in peers:
            against = bench.options.against if peer == "before" else None
            times[peer].append(await _imported(_IMPORTS[peer], against or ROOT))
    table = Table(["", *(NAMES[peer] for peer in peers)])
    medians = [statistics.median(times[peer]) for peer in peers]
    table.rows.append(["import, s", *(f"{median:.2f}" for median in medians)])
    return Section("Import", "Medians, with files that the system has in memory.", [table], times)


async def _imported(statement: str, checkout: Path) -> float:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PROGRAM.format(statement)),
        stdout=PIPE,
        cwd=checkout,
        env=environment(),
    )
    told, _ = await process.communicate()
    return float(told)
