"""An event loop that stands still, or a machine that is suspended, costs no session (S2)."""

import asyncio
import time

import pytest
from pipecat.frames.frames import LLMFullResponseEndFrame, TTSAudioRawFrame
from support.call import NO_GREETING, SHAPES, Shape, call, emulator, session

from pipecat_hydra.emulator import Say, Script

shapes = pytest.mark.parametrize("shape", SHAPES)


async def stand_still(secs: float) -> None:
    """Block the event loop, as a computation or the suspending of the machine does."""
    time.sleep(secs)  # noqa: ASYNC251
    await asyncio.sleep(0)


@shapes
@pytest.mark.parametrize("secs", [12.0, 18.0])
@pytest.mark.parametrize("at", [0.5, 1.5])
async def test_a_stall_longer_than_the_limit_of_the_handshake_costs_no_session(
    shape: Shape, at: float, secs: float
):
    async with (
        emulator(
            Script([Say.tones(1.0)]),
            created_delay_secs=1.0,
            configured_delay_secs=1.0,
            idle_timeout_secs=300.0,
        ) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await asyncio.sleep(at)
        await stand_still(secs)
        await asyncio.sleep(3.0)
        await talk.say("question")
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert session(hydra).sent_audio()


@shapes
@pytest.mark.parametrize("closed", [False, True])
async def test_a_conversation_goes_on_when_the_machine_was_suspended(shape: Shape, closed: bool):
    async with (
        emulator(
            Script([Say.tones(1.0)], then="repeat"), idle_timeout_secs=30.0 if closed else 300.0
        ) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await talk.say("question")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await talk.until_quiet()
        await stand_still(40.0)
        await asyncio.sleep(2.0)
        await talk.say("question")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
    assert len(hydra.sessions) == 1 + closed


@shapes
async def test_a_reply_is_played_on_when_the_machine_was_suspended(shape: Shape):
    async with (
        emulator(Script([Say.tones(4.0)]), delivery_speed=2.0, idle_timeout_secs=300.0) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await talk.say("question")
        await talk.until_pushed(TTSAudioRawFrame, 5)
        await stand_still(40.0)
        await talk.until_pushed(LLMFullResponseEndFrame)
        pcm = b"".join(frame.audio for frame in talk.frames.of(TTSAudioRawFrame))
        assert pcm == session(hydra).sent_audio()
