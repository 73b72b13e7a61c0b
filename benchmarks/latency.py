"""How long the service takes from the wire to the output of the pipeline, and what that costs.

Run as `python benchmarks/latency.py`, with other numbers of sessions as arguments. To compare with
another checkout of the package, in turns in the same run::

    python benchmarks/latency.py 1 10 --against ../other-checkout --rounds 5

A server of its own, in a process of its own, speaks Hydra's protocol with as little work as it can.
In each session the user begins to speak, stops, and is answered with a second of audio, ten times
faster than it is spoken; then the user barges in. The process that is measured holds so many calls
for 15 s: pipelines with context aggregators, metrics and RTVI on, microphones that send 20 ms
frames, and a transport that plays at real time and encodes nothing. It prints:

- first delta: from the sending of the first audio of a reply until its frame is at the output.
- interruption: from the sending of `speech_started` until the interruption is at the output.
- CPU: processor seconds of the process for a minute of one session.

The times are of one machine's clock, which the processes share. On a machine that does other work
only the comparison tells anything. On Linux.
"""

import argparse
import asyncio
import base64
import gc
import itertools
import json
import os
import statistics
import struct
import sys
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loguru import logger
from pipecat.frames.frames import Frame, InterruptionFrame, TTSAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner
from rich.console import Console
from rich.table import Table
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from pipecat_hydra import HydraLLMService

try:
    from pipecat_hydra.testing import VirtualTransport
except ImportError:  # Before the package had folders.
    from pipecat_hydra.virtual_transport import VirtualTransport  # pyright: ignore

HERE = Path(__file__).resolve()
SECS = 15.0
WARM_UP_SECS = 3.0
DELTAS, DELTA_BYTES, DELTA_PAUSE_SECS = 25, 1920, 0.004
MARK = b"\x01\x7fAT"
"""At the beginning of a delta that says when it was sent, in the eight bytes that follow."""


#
# The server
#


class Server:
    """Answers turns of users whom it does not listen to, and remembers when each began."""

    def __init__(self):
        """Start with no session."""
        self.turns: dict[str, list[float]] = {}

    async def run(self) -> None:
        """Serve until the standard input ends; print the port, and at last the turns."""
        async with serve(self._session, "127.0.0.1", 0, compression=None) as server:
            print(next(iter(server.sockets)).getsockname()[1], flush=True)
            await asyncio.to_thread(sys.stdin.read)
        print(json.dumps(self.turns))

    async def _session(self, connection: ServerConnection) -> None:
        name = f"sess_{len(self.turns)}"
        turns = self.turns[name] = []
        with suppress(ConnectionClosed):
            await send(connection, "session.created", session_id=name)
            await connection.recv()
            session = {"output_audio_sample_rate": 24_000}
            await send(connection, "session.configured", session=session)
            listening = asyncio.create_task(self._listen(connection))
            # Sessions that begin together do not speak together.
            await asyncio.sleep(0.137 * len(self.turns) % 1.5)
            for number in itertools.count():
                await self._turn(connection, number, turns)
                if listening.done():
                    return

    async def _listen(self, connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            async for _ in connection:
                pass

    async def _turn(self, connection: ServerConnection, number: int, turns: list[float]) -> None:
        item, response = f"item_{number}", f"resp_{number}"
        turns.append(time.monotonic())
        await send(connection, "input_audio_buffer.speech_started", item_id=item)
        await asyncio.sleep(0.3)
        await send(connection, "input_audio_buffer.speech_stopped", item_id=item)
        message = {"type": "message", "role": "user", "status": "completed", "id": item}
        await send(connection, "conversation.item.done", item=message)
        await asyncio.sleep(0.2)
        await send(connection, "response.created", response={"id": response})
        for delta in range(DELTAS):
            mark = b"" if delta else MARK + struct.pack("<d", time.monotonic())
            pcm = base64.b64encode(mark.ljust(DELTA_BYTES, b"\0")).decode()
            await send(connection, "response.output_audio.delta", response_id=response, delta=pcm)
            await asyncio.sleep(DELTA_PAUSE_SECS)
        info = {"id": response, "status": "completed"}
        await send(connection, "response.done", response=info)
        await asyncio.sleep(0.5)


async def send(connection: ServerConnection, kind: str, **fields: object) -> None:
    """Send an event."""
    await connection.send(json.dumps({"type": kind, "event_id": "sv_0", **fields}))


#
# The process that is measured
#


class Probe(FrameProcessor):
    """Stands before the output and notes when what is measured comes."""

    def __init__(self):
        """Start with nothing seen."""
        super().__init__()
        self.session = ""
        self.first_deltas: list[float] = []
        self.interruptions: list[float] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection):
        """Note a frame, and pass it on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InterruptionFrame):
            self.interruptions.append(time.monotonic())
        elif isinstance(frame, TTSAudioRawFrame) and frame.audio.startswith(MARK):
            (sent_at,) = struct.unpack_from("<d", frame.audio, len(MARK))
            self.first_deltas.append(time.monotonic() - sent_at)
        await self.push_frame(frame, direction)


async def call(url: str, probe: Probe) -> None:
    """Hold a call until cancelled."""
    user, assistant = LLMContextAggregatorPair(
        LLMContext(),
        user_params=LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies()),
    )
    transport = VirtualTransport()
    llm = HydraLLMService(
        api_key="none",
        base_url=url,
        settings=HydraLLMService.Settings(generate_initial_response=False),
    )

    @llm.event_handler("on_session_started")
    async def on_session_started(_: HydraLLMService, session_id: str):
        probe.session = session_id

    worker = PipelineWorker(
        Pipeline([transport.input(), user, llm, probe, transport.output(), assistant]),
        params=PipelineParams(enable_metrics=True, enable_usage_metrics=True),
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        await asyncio.Event().wait()
    finally:
        await worker.cancel()
        await running


async def hold(count: int, url: str) -> None:
    """Hold so many calls; print what was measured."""
    probes = [Probe() for _ in range(count)]
    calls = [asyncio.create_task(call(url, probe)) for probe in probes]
    await asyncio.sleep(WARM_UP_SECS)
    # A full collection of what was imported stops all sessions for some 60 ms, once in a run or
    # twice. Where it falls is chance, and would be the 99th percentile of whatever it falls upon.
    gc.collect()
    gc.freeze()
    for probe in probes:
        probe.first_deltas.clear()
    began, worked = time.monotonic(), time.process_time()
    await asyncio.sleep(SECS)
    minutes = count * (time.monotonic() - began) / 60
    measured = {
        "began": began,
        "cpu": (time.process_time() - worked) / minutes,
        "first_deltas": [secs for probe in probes for secs in probe.first_deltas],
        "interruptions": {probe.session: probe.interruptions for probe in probes},
    }
    for task in calls:
        task.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    print(json.dumps(measured))


#
# The comparison
#


@dataclass
class Figures:
    """What was measured of one checkout; times in ms.

    Parameters:
        first_deltas: From the sending of a first delta to the output.
        interruptions: From the sending of `speech_started` to the output.
        cpu: Processor seconds for a minute of a session, one number for each process.
    """

    first_deltas: list[float] = field(default_factory=list)
    interruptions: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, measured: dict[str, Any], turns: dict[str, list[float]]) -> None:
        """Add what a process has printed, and the server about its sessions."""
        self.cpu.append(measured["cpu"])
        self.first_deltas += [1000 * secs for secs in measured["first_deltas"]]
        for session, interruptions in measured["interruptions"].items():
            for turn in turns[session]:
                after = [at for at in interruptions if turn <= at < turn + 0.3]
                if after and turn >= measured["began"]:
                    self.interruptions.append(1000 * (after[0] - turn))

    def described(self) -> list[str]:
        """Give the columns of the table."""
        times = (self.first_deltas, self.interruptions)
        return [
            *(f"{statistics.median(t):.2f} / {percentile(t, 99):.2f}" for t in times),
            f"{statistics.median(self.cpu):.2f}",
        ]


def percentile(values: list[float], percent: int) -> float:
    """Return the value below which so many percent are."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


async def measure(checkout: Path, count: int) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Return what a process with the package of a checkout prints, and what the server does."""
    pipe = asyncio.subprocess.PIPE
    server = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE), "--serve", stdin=pipe, stdout=pipe
    )
    assert server.stdout is not None
    port = int(await server.stdout.readline())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(HERE), str(count), "--hold", f"ws://127.0.0.1:{port}/s2s"),
        stdout=pipe,
        env={**os.environ, "PYTHONPATH": str(checkout)},
    )
    told, _ = await process.communicate()
    # Which closes its standard input.
    turns, _ = await server.communicate(b"")
    if process.returncode:
        sys.exit(f"the process with {count} sessions failed")
    return json.loads(told), json.loads(turns)


async def compare(counts: list[int], against: Path | None, rounds: int) -> None:
    """Print the table."""
    checkouts = {"here": HERE.parent.parent}
    if against is not None:
        checkouts["there"] = against
    table = Table("sessions", "", "first delta, ms", "interruption, ms", "CPU s a minute")
    for column in table.columns[2:]:
        column.justify = "right"
    for count in counts:
        figures: dict[str, Figures] = defaultdict(Figures)
        for number in range(rounds):
            # Each goes first as often as the other.
            for name in sorted(checkouts, reverse=bool(number % 2)):
                figures[name].add(*await measure(checkouts[name], count))
        for name in checkouts:
            table.add_row(str(count), name, *figures[name].described())
        if against is not None:
            table.add_row(str(count), "here / there", *ratios(figures["here"], figures["there"]))
        table.add_section()
    console = Console(width=100, highlight=False)
    console.print(table)
    console.print("Times: median / 99th percentile. CPU: median of the processes.")


def ratios(here: Figures, there: Figures) -> list[str]:
    """Give the columns of the table that compare two checkouts."""
    columns: list[str] = []
    for a, b in (
        (here.first_deltas, there.first_deltas),
        (here.interruptions, there.interruptions),
    ):
        median = statistics.median(a) / statistics.median(b)
        columns.append(f"{median:.2f} / {percentile(a, 99) / percentile(b, 99):.2f}")
    return [*columns, f"{statistics.median(here.cpu) / statistics.median(there.cpu):.2f}"]


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description="Latency from the wire to the output.")
    parser.add_argument("counts", nargs="*", type=int, default=[1, 10], metavar="SESSIONS")
    parser.add_argument("--against", type=lambda path: Path(path).resolve(), metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=3)
    # For the processes that this one starts.
    parser.add_argument("--hold", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(Server().run())
    elif given.hold:
        asyncio.run(hold(given.counts[0], given.hold))
    else:
        asyncio.run(compare(given.counts, given.against, given.rounds))


if __name__ == "__main__":
    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    main()
