"""Results of any type, and functions that are called again and again, in whole calls."""

import asyncio
import datetime
from decimal import Decimal
from typing import Any

import pytest
from pipecat.frames.frames import FunctionCallResultProperties, TTSAudioRawFrame
from pipecat.services.llm_service import FunctionCallParams
from pydantic import BaseModel
from support.call import NO_GREETING, SHAPES, Shape, call, emulator, session
from support.functions import (
    answered,
    messages,
    nothing_in_progress,
    outputs,
    requests,
    script,
    tools,
)

from pipecat_hydra.emulator import Call as ToolCall
from pipecat_hydra.emulator import Say, Script
from pipecat_hydra.service.pipecat_versions import tool_options

shapes = pytest.mark.parametrize("shape", SHAPES)


#
# Results
#


class _Unwritable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


class _Table(BaseModel):
    name: str
    seats: set[int]
    booked: datetime.date


DAY = datetime.date(2026, 11, 30)


@shapes
@pytest.mark.parametrize(
    ("result", "text"),
    [
        (_Unwritable(), "_Unwritable"),
        ({"ok": 1, "bad": _Unwritable()}, '"ok": 1'),
        (10**5000, "integer"),
        ({"n": 10**5000, "ok": 1}, '"ok": 1'),
        ({3}, "[3]"),
        (DAY, '"2026-11-30"'),
        ({"price": Decimal("9.90")}, '{"price": "9.90"}'),
        (_Table(name="A", seats={4}, booked=DAY), '"booked": "2026-11-30"'),
        ([_Table(name="A", seats={4}, booked=DAY)], '"seats": [4]'),
        ({"x": float("nan"), "y": [float("-inf")]}, '{"x": "NaN", "y": ["-Infinity"]}'),
        ({(1, 2): 3}, "3"),
    ],
    ids=str.split(
        "unwritable unwritable-inside huge huge-inside set date decimal model models nan keys"
    ),
)
async def test_a_result_of_any_type_is_told(shape: Shape, result: Any, text: str):
    async def gives(params: FunctionCallParams):
        """Give the result."""
        await params.result_callback(result)

    async with (
        emulator(script(ToolCall("gives", {}, "call_1"))) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, gives)) as talk,
    ):
        await answered(talk, hydra, text)


@shapes
async def test_an_intermediate_result_of_any_type_is_told(shape: Shape):
    @tool_options(cancel_on_interruption=False)
    async def gives(params: FunctionCallParams):
        """Give results of odd types."""
        properties = FunctionCallResultProperties(is_final=False)
        await params.result_callback({"on": DAY}, properties=properties)
        await asyncio.sleep(0.5)
        await params.result_callback({3})

    async with (
        emulator(script(ToolCall("gives", {}, "call_1"))) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, gives)) as talk,
    ):
        await talk.say("hello")
        await talk.until(lambda: len(messages(hydra)) == 2)
        assert '{"on": "2026-11-30"}' in messages(hydra)[0]
        assert "[3]" in messages(hydra)[1]
        await talk.until(lambda: nothing_in_progress(talk.context))


#
# Loops
#


async def goes_on(params: FunctionCallParams, left: int):
    """Give a result that makes the model call again."""
    await params.result_callback("again")


class Looping(Script):
    """A model that calls a function so many times in a row, then speaks; the same each turn."""

    def __init__(self, rounds: int, *, speaks_when_told: bool = True):
        super().__init__([])
        self.rounds = rounds
        self.speaks_when_told = speaks_when_told

    def begin(self) -> Any:
        return _LoopingDialogue(self.rounds, self.speaks_when_told)


class _LoopingDialogue:
    def __init__(self, rounds: int, speaks_when_told: bool):
        self._rounds = rounds
        self._speaks_when_told = speaks_when_told
        self._left = 0

    def greet(self) -> Any:
        return [Say.tones()]

    def is_noise(self) -> bool:
        return False

    def answer(self, heard: Any) -> Any:
        self._left = self._rounds
        return self._step()

    def narrate(self, outputs: Any) -> Any:
        told = any("nothing said" in output.output for output in outputs)
        return [Say.tones()] if told and self._speaks_when_told else self._step()

    def prompted(self, messages: Any) -> Any:
        return [Say.tones()]

    def _step(self) -> Any:
        if not self._left:
            return [Say.tones()]
        self._left -= 1
        return [ToolCall("goes_on", {"left": self._left})]


@shapes
@pytest.mark.parametrize("rounds", [4, 5, 8])
async def test_rounds_of_calls_with_nothing_said_are_told_once(
    shape: Shape, rounds: int, warnings: list[str]
):
    async with (
        emulator(Looping(rounds)) as hydra,
        call(hydra, shape, settings=NO_GREETING, **tools(shape, goes_on)) as talk,
    ):
        loops: list[tuple[int, list[str]]] = []

        @talk.llm.event_handler("on_tool_loop")
        async def on_tool_loop(service: Any, rounds: int, functions: list[str]):
            loops.append((rounds, functions))

        await talk.say("hello")
        await talk.until_pushed(TTSAudioRawFrame)
        await talk.until_quiet()
        assert len(outputs(hydra)) == rounds
        expected = [(5, ["goes_on"])] if rounds >= 5 else []
        assert loops == expected
        # Something was said, so it begins anew.
        await talk.say("hello")
        await talk.until(lambda: len(outputs(hydra)) == 2 * rounds)
        await talk.until_quiet()
        assert loops == expected * 2
    assert sum("5 times in a row" in warning for warning in warnings) == 2 * len(expected)


@shapes
@pytest.mark.parametrize("obeys", [True, False])
async def test_beyond_the_limit_the_model_is_asked_to_speak(shape: Shape, obeys: bool):
    made: list[int] = []

    async def goes_on(params: FunctionCallParams, left: int):
        """Give a result that makes the model call again."""
        made.append(left)
        await params.result_callback("again")

    async with (
        emulator(Looping(20, speaks_when_told=obeys)) as hydra,
        call(
            hydra, shape, settings=NO_GREETING, max_tool_rounds=3, **tools(shape, goes_on)
        ) as talk,
    ):
        await talk.say("hello")
        if obeys:
            await talk.until_pushed(TTSAudioRawFrame)
            await talk.until_quiet()
        else:
            await talk.until(lambda: len(outputs(hydra)) == 5)
            await asyncio.sleep(5)
        # Of two refused rounds the model is asked about the first only.
        assert len(outputs(hydra)) == (4 if obeys else 5)
        assert requests(hydra) == 4
        assert len(made) == 3
        assert all("nothing said" in output for _, output in outputs(hydra)[3:])
        await talk.until(lambda: nothing_in_progress(talk.context))
        # The user's next turn may call again.
        await talk.say("hello")
        await talk.until(lambda: len(made) == 6)
        assert not session(hydra).errors
