"""A turn that the application's strategies start late does not cost its answer (T1).

Strategies that wait for the words of an STT service start a turn when Hydra has told its end.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    Frame,
    FunctionCallCancelFrame,
    InterruptionFrame,
    TranscriptionFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.llm_service import FunctionCallParams
from pipecat.turns.user_start import (
    MinWordsUserTurnStartStrategy,
    VADUserTurnStartStrategy,
    WakePhraseUserTurnStartStrategy,
)
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from support.bursts import Puppet, audio, called, created, done, item_done, puppet, started, stopped
from support.call import NO_GREETING, SHAPES, Call, Shape, call

SECOND = 24_000 * 2
OLD = np.random.default_rng(1).integers(-9_000, 9_000, 6 * 24_000).astype("<i2").tobytes()
NEW = np.random.default_rng(2).integers(-9_000, 9_000, 3 * 24_000).astype("<i2").tobytes()

shapes = pytest.mark.parametrize("shape", SHAPES)


class Transcriber(FrameProcessor):
    """An STT service: gives words to the strategies; where there are none it starts turns."""

    def __init__(self, shape: Shape):
        super().__init__()
        self._shape = shape

    async def process_frame(self, frame: Frame, direction: FrameDirection):
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)

    async def hear(self) -> None:
        """Find out what the user has said."""
        if self._shape == "aggregators":
            await self.push_frame(TranscriptionFrame("hey bot please stop", "user", "now"))
            return
        await self.broadcast_frame(UserStartedSpeakingFrame)
        await self.broadcast_interruption()
        await self.broadcast_frame(UserStoppedSpeakingFrame)


def waiting_for_words() -> UserTurnStrategies:
    start = [MinWordsUserTurnStartStrategy(min_words=3)]
    return UserTurnStrategies(start=[*start], stop=[SpeechTimeoutUserTurnStopStrategy()])


@dataclass
class Talk:
    """A call with an STT service beside Hydra."""

    hydra: Puppet
    call: Call
    stt: Transcriber

    @property
    def heard(self) -> bytes:
        return self.call.transport.heard_pcm.rstrip(b"\0")

    async def until_heard(self, secs: float) -> None:
        await self.call.until(lambda: len(self.heard) >= secs * SECOND)

    async def hear_the_old_reply(self) -> None:
        """The bot says something long, that is generated whole."""
        self.hydra.burst(created("r1"), audio("r1", OLD), done("r1"))
        await self.until_heard(1.0)

    async def say(self, item: str = "i") -> None:
        """The user says something, as Hydra hears it."""
        self.hydra.burst(started(item))
        await asyncio.sleep(1.5)
        self.hydra.burst(stopped(item), item_done("completed", item))
        await asyncio.sleep(0.1)

    async def answer(self) -> None:
        self.hydra.burst(created("r2"), audio("r2", NEW), done("r2"))
        await self.call.until(lambda: NEW[:9_600] in self.heard)

    async def assert_answer_was_heard(self) -> None:
        """All of the answer was heard, with at most a little of it twice."""
        await self.call.until(lambda: self.heard.endswith(NEW.rstrip(b"\0")[-SECOND:]))
        begun = self.heard.index(NEW[:2_000])
        again = self.heard.rindex(NEW[:2_000])
        assert self.heard[again:] == NEW.rstrip(b"\0")
        assert again - begun <= 0.4 * SECOND
        assert not self.hydra.of("response.cancel")


@asynccontextmanager
async def talking(
    shape: Shape, strategies: UserTurnStrategies | None = None, **arguments: Any
) -> AsyncGenerator[Talk]:
    stt = Transcriber(shape)
    async with (
        puppet() as hydra,
        call(
            hydra,
            shape,
            settings=NO_GREETING,
            before_aggregator=[stt],
            strategies=strategies or waiting_for_words(),
            vad_frames=True,
            **arguments,
        ) as talk,
    ):
        await asyncio.wait_for(hydra.configured.wait(), 5)
        yield Talk(hydra, talk, stt)


@shapes
@pytest.mark.parametrize("resume_after_noise", [True, False])
async def test_the_answer_is_heard_whole(shape: Shape, resume_after_noise: bool):
    async with talking(shape, resume_after_noise=resume_after_noise) as talk:
        await talk.say()
        await talk.answer()
        await talk.stt.hear()
        await talk.assert_answer_was_heard()


@shapes
@pytest.mark.parametrize("resume_after_noise", [True, False])
async def test_of_what_the_turn_interrupts_nothing_is_heard_any_more(
    shape: Shape, resume_after_noise: bool
):
    async with talking(shape, resume_after_noise=resume_after_noise) as talk:
        await talk.hear_the_old_reply()
        await talk.say()
        talk.hydra.burst(created("r2"), audio("r2", NEW), done("r2"))
        await asyncio.sleep(0.2)
        spoken = len(talk.heard)
        await talk.stt.hear()
        await talk.assert_answer_was_heard()
        assert talk.heard.index(NEW[:2_000]) - spoken <= 0.1 * SECOND


@shapes
async def test_an_answer_that_is_still_generated_goes_on(shape: Shape):
    async with talking(shape) as talk:
        await talk.say()
        talk.hydra.burst(created("r2"), audio("r2", NEW[:SECOND]))
        await talk.until_heard(0.2)
        await talk.stt.hear()
        await asyncio.sleep(0.1)
        talk.hydra.burst(audio("r2", NEW[SECOND:]), done("r2"))
        await talk.assert_answer_was_heard()


@shapes
async def test_an_answer_that_is_still_to_come_comes(shape: Shape):
    async with talking(shape) as talk:
        await talk.hear_the_old_reply()
        await talk.say()
        await talk.stt.hear()
        await asyncio.sleep(0.3)
        spoken = len(talk.heard)
        await talk.answer()
        await talk.assert_answer_was_heard()
        assert talk.heard.index(NEW[:2_000]) - spoken <= 0.1 * SECOND


@shapes
async def test_functions_that_the_answer_calls_run_on(shape: Shape):
    running: list[str] = []

    async def look_up(params: FunctionCallParams):
        """Look something up."""
        running.append(params.tool_call_id)
        await asyncio.sleep(4.0)
        await params.result_callback("found")

    tools: dict[str, Any] = {"tools": [look_up]}
    if shape == "aggregators":
        tools = {"context": LLMContext(tools=[look_up])}
    async with talking(shape, **tools) as talk:
        hydra = talk.hydra
        await talk.say("i")
        hydra.burst(created("r1"), called("r1", "c1", "look_up"), done("r1"))
        await talk.call.until(lambda: len(running) == 1)
        hydra.burst(started("j"))
        await asyncio.sleep(1.2)
        hydra.burst(stopped("j"), item_done("completed", "j"))
        hydra.burst(created("r2"), called("r2", "c2", "look_up"), done("r2"))
        await talk.call.until(lambda: len(running) == 2)
        await talk.stt.hear()
        await talk.call.until(lambda: len(hydra.of("conversation.item.create")) == 2, within=6.0)
        cancelled = talk.call.frames.of(FunctionCallCancelFrame)
        assert {frame.tool_call_id for frame in cancelled} == {"c1"}
        assert "found" in str(hydra.of("conversation.item.create"))


@shapes
async def test_an_interruption_by_somebody_else_cancels_the_answer(shape: Shape):
    async with talking(shape) as talk:
        await talk.say()
        talk.hydra.burst(created("r2"), audio("r2", NEW))
        await talk.until_heard(0.2)
        await talk.call.worker.queue_frame(InterruptionFrame())
        await talk.call.until(lambda: talk.hydra.of("response.cancel"))
        await asyncio.sleep(1.0)
        assert len(talk.heard) < 0.5 * SECOND


@shapes
@pytest.mark.parametrize("times", ["twice", "much later"])
async def test_a_start_for_which_hydra_has_told_no_turn_is_new(shape: Shape, times: str):
    async with talking(shape) as talk:
        await talk.say()
        talk.hydra.burst(created("r2"), audio("r2", OLD))
        if times == "twice":
            await talk.until_heard(0.2)
            await talk.stt.hear()
            # Until the strategies have found that turn to be over.
            await asyncio.sleep(2.5)
        else:
            await asyncio.sleep(4.0)
        assert not talk.hydra.of("response.cancel")
        await talk.stt.hear()
        await talk.call.until(lambda: talk.hydra.of("response.cancel"))


async def test_a_vad_that_is_quicker_than_hydra_interrupts_each_time():
    """Its start belongs to the turn that Hydra tells after it, not to the one before."""
    strategies = UserTurnStrategies(
        start=[VADUserTurnStartStrategy()], stop=[SpeechTimeoutUserTurnStopStrategy()]
    )
    async with talking("aggregators", strategies) as talk:
        for turn in range(3):
            await talk.stt.push_frame(VADUserStartedSpeakingFrame())
            await asyncio.sleep(0.1)
            assert len(talk.hydra.of("response.cancel")) == turn
            await talk.say(f"i{turn}")
            await talk.stt.push_frame(VADUserStoppedSpeakingFrame())
            await asyncio.sleep(0.7)
            talk.hydra.burst(created(f"r{turn}"), audio(f"r{turn}", OLD))
            await asyncio.sleep(1.0)


@pytest.mark.parametrize(
    "strategy",
    [
        MinWordsUserTurnStartStrategy(min_words=3),
        WakePhraseUserTurnStartStrategy(phrases=["hey bot"]),
    ],
    ids=lambda strategy: type(strategy).__name__,
)
async def test_what_such_strategies_cannot_do_is_told_once(strategy: Any, warnings: list[str]):
    strategies = UserTurnStrategies(start=[strategy], stop=[SpeechTimeoutUserTurnStopStrategy()])
    async with talking("aggregators", strategies) as talk:
        await talk.say("i")
        await talk.answer()
        await talk.stt.hear()
        await talk.assert_answer_was_heard()
        await talk.say("j")
    (warning,) = [line for line in warnings if "waits for the words" in line]
    assert type(strategy).__name__ in warning
