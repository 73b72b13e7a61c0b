"""The model of a chaotic call: it says noise, calls tools, and is different for each seed."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from pipecat.services.llm_service import FunctionCallParams

from pipecat_hydra.emulator import Call, Heard, Pause, Reply, Say, Step, ToolOutput
from pipecat_hydra.service.pipecat_versions import tool_options

RATE = 24_000


def noise(seed: object, secs: float, rate: int = RATE) -> bytes:
    """Noise that repeats nowhere, so that each stretch of it tells where it belongs.

    No sample is zero, so that what a transport adds in silence can be told from it.
    """
    key = list(str(seed).encode())
    samples = np.random.default_rng(key).integers(-3_000, 3_000, round(secs * rate))
    return np.where(samples == 0, 1, samples).astype("<i2").tobytes()


class Model:
    """Answers each turn in one of many ways; no two of its replies have a stretch in common."""

    def __init__(self, seed: int, *, tools: bool = True, longest_secs: float = 2.5):
        self._seed = seed
        self._tools = tools
        self._longest_secs = longest_secs
        self._turns = 0

    def begin(self) -> "Model":
        """Go on in a new session with other replies than before."""
        return self

    def is_noise(self) -> bool:
        """Leave that to what is heard."""
        return False

    def greet(self) -> Reply:
        return [self._say(self._next())]

    def answer(self, heard: Heard) -> Reply:
        rng = self._next()
        way = rng.random() if self._tools else 0.0
        if way < 0.5:
            return [self._say(rng)]
        if way < 0.6:
            return [self._say(rng), Pause(0.1), self._say(rng)]
        calls: list[Step] = [self._call(rng)]
        if way > 0.85:
            calls.append(self._call(rng))
        if way < 0.7:
            calls.insert(0, self._say(rng))
        return calls

    def narrate(self, outputs: Sequence[ToolOutput]) -> Reply:
        return [self._say(self._next())]

    def prompted(self, messages: Sequence[str]) -> Reply:
        return [self._say(self._next())]

    def _next(self) -> random.Random:
        self._turns += 1
        return random.Random(f"reply {self._seed}/{self._turns}")

    def _say(self, rng: random.Random) -> Say:
        secs = rng.uniform(0.3, self._longest_secs)
        return Say(noise(rng.random(), secs), RATE, "Of noise there is no end.")

    def _call(self, rng: random.Random) -> Call:
        name = rng.choice(("quick", "slow", "fails", "later", "unknown", "quick"))
        return Call(name, rng.choice(({}, {}, {"city": "Paris"}, "no JSON")))


async def quick(params: FunctionCallParams) -> None:
    """Give an answer at once."""
    await params.result_callback("quick")


async def slow(params: FunctionCallParams) -> None:
    """Give an answer after a while."""
    await asyncio.sleep(0.4)
    await params.result_callback({"slow": True})


async def fails(params: FunctionCallParams) -> None:
    """Fail."""
    await asyncio.sleep(0.05)
    raise RuntimeError("a tool of the test fails")


@tool_options(cancel_on_interruption=False)
async def later(params: FunctionCallParams) -> None:
    """Give an answer while the conversation goes on."""
    await asyncio.sleep(0.7)
    await params.result_callback("later")


TOOLS: list[Any] = [quick, slow, fails, later]
