"""What a flush and the end of the pipeline wait for: a reply that can come."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from support import wire
from support.driver import PCM, Driver

from pipecat_hydra.conversation.effects import Report, Severity, VoiceEnded
from pipecat_hydra.service.reply_wait import ReplyWait


class Connection:
    """A connection of a live session, which hands on at once what the pipeline is told."""

    is_open = is_drained = True
    is_lost = False

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()


class Bench:
    """A session under way: what the server says is told by hand."""

    def __init__(self):
        self.connection: Any = Connection()
        self.driver = Driver()
        self.driver.now = self.connection.now
        self.driver.live()
        self.service: Any = SimpleNamespace(
            pipeline_worker=SimpleNamespace(_cancelled=False), _function_call_tasks={}
        )
        self.replies = ReplyWait(self.service, self.connection, self.driver.conversation)

    def hear_reply(self) -> None:
        """Have the model say something, without end."""
        self.driver.receive(wire.response_created(), wire.audio(PCM))

    def end_reply(self) -> None:
        self.driver.receive(wire.done())


async def test_it_waits_for_a_reply_that_goes_on():
    bench = Bench()
    bench.hear_reply()
    waiting = asyncio.create_task(bench.replies.until_replied(30.0))
    for _ in range(8):
        await asyncio.sleep(1.0)
        bench.replies.on_progress(VoiceEnded("response"))
    assert not waiting.done()
    bench.end_reply()
    assert await waiting


async def test_it_waits_not_for_one_of_which_nothing_comes_but_reports():
    bench = Bench()
    bench.hear_reply()
    waiting = asyncio.create_task(bench.replies.until_replied(30.0))
    for _ in range(8):
        await asyncio.sleep(1.0)
        bench.replies.on_progress(Report(Severity.WARNING, "wait"))
    assert waiting.done()
    assert not await waiting


async def test_it_waits_a_moment_for_the_last_audio_of_a_reply_that_is_done():
    """Hydra may say that a response is done before it has sent all of it."""
    bench = Bench()
    bench.hear_reply()
    begin = bench.driver.now = bench.connection.now
    bench.driver.receive(wire.audio(PCM))
    bench.end_reply()
    assert await bench.replies.until_replied(30.0)
    assert bench.connection.now - begin == pytest.approx(0.5, abs=0.3)


async def test_it_waits_not_for_audio_if_that_is_whole():
    bench = Bench()
    bench.hear_reply()
    begin = bench.driver.now = bench.connection.now
    bench.driver.receive(wire.audio(PCM), wire.audio_done())
    bench.end_reply()
    assert await bench.replies.until_replied(30.0)
    assert bench.connection.now == pytest.approx(begin, abs=0.1)


async def test_it_waits_until_the_pipeline_was_told_all_of_it():
    bench = Bench()
    bench.connection.is_drained = False
    waiting = asyncio.create_task(bench.replies.until_replied(30.0))
    await asyncio.sleep(1.0)
    assert not waiting.done()
    bench.connection.is_drained = True
    assert await waiting


async def test_it_waits_only_for_a_moment_if_the_session_is_lost():
    bench = Bench()
    bench.hear_reply()
    bench.connection.is_lost = True
    begin = bench.connection.now
    assert not await bench.replies.until_replied(30.0)
    assert bench.connection.now - begin == pytest.approx(2.0, abs=0.3)


async def test_it_waits_not_in_a_pipeline_that_is_cancelled():
    bench = Bench()
    bench.hear_reply()
    bench.service.pipeline_worker = SimpleNamespace(_cancelled=True)
    begin = bench.connection.now
    assert not await bench.replies.until_replied(30.0)
    assert bench.connection.now == pytest.approx(begin, abs=0.1)


async def test_it_waits_not_for_one_that_stalls():
    bench = Bench()
    bench.hear_reply()
    begin = bench.connection.now
    assert not await bench.replies.until_replied(30.0)
    assert bench.connection.now - begin == pytest.approx(4.0, abs=0.3)


async def test_it_waits_not_longer_than_is_said():
    bench = Bench()
    bench.hear_reply()
    begin = bench.connection.now
    assert not await bench.replies.until_replied(1.0)
    assert bench.connection.now - begin == pytest.approx(1.0, abs=0.3)


async def test_it_waits_not_for_one_of_a_connection_that_is_gone():
    bench = Bench()
    bench.hear_reply()
    bench.connection.is_open = False
    assert await bench.replies.until_replied(30.0)
