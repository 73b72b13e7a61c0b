"""How long the model waits after a function's output until it is asked to go on.

Run as `python benchmarks/tool_response.py`. The emulator calls two functions in each of 50
responses and says `response.done` before they are answered; what is measured is the time from
the last `function_call_output` to `response.create`, as they come to the emulator:

- HydraLLMService, in a whole pipeline, asks as soon as all calls of the response are answered;
  it would wait, too, if `response.done` had not come.
- Hydra's own clients wait for 200 ms after each output, in case another call comes
  (`docs/protocol.md` section 6); here a small client of that kind.
"""

import asyncio
import json
import statistics
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from loguru import logger
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.services.llm_service import FunctionCallParams
from pipecat.workers.runner import WorkerRunner
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import (
    Call,
    EmulatedSession,
    EmulatorSettings,
    HydraEmulator,
    Say,
    Script,
)
from pipecat_hydra.testing import VirtualTransport
from pipecat_hydra.wire.protocol import DEFAULT_MODEL

ROUNDS = 50
VENDOR_WAIT_SECS = 0.2

SCRIPT = Script(
    [[Call("get_weather", {"city": "Paris"}), Call("get_time", {"city": "Paris"}), Say.tones(0.1)]],
    then="repeat",
)
SETTINGS = EmulatorSettings(
    calls_done="before_outputs", response_latency_secs=0.0, delivery_speed=float("inf")
)

Ask = Callable[[], Awaitable[None]]


async def get_weather(params: FunctionCallParams, city: str):
    """Get the weather.

    Args:
        params: Takes the result.
        city: Name of the city.
    """
    await params.result_callback({"city": city, "sky": "clear"})


async def get_time(params: FunctionCallParams, city: str):
    """Get the time.

    Args:
        params: Takes the result.
        city: Name of the city.
    """
    await params.result_callback({"city": city, "time": "12:00"})


@asynccontextmanager
async def service(hydra: HydraEmulator) -> AsyncGenerator[Ask]:
    """Run a pipeline with the service; gives what has the model speak."""
    llm = HydraLLMService(
        api_key=hydra.api_key,
        base_url=hydra.url,
        settings=HydraLLMService.Settings(generate_initial_response=False),
        tools=[get_weather, get_time],
    )
    transport = VirtualTransport()
    worker = PipelineWorker(Pipeline([transport.input(), llm, transport.output()]))
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        yield llm.request_response
    finally:
        await worker.cancel()
        await running


@asynccontextmanager
async def vendor_client(hydra: HydraEmulator) -> AsyncGenerator[Ask]:
    """Run a client that waits; gives what has the model speak."""
    url = f"{hydra.url}?model={DEFAULT_MODEL}&api_key={hydra.api_key}"
    async with connect(url, compression=None, max_size=None) as websocket:
        await send(websocket, "session.configure", session={"voice": "aria"})
        answering = asyncio.create_task(answer_calls(websocket))
        try:
            yield lambda: send(websocket, "response.create")
        finally:
            await websocket.close()
            await answering


async def answer_calls(websocket: ClientConnection) -> None:
    """Answer each call, and ask for the narration when there was no other for 200 ms."""
    wait: asyncio.Task[None] | None = None

    async def ask_later() -> None:
        await asyncio.sleep(VENDOR_WAIT_SECS)
        await send(websocket, "response.create")

    async for message in websocket:
        event = json.loads(message)
        if event["type"] != "response.function_call_arguments.done":
            continue
        output = {"type": "function_call_output", "call_id": event["call_id"], "output": "{}"}
        await send(websocket, "conversation.item.create", item=output)
        if wait is not None:
            wait.cancel()
        wait = asyncio.create_task(ask_later())


async def send(websocket: ClientConnection, kind: str, **fields: object) -> None:
    """Send an event."""
    await websocket.send(json.dumps({"type": kind, **fields}))


async def measured(
    client: Callable[[HydraEmulator], AbstractAsyncContextManager[Ask]],
) -> list[float]:
    """Return the time from output to request, in ms, for each response that called."""
    async with HydraEmulator(SCRIPT, settings=SETTINGS) as hydra, client(hydra) as ask:
        session = await hydra.wait_for_session()
        await session.wait_until(lambda: session.configured)
        for number in range(1, ROUNDS + 1):
            await ask()
            # The calls are a response, and so is what is said about them.
            await session.wait_for_sent("response.done", count=2 * number)
    check(session)
    return [1000 * narration.settle_secs for narration in session.narrations]


def check(session: EmulatedSession) -> None:
    """Make sure that it was done right, and not only fast."""
    assert len(session.narrations) == ROUNDS
    assert not any(narration.missing for narration in session.narrations)
    assert not session.errors
    done = {
        record.event["response"]["id"]: record.time for record in session.sent_of("response.done")
    }
    assert all(done[call.response_id] < call.outputs[0].time for call in session.calls)


async def main() -> None:
    """Print the table."""
    table = Table("from the last output to response.create", "median", "p95", "max")
    for column in table.columns[1:]:
        column.justify = "right"
    medians: list[float] = []
    for name, client in (
        ("HydraLLMService", service),
        (f"a client that waits for {1000 * VENDOR_WAIT_SECS:.0f} ms", vendor_client),
    ):
        times = await measured(client)
        medians.append(statistics.median(times))
        p95 = statistics.quantiles(times, n=20)[-1]
        table.add_row(name, *(f"{ms:.2f} ms" for ms in (medians[-1], p95, max(times))))
    console = Console(width=100, highlight=False)
    console.print(table)
    console.print(
        f"{ROUNDS} responses with two calls each; the medians differ by a factor of "
        f"{medians[1] / medians[0]:.0f}."
    )


if __name__ == "__main__":
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    asyncio.run(main())
