"""Protocol §5: the user's audio on its way to turn detection, and gaps in it."""

import asyncio
from typing import Any, cast

import pytest
from emulator.client import SILENCE, recording

from pipecat_hydra.emulator import EmulatorSettings
from pipecat_hydra.emulator.conversation.turn_taking import TurnTaking
from pipecat_hydra.emulator.model.turn_detection import SpeechStopped, TurnEvent
from pipecat_hydra.emulator.server.hearing import Hearing


class Turns:
    """Keeps the events of turn detection."""

    def __init__(self) -> None:
        self.events: list[TurnEvent] = []

    def turn_event(self, event: TurnEvent) -> None:
        self.events.append(event)

    @property
    def stops(self) -> list[SpeechStopped]:
        return [event for event in self.events if isinstance(event, SpeechStopped)]


async def heard(*parts: bytes | float, **settings: Any) -> list[SpeechStopped]:
    """Put audio, or nothing for some seconds, and return the turns that ended."""
    hearing, turns = Hearing(EmulatorSettings(**settings)), Turns()
    running = asyncio.create_task(hearing.run(cast(TurnTaking, turns)))
    for part in parts:
        if isinstance(part, bytes):
            for start in range(0, len(part), 640):
                hearing.put(part[start : start + 640])
                await asyncio.sleep(0.02)
        else:
            await asyncio.sleep(part)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    hearing.put(SILENCE)  # nobody hears it any more
    async with asyncio.timeout(1):
        await hearing.room()
    return turns.stops


HELLO = recording("hello")


async def test_silence_ends_a_turn() -> None:
    (stop,) = await heard(HELLO, SILENCE)
    assert stop.confirmed


async def test_a_gap_ends_no_turn() -> None:
    assert await heard(HELLO, 10.0) == []
    assert len(await heard(HELLO, 10.0, SILENCE)) == 1


async def test_a_gap_ends_a_turn_where_it_is_to() -> None:
    (stop,) = await heard(HELLO, 1.0, gap_ends_turn_secs=0.5)
    assert stop.confirmed
    assert len(await heard(HELLO, 0.3, SILENCE, gap_ends_turn_secs=0.5)) == 1
    assert len(await heard(HELLO, 5.0, HELLO, 5.0, gap_ends_turn_secs=0.5)) == 2


async def test_a_gap_in_silence_is_no_turn() -> None:
    assert await heard(SILENCE, 5.0, SILENCE, 5.0, gap_ends_turn_secs=0.5) == []


async def test_audio_that_comes_too_fast_is_not_taken() -> None:
    hearing = Hearing(EmulatorSettings(uplink_burst_secs=2.0))
    assert [hearing.put(SILENCE) for _ in range(3)] == [True, True, False]
