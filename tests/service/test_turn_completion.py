"""Turn strategies that ask a text LLM: Hydra is told nothing of theirs, and turns go on."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from pipecat.frames.frames import LLMUpdateSettingsFrame
from pipecat.services.settings import LLMSettings
from pipecat.turns.user_start import ExternalUserTurnStartStrategy
from pipecat.turns.user_stop import ExternalUserTurnStopStrategy
from pipecat.turns.user_turn_completion_mixin import UserTurnCompletionConfig
from pipecat.turns.user_turn_strategies import (
    EagerUserTurnStrategies,
    ExternalUserTurnStrategies,
    FilterIncompleteUserTurnStrategies,
    UserTurnStrategies,
)
from support.bots import Bot, running, script, until
from support.call import NO_GREETING, SHAPES, Shape, call, configuration, emulator, session

from pipecat_hydra.emulator import Say

shapes = pytest.mark.parametrize("shape", SHAPES)


def filtering() -> UserTurnStrategies:
    """As an application has them, but for turns that Hydra proposes."""
    return FilterIncompleteUserTurnStrategies(
        start=[ExternalUserTurnStartStrategy()], stop=[ExternalUserTurnStopStrategy()]
    )


@asynccontextmanager
async def deciding(
    strategies: UserTurnStrategies, warnings: list[str]
) -> AsyncGenerator[tuple[Bot, list[float]]]:
    """A call with strategies; yields the bot, and when its user's turns stopped."""
    stops: list[float] = []
    async with emulator(script(Say.tones(4.0), Say.tones(0.4))) as hydra:
        bot = Bot(hydra, user={"user_turn_strategies": strategies})

        @bot.user.event_handler("on_user_turn_stopped")
        async def on_user_turn_stopped(*_: object):
            stops.append(bot.line.timeline.secs)

        async with running(bot):
            await bot.greet()
            yield bot, stops
        assert session(hydra).errors == []


def ours(warnings: list[str]) -> list[str]:
    return [warning for warning in warnings if "pipecat_hydra" in warning]


async def test_hydra_is_told_nothing_of_the_marks_of_a_text_llm(warnings: list[str]):
    async with deciding(filtering(), warnings) as (bot, _):
        assert "instructions" not in configuration(bot.hydra)
    (warning,) = ours(warnings)
    assert "FilterIncompleteUserTurnStrategies have no effect" in warning
    assert "ExternalUserTurnStrategies()" in warning


async def test_a_turn_ends_with_hydras_answer_so_that_it_can_be_interrupted(warnings: list[str]):
    async with deciding(filtering(), warnings) as (bot, stops):
        said = await bot.say("hello")
        await until(lambda: stops)
        assert stops[0] - said < 2.0
        await until(lambda: bot.line.timeline.secs - said > 2.5)
        # The answer is of 4 s.
        interrupted = await bot.say("interrupt")
        await bot.until_answered(3)
        heard = len(bot.line.heard_pcm.strip(b"\0")) / 48_000
        assert interrupted
        assert heard < 4.4


async def test_noise_ends_a_turn_too(warnings: list[str]):
    stops: list[float] = []
    async with emulator(script(Say.tones(0.4)), min_turn_ms=5_000) as hydra:
        bot = Bot(hydra, user={"user_turn_strategies": filtering()})

        @bot.user.event_handler("on_user_turn_stopped")
        async def on_user_turn_stopped(*_: object):
            stops.append(bot.line.timeline.secs)

        async with running(bot):
            await bot.greet()
            said = await bot.say("hello")
            await until(lambda: stops)
            assert stops[0] - said < 2.0


@shapes
async def test_the_settings_themselves_change_nothing_either(shape: Shape, warnings: list[str]):
    async with emulator() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        await talk.until(lambda: hydra.sessions and session(hydra).configured)
        config = UserTurnCompletionConfig(instructions="Write a mark.")
        delta = LLMSettings(filter_incomplete_user_turns=True, user_turn_completion_config=config)
        for _ in range(2):
            await talk.worker.queue_frame(LLMUpdateSettingsFrame(delta=delta))
        await talk.say("hello")
        await talk.until_quiet()
        assert len(hydra.sessions) == 1
        assert "instructions" not in configuration(hydra)
    assert len(ours(warnings)) == 1


async def test_other_settings_of_the_same_update_are_taken_over(warnings: list[str]):
    async with emulator() as hydra, call(hydra, settings=NO_GREETING) as talk:
        await talk.until(lambda: hydra.sessions and session(hydra).configured)
        delta = LLMSettings(filter_incomplete_user_turns=True, system_instruction="Be brief.")
        await talk.worker.queue_frame(LLMUpdateSettingsFrame(delta=delta))
        await talk.until(lambda: len(hydra.sessions) == 2 and hydra.sessions[1].configured)
        assert (hydra.sessions[1].configuration or {})["instructions"] == "Be brief."


async def test_eager_strategies_are_said_to_have_no_effect(warnings: list[str]):
    async with deciding(EagerUserTurnStrategies(), warnings) as (bot, stops):
        await bot.say("hello")
        await bot.until_answered(2)
        assert stops
    (warning,) = ours(warnings)
    assert "EagerUserTurnStrategies have no effect" in warning


async def test_those_that_fit_are_warned_of_by_nobody(warnings: list[str]):
    async with deciding(ExternalUserTurnStrategies(), warnings):
        pass
    assert ours(warnings) == []
