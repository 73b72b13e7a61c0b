"""A text LLM with a context of its own, in another branch, does not concern Hydra (T5)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar

import pytest
from pipecat.frames.frames import (
    Frame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMRunFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
)
from pipecat.pipeline.parallel_pipeline import ParallelPipeline
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.service_switcher import ServiceSwitcher, ServiceSwitcherStrategyManual
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.filters.identity_filter import IdentityFilter
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.llm_service import LLMService
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner
from support.bots import until
from support.call import SHAPES, Frames, Shape, configuration, emulator, recording, session

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import HydraEmulator, Say, Script
from pipecat_hydra.service.pipecat_versions import FunctionSchema, ToolsSchema
from pipecat_hydra.testing import VirtualTransport

shapes = pytest.mark.parametrize("shape", SHAPES)


def tool(name: str) -> FunctionSchema:
    return FunctionSchema(name=name, description=name, properties={}, required=[])


def context(history: str, function: str) -> LLMContext:
    messages: Any = [
        {"role": "user", "content": history},
        {"role": "assistant", "content": "Noted."},
    ]
    return LLMContext(messages, tools=ToolsSchema([tool(function)]))


def pair(context: LLMContext) -> LLMContextAggregatorPair:
    strategies = ExternalUserTurnStrategies()
    params = LLMUserAggregatorParams(user_turn_strategies=strategies)
    return LLMContextAggregatorPair(context, user_params=params)


class TextLLM(LLMService[Any]):
    """Answers each context with a text."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection):
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        self.asked += 1
        for answer in (
            LLMFullResponseStartFrame(),
            LLMTextFrame("Noted."),
            LLMFullResponseEndFrame(),
        ):
            await self.push_frame(answer)


class Bot:
    """Hydra, and a text LLM that takes notes with aggregators of its own."""

    def __init__(self, hydra: HydraEmulator, shape: Shape, *, beside: bool = True):
        self.hydra = hydra
        self.line = VirtualTransport()
        self.llm = HydraLLMService(
            api_key=hydra.api_key, base_url=hydra.url, tools=[tool("own_tool")]
        )
        self.notes = TextLLM()
        own = pair(context("I am Bob.", "bob_tool"))
        notes = pair(context("My PIN is 1234.", "note_tool"))
        branch: list[FrameProcessor] = [notes.user(), self.notes, notes.assistant()]
        self.behind = IdentityFilter()
        speaking: list[FrameProcessor] = [self.llm, self.behind]
        if shape == "aggregators":
            speaking.insert(0, own.user())
        processors: list[FrameProcessor] = (
            [ParallelPipeline(branch, speaking)]
            if beside
            else [ParallelPipeline(branch, [IdentityFilter()]), *speaking]
        )
        processors = [self.line.input(), *processors, self.line.output()]
        if shape == "aggregators":
            processors.append(own.assistant())
        self.frames = Frames(self.llm)
        self.worker = PipelineWorker(
            Pipeline(processors), observers=[self.frames], idle_timeout_secs=None
        )

    async def greet(self) -> None:
        """Have the bot greet, and wait until the user has heard it."""
        await self.worker.queue_frame(LLMRunFrame())
        await until(lambda: self.hydra.sessions and session(self.hydra).sent_of("response.done"))
        await until(lambda: self.line.timeline.secs - self.line.heard_until_secs > 0.3)


AnyBot = TypeVar("AnyBot", "Bot", "Beside")


@asynccontextmanager
async def running(bot: AnyBot) -> AsyncGenerator[AnyBot]:
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(bot.worker)
    task = asyncio.create_task(runner.run())
    try:
        await bot.line.timeline.started()
        yield bot
    finally:
        await bot.worker.cancel()
        await task


async def spoken_to(hydra: HydraEmulator, shape: Shape) -> dict[str, Any]:
    """What a session is configured with because the user speaks first."""
    async with running(Bot(hydra, shape)) as bot:
        bot.line.microphone.queue(recording("hello"))
        await until(lambda: hydra.sessions and session(hydra).configuration)
        return configuration(hydra)


def names(told: dict[str, Any]) -> list[str]:
    return [one["name"] for one in told["tools"]]


async def test_a_bare_service_is_told_nothing_of_the_other_branch():
    async with emulator(Script([], greeting=Say.tones(0.3))) as hydra:
        told = await spoken_to(hydra, "bare")
    assert names(told) == ["own_tool"]
    assert "PIN" not in (told.get("instructions") or "")


async def test_a_service_with_aggregators_is_told_of_its_own_context():
    async with emulator(Script([], greeting=Say.tones(0.3))) as hydra:
        told = await spoken_to(hydra, "aggregators")
    assert names(told) == ["bob_tool"]
    assert "I am Bob." in told["instructions"]
    assert "PIN" not in told["instructions"]


@shapes
async def test_the_user_interrupts(shape: Shape):
    async with (
        emulator(Script([], greeting=Say.tones(5.0))) as hydra,
        running(Bot(hydra, shape)) as bot,
    ):
        await bot.worker.queue_frame(LLMRunFrame())
        await until(lambda: bot.frames.of(TTSAudioRawFrame))
        await bot.line.microphone.say(recording("hello"))
        await until(lambda: session(hydra).sent_of("input_audio_buffer.speech_started"))
        await until(lambda: bot.frames.of(InterruptionFrame))
        await session(hydra).wait_for_sent("response.done", count=2, within=10)
        assert len(bot.line.heard_pcm) < len(session(hydra).sent_audio())


@shapes
async def test_a_request_that_is_sent_up_is_answered_once(shape: Shape):
    async with (
        emulator(Script([Say.tones(0.3)] * 4, greeting=Say.tones(0.3))) as hydra,
        running(Bot(hydra, shape)) as bot,
    ):
        await bot.greet()
        await bot.behind.push_frame(LLMRunFrame(), FrameDirection.UPSTREAM)
        await session(hydra).wait_for_sent("response.done", count=2, within=10)
        await asyncio.sleep(1.0)
        assert len(session(hydra).sent_of("response.done")) == 2


@shapes
async def test_what_another_llm_answers_before_hydra_is_not_for_hydra(shape: Shape):
    async with (
        emulator(Script([Say.tones(0.3)] * 4, greeting=Say.tones(0.3))) as hydra,
        running(Bot(hydra, shape, beside=False)) as bot,
    ):
        await bot.greet()
        assert bot.notes.asked
        await asyncio.sleep(1.0)
        assert len(session(hydra).sent_of("response.done")) == 1
        told = configuration(hydra)
    assert names(told) == (["own_tool"] if shape == "bare" else ["bob_tool"])
    assert "PIN" not in (told.get("instructions") or "")


Place = Literal["nested", "switcher"]


class Beside:
    """Two Hydra services in two branches, each in a compound processor of its own."""

    def __init__(self, first: HydraEmulator, second: HydraEmulator, shape: Shape, place: Place):
        self.line = VirtualTransport()
        self.llms = [
            HydraLLMService(api_key=hydra.api_key, base_url=hydra.url, tools=[tool(f"own_{n}")])
            for n, hydra in enumerate((first, second))
        ]
        branches: list[list[FrameProcessor]] = []
        for n, llm in enumerate(self.llms):
            own = pair(context(f"I am Bob {n}.", f"bob_{n}"))
            holder: FrameProcessor = Pipeline([IdentityFilter(), Pipeline([llm])])
            if place == "switcher":
                spare = HydraLLMService(api_key="sk-spare", base_url="ws://127.0.0.1:9/s2s")
                spare.set_audio_input_paused(True)
                holder = ServiceSwitcher([llm, spare], ServiceSwitcherStrategyManual)
            branch: list[FrameProcessor] = [holder]
            if shape == "aggregators":
                branch = [own.user(), holder, own.assistant()]
            branches.append(branch)
        self.frames = [Frames(llm) for llm in self.llms]
        self.worker = PipelineWorker(
            Pipeline([self.line.input(), ParallelPipeline(*branches), self.line.output()]),
            observers=[*self.frames],
            idle_timeout_secs=None,
        )


@shapes
@pytest.mark.parametrize("place", ["nested", "switcher"])
async def test_two_services_in_two_branches_have_each_its_own(shape: Shape, place: Place):
    """Both hear the user, and each is told its own context and tools, and interrupted once."""
    script = Script([Say.tones(3.0), Say.tones(0.5)])
    async with emulator(script) as first, emulator(script) as second:
        bot = Beside(first, second, shape, place)
        async with running(bot):
            await bot.line.microphone.say(recording("hello"))
            await until(lambda: all(frames.of(TTSAudioRawFrame) for frames in bot.frames))
            before = [len(frames.of(InterruptionFrame)) for frames in bot.frames]
            await asyncio.sleep(0.5)
            await bot.line.microphone.say(recording("hello"))
            for hydra in (first, second):
                await session(hydra).wait_for_sent("response.done", count=2, within=10)
            interruptions = [len(frames.of(InterruptionFrame)) for frames in bot.frames]
            assert all(now > was for now, was in zip(interruptions, before, strict=True))
    for n, hydra in enumerate((first, second)):
        told = configuration(hydra)
        assert names(told) == ([f"bob_{n}"] if shape == "aggregators" else [f"own_{n}"])
        assert ("I am Bob" in (told.get("instructions") or "")) is (shape == "aggregators")
        assert f"I am Bob {1 - n}." not in (told.get("instructions") or "")
        assert not session(hydra).errors
