"""A session that was told nearly as much as it may be told is replaced, in whole calls."""

import asyncio
from typing import Any

import pytest
from pipecat.frames.frames import LLMFullResponseEndFrame
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.services.llm_service import FunctionCallParams
from support.call import NO_GREETING, SHAPES, Call, Ears, Shape, call, emulator

from pipecat_hydra import HydraLLMSettings
from pipecat_hydra.emulator import Call as FunctionCall
from pipecat_hydra.emulator import EmulatedSession, HydraEmulator, Say, Script


def told(one: EmulatedSession) -> int:
    """How many bytes a session was told, but for speech."""
    events = one.received_of("session.configure") + one.received_of("conversation.item.create")
    return sum(len(str(record.event)) for record in events)


def configured(one: EmulatedSession) -> int:
    return len(str(one.configuration))


def instructions(one: EmulatedSession) -> str:
    assert one.configuration is not None
    return one.configuration.get("instructions") or ""


async def type_and_hear(talk: Call, text: str) -> None:
    answers = len(talk.frames.of(LLMFullResponseEndFrame))
    await talk.llm.send_text(text)
    await talk.until_pushed(LLMFullResponseEndFrame, answers + 1)
    await talk.until_quiet()


def live(hydra: HydraEmulator) -> list[EmulatedSession]:
    return [one for one in hydra.sessions if one.configured]


@pytest.mark.parametrize("shape", SHAPES)
async def test_large_results_begin_a_new_session_before_the_limit(
    shape: Shape, warnings: list[str]
):
    async def look_up(params: FunctionCallParams):
        """Look something up."""
        await params.result_callback(f"number {len(results)} " + "x" * 5_000)

    results: list[int] = []
    script = Script([[FunctionCall("look_up", {}), Say.tones(0.5)]], then="repeat")
    arguments: dict[str, Any] = {"tools": [look_up]}
    if shape == "aggregators":
        arguments = {"context": LLMContext(tools=[look_up])}
    async with (
        emulator(script) as hydra,
        call(hydra, shape, settings=NO_GREETING, **arguments) as talk,
    ):
        await talk.until(lambda: live(hydra))
        for n in range(6):
            results.append(n)
            answers = len(talk.frames.of(LLMFullResponseEndFrame))
            await talk.llm.send_text(f"Question {n}?")
            await talk.until_pushed(LLMFullResponseEndFrame, answers + 2)
            await talk.until_quiet()
            await asyncio.sleep(0.5)
        # The third, the fourth (of a session that begins with a history), ...
        assert 3 <= len(live(hydra)) <= 6
        for one in live(hydra):
            assert configured(one) < 8_500
            assert told(one) < 8_500 + 2 * 5_500
            # Each call was answered by the session that made it.
            calls = one.sent_of("response.function_call_arguments.done")
            items = [r.event["item"] for r in one.received_of("conversation.item.create")]
            outputs = [i for i in items if i["type"] == "function_call_output"]
            assert [i["call_id"] for i in outputs] == [r.event["call_id"] for r in calls]
        # The newest before the last session began is known to it, whole.
        *earlier, last = live(hydra)
        made = sum(len(e.sent_of("response.function_call_arguments.done")) for e in earlier)
        assert f"number {made} " + "x" * 5_000 in instructions(last)
        (warning,) = [w for w in warnings if "the largest parts are" in w]
        assert "results of functions" in warning


@pytest.mark.parametrize("shape", SHAPES)
async def test_after_a_loss_results_of_fifteen_kilobytes_have_room(
    shape: Shape, warnings: list[str]
):
    """The session that follows a loss is not told so much that the next result silences it."""

    async def look_up(params: FunctionCallParams):
        """Look something up."""
        await params.result_callback("x" * 15_000)

    script = Script([[FunctionCall("look_up", {}), Say.tones(0.5)]], then="repeat")
    arguments: dict[str, Any] = {"tools": [look_up]}
    if shape == "aggregators":
        arguments = {"context": LLMContext(tools=[look_up])}
    async with (
        emulator(script) as hydra,
        call(hydra, shape, settings=NO_GREETING, **arguments) as talk,
    ):
        await talk.until(lambda: live(hydra))
        for n in range(8):
            await talk.llm.send_text(f"Question {n}? " + "x" * 1_500, respond=False)
        await hydra.drop()
        await talk.until(lambda: len(live(hydra)) == 2)
        for n in range(4):
            answers = len(talk.frames.of(LLMFullResponseEndFrame))
            await talk.llm.send_text(f"Look up number {n}.")
            await talk.until_pushed(LLMFullResponseEndFrame, answers + 2)
            await talk.until_quiet()
            await asyncio.sleep(0.5)
        for one in live(hydra)[1:]:
            assert configured(one) < 8_500
            # Each session makes one call, and its result is the last that it is told.
            outputs = str(one.received_of("conversation.item.create")).count("function_call_output")
            assert outputs <= 1
            assert told(one) < 8_500 + 16_000
    (warning,) = [w for w in warnings if "the largest parts are" in w]
    assert "results of functions" in warning or "messages" in warning


@pytest.mark.parametrize("shape", SHAPES)
async def test_text_that_passes_the_limit_a_new_session_answers_once(shape: Shape):
    async with (
        emulator() as hydra,
        call(hydra, shape, settings=NO_GREETING, context_limit_bytes=8_000) as talk,
    ):
        await talk.until(lambda: live(hydra))
        await type_and_hear(talk, "I am Ada. " + "x" * 3_700)
        await asyncio.sleep(1.0)
        assert len(live(hydra)) == 1
        await type_and_hear(talk, "I live in Oslo. " + "x" * 3_300)
        await talk.until(lambda: len(live(hydra)) == 2)
        await asyncio.sleep(1.0)
        first, second = live(hydra)
        assert len(first.sent_of("response.created")) == 1
        assert len(second.sent_of("response.created")) == 1
        # The oldest turn goes, whole.
        assert configured(second) < 4_200
        assert "I am Ada." not in instructions(second)
        assert "I live in Oslo. " + "x" * 3_300 in instructions(second)
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame, 3)
        assert len(live(hydra)) == 2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("length", [15_000, 30_000])
async def test_instructions_that_fill_the_limit_begin_no_session_after_the_other(
    shape: Shape, length: int, warnings: list[str]
):
    settings = HydraLLMSettings(system_instruction="x" * length, generate_initial_response=False)
    async with emulator() as hydra, call(hydra, shape, settings=settings) as talk:
        for n in range(3):
            await type_and_hear(talk, f"Question {n}?" + "x" * 1_000)
        await asyncio.sleep(1.0)
        assert len(live(hydra)) == 1
    (warning,) = [w for w in warnings if "the largest parts are" in w]
    assert "Shorten instructions or functions" in warning


async def talk_at_length(
    hydra: HydraEmulator, shape: Shape, *before: Ears, instructions_bytes: int, answers: int
) -> None:
    """Hold a call in which instructions leave little room for answers of 12 s each."""
    settings = HydraLLMSettings(
        system_instruction="x" * instructions_bytes, generate_initial_response=False
    )
    async with call(
        hydra,
        shape,
        settings=settings,
        before_aggregator=before,
        context_limit_bytes=2_000,
    ) as talk:
        for n in range(answers):
            await talk.say("hello")
            await talk.until_pushed(LLMFullResponseEndFrame, n + 1)
            await talk.until_quiet()
            await asyncio.sleep(0.5)


def long_answers() -> Script:
    return Script([Say.tones(12.0, f"answer {n}") for n in range(8)])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("transcripts", [True, False])
async def test_speech_without_words_begins_no_new_session(shape: Shape, transcripts: bool):
    async with emulator(long_answers(), transcripts=transcripts) as hydra:
        # That leaves room for some 18 s of speech.
        await talk_at_length(hydra, shape, instructions_bytes=1_600, answers=2)
        assert len(live(hydra)) == 1


async def test_speech_with_words_begins_a_new_session_that_knows_the_newest():
    ears = Ears(*[f"question {n}" for n in range(8)])
    async with emulator(long_answers(), transcripts=True) as hydra:
        # That leaves room for some 70 s of speech.
        await talk_at_length(hydra, "aggregators", ears, instructions_bytes=700, answers=7)
        first, second = live(hydra)
        newest = len(first.sent_of("response.done")) - 1
        assert 2 < newest < 7
        assert f"question {newest}" in instructions(second)
        assert f"answer {newest}" in instructions(second)


@pytest.mark.parametrize("shape", SHAPES)
async def test_what_is_said_aloud_counts_too(shape: Shape, warnings: list[str]):
    async with (
        emulator() as hydra,
        call(hydra, shape, settings=NO_GREETING, context_warning_bytes=150) as talk,
    ):
        await talk.until(lambda: live(hydra))
        await asyncio.sleep(0.5)
        assert not any("the largest parts are" in w for w in warnings)
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await asyncio.sleep(0.5)
        (warning,) = [w for w in warnings if "the largest parts are" in w]
        assert "speech" in warning


async def test_without_a_limit_no_session_is_replaced():
    async with (
        emulator() as hydra,
        call(hydra, settings=NO_GREETING, context_limit_bytes=None) as talk,
    ):
        for n in range(4):
            await type_and_hear(talk, f"Question {n}?" + "x" * 9_000)
        await asyncio.sleep(1.0)
        assert len(live(hydra)) == 1
