"""Whatever the server leaves undone, a call can go on, change, rest and end after a while (P1).

The server does one thing that the protocol does not foresee, then keeps to the rules again: it
answers each request at once. Each such thing has a bound, after which nothing waits for it.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import numpy as np
import pytest
from pipecat.frames.frames import (
    EndFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMUpdateSettingsFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.services.llm_service import FunctionCallParams
from support.bursts import Puppet, audio, called, created, done, item_done, puppet, started, stopped
from support.call import NO_GREETING, SHAPES, Call, Shape, call
from support.functions import tools
from websockets.protocol import State

from pipecat_hydra import HydraLLMSettings

LONGEST_TURN_SECS = 5.0
IDLE_SECS = 1.0
SPOKEN = np.random.default_rng(1).integers(-9_000, 9_000, 12_000).astype("<i2").tobytes()
BRACKETS = (
    LLMFullResponseStartFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    LLMFullResponseEndFrame,
)
ANSWER = np.random.default_rng(2).integers(-9_000, 9_000, 4_800).astype("<i2").tobytes()


def arguments(response: str | None, call_id: str | None, **fields: Any) -> dict[str, Any]:
    """More arguments of a call, or all of them."""
    kind = "delta" if "delta" in fields else "done"
    given = {"response_id": response, "call_id": call_id, **fields}
    event = {name: value for name, value in given.items() if value is not None}
    return {"type": f"response.function_call_arguments.{kind}", **event}


def named(call_id: str) -> dict[str, Any]:
    item = {"type": "function_call", "call_id": call_id, "name": "f"}
    return {"type": "conversation.item.added", "item": item}


# What the server says, with pauses in seconds, and after how many seconds nothing waits for it.
FAULTS: dict[str, tuple[float, list[dict[str, Any] | float]]] = {
    "the word that the user has stopped comes after a response that calls": (
        0.1,
        [
            *[started("i"), 0.5, created("r1"), called("r1", "c1", "f"), done("r1")],
            *[0.02, stopped("i"), item_done("completed", "i")],
        ],
    ),
    "the word that the user has stopped never comes, and the response calls": (
        0.1,
        [started("i"), 0.5, created("r1"), called("r1", "c1", "f"), done("r1")],
    ),
    "the word that the user has stopped never comes, and the response speaks": (
        0.1,
        [started("i"), 0.5, created("r1"), audio("r1", SPOKEN), done("r1")],
    ),
    "a response is announced and never goes on": (12.0, [created("r1")]),
    "a response stalls in its middle": (
        12.0,
        [
            *[started("i"), stopped("i"), item_done("completed", "i")],
            *[created("r1"), audio("r1", SPOKEN)],
        ],
    ),
    "a response that calls is never done": (0.3, [created("r1"), called("r1", "c1", "f")]),
    "arguments begin after their response is done": (
        1.0,
        [created("r1"), done("r1"), arguments("r1", "c1", name="f", delta="{")],
    ),
    "arguments do not end before their response is done": (
        1.0,
        [created("r1"), arguments("r1", "c1", name="f", delta='{"a":'), done("r1")],
    ),
    "arguments do not end before another response begins": (
        1.0,
        [
            *[created("r1"), arguments("r1", "c1", name="f", delta='{"a":')],
            *[created("r2"), audio("r2", SPOKEN), done("r2")],
        ],
    ),
    "arguments do not end, and nothing names their response": (
        1.0,
        [arguments(None, "c1", name="f", delta='{"a":')],
    ),
    "a call has no id": (
        0.1,
        [created("r1"), arguments("r1", None, name="f", arguments="{}"), done("r1")],
    ),
    "of a call only the name comes": (1.0, [created("r1"), named("c1"), done("r1")]),
    "the user speaks for ever": (LONGEST_TURN_SECS, [started("i")]),
    "the user speaks for ever over a reply": (
        LONGEST_TURN_SECS,
        [created("r1"), audio("r1", SPOKEN), 0.3, started("i"), audio("r1", SPOKEN), done("r1")],
    ),
    "nothing decides whether the user spoke, and a reply is held": (
        3.0,
        [created("r1"), audio("r1", SPOKEN), 0.3, started("i"), 0.2, done("r1"), stopped("i")],
    ),
    "nothing decides whether the user spoke, and nothing answers": (
        8.0,
        [started("i"), stopped("i")],
    ),
    "the user has spoken, and nothing answers": (
        8.0,
        [started("i"), stopped("i"), item_done("completed", "i")],
    ),
}

faults = pytest.mark.parametrize("fault", FAULTS)
shapes = pytest.mark.parametrize("shape", SHAPES)


async def f(params: FunctionCallParams):
    """Answer at once."""
    await params.result_callback("done")


async def _answer(hydra: Puppet) -> None:
    """Answer each request for a response at once."""
    answered = 0
    while True:
        if len(hydra.of("response.create")) > answered:
            answered += 1
            response = f"answer {answered}"
            hydra.burst(created(response), audio(response, ANSWER), done(response))
        await asyncio.sleep(0.02)


@asynccontextmanager
async def after(fault: str, shape: Shape, **service: Any) -> AsyncGenerator[tuple[Puppet, Call]]:
    """A call in which the server has just done something that it is not to do."""
    arguments = {"longest_turn_secs": LONGEST_TURN_SECS, "settings": NO_GREETING, **service}
    async with puppet() as hydra, call(hydra, shape, **arguments, **tools(shape, f)) as talk:
        await asyncio.wait_for(hydra.configured.wait(), 5)
        hydra.burst(started("u0"), stopped("u0"), item_done("completed", "u0"))
        hydra.burst(created("r0"), audio("r0", ANSWER), done("r0"))
        await talk.until(lambda: ANSWER in talk.transport.heard_pcm)
        answering = asyncio.create_task(_answer(hydra))
        try:
            _, story = FAULTS[fault]
            for part in story:
                if isinstance(part, dict):
                    hydra.burst(part)
                else:
                    await asyncio.sleep(part)
            await asyncio.sleep(0.02)
            yield hydra, talk
        finally:
            answering.cancel()


Wish: TypeAlias = Callable[[Puppet, Call], Awaitable[Callable[[], Any]]]
"""Wishes for something; returns what tells whether that has happened."""


def _answered(hydra: Puppet, talk: Call) -> Callable[[], bool]:
    """What tells whether the listener hears an answer to a request that was made from now on."""
    requests = len(hydra.of("response.create"))
    heard = len(talk.transport.heard_pcm)
    return lambda: (
        len(hydra.of("response.create")) > requests and ANSWER in talk.transport.heard_pcm[heard:]
    )


async def text(hydra: Puppet, talk: Call) -> Callable[[], Any]:
    answered = _answered(hydra, talk)
    await talk.llm.send_text("Hello?")
    return answered


async def interrupting_text(hydra: Puppet, talk: Call) -> Callable[[], Any]:
    answered = _answered(hydra, talk)
    await talk.llm.send_text("Hello?", interrupt=True)
    return answered


async def run(hydra: Puppet, talk: Call) -> Callable[[], Any]:
    answered = _answered(hydra, talk)
    await talk.run_llm()
    return answered


async def words(hydra: Puppet, talk: Call) -> Callable[[], Any]:
    heard = len(talk.transport.heard_pcm)
    hydra.burst(started("u"))
    await asyncio.sleep(0.3)
    hydra.burst(stopped("u"), item_done("completed", "u"))
    await asyncio.sleep(0.3)
    hydra.burst(created("ru"), audio("ru", ANSWER), done("ru"))
    return lambda: ANSWER in talk.transport.heard_pcm[heard:]


async def another_voice(hydra: Puppet, talk: Call) -> Callable[[], Any]:
    delta = HydraLLMSettings(voice="luna")
    await talk.worker.queue_frame(LLMUpdateSettingsFrame(delta=delta))
    return lambda: len(hydra.of("session.configure")) == 2


async def end(hydra: Puppet, talk: Call) -> Callable[[], Any]:
    await talk.worker.queue_frame(EndFrame())
    return talk.running.done


@shapes
@faults
@pytest.mark.parametrize("wish", [text, interrupting_text, run, words, another_voice, end])
async def test_what_is_wished_for_happens_within_a_bounded_time(
    shape: Shape, fault: str, wish: Wish
):
    bound, _ = FAULTS[fault]
    async with after(fault, shape) as (hydra, talk):
        happened = await wish(hydra, talk)
        # An end waits four seconds at most for a reply of which nothing comes.
        await talk.until(happened, within=(min(bound, 4.0) if wish is end else bound) + 1.0)


@shapes
@faults
async def test_a_session_rests_within_a_bounded_time(shape: Shape, fault: str):
    bound, _ = FAULTS[fault]
    async with after(fault, shape, idle_timeout_secs=IDLE_SECS) as (hydra, talk):
        talk.llm.set_audio_input_paused(True)
        (connection,) = hydra.connections
        # The session is looked at each time that it has been idle for so long.
        within = bound + 2 * IDLE_SECS + 1.0
        await talk.until(lambda: connection.state is State.CLOSED, within=within)


@shapes
@pytest.mark.parametrize("heard", [True, False])
async def test_a_response_that_stalls_is_cancelled_and_told_once(
    shape: Shape, heard: bool, warnings: list[str]
):
    fault = (
        "a response stalls in its middle" if heard else "a response is announced and never goes on"
    )
    bound, _ = FAULTS[fault]
    async with after(fault, shape) as (hydra, talk):
        await asyncio.sleep(bound - 0.2)
        assert not hydra.of("response.cancel")
        await talk.until(lambda: hydra.of("response.cancel"), within=0.4)
        await asyncio.sleep(bound)
        (cancel,) = hydra.of("response.cancel")
        assert cancel["response_id"] == "r1"
        assert sum("did not go on" in warning for warning in warnings) == 1
        brackets = (
            LLMFullResponseStartFrame,
            TTSStartedFrame,
            TTSStoppedFrame,
            LLMFullResponseEndFrame,
        )
        names = [kind.__name__ for kind in brackets]
        # The first reply was heard whole.
        assert talk.frames.names(*BRACKETS)[4:] == (names if heard else [names[0], names[-1]])
