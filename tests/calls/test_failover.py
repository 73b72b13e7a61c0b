"""When Hydra cannot be had, another service answers: Pipecat's switchers and policies (S2)."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    ManuallySwitchServiceFrame,
    TTSAudioRawFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.pipeline.llm_switcher import LLMSwitcher
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.service_switcher import ServiceSwitcherStrategyFailover
from pipecat.pipeline.worker import PipelineWorker, ProcessorUnusablePolicy
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.llm_service import FunctionCallParams, LLMService
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner
from support.call import NO_GREETING, SHAPES, Frames, Shape, recording

from pipecat_hydra import HydraLLMService, RetryPolicy
from pipecat_hydra.emulator import (
    Call,
    EmulatorSettings,
    Fault,
    Full,
    HydraEmulator,
    Refuse,
    Say,
    Script,
)
from pipecat_hydra.testing import VirtualTransport, VirtualTransportParams

shapes = pytest.mark.parametrize("shape", SHAPES)

QUICK = RetryPolicy(attempts_per_drop=2, first_delay_secs=0.02, longest_delay_secs=0.02)


def service(hydra: HydraEmulator) -> HydraLLMService:
    return HydraLLMService(
        api_key=hydra.api_key, base_url=hydra.url, settings=NO_GREETING, retry=QUICK
    )


def failing_over(*llms: HydraLLMService) -> LLMSwitcher[ServiceSwitcherStrategyFailover]:
    return LLMSwitcher(cast("list[LLMService[Any]]", [*llms]), ServiceSwitcherStrategyFailover)


def watching(running: "Running", *llms: HydraLLMService) -> list[Frames]:
    """What services push that are in a switcher."""
    watched = [Frames(llm) for llm in llms]
    for frames in watched:
        running.worker.add_observer(frames)
    return watched


class Running:
    """A pipeline with some processors where the LLM belongs."""

    def __init__(
        self,
        shape: Shape,
        llms: Sequence[FrameProcessor],
        policy: ProcessorUnusablePolicy = ProcessorUnusablePolicy.CONTINUE,
    ):
        self.transport = VirtualTransport(
            params=VirtualTransportParams(audio_out_sample_rate=24_000)
        )
        processors = [self.transport.input(), *llms, self.transport.output()]
        if shape == "aggregators":
            strategies = ExternalUserTurnStrategies()
            pair = LLMContextAggregatorPair(
                LLMContext(), user_params=LLMUserAggregatorParams(user_turn_strategies=strategies)
            )
            processors = [processors[0], pair.user(), *processors[1:], pair.assistant()]
        self.frames = {llm.name: Frames(llm) for llm in llms[0].processors or llms}
        self.worker = PipelineWorker(
            Pipeline(processors),
            observers=[*self.frames.values()],
            idle_timeout_secs=None,
            processor_unusable_policy=policy,
        )
        self.running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Running":
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self.worker)
        self.running = asyncio.create_task(runner.run())
        await self.transport.timeline.started()
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self.running is not None
        if not self.running.done():
            await self.worker.cancel()
        await self.running

    async def until(self, condition) -> None:
        async with asyncio.timeout(15):
            while not condition():
                await asyncio.sleep(0.005)


@shapes
@pytest.mark.parametrize("fault", [Refuse(401), Full()], ids=["refused", "full"])
async def test_the_second_service_answers_the_next_turn(shape: Shape, fault: Fault):
    async with HydraEmulator(faults=[fault]) as broken, HydraEmulator() as sound:
        first, second = service(broken), service(sound)
        switcher = failing_over(first, second)
        running = Running(shape, [switcher])
        watched = watching(running, first, second)
        async with running:
            await running.until(lambda: switcher.active_llm is second)
            assert not first.is_usable
            assert second.is_usable
            await running.transport.microphone.say(recording("question"))
            await running.until(lambda: watched[1].of(LLMFullResponseEndFrame))
            assert recording("question").tobytes() in sound.sessions[-1].received_audio
            reply = sound.sessions[-1].sent_audio()
            await running.until(lambda: running.transport.heard_pcm.startswith(reply))
            errors = watched[0].of(ErrorFrame, direction=FrameDirection.UPSTREAM)
            assert len(errors) == (1 if isinstance(fault, Refuse) else 2)
            assert not watched[1].of(ErrorFrame, direction=FrameDirection.UPSTREAM)
            assert len(watched[1].of(LLMFullResponseStartFrame)) == 1
            assert not watched[0].of(LLMFullResponseStartFrame)


async def test_a_drop_that_is_survived_switches_nothing():
    async with HydraEmulator() as one, HydraEmulator() as other:
        first, second = service(one), service(other)
        switcher = failing_over(first, second)
        running = Running("aggregators", [switcher])
        (watched,) = watching(running, first)
        async with running:
            await running.until(lambda: one.sessions and one.sessions[0].configured)
            await one.drop()
            await running.until(lambda: one.sessions[-1].configured and len(one.sessions) == 2)
            await running.transport.microphone.say(recording("hello"))
            await running.until(lambda: watched.of(LLMFullResponseEndFrame))
            assert switcher.active_llm is first


async def test_a_service_that_is_brought_back_works_again():
    async with HydraEmulator(faults=[Refuse(403, times=1)]) as one, HydraEmulator() as other:
        first, second = service(one), service(other)
        switcher = failing_over(first, second)
        running = Running("bare", [switcher])
        (watched,) = watching(running, first)
        async with running:
            await running.until(lambda: switcher.active_llm is second)
            await first.set_usable(True)
            await switcher.strategy._set_active_if_available(first)
            await running.transport.microphone.say(recording("hello"))
            await running.until(lambda: watched.of(LLMFullResponseEndFrame))


async def test_a_service_that_is_switched_away_falls_silent():
    script = Script([Say.tones(20.0)])
    settings = EmulatorSettings(delivery_speed=1.0)
    async with HydraEmulator(script, settings=settings) as one, HydraEmulator() as other:
        first, second = service(one), service(other)
        switcher = failing_over(first, second)
        running = Running("aggregators", [switcher])
        watched = watching(running, first, second)
        async with running:
            await running.transport.microphone.say(recording("hello"))
            await running.until(lambda: watched[0].of(TTSAudioRawFrame))
            await running.worker.queue_frame(ManuallySwitchServiceFrame(service=second))
            await running.until(lambda: switcher.active_llm is second)
            (done,) = await one.sessions[0].wait_for_sent("response.done")
            assert done.event["response"]["status"] == "cancelled"
            said = len(watched[0].of(TTSAudioRawFrame))
            await running.transport.microphone.say(recording("hello"))
            await running.until(lambda: watched[1].of(LLMFullResponseEndFrame))
            assert len(watched[0].of(TTSAudioRawFrame)) == said
            assert len(watched[0].of(LLMFullResponseEndFrame)) == 1


@shapes
async def test_a_function_may_switch_the_service_and_is_not_spoken_about(shape: Shape):
    async def transfer(params: FunctionCallParams):
        """Give the call to another assistant."""
        await running.worker.queue_frame(ManuallySwitchServiceFrame(service=second))
        await running.until(lambda: switcher.active_llm is second)
        await params.result_callback("transferred")

    script = Script([[Call("transfer", {}), Say.tones(2.0)]])
    async with HydraEmulator(script) as one, HydraEmulator() as other:
        first = HydraLLMService(
            api_key=one.api_key, base_url=one.url, settings=NO_GREETING, tools=[transfer]
        )
        second = service(other)
        switcher = failing_over(first, second)
        running = Running(shape, [switcher])
        watched = watching(running, first, second)
        async with running:
            await running.transport.microphone.say(recording("hello"))
            await running.until(lambda: [c for s in one.sessions for c in s.calls if c.output])
            await running.transport.microphone.say(recording("hello"))
            await running.until(lambda: watched[1].of(LLMFullResponseEndFrame))
        assert not one.sessions[0].received_of("response.create")
        assert not watched[0].of(TTSAudioRawFrame)


@pytest.mark.parametrize("policy", [ProcessorUnusablePolicy.END, ProcessorUnusablePolicy.CANCEL])
async def test_a_policy_ends_the_pipeline_of_a_service_that_is_given_up(
    policy: ProcessorUnusablePolicy,
):
    async with HydraEmulator(faults=[Refuse(401)]) as hydra:
        async with Running("bare", [service(hydra)], policy) as running:
            assert running.running is not None
            await asyncio.wait_for(asyncio.shield(running.running), 15)
        assert not hydra.sessions


async def test_a_policy_leaves_a_call_alone_that_survives():
    async with HydraEmulator() as hydra:
        llm = service(hydra)
        async with Running("bare", [llm], ProcessorUnusablePolicy.CANCEL) as running:
            await running.until(lambda: hydra.sessions and hydra.sessions[0].configured)
            await hydra.drop()
            await running.transport.microphone.say(recording("hello"))
            await running.until(lambda: running.frames[llm.name].of(UserStoppedSpeakingFrame))
            frames: list[Frame] = [f for f, _ in running.frames[llm.name].pushed]
            assert any(isinstance(frame, ErrorFrame) for frame in frames)
