"""Agents that are bridged workers: hand-over, barge-in and contexts (S5, T5).

The aggregators may stand in no worker, in that of each agent, or in that of the call.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest
from pipecat.bus import BusBridgeProcessor
from pipecat.bus.bus import WorkerBus
from pipecat.frames.frames import InterruptionFrame, LLMMessagesAppendFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.llm_service import FunctionCallParams
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.llm import LLMWorker, LLMWorkerActivationArgs, tool
from pipecat.workers.runner import WorkerRunner
from support.bots import until
from support.call import Frames, emulator, recording

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import Call, EmulatedSession, HydraEmulator, Say, Script
from pipecat_hydra.testing import VirtualTransport

Layout = Literal["bare", "agents", "call"]

layouts = pytest.mark.parametrize("layout", ["bare", "agents", "call"])

HANDING_OVER = [Call("hand_over"), Say.tones(2.0)]


def pair(*history: dict[str, str]) -> LLMContextAggregatorPair:
    messages: Any = [*history]
    params = LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies())
    return LLMContextAggregatorPair(LLMContext(messages), user_params=params)


class Agent(LLMWorker):
    """Hands the caller over to its colleague."""

    def __init__(self, name: str, hydra: HydraEmulator, layout: Layout, colleague: str):
        settings = HydraLLMService.Settings(system_instruction=f"You are {name}.")
        self.hydra = HydraLLMService(api_key=hydra.api_key, base_url=hydra.url, settings=settings)
        self.frames = Frames(self.hydra)
        self._colleague = colleague
        processors: list[FrameProcessor] = [self.hydra]
        if layout == "agents":
            own = pair({"role": "user", "content": f"I have talked to {name} before."})
            processors = [own.user(), self.hydra, own.assistant()]
        super().__init__(name, llm=self.hydra, pipeline=Pipeline(processors), bridged=())
        self.add_observer(self.frames)

    @tool
    async def hand_over(self, params: FunctionCallParams):
        """Hand the caller over."""
        await params.result_callback("Say that a colleague takes over.")
        await self.activate_worker(self._colleague, args=greet(), deactivate_self=True)


def greet() -> LLMWorkerActivationArgs:
    return LLMWorkerActivationArgs(messages=[{"role": "developer", "content": "Greet the caller."}])


class Bot:
    """The worker of the call, with two agents."""

    def __init__(self, hydra: HydraEmulator, layout: Layout, bus: WorkerBus):
        self.hydra = hydra
        self.line = VirtualTransport()
        bridge = BusBridgeProcessor(bus=bus, worker_name="call")
        processors: list[FrameProcessor] = [self.line.input(), bridge, self.line.output()]
        if layout == "call":
            shared = pair()
            processors[1:1] = [shared.user()]
            processors.append(shared.assistant())
        self.worker = PipelineWorker(Pipeline(processors), name="call", idle_timeout_secs=None)
        self.anna = Agent("anna", hydra, layout, "ben")
        self.ben = Agent("ben", hydra, layout, "anna")

    def session_of(self, name: str) -> EmulatedSession | None:
        """The session of an agent, once it was configured."""
        for told in self.hydra.sessions:
            if f"You are {name}." in str(told.configuration):
                return told
        return None

    @property
    def loud_secs(self) -> float:
        """How much sound the caller has heard, in seconds."""
        pcm = self.line.heard_pcm
        return sum(0.02 for at in range(0, len(pcm), 960) if any(pcm[at : at + 960]))

    async def until_quiet(self) -> None:
        await until(lambda: self.line.timeline.secs - self.line.heard_until_secs > 0.5)

    async def hear_the_greeting(self) -> None:
        await self.worker.activate_worker("anna", args=greet())
        await until(lambda: self.loud_secs)
        await self.until_quiet()


@asynccontextmanager
async def talking(hydra: HydraEmulator, layout: Layout) -> AsyncGenerator[Bot]:
    runner = WorkerRunner(handle_sigint=False)
    bot = Bot(hydra, layout, runner.bus)
    await runner.add_workers(bot.worker, bot.anna, bot.ben)
    running = asyncio.create_task(runner.run())
    try:
        await bot.line.timeline.started()
        yield bot
    finally:
        await runner.cancel()
        await running


@layouts
async def test_a_hand_over_waits_until_all_was_heard(layout: Layout):
    script = Script([HANDING_OVER] * 2, greeting=Say.tones(0.5))
    async with emulator(script) as hydra, talking(hydra, layout) as bot:
        await bot.hear_the_greeting()
        await bot.line.microphone.say(recording("hello"))
        await until(lambda: (told := bot.session_of("ben")) and told.sent_audio())
        # The greeting of anna, and all that she says about the hand-over.
        assert bot.loud_secs == pytest.approx(2.5, abs=0.2)
        await until(lambda: bot.loud_secs > 2.7)
        await bot.until_quiet()
        assert bot.loud_secs == pytest.approx(3.0, abs=0.2)
        # Only the agent that is active hears the caller.
        anna, ben = bot.session_of("anna"), bot.session_of("ben")
        assert anna is not None
        assert ben is not None
        turns = len(anna.sent_of("input_audio_buffer.speech_started"))
        await bot.line.microphone.say(recording("hello"))
        await ben.wait_for_sent("response.function_call_arguments.done", within=10)
        assert len(anna.sent_of("input_audio_buffer.speech_started")) == turns


@layouts
async def test_the_caller_interrupts_the_agent_that_is_active(layout: Layout):
    script = Script([Say.tones(6.0), Say.tones(0.5)], greeting=Say.tones(0.5))
    async with emulator(script) as hydra, talking(hydra, layout) as bot:
        await bot.hear_the_greeting()
        await bot.line.microphone.say(recording("hello"))
        await until(lambda: bot.loud_secs > 1.0)
        told = bot.session_of("anna")
        assert told is not None
        interrupted = len(bot.anna.frames.of(InterruptionFrame))
        await bot.line.microphone.say(recording("hello"))
        await told.wait_for_sent("response.done", count=3, within=10)
        await bot.until_quiet()
        assert len(bot.anna.frames.of(InterruptionFrame)) == interrupted + 1
        assert bot.loud_secs < 4.0
        assert not told.errors


@layouts
async def test_each_agent_is_told_its_own_context_and_functions(layout: Layout):
    script = Script([HANDING_OVER] * 2, greeting=Say.tones(0.5))
    async with emulator(script) as hydra, talking(hydra, layout) as bot:
        await bot.hear_the_greeting()
        await bot.line.microphone.say(recording("hello"))
        await until(lambda: (told := bot.session_of("ben")) and told.sent_audio())
        for name, other in (("anna", "ben"), ("ben", "anna")):
            told = bot.session_of(name)
            assert told is not None
            assert told.configuration is not None
            functions = str(told.configuration["tools"]) + str(told.received_of("session.update"))
            assert "hand_over" in functions
            told_before = f"I have talked to {name} before." in str(told.received)
            assert told_before is (layout == "agents")
            assert f"I have talked to {other} before." not in str(told.received)


@layouts
async def test_an_agent_greets_once_each_time_it_is_activated(layout: Layout):
    script = Script([Say.tones(0.5)] * 6, greeting=Say.tones(0.5))
    async with emulator(script) as hydra, talking(hydra, layout) as bot:
        await bot.hear_the_greeting()
        for name, other in (("ben", "anna"), ("anna", "ben")):
            await bot.worker.deactivate_worker(other)
            await bot.worker.activate_worker(name, args=greet())
            await asyncio.sleep(2.0)
        replies = [
            len(told.sent_of("response.done"))
            for name in ("anna", "ben")
            if (told := bot.session_of(name))
        ]
        assert replies == [2, 1]
        assert bot.loud_secs == pytest.approx(1.5, abs=0.1)


@layouts
async def test_a_message_to_the_agent_is_answered_once(layout: Layout):
    script = Script([Say.tones(0.5)] * 4, greeting=Say.tones(0.5))
    async with emulator(script) as hydra, talking(hydra, layout) as bot:
        await bot.hear_the_greeting()
        message: Any = {"role": "user", "content": "What is the weather?"}
        await bot.anna.queue_frame(LLMMessagesAppendFrame(messages=[message], run_llm=True))
        await asyncio.sleep(3.0)
        told = bot.session_of("anna")
        assert told is not None
        assert len(told.sent_of("response.done")) == 2
        assert str(told.received).count("What is the weather?") == 1
        assert bot.loud_secs == pytest.approx(1.0, abs=0.1)
