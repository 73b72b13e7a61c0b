"""The faults of one session: when each happens, and that it is kept on record."""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from websockets.asyncio.server import ServerConnection

from pipecat_hydra.emulator.conversation.records import EmulatedSession
from pipecat_hydra.emulator.faults.kinds import (
    Drop,
    Ending,
    Fault,
    HandshakeStep,
    Hang,
    Moment,
    SlowReader,
)
from pipecat_hydra.emulator.settings import EmulatorSettings
from pipecat_hydra.emulator.wire.events import Event

F = TypeVar("F", bound=Fault)


@dataclass(frozen=True, slots=True)
class ConnectionFaults:
    """What a plan lays down for one connection.

    Parameters:
        number: Its number, from 1.
        faults: What it has.
        rng: Makes all its random choices.
    """

    number: int
    faults: tuple[Fault, ...]
    rng: random.Random

    def of(self, kind: type[F]) -> Iterator[F]:
        """Return its faults of one class."""
        return (fault for fault in self.faults if isinstance(fault, kind))


class Injection:
    """Watches a session, and lets its faults happen.

    Args:
        chosen: The faults.
        record: The session's.
        note: Keeps that a fault happened, and what it concerned.
        end: Ends the connection: in which way, and whether at once or after all that was
            sent before.
    """

    def __init__(
        self,
        chosen: ConnectionFaults,
        record: EmulatedSession,
        note: Callable[[Fault, str], None],
        end: Callable[[Ending, bool], None],
    ) -> None:
        self.chosen = chosen
        self._record = record
        self._note = note
        self._end = end
        self._drops = [drop for drop in chosen.of(Drop) if drop.during != "upgrade"]
        self._counts = dict.fromkeys(self._drops, 0)
        self._dropped = False
        self._open: dict[Moment, set[str]] = {}
        self._timers: dict[Drop, asyncio.TimerHandle] = {}
        self._slow_readers = list(chosen.of(SlowReader))

    def note(self, fault: Fault, detail: str = "") -> None:
        """Keep that a fault happened."""
        self._note(fault, detail)

    def adjust(self, settings: EmulatorSettings) -> EmulatorSettings:
        """Return the settings of the session."""
        for fault in self.chosen.faults:
            adjusted = fault.adjust(settings)
            if adjusted != settings:
                self.note(fault)
            settings = adjusted
        return settings

    def opened(self) -> None:
        """The socket is open."""
        self._begin("session", "")

    def sent(self, event: Event) -> None:
        """An event was sent, as far as the server knows."""
        match event:
            case {"type": "session.configured"}:
                self._begin("configured", "")
            case {"type": "input_audio_buffer.speech_started", "item_id": user}:
                self._begin("user_speech", user)
            case {"type": "input_audio_buffer.speech_stopped", "item_id": user}:
                self._finish("user_speech", user)
            case {"type": "conversation.item.done", "item": {"id": user}}:
                self._finish("user_speech", user)  # of a discarded turn
            case {"type": "response.created", "response": {"id": response}}:
                self._begin("response", response)
            case {"type": "response.done", "response": {"id": response}}:
                self._finish("response", response)
            case {"type": "response.function_call_arguments.done", "call_id": call}:
                self._begin("tool_call", call)
            case _:
                pass
        self._count("sent", event)

    def received(self, event: Event) -> None:
        """A frame came; it is empty if it was no event."""
        match event:
            case {"type": "conversation.item.create", "item": {"call_id": str(call)}}:
                self._finish("tool_call", call)
            case _:
                pass
        self._count("received", event)

    async def hang(self, step: HandshakeStep) -> None:
        """Say nothing, if that is to be."""
        for fault in self.chosen.of(Hang):
            if fault.at == step:
                self.note(fault)
                await asyncio.sleep(float("inf") if fault.secs is None else fault.secs)

    async def before_reading(self, websocket: ServerConnection) -> None:
        """Read nothing for a while, if that is to be."""
        for fault in list(self._slow_readers):
            if self._record.elapsed >= fault.after_secs:
                self._slow_readers.remove(fault)
                self.note(fault)
                with suppress(TimeoutError):
                    async with asyncio.timeout(fault.secs):
                        await websocket.wait_closed()

    def close(self) -> None:
        """Stop all clocks."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _count(self, direction: str, event: Event) -> None:
        for drop in self._drops:
            wanted: Any = getattr(drop, direction)
            if wanted is not None and drop.of in (None, event.get("type")):
                self._counts[drop] += 1
                if self._counts[drop] == wanted:
                    self._drop(drop, at_once=False)

    def _begin(self, moment: Moment, name: str) -> None:
        names = self._open.setdefault(moment, set())
        names.add(name)
        if len(names) > 1:
            return
        loop = asyncio.get_running_loop()
        for drop in self._drops:
            if drop.counts or drop.during != moment:
                continue
            if drop.secs:
                self._timers[drop] = loop.call_later(drop.secs, self._drop, drop)
            else:
                self._drop(drop, at_once=False)

    def _finish(self, moment: Moment, name: str) -> None:
        names = self._open.get(moment, set())
        if name not in names:
            return
        names.remove(name)
        for drop, timer in list(self._timers.items()):
            if drop.during == moment and not names:
                timer.cancel()
                del self._timers[drop]

    def _drop(self, drop: Drop, *, at_once: bool = True) -> None:
        if self._dropped:
            return
        self._dropped = True
        self.note(drop)
        self._end(drop.how, at_once)
