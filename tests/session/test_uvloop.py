"""A session on uvloop, which uvicorn uses for most telephone bots.

Its event loop differs where a session is sensitive: the handle of a timer that is due at
once does not tell its time, and time has whole milliseconds.
"""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

import pytest
from pipecat.frames.frames import InterruptionFrame, LLMFullResponseEndFrame, TTSAudioRawFrame
from pydantic import SecretStr
from support.call import NO_GREETING, call, emulator, recording, session

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import AudioChunk, PipelineEffect, ReplyEnded
from pipecat_hydra.emulator import Say, Script
from pipecat_hydra.session.connection import HydraConnection
from pipecat_hydra.session.deadline import DeadlineTimer
from pipecat_hydra.session.endpoint import Endpoint
from pipecat_hydra.wire.events import SessionConfiguration

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uvloop has no Windows version")


@pytest.fixture(autouse=True, scope="module")
def _libuv() -> None:
    """Have libuv open what it keeps open in a process: the pipe that signals come by."""
    import uvloop

    uvloop.new_event_loop().close()


def run(work: Coroutine[Any, Any, None]) -> None:
    import uvloop

    async def checked() -> None:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        before = asyncio.all_tasks()
        failures: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: failures.append(told))
        await work
        async with asyncio.timeout(5):
            while asyncio.all_tasks() - before:
                await asyncio.sleep(0.01)
        assert not failures

    uvloop.run(checked())


def test_a_session_from_opening_to_closing(warnings: list[str]):
    async def work() -> None:
        conversation = Conversation(model="hydra-v1.1")
        conversation.configure(SessionConfiguration(generate_initial_response=True), 0.0)
        effects: list[PipelineEffect] = []
        ended = asyncio.Event()

        async def on_effect(effect: PipelineEffect) -> None:
            effects.append(effect)
            if isinstance(effect, ReplyEnded):
                ended.set()

        async with emulator() as hydra:

            async def endpoint() -> Endpoint:
                return Endpoint(hydra.url, "hydra-v1.1", SecretStr(hydra.api_key))

            made = HydraConnection(endpoint, conversation, on_effect=on_effect)
            made.open()
            async with asyncio.timeout(10):
                # The uplink's deadlines move with each chunk.
                while not ended.is_set():
                    made.perform(conversation.microphone(bytes(640), made.now))
                    await asyncio.sleep(0.02)
            pcm = b"".join(e.pcm for e in effects if isinstance(e, AudioChunk))
            assert pcm == session(hydra).sent_audio()
            await made.close()
            assert await session(hydra).wait_closed() == 1000

    run(work())
    assert not warnings


@pytest.mark.realtime
def test_a_call_with_a_reply_a_barge_in_and_a_lost_connection(warnings: list[str]):
    async def work() -> None:
        async with (
            emulator(Script([Say.tones(3.0)], then="repeat")) as hydra,
            call(hydra, "bare", settings=NO_GREETING) as talk,
        ):
            await talk.say("question")
            await talk.until_pushed(TTSAudioRawFrame, 5)
            await talk.say("hello")
            await talk.until_pushed(InterruptionFrame)
            await talk.until_pushed(LLMFullResponseEndFrame, 2)
            await talk.until_quiet()
            await hydra.drop()
            await talk.say("question")
            await talk.until_pushed(LLMFullResponseEndFrame, 3)
            assert recording("question").tobytes() in hydra.sessions[1].received_audio

    run(work())
    # The drop is told, and nothing else.
    assert all("the connection to Hydra" in line and "broke" in line for line in warnings)


def test_a_deadline_is_met_and_not_before_its_time():
    async def work() -> None:
        loop = asyncio.get_running_loop()
        for n in range(20):
            met = asyncio.Event()
            timer = DeadlineTimer(met.set)
            # Not a whole millisecond.
            due = loop.time() + 0.005 + n / 10_000
            # A handle that is due at once is no timer handle.
            timer.move(loop.time())
            timer.move(due - 0.003)
            timer.move(due)
            await asyncio.wait_for(met.wait(), 5)
            assert loop.time() >= due

    run(work())
