"""Plays the server's side of one recorded connection to a client."""

import asyncio
import base64
import random
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, cast

import numpy as np
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from pipecat_hydra.emulator.conversation.activity import Activity, ActivityHook, tell
from pipecat_hydra.emulator.conversation.outlet import Outlet
from pipecat_hydra.emulator.conversation.records import EmulatedSession
from pipecat_hydra.emulator.faults.injection import Injection
from pipecat_hydra.emulator.faults.plan import ConnectionFaults
from pipecat_hydra.emulator.replay.differences import Difference
from pipecat_hydra.emulator.replay.expectations import APPEND, Expectations, Expected
from pipecat_hydra.emulator.replay.plan import Attempt, CallPlan, Step
from pipecat_hydra.emulator.replay.stretches import Alignment, Place
from pipecat_hydra.emulator.wire.client_events import parse_json
from pipecat_hydra.emulator.wire.ending import Ending, end
from pipecat_hydra.emulator.wire.events import Event, ProtocolError

_PATIENCE_SECS: Final = 5.0
"""How much longer than in the recording a client event is waited for."""

_GRACE_SECS: Final = 1.0
"""The same, once the user has said what comes after it."""

_CLOSE_GRACE_SECS: Final = 2.0
_LOST: Final = 1006


class ReplaySession:
    """Plays one recorded connection until the client closes it.

    Args:
        websocket: An open connection.
        record: The record of the session.
        attempt: The recorded connection.
        call: The call that it is part of.
        on_activity: Called for every event.
    """

    def __init__(
        self,
        websocket: ServerConnection,
        record: EmulatedSession,
        attempt: Attempt,
        call: CallPlan,
        on_activity: ActivityHook | None,
    ) -> None:
        self.record = record
        self._websocket = websocket
        self._attempt = attempt
        self._recording = call.recording
        self._on_activity = on_activity
        self._expectations = Expectations(
            attempt.number, [Expected(sent.event, sent.line, sent.t) for sent in attempt.sent]
        )
        self._alignment = Alignment(attempt.begins, call.threshold)
        unfailing = ConnectionFaults(attempt.number, (), random.Random(0))
        injection = Injection(unfailing, lambda: record.elapsed, _no_fault, _no_fault)
        self._outlet = Outlet(record, on_activity, injection)
        self._news = asyncio.Event()
        self._played = 0
        self._skipped: set[int] = set()  # lines of steps
        self._position = (attempt.t, 0.0)  # in the recording, and when it was there
        self._closed_at = float("inf")
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Play; returns when the socket is closed and all tasks have ended."""
        tell(self._on_activity, Activity("opened", self.record))
        self._position = (self._attempt.t, self._now)
        self._spawn(self._outlet.run(self._websocket), "outlet")
        self._spawn(self._play(), "replay")
        try:
            async for frame in self._websocket:
                self._take(frame)
                await self._outlet.room()
        except ConnectionClosed:
            pass
        finally:
            self._closed_at = self._now
            self._outlet.abandon()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            code = self._websocket.close_code
            self.record.close_code = _LOST if code is None else code
            self.record.wake()
            tell(self._on_activity, Activity("closed", self.record))

    def drop(self, how: Ending) -> None:
        """End the connection now."""
        self._outlet.abandon()
        self._spawn(self._end(how), "end")

    def differences(self) -> list[Difference]:
        """Return how what the client sent differs from what was recorded, so far."""
        reached, at = self._position
        until = reached + min(self._now, self._closed_at) - at
        rest = [step for step in self._attempt.steps[self._played :] if step.event]
        if rest:
            until = min(until, rest[0].t)
        found = self._expectations.differences(until)
        found += [self._unheard(number) for number in self._alignment.missing]
        if rest and self._closed_at < float("inf"):
            what = (
                f"the client closed the session after {self._closed_at:.2f} s, "
                f"and {len(rest)} events of the server were not played, from "
                f"{rest[0].event.get('type')} on"
            )
            found.append(Difference("session", self._attempt.number, what, rest[0].line, rest[0].t))
        return sorted(found, key=lambda difference: difference.line or float("inf"))

    # What the client sends.

    def _take(self, frame: str | bytes) -> None:
        event: Event = {}
        with suppress(ProtocolError):
            event = parse_json(frame) if isinstance(frame, str) else {}
        pcm = _audio(event)
        told = {name: value for name, value in event.items() if name != "audio"}
        noted = self.record.note("received", told, audio_bytes=len(pcm))
        tell(self._on_activity, Activity("received", self.record, noted))
        if event.get("type") == APPEND:
            self.record.note_audio(pcm)
            self._alignment.push(np.frombuffer(pcm, "<i2"), self._now)
        else:
            if event.get("type") == "session.configure" and self.record.configuration is None:
                self.record.configuration = event.get("session")
            self._expectations.received(event, self._now)
        self._news.set()

    # What the server does.

    async def _play(self) -> None:
        due = sent_at = self._now
        for number, step in enumerate(self._attempt.steps):
            skipped = step.line in self._skipped
            due = await self._due(step, due, waits=not skipped)
            if step.is_asked and not skipped and not self._is_wanted(step):
                self._skip(step)
                skipped = True
            if not skipped:
                due = sent_at = max(due, sent_at)
                await asyncio.sleep(due - self._now)
                self._do(step)
            self._played = number + 1
            self._position = (step.t, due)

    async def _due(self, step: Step, previous: float, *, waits: bool) -> float:
        """Wait for what a step answers, and return when it is due."""
        free_at = await self._wait_for_client(step, previous) if waits and step.needs else 0.0
        match step.cause:
            case "opening":
                due = step.delay
            case "audio" if step.place is not None:
                due = await self._reached(step.place) + step.delay
            case "client" if waits:
                by = self._expectations.expected[step.by]
                due = free_at if by.came is None else by.came_at + step.delay
            case _:
                due = previous + step.delay
        return max(due, free_at)

    async def _wait_for_client(self, step: Step, previous: float) -> float:
        """Wait until the client has sent what a step needs, or no longer can be waited for.

        Returns:
            When that was.
        """
        needs = [self._expectations.expected[need] for need in step.needs]
        recorded = max(need.t for need in needs) - self._position[0]
        deadline = previous + max(0.0, recorded) + _PATIENCE_SECS
        places = (later.place for later in self._attempt.steps[self._played :] if later.place)
        following = next(places, None)
        while any(need.is_open for need in needs) and self._now < deadline:
            if following is not None:
                reached = self._alignment.reached_at(following)
                if reached is not None:
                    deadline = min(deadline, reached + _GRACE_SECS)
            await self._wait_for_news(deadline - self._now)
        missing = [need for need in needs if need.is_open]
        for need in missing:
            need.given_up = True
        return self._now if missing else max(need.came_at for need in needs)

    async def _reached(self, place: Place) -> float:
        while (reached := self._alignment.reached_at(place)) is None:
            await self._wait_for_news(None)
        return reached

    async def _wait_for_news(self, secs: float | None) -> None:
        self._news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(secs):
                await self._news.wait()

    def _is_wanted(self, step: Step) -> bool:
        """Return whether the client has asked for a response as it did in the recording."""
        needs = [self._expectations.expected[need] for need in step.needs]
        asked = [need for need in needs if need.event.get("type") == "response.create"]
        return any(one.came is not None for one in asked)

    def _skip(self, asked: Step) -> None:
        """Leave out a response that nobody asked for, and what would have followed from it."""
        steps = [step for step in self._attempt.steps if step.event]
        response = _response_id(asked.event)
        of_it = [step for step in steps if _response_id(step.event) == response]
        items = {step.event["item_id"] for step in of_it if "item_id" in step.event}
        calls = {step.event["call_id"] for step in of_it if "call_id" in step.event}
        of_it += [step for step in steps if _is_of(step.event.get("item"), items, calls)]
        self._skipped |= {step.line for step in of_it}
        self._expectations.skip_calls(calls)

    def _do(self, step: Step) -> None:
        if step.ending is not None:
            self._outlet.close(step.ending)
            self._spawn(self._abort_later(), "abort")
            return
        event = step.event
        error: Any = event.get("error")
        if event.get("type") == "error" and isinstance(error, dict) and "event_id" in error:
            named = cast(Event, error)
            current = self._expectations.current_id(named["event_id"])
            event = {**event, "error": {**named, "event_id": current}}
        if event.get("type") == "session.configured":
            self.record.configured = True
        self._outlet.send(event, audio=self._audio_of(step))

    def _audio_of(self, step: Step) -> bytes:
        """Return the audio of an event; silence of the same length if no audio was kept."""
        if step.audio is None:
            return b""
        samples = np.zeros(step.audio.samples, "<i2")
        kept = self._recording.samples(step.audio)
        samples[: len(kept)] = kept
        return samples.tobytes()

    def _unheard(self, number: int) -> Difference:
        steps = [s for s in self._attempt.steps if s.place and s.place.stretch == number]
        first = steps[0]
        what = "the user's speech that led to speech_started did not come"
        return Difference("speech", self._attempt.number, what, first.line, first.t)

    @property
    def _now(self) -> float:
        return self.record.elapsed

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(coroutine, name=f"hydra-emulator-{name}")
        self._tasks.append(task)

    async def _end(self, how: Ending) -> None:
        with suppress(ConnectionClosed):
            await end(self._websocket, how)

    async def _abort_later(self) -> None:
        await asyncio.sleep(_CLOSE_GRACE_SECS)
        self._websocket.transport.abort()


def _no_fault(*_: Any) -> None:
    """Be told of a fault, of which a replay has none but the recorded ones."""


def _audio(event: Event) -> bytes:
    audio = event.get("audio")
    if not isinstance(audio, str):
        return b""
    try:
        pcm = base64.b64decode(audio)
    except ValueError:
        return b""
    return pcm[: len(pcm) // 2 * 2]


def _response_id(event: Event) -> Any:
    """Return the id of the response that an event belongs to; `None` if it has none."""
    response: Any = event.get("response")
    inner = cast(Event, response).get("id") if isinstance(response, dict) else None
    return event.get("response_id") or inner


def _is_of(item: Any, items: set[Any], calls: set[Any]) -> bool:
    """Return whether an item is one of these, or of one of these calls."""
    if not isinstance(item, dict):
        return False
    named = cast(Event, item)
    return named.get("id") in items or named.get("call_id") in calls
