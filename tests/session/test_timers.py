"""The timers of a conversation: what is due is done in time, and little is asked for that."""

import asyncio

from support import wire
from support.driver import PCM, Driver

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.session.timers import ConversationTimers


class Timed:
    """A conversation whose timers note when they are due."""

    def __init__(self):
        self.driver = Driver(Conversation(model="hydra-v1.1", idle_timeout_secs=60.0))
        self.due: list[float] = []
        self.timers = ConversationTimers(self.driver.conversation, self.on_due)

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def on_due(self) -> None:
        self.due.append(self.now)
        self.driver.now = self.now
        self.driver.conversation.tick(self.now)
        self.timers.move()


async def test_nothing_is_due_of_a_conversation_that_is_offline():
    timed = Timed()
    timed.timers.move()
    await asyncio.sleep(1000)
    assert timed.due == []


async def test_what_is_due_is_told_at_its_time():
    timed = Timed()
    began = timed.driver.now = timed.now
    timed.driver.conversation.connected(began)
    timed.timers.move()
    await asyncio.sleep(30)
    assert timed.due[0] - began < 20.1
    timed.timers.cancel()


async def test_audio_that_comes_postpones_silence_and_asks_nothing_of_the_other_rooms():
    timed = Timed()
    timed.driver.now = timed.now
    timed.driver.live()
    timed.timers.move()
    await asyncio.sleep(0)
    for _ in range(100):
        timed.driver.conversation.hear(PCM[:640], timed.now)
        await asyncio.sleep(0.02)
    assert timed.due == []
    ended = timed.now
    await asyncio.sleep(0.6)
    # Silence takes the place of the audio that does not come.
    assert 0.3 < timed.due[0] - ended < 0.5
    timed.timers.cancel()


async def test_after_the_end_nothing_is_due():
    timed = Timed()
    timed.driver.now = timed.now
    timed.driver.live()
    timed.driver.receive(wire.started())
    timed.timers.move()
    timed.timers.cancel()
    await asyncio.sleep(100)
    assert timed.due == []
