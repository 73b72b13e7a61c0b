"""Bots as users write them: the examples, a bot with aggregators, and how to talk to one."""

import asyncio
import importlib.util
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from pipecat.frames.frames import LLMRunFrame
from pipecat.observers.base_observer import BaseObserver
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregator,
    LLMUserAggregatorParams,
)
from pipecat.processors.audio.audio_buffer_processor import AudioBufferProcessor
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner
from support.call import recording, session

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import EmulatedSession, HydraEmulator, Say, Script
from pipecat_hydra.testing import VirtualTransport

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def example(name: str) -> ModuleType:
    """Import an example, which is a file and no part of a package."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def talking(bot: Coroutine[Any, Any, None], line: VirtualTransport) -> AsyncGenerator[None]:
    """Run a bot until the user hangs up, which must end it."""
    running = asyncio.create_task(bot)
    try:
        await line.timeline.started()
        yield
        await line.hang_up()
        await until_ended(running)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(
    condition: Callable[[], Any],
    told: Callable[[], Any] = lambda: "",
    *,
    within: float = 20.0,
) -> None:
    """Wait until something holds.

    Args:
        condition: What has to hold.
        told: What to show if it does not.
        within: How long it may take, in seconds.
    """
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen: {told()}"
        await asyncio.sleep(0.01)


async def until_ended(running: "asyncio.Task[None]", *, within: float = 10.0) -> None:
    """Wait until a task ends by itself.

    `asyncio.wait_for` cancels a task that goes on, and returns as if the task had ended by itself
    where that ends it without an error, as it ends a pipeline.
    """
    await until(running.done, lambda: f"{running} goes on", within=within)
    await running


async def until_heard(line: VirtualTransport, hydra: EmulatedSession, responses: int) -> None:
    """Wait until the user has heard all of so many replies."""
    await hydra.wait_for_sent("response.output_audio.done", count=responses, within=20)
    await until(lambda: len(line.heard_pcm) >= len(hydra.sent_audio()))
    assert line.heard_pcm.rstrip(b"\0").startswith(hydra.sent_audio().rstrip(b"\0"))


class Bot:
    """A bot with aggregators, as an application builds it."""

    def __init__(
        self,
        hydra: HydraEmulator,
        *,
        observers: list[BaseObserver] | None = None,
        recorder: AudioBufferProcessor | None = None,
        tools: list[Any] | None = None,
        user: dict[str, Any] | None = None,
        service: dict[str, Any] | None = None,
    ):
        self.hydra = hydra
        self.line = VirtualTransport()
        llm = HydraLLMService(api_key=hydra.api_key, base_url=hydra.url, **(service or {}))
        params = {"user_turn_strategies": ExternalUserTurnStrategies(), **(user or {})}
        pair = LLMContextAggregatorPair(
            LLMContext(tools=tools or []), user_params=LLMUserAggregatorParams(**params)
        )
        self.user: LLMUserAggregator = pair.user()
        processors = [self.line.input(), pair.user(), llm, self.line.output(), pair.assistant()]
        if recorder is not None:
            processors.insert(4, recorder)
        self.worker = PipelineWorker(
            Pipeline(processors),
            params=PipelineParams(enable_metrics=True, enable_usage_metrics=True),
            observers=observers or [],
            idle_timeout_secs=None,
        )

    @property
    def told(self) -> EmulatedSession:
        return session(self.hydra)

    async def greet(self) -> None:
        """Let the bot speak first, and wait until its greeting is heard."""
        await self.worker.queue_frame(LLMRunFrame())
        await until(lambda: self.hydra.sessions and self.told.sent_of("response.done"))
        await self.until_quiet()

    async def say(self, name: str) -> float:
        """Say a recording; return when it ended, in seconds on the timeline."""
        utterance = await self.line.microphone.say(recording(name))
        assert utterance.end_secs is not None
        return utterance.end_secs

    async def until_answered(self, responses: int) -> None:
        """Wait until so many responses are done and heard."""
        await self.told.wait_for_sent("response.done", count=responses, within=20)
        await self.until_quiet()

    async def until_quiet(self) -> None:
        """Wait until nothing of the bot has been heard for a moment."""
        await until(lambda: self.line.timeline.secs - self.line.heard_until_secs > 0.3)


@asynccontextmanager
async def running(bot: Bot) -> AsyncGenerator[Bot]:
    """Run a bot, which is cancelled at the end."""
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(bot.worker)
    task = asyncio.create_task(runner.run())
    try:
        await bot.line.timeline.started()
        yield bot
    finally:
        await bot.worker.cancel()
        await task


def script(*turns: Any, greeting_secs: float = 0.4) -> Script:
    """A script whose greeting is of tones."""
    return Script(list(turns), greeting=Say.tones(greeting_secs))


def tool_names(tools: list[dict[str, Any]]) -> list[str]:
    return [tool["name"] for tool in tools]


def loud_secs(pcm: bytes) -> float:
    """How much sound there is in what was heard at 24 kHz, in seconds."""
    return sum(0.02 for at in range(0, len(pcm), 960) if any(pcm[at : at + 960]))
