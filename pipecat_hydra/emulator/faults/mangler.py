"""Applies the faults of single events to what a session sends."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipecat_hydra.emulator.faults.event_faults import (
    Binary,
    Duplicate,
    EventFault,
    Garbage,
    Giant,
    Jitter,
    Missing,
    Reorder,
    Unknown,
)
from pipecat_hydra.emulator.faults.fault import Fault
from pipecat_hydra.emulator.wire.events import Event, new_id

_HOLD_SECS = 0.05
"""How long an event waits for the next one to overtake it."""

_GARBAGE = (
    "",
    "{",
    "not JSON",
    "null",
    "42",
    "[]",
    '"response.done"',
    "{}",
    '{"type": null}',
    '{"type": 7}',
    '{"type": ["response.done"]}',
    '{"type": "error", "error": null}',
    '{"type": "session.updated", "session": 5}',
    '{"type": "conversation.item.added", "item": "message"}',
    '{"type": "response.output_audio.delta", "delta": "!!!"}',
    '{"type": "response.output_audio.delta", "delta": 17}',
    '{"type": "response.function_call_arguments.delta", "delta": {}}',
    '{"a": ' * 2_000 + "1" + "}" * 2_000,
)
"""Text frames that a client must ignore; none of them ends a response or a call."""


@dataclass(frozen=True, slots=True)
class Told:
    """An event to be sent.

    Parameters:
        event: The event, without its audio.
        audio: The audio of its `delta`, not yet encoded.
    """

    event: Event
    audio: bytes = b""


@dataclass(frozen=True, slots=True)
class Raw:
    """A frame to be sent that is no event.

    Parameters:
        payload: The text, or the bytes of a binary frame.
    """

    payload: str | bytes


@dataclass(frozen=True, slots=True)
class Stall:
    """A pause in which nothing is sent.

    Parameters:
        secs: Length of the pause in seconds.
    """

    secs: float


Outgoing = Told | Raw | Stall


class Mangler:
    """Duplicates, delays, cuts and reorders events, and adds wrong frames between them.

    Args:
        faults: All faults of the session.
        rng: Makes all random choices, in the order of the events.
        note: Called with each fault that happens, and with what it concerned.
        put: Called with each event, frame or pause that is to go out.
    """

    def __init__(
        self,
        faults: Sequence[Fault],
        rng: random.Random,
        note: Callable[[Fault, str], None],
        put: Callable[[Outgoing], None],
    ) -> None:
        self._faults = [fault for fault in faults if isinstance(fault, EventFault | Giant)]
        self._rng = rng
        self._note = note
        self._put = put
        self._count = 0
        self._held: list[Outgoing] = []
        self._timer: asyncio.TimerHandle | None = None

    def send(self, event: Event, audio: bytes) -> None:
        """Send an event as the faults change it."""
        self._count += 1
        kind: str = event["type"]
        told = Told(event, audio)
        before: list[Outgoing] = []
        after: list[Outgoing] = []
        hold = False
        for fault in self._faults:
            if not self._happens(fault, kind):
                continue
            match fault:
                case Missing():
                    told = self._cut(fault, told)
                    continue  # `_cut` notes the fault itself, if a field was there to remove
                case Reorder():
                    if self._held:
                        continue
                    hold = True
                case Duplicate():
                    after.append(told)
                case Jitter():
                    before.append(Stall(self._rng.uniform(0, fault.secs)))
                case Unknown():
                    after.append(Told(self._unknown()))
                case Garbage():
                    after.append(Raw(self._rng.choice(_GARBAGE)))
                case Binary():
                    after.append(Raw(self._rng.randbytes(fault.size)))
                case Giant():
                    after.append(Told(_giant(fault.size)))
                case _:
                    continue
            self._note(fault, kind)
        if hold:
            self._hold([*before, told, *after])
            return
        for outgoing in (*before, told, *after):
            self._put(outgoing)
        self.release()

    def release(self) -> None:
        """Send the event that waits to be overtaken, if there is one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        held, self._held = self._held, []
        for outgoing in held:
            self._put(outgoing)

    def close(self) -> None:
        """Discard the event that waits to be overtaken."""
        self._held.clear()
        self.release()

    def _happens(self, fault: Fault, kind: str) -> bool:
        if isinstance(fault, EventFault):
            return fault.of in (None, kind) and self._rng.random() < fault.probability
        return isinstance(fault, Giant) and fault.sent == self._count

    def _hold(self, outgoing: list[Outgoing]) -> None:
        self._held = outgoing
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_HOLD_SECS, self.release)

    def _cut(self, fault: Missing, told: Told) -> Told:
        event, audio = told.event, told.audio
        there = [path for path in fault.fields if _has(event, path) or (audio and path == "delta")]
        if not there:
            return told
        paths = self._rng.sample(there, self._rng.randint(1, len(there)))
        self._note(fault, f"{event['type']}: {', '.join(paths)}")
        for path in paths:
            event = _without(event, path)
        return Told(event, b"" if "delta" in paths else audio)

    def _unknown(self) -> Event:
        number = self._rng.randrange(1_000)
        return {
            "event_id": new_id("sv"),
            "type": f"response.unheard_of_{number}",
            "response_id": None,
            "delta": {"number": number, "list": [number, None]},
        }


def _giant(size: int) -> Event:
    event: Event = {"event_id": new_id("sv"), "type": "response.giant"}
    frame = len('{"event_id": "", "type": "", "padding": ""}')
    used = frame + len(event["event_id"]) + len(event["type"])
    return {**event, "padding": "x" * max(0, size - used)}


def _has(event: Event, path: str) -> bool:
    outer, _, inner = path.partition(".")
    value: Any = event.get(outer)
    return outer in event and (not inner or (isinstance(value, dict) and inner in value))


def _without(event: Event, path: str) -> Event:
    outer, _, inner = path.partition(".")
    rest = {name: value for name, value in event.items() if name != outer}
    return {**rest, outer: _without(event[outer], inner)} if inner else rest
