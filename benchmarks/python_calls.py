"""How many Python calls the service makes for a frame of the microphone, and for a delta.

Run as `python benchmarks/python_calls.py`; with `--names`, each function is listed too. One call
runs against an emulator in the same process: first the microphone alone for some seconds, then
replies beside it, from which the microphone's share is subtracted. `sys.setprofile` counts the
calls of Python functions of the package, without those of the emulator and of the virtual
transport. A coroutine that goes on after a wait counts as called again. Unlike times, the counts
hardly depend on the machine.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from loguru import logger
from pipecat.frames.frames import InputAudioRawFrame, OutputAudioRawFrame
from pipecat.observers.base_observer import BaseObserver, FramePushed
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

import pipecat_hydra
from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import EmulatorSettings, HydraEmulator, Say, Script

try:
    from pipecat_hydra.testing import VirtualTransport
except ImportError:  # Before the package had folders.
    from pipecat_hydra.virtual_transport import VirtualTransport  # pyright: ignore

PACKAGE = Path(pipecat_hydra.__file__).parent
OTHERS = tuple(str(PACKAGE / name) for name in ("emulator", "testing", "virtual_transport"))
MICROPHONE_SECS = 4.0
REPLIES, REPLY_SECS = 5, 4.0
DELTA_SECS = 0.04

SCRIPT = Script([Say.tones(REPLY_SECS)], then="repeat")


class Calls:
    """Counts the calls of functions of the service."""

    def __init__(self):
        """Start with none."""
        self.names: Counter[str] = Counter()
        self._known: dict[str, str | None] = {}

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count during the body."""
        sys.setprofile(self._on_event)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _on_event(self, frame: FrameType, event: str, arg: object) -> None:
        if event != "call":
            return
        code = frame.f_code
        module = self._module(code.co_filename)
        if module is not None:
            self.names[f"{module}:{code.co_qualname}"] += 1

    def _module(self, path: str) -> str | None:
        if path not in self._known:
            ours = path.startswith(str(PACKAGE)) and not path.startswith(OTHERS)
            self._known[path] = str(Path(path).relative_to(PACKAGE)) if ours else None
        return self._known[path]


class Passed(BaseObserver):
    """Counts what the service pushes: seconds of its own audio, and frames of the microphone's."""

    def __init__(self, llm: HydraLLMService):
        """Start with none."""
        super().__init__()
        self.secs = 0.0
        self.microphone_frames = 0
        self._pushed = asyncio.Event()
        self._llm = llm

    async def on_push_frame(self, data: FramePushed):
        """Count a frame."""
        if data.source is not self._llm:
            return
        if isinstance(data.frame, OutputAudioRawFrame):
            frame = data.frame
            self.secs += len(frame.audio) / (2 * frame.sample_rate * frame.num_channels)
            self._pushed.set()
        elif isinstance(data.frame, InputAudioRawFrame):
            self.microphone_frames += 1

    async def until(self, secs: float) -> None:
        """Wait until the service has pushed so many seconds of audio."""
        while self.secs < secs - 0.01:
            self._pushed.clear()
            await self._pushed.wait()


async def measured(*, aggregators: bool) -> tuple[Calls, float, Calls, float]:
    """Return the calls for the microphone and for replies, each with how much there was."""
    settings = EmulatorSettings(delivery_speed=float("inf"), response_latency_secs=0.0)
    microphone, replies = Calls(), Calls()
    async with HydraEmulator(SCRIPT, settings=settings) as hydra:
        llm = HydraLLMService(
            api_key=hydra.api_key,
            base_url=hydra.url,
            settings=HydraLLMService.Settings(generate_initial_response=False),
        )
        transport = VirtualTransport()
        passed = Passed(llm)
        worker = PipelineWorker(
            Pipeline(around(llm, transport, aggregators=aggregators)),
            params=PipelineParams(enable_metrics=True),
            observers=[passed],
        )
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        running = asyncio.create_task(runner.run())
        session = await hydra.wait_for_session()
        await session.wait_until(lambda: session.configured)
        await asyncio.sleep(0.5)
        before = passed.microphone_frames
        with microphone.counted():
            await asyncio.sleep(MICROPHONE_SECS)
        frames = passed.microphone_frames - before
        with replies.counted():
            for number in range(1, REPLIES + 1):
                await llm.request_response()
                await session.wait_for_sent("response.done", count=number)
                await passed.until(number * REPLY_SECS)
        beside = passed.microphone_frames - before - frames
        await worker.cancel()
        await running
    for name, number in microphone.names.items():
        replies.names[name] -= round(number * beside / frames)
    return microphone, frames, replies, REPLIES * REPLY_SECS / DELTA_SECS


def around(llm: HydraLLMService, transport: VirtualTransport, *, aggregators: bool) -> list:
    """Put the processors of a pipeline around the service."""
    if not aggregators:
        return [transport.input(), llm, transport.output()]
    user, assistant = LLMContextAggregatorPair(
        LLMContext(),
        user_params=LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies()),
    )
    return [transport.input(), user, llm, transport.output(), assistant]


async def main() -> None:
    """Print the table."""
    console = Console(width=100, highlight=False)
    table = Table("Python calls of the service", "a microphone frame", "a delta")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, aggregators in (("bare", False), ("with aggregators", True)):
        microphone, frames, replies, deltas = await measured(aggregators=aggregators)
        table.add_row(
            name,
            f"{microphone.names.total() / frames:.1f}",
            f"{replies.names.total() / deltas:.1f}",
        )
        if "--names" in sys.argv:
            for what, calls, count in (
                ("frame", microphone, frames),
                ("delta", replies, deltas),
            ):
                for function, number in calls.names.most_common():
                    if number / count > 0.05:
                        console.print(f"{what} {number / count:6.2f} {function}")
    console.print(table)


if __name__ == "__main__":
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    asyncio.run(main())
