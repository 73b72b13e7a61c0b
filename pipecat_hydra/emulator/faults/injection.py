"""Lets the faults of one session happen.

A session tells an `Injection` of each event that it sends or receives. From these the
`Injection` knows which moments the session is in: whether the user speaks, a response is
delivered, or a tool call is open. It drops the connection when a `Drop` is due, and holds back
answers and reading. Each fault that happens is reported once.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from websockets.asyncio.server import ServerConnection

from pipecat_hydra.emulator.faults.fault import Fault
from pipecat_hydra.emulator.faults.kinds import Drop, HandshakeStep, Hang, Moment, SlowReader
from pipecat_hydra.emulator.faults.plan import ConnectionFaults
from pipecat_hydra.emulator.settings import EmulatorSettings
from pipecat_hydra.emulator.wire.ending import Ending
from pipecat_hydra.emulator.wire.events import Event


class Injection:
    """Watches a session, and lets its faults happen when they are due.

    Args:
        chosen: The faults of the session's connection.
        elapsed: Returns the seconds since the session's socket opened.
        note: Called with each fault that happens, and with what it concerned.
        end: Ends the connection. Called with the way to end it, and with whether to end it at
            once (`True`) or after all that was sent before.
    """

    def __init__(
        self,
        chosen: ConnectionFaults,
        elapsed: Callable[[], float],
        note: Callable[[Fault, str], None],
        end: Callable[[Ending, bool], None],
    ) -> None:
        self.chosen = chosen
        """The faults of the session's connection."""
        self._elapsed = elapsed
        self._note = note
        self._end = end
        self._drops = [drop for drop in chosen.of(Drop) if drop.during != "upgrade"]
        self._counts = dict.fromkeys(self._drops, 0)
        self._dropped = False
        self._open: dict[Moment, set[str]] = {}
        self._timers: dict[Drop, asyncio.TimerHandle] = {}
        self._slow_readers = list(chosen.of(SlowReader))

    def note(self, fault: Fault, detail: str = "") -> None:
        """Report that a fault happened."""
        self._note(fault, detail)

    def adjust(self, settings: EmulatorSettings) -> EmulatorSettings:
        """Return the settings as the session's faults change them."""
        for fault in self.chosen.faults:
            adjusted = fault.adjust(settings)
            if adjusted != settings:
                self.note(fault)
            settings = adjusted
        return settings

    def opened(self) -> None:
        """Must be called once the socket is open."""
        self._begin("session", "")

    def sent(self, event: Event) -> None:
        """Must be called for each event that the server sends, also if a fault holds it back."""
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
        """Must be called for each frame that came; `event` is empty if the frame was no event."""
        match event:
            case {"type": "conversation.item.create", "item": {"call_id": str(call)}}:
                self._finish("tool_call", call)
            case _:
                pass
        self._count("received", event)

    async def hang(self, step: HandshakeStep) -> None:
        """Hold back an answer of the handshake, if a fault says so."""
        for fault in self.chosen.of(Hang):
            if fault.at == step:
                self.note(fault)
                await asyncio.sleep(float("inf") if fault.secs is None else fault.secs)

    async def before_reading(self, websocket: ServerConnection) -> None:
        """Hold back reading from the socket, if a fault says so."""
        for fault in list(self._slow_readers):
            if self._elapsed() >= fault.after_secs:
                self._slow_readers.remove(fault)
                self.note(fault)
                with suppress(TimeoutError):
                    async with asyncio.timeout(fault.secs):
                        await websocket.wait_closed()

    def close(self) -> None:
        """Cancel all timers."""
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
