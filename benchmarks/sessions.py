"""What a session costs: processor and memory of a process that holds 1, or 4, or N of them.

Run as `python benchmarks/sessions.py`, with other numbers as arguments. Each number has a process
of its own, which holds so many calls for 30 s against an emulator in another process: pipelines
with context aggregators, metrics and RTVI on, a user who speaks half of the time, and a transport
that plays at real time and encodes nothing. Prints the share of a core, once all have begun, and
the most memory that the process occupied. On Linux.
"""

import asyncio
import itertools
import resource
import subprocess
import sys
import time
from pathlib import Path

from loguru import logger
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner
from rich.console import Console
from rich.table import Table

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import HydraEmulator, Say, Script
from pipecat_hydra.testing import VirtualTransport, read_recording

SECS = 30.0
WARM_UP_SECS = 5.0
SPEECH = Path(__file__).parent.parent / "examples" / "recordings" / "barge_in.wav"
SPOKEN_SECS = 3.0


async def call(url: str, key: str) -> None:
    """Hold a call until cancelled."""
    user, assistant = LLMContextAggregatorPair(
        LLMContext(),
        user_params=LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies()),
    )
    transport = VirtualTransport()
    llm = HydraLLMService(api_key=key, base_url=url)
    worker = PipelineWorker(
        Pipeline([transport.input(), user, llm, transport.output(), assistant]),
        params=PipelineParams(enable_metrics=True, enable_usage_metrics=True),
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    samples, rate = read_recording(SPEECH)
    words = samples[: round(SPOKEN_SECS * rate), 0]
    try:
        await transport.timeline.started()
        while True:
            await transport.microphone.say(words)
            await asyncio.sleep(SPOKEN_SECS)
    finally:
        await worker.cancel()
        await running


async def hold(count: int, url: str, key: str) -> None:
    """Hold so many calls; print the share of a core and the memory in MiB."""
    calls = [asyncio.create_task(call(url, key)) for _ in range(count)]
    await asyncio.sleep(WARM_UP_SECS)
    began, worked = time.monotonic(), time.process_time()
    await asyncio.sleep(SECS)
    share = (time.process_time() - worked) / (time.monotonic() - began)
    ended = [task for task in calls if task.done()]
    for task in calls:
        task.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    if ended:
        sys.exit(f"{len(ended)} of {count} calls ended before their time")
    print(share, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


async def main(counts: list[int]) -> None:
    """Print the table."""
    table = Table("sessions in one process", "of a core", "memory")
    shares: list[float] = []
    script = Script([], greeting=Say.tones(1.0), then="echo")
    async with HydraEmulator(script) as hydra:
        for count in counts:
            process = await asyncio.create_subprocess_exec(
                sys.executable, __file__, "hold", str(count), hydra.url, hydra.api_key,
                stdout=subprocess.PIPE,
            )  # fmt: skip
            told, _ = await process.communicate()
            if process.returncode:
                sys.exit(f"the process with {count} sessions failed")
            share, mib = map(float, told.split())
            shares.append(share)
            table.add_row(str(count), f"{share:.1%}", f"{mib:.0f} MiB")
    console = Console(width=100, highlight=False)
    console.print(table)
    for (few, a), (many, b) in itertools.pairwise(zip(counts, shares, strict=True)):
        console.print(f"{many} sessions take {b / a:.1f} times the processor of {few}.")


if __name__ == "__main__":
    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    if sys.argv[1:2] == ["hold"]:
        asyncio.run(hold(int(sys.argv[2]), *sys.argv[3:5]))
    else:
        asyncio.run(main([int(argument) for argument in sys.argv[1:]] or [1, 4]))
