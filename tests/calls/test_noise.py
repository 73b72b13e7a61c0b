"""Noise, and turns that the server leaves open, cost the listener nothing of a reply (T3, P1)."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from pipecat.frames.frames import (
    InterruptionFrame,
    LLMFullResponseEndFrame,
    ProposedUserStoppedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from support.bursts import Puppet, audio, created, done, item_done, puppet, started, stopped
from support.call import NO_GREETING, SHAPES, Call, Shape, call

SECOND = 24_000 * 2
OLD = np.random.default_rng(1).integers(-9_000, 9_000, 4 * 24_000).astype("<i2").tobytes()
NEW = np.random.default_rng(2).integers(-9_000, 9_000, 24_000).astype("<i2").tobytes()

shapes = pytest.mark.parametrize("shape", SHAPES)


async def heard(talk: Call, secs: float) -> None:
    """Wait until the listener has heard so much."""
    await talk.until(lambda: len(talk.transport.heard_pcm) >= secs * SECOND)


async def stream(hydra: Puppet, pcm: bytes) -> None:
    """Generate more of the reply, five times faster than it is spoken."""
    for at in range(0, len(pcm), SECOND // 2):
        hydra.burst(audio("r1", pcm[at : at + SECOND // 2]))
        await asyncio.sleep(0.1)


def assert_heard_to_the_end(talk: Call) -> None:
    """All of the old reply was heard, and after the interruption not much of it again."""
    pcm = talk.transport.heard_pcm
    cut = next(at for at, (is_, was) in enumerate(zip(pcm, OLD, strict=False)) if is_ != was)
    rest = pcm[cut:].rstrip(b"\0")
    again = OLD.rindex(rest[:2_000])
    assert cut - 0.45 * SECOND <= again <= cut
    assert OLD[again:].rstrip(b"\0") == rest


@shapes
@pytest.mark.parametrize("stall", [1.0, 2.0])
@pytest.mark.parametrize("generated", [True, False])
async def test_noise_after_a_reply_has_stalled_on_the_wire(
    shape: Shape, stall: float, generated: bool
):
    async with puppet() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        await asyncio.wait_for(hydra.configured.wait(), 5)
        hydra.burst(created("r1"), audio("r1", OLD[:SECOND]))
        await heard(talk, 1.0)
        await asyncio.sleep(stall)
        hydra.burst(audio("r1", OLD[SECOND:]), *([done("r1")] if generated else []))
        await heard(talk, 1.5)
        hydra.burst(started("i"))
        await talk.until_pushed(InterruptionFrame)
        hydra.burst(stopped("i"), item_done("incomplete", "i"))
        if not generated:
            hydra.burst(done("r1"))
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        await talk.until_quiet()
        assert_heard_to_the_end(talk)


@shapes
async def test_noise_of_which_only_the_stop_is_told_while_the_reply_streams_on(shape: Shape):
    async with puppet() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        await asyncio.wait_for(hydra.configured.wait(), 5)
        hydra.burst(created("r1"), audio("r1", OLD[:SECOND]))
        await heard(talk, 0.7)
        hydra.burst(started("i"))
        await talk.until_pushed(InterruptionFrame)
        await stream(hydra, OLD[SECOND : 2 * SECOND])
        hydra.burst(stopped("i"))
        await stream(hydra, OLD[2 * SECOND :])
        hydra.burst(done("r1"))
        await talk.until_pushed(LLMFullResponseEndFrame, 2, within=0.5)
        await talk.until_quiet()
        assert_heard_to_the_end(talk)


@shapes
@pytest.mark.parametrize("first", ["stop", "done"])
async def test_a_held_reply_is_heard_though_nothing_decides_the_noise(shape: Shape, first: str):
    """The noise came before the first word of the reply."""
    ends = [stopped("i"), done("r1")]
    async with puppet() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        await asyncio.wait_for(hydra.configured.wait(), 5)
        hydra.burst(created("r1"), started("i"))
        await talk.until_pushed(InterruptionFrame)
        await stream(hydra, OLD)
        hydra.burst(*(ends if first == "stop" else reversed(ends)))
        # A turn that is over when the response completes is decided by that, another after 3 s.
        within = 0.5 if first == "stop" else 3.5
        await talk.until_pushed(LLMFullResponseEndFrame, 2, within=within)
        await talk.until_quiet()
        assert talk.transport.heard_pcm.rstrip(b"\0") == OLD.rstrip(b"\0")


async def by_cancel(talk: Call) -> None:
    await talk.llm.cancel_response()


async def by_text(talk: Call) -> None:
    await talk.llm.send_text("Wait.", interrupt=True)


async def by_frame(talk: Call) -> None:
    await talk.worker.queue_frame(InterruptionFrame())


@shapes
@pytest.mark.parametrize("when", ["speaking", "stopped", "heard_again"])
@pytest.mark.parametrize("interrupt", [by_cancel, by_text, by_frame])
async def test_nothing_of_a_cancelled_reply_is_spoken_on_after_noise(
    shape: Shape, when: str, interrupt: Callable[[Call], Awaitable[None]]
):
    """Whether the application cancels while the noise lasts, before it is decided, or after."""
    async with puppet() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        await asyncio.wait_for(hydra.configured.wait(), 5)
        hydra.burst(created("r1"), audio("r1", OLD), done("r1"))
        await heard(talk, 1.0)
        hydra.burst(started("i"))
        await talk.until_pushed(InterruptionFrame)
        if when != "speaking":
            hydra.burst(stopped("i"))
        if when == "heard_again":
            hydra.burst(item_done("incomplete", "i"))
            await heard(talk, 1.5)
        await asyncio.sleep(0.1)
        await interrupt(talk)
        await talk.until_pushed(InterruptionFrame, 2)
        spoken = len(talk.transport.heard_pcm)
        hydra.burst(stopped("i"), item_done("incomplete", "i"))
        if interrupt is by_text:
            await talk.until(lambda: hydra.of("response.create"))
            hydra.burst(created("r2"), audio("r2", NEW), done("r2"))
        await asyncio.sleep(5.0)
        after = talk.transport.heard_pcm[spoken:].rstrip(b"\0")
        said = NEW.rstrip(b"\0") if interrupt is by_text else b""
        assert after.endswith(said)
        # The transport plays what it has begun to write, and no more.
        assert len(after) - len(said) <= 0.1 * SECOND


async def by_run(talk: Call) -> None:
    await talk.run_llm()


@shapes
@pytest.mark.parametrize("ask", [by_text, by_run])
@pytest.mark.parametrize("early", [True, False])
async def test_a_turn_that_never_stops_does_not_keep_the_bot_from_speaking(
    shape: Shape, ask: Callable[[Call], Awaitable[None]], early: bool
):
    """As with music on hold; whether the bot is asked to speak before the bound or after it."""
    async with (
        puppet() as hydra,
        call(hydra, shape, settings=NO_GREETING, longest_turn_secs=5.0) as talk,
    ):
        await asyncio.wait_for(hydra.configured.wait(), 5)
        hydra.burst(started("music"))
        await talk.until_pushed(InterruptionFrame)
        if early:
            await ask(talk)
            await asyncio.sleep(4.5)
            assert not hydra.of("response.create")
        else:
            await asyncio.sleep(14.0)
            await ask(talk)
        await talk.until(lambda: hydra.of("response.create"))
        hydra.burst(created("r1"), audio("r1", NEW), done("r1"))
        await talk.until_pushed(LLMFullResponseEndFrame)
        await talk.until_quiet()
        assert talk.transport.heard_pcm.rstrip(b"\0") == NEW.rstrip(b"\0")
        assert talk.frames.of(UserStoppedSpeakingFrame, ProposedUserStoppedSpeakingFrame)
