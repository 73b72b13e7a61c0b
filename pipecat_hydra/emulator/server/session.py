"""Serves one session: its handshake, client events, idle timeout and audio limit (§1, §2, §4).

One task reads the socket and dispatches client events. Others beside it open the session, answer
`session.configure`, run turn detection (`Hearing`), watch the idle timeout, and write what the
outlet holds. What follows from an event in the conversation is decided by `TurnTaking`.
"""

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from pipecat_hydra.emulator.conversation.activity import Activity, ActivityHook, tell
from pipecat_hydra.emulator.conversation.outlet import Outlet
from pipecat_hydra.emulator.conversation.records import EmulatedSession
from pipecat_hydra.emulator.conversation.turn_taking import TurnTaking
from pipecat_hydra.emulator.faults.fault import Fault
from pipecat_hydra.emulator.faults.injection import Injection
from pipecat_hydra.emulator.faults.kinds import Drop, Full, RejectConfiguration, RejectVoice
from pipecat_hydra.emulator.faults.plan import ConnectionFaults
from pipecat_hydra.emulator.model.responders import Dialogue
from pipecat_hydra.emulator.server.hearing import Hearing
from pipecat_hydra.emulator.server.negotiation import (
    accepts_voice,
    in_force,
    output_sample_rate,
)
from pipecat_hydra.emulator.settings import EmulatorSettings
from pipecat_hydra.emulator.wire.client_events import (
    ClientEvent,
    FunctionCallOutput,
    InputAudioAppend,
    ItemCreate,
    ResponseCancel,
    ResponseCreate,
    SessionConfiguration,
    SessionConfigure,
    SessionUpdate,
    UnknownTypeError,
    parse_event,
    parse_json,
)
from pipecat_hydra.emulator.wire.ending import ANNOUNCED, Ending, end
from pipecat_hydra.emulator.wire.events import Event, ProtocolError
from pipecat_hydra.emulator.wire.logs import log_failure
from pipecat_hydra.emulator.wire.server_events import warning
from pipecat_hydra.wire.protocol import (
    CLOSE_AT_CAPACITY,
    CLOSE_NORMAL,
    MODEL_DEPRECATED,
    MODELS,
    VOICE_PARAM,
    ErrorCode,
)

CLOSE_GRACE_SECS = 2.0
"""How long a close may take; a client that does not read would delay it for ever."""

_LOST = 1006
"""Close code of a connection that ended without a close frame."""


class Session:
    """Serves one WebSocket until it is closed.

    Args:
        websocket: An open connection whose upgrade request was checked.
        record: The record of the session.
        dialogue: Decides what the model says.
        settings: The settings of the emulator.
        on_activity: Called for every event.
        chosen: The faults of the connection.
    """

    def __init__(
        self,
        websocket: ServerConnection,
        record: EmulatedSession,
        dialogue: Dialogue,
        settings: EmulatorSettings,
        on_activity: ActivityHook | None,
        chosen: ConnectionFaults,
    ) -> None:
        self._websocket = websocket
        self._record = record
        self._model = MODELS[record.model]
        self._dialogue = dialogue
        self._on_activity = on_activity
        self._injection = Injection(
            chosen, lambda: record.elapsed, self._note_fault, self._end_by_fault
        )
        self._settings = settings = self._injection.adjust(settings)
        self._outlet = Outlet(
            record,
            on_activity,
            self._injection,
            audio_key=settings.audio_key,
            base64_lines=settings.base64_lines,
        )
        self._created = asyncio.Event()
        self._configuring = False  # a `session.configure` counts, and others do not
        self._over = False  # an error `session_ended` was sent
        self._turns: TurnTaking | None = None
        self._hearing = Hearing(settings)
        self._last_received = time.monotonic()
        self._writer: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def record(self) -> EmulatedSession:
        """The record of the session."""
        return self._record

    async def run(self) -> None:
        """Serve; returns when the socket is closed and all tasks have ended."""
        for fault in self._injection.chosen.of(Full):
            self._injection.note(fault)
            await self.refuse()
            return
        self._spawn(self._watch_idle(), "idle")
        self._spawn(self._open(), "open")
        await self._serve()

    async def refuse(self) -> None:
        """Send an error `server_full` and close (§1, concurrency)."""
        self._outlet.error(ProtocolError(ErrorCode.SERVER_FULL, "the server is at capacity"))
        self._close(CLOSE_AT_CAPACITY)
        await self._serve()

    def drop(self, how: Ending) -> None:
        """End the connection now; events that are not written yet are lost."""
        self._injection.note(Drop(how))
        self._end_now(how)

    async def _serve(self) -> None:
        tell(self._on_activity, Activity("opened", self._record))
        self._writer = self._spawn(self._outlet.run(self._websocket), "outlet")
        self._injection.opened()
        try:
            async for frame in self._websocket:
                await self._injection.before_reading(self._websocket)
                self._last_received = time.monotonic()
                if not (self._outlet.closing or self._over):
                    self._take(frame)
                await self._outlet.room()
                await self._hearing.room()
        except ConnectionClosed:
            pass
        finally:
            await self._tear_down()
            code = self._websocket.close_code
            self._record.close_code = _LOST if code is None else code
            self._record.wake()
            tell(self._on_activity, Activity("closed", self._record))

    async def _tear_down(self) -> None:
        self._outlet.abandon()
        self._injection.close()
        if self._turns is not None:
            await self._turns.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Tasks beside the one that reads.

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine, name=f"hydra-emulator-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exception := task.exception()) is not None:
            log_failure("A session of the emulator failed", exception)
            self._outlet.error(ProtocolError(ErrorCode.INTERNAL, "the emulator failed"))

    async def _open(self) -> None:
        if self._model.deprecated:
            # The warning precedes `session.created` (§2): clients must not rely on positions.
            message = f"model {self._model.name} is deprecated"
            self._outlet.send(warning(MODEL_DEPRECATED, message))
        await self._injection.hang("created")
        await asyncio.sleep(self._settings.created_delay_secs)
        self._outlet.send({"type": "session.created", "session_id": self._record.id})
        self._created.set()

    async def _watch_idle(self) -> None:
        limit = self._settings.idle_timeout_secs
        while True:
            quiet = time.monotonic() - max(self._last_received, self._outlet.last_sent)
            if quiet >= limit:
                self._close(CLOSE_NORMAL)  # and no error (§1, idle)
                return
            await asyncio.sleep(limit - quiet)

    async def _configure(self, event: SessionConfigure, size: int) -> None:
        await self._created.wait()
        await self._injection.hang("configured")
        await asyncio.sleep(self._settings.configured_delay_secs)
        wanted, voice = event.session, event.session.voice
        if (param := self._rejects(voice)) is not None:
            voice = None
            what = "voice" if param == VOICE_PARAM else "field"
            self._outlet.error(
                ProtocolError(
                    ErrorCode.INVALID_REQUEST,
                    f"unknown {what} for {self._model.name}",
                    param=param,
                    event_id=event.event_id,
                )
            )
            match self._settings.after_rejection:
                case "wait":
                    return
                case "retry":
                    self._configuring = False
                    return
                case "close":
                    self._close(CLOSE_NORMAL)
                    return
                case "default_voice":
                    pass
        self._begin(wanted, voice, size)

    def _begin(self, wanted: SessionConfiguration, voice: str | None, size: int) -> None:
        """Begin the conversation of a session that is configured."""
        record, settings = self._record, self._settings
        rate = output_sample_rate(wanted, self._model, settings)
        record.output_sample_rate = rate
        record.tools = wanted.tools
        record.configured = True
        turns = self._turns = TurnTaking(
            self._outlet,
            record,
            self._dialogue,
            settings,
            sample_rate=rate,
            mute=size > settings.configuration_limit_bytes,
        )
        session = in_force(wanted, voice, rate if settings.echo_output_rate else None)
        self._outlet.send({"type": "session.configured", "session": session})
        self._spawn(self._hearing.run(turns), "listen")
        if wanted.generate_initial_response:
            turns.greet()

    def _rejects(self, voice: str | None) -> str | None:
        """Return the field for which a configuration is rejected, if it is."""
        for fault in self._injection.chosen.of(RejectConfiguration):
            self._injection.note(fault)
            return fault.param
        for fault in self._injection.chosen.of(RejectVoice):
            self._injection.note(fault)
            return VOICE_PARAM
        return None if accepts_voice(voice, self._model, self._settings) else VOICE_PARAM

    # Client events.

    def _take(self, frame: str | bytes) -> None:
        raw: Event = {}
        try:
            raw = self._note(frame)
            self._dispatch(parse_event(raw), frame)
        except UnknownTypeError as problem:
            if self._settings.unknown_types == "reject":
                self._outlet.error(problem)
        except ProtocolError as problem:
            self._outlet.error(problem)
        self._injection.received(raw)

    def _note(self, frame: str | bytes) -> Event:
        """Decode a frame, and record it as an event without its audio."""
        raw: Event = {}
        try:
            if isinstance(frame, bytes):
                raise ProtocolError(ErrorCode.INVALID_FRAME, "frame is not a text frame")
            raw = parse_json(frame)
            return raw
        finally:
            audio = raw.get("audio")
            size = len(audio) * 3 // 4 - audio.count("=") if isinstance(audio, str) else 0
            event = {name: value for name, value in raw.items() if name != "audio"}
            record = self._record.note("received", event, audio_bytes=size)
            tell(self._on_activity, Activity("received", self._record, record))

    def _dispatch(self, event: ClientEvent, frame: str | bytes) -> None:
        match event:
            case InputAudioAppend():
                self._on_append(event)
            case SessionConfigure():
                self._on_configure(event, len(frame.encode()) if isinstance(frame, str) else 0)
            case SessionUpdate():
                self._on_update(event)
            case ItemCreate():
                self._on_item(event)
            case ResponseCreate():
                self._on_create(event)
            case ResponseCancel():
                if self._turns is not None:
                    self._turns.cancel_response(event.response_id)

    def _on_configure(self, event: SessionConfigure, size: int) -> None:
        if self._configuring:
            return  # only the first one counts (§2)
        self._configuring = True
        record = self._record
        record.configuration = event.session.model_dump(exclude_unset=True)
        record.configuration_bytes = size
        record.unknown_fields = event.unknown_fields
        self._spawn(self._configure(event, size), "configure")

    def _on_append(self, event: InputAudioAppend) -> None:
        if self._turns is None:
            self._record.early_audio_events += 1
            if self._settings.early_audio == "end":
                self._end("audio came before session.configured", event.event_id)
            return
        pcm = event.pcm()
        if self._hearing.put(pcm):
            self._record.note_audio(pcm)
        else:
            self._end("audio came much faster than it can have been spoken", event.event_id)

    def _on_update(self, event: SessionUpdate) -> None:
        self._require_configured(event)
        tools = event.session.tools
        if tools != self._record.tools:  # an update that changes nothing has no echo (§3)
            self._record.tools = tools
            self._outlet.send({"type": "session.updated", "session": {"tools": tools}})

    def _on_item(self, event: ItemCreate) -> None:
        turns = self._require_configured(event)
        if not isinstance(event.item, FunctionCallOutput):
            turns.post_message(event.item)
            return
        try:
            turns.post_output(event.item)
        except ProtocolError as problem:
            problem.event_id = event.event_id
            raise

    def _on_create(self, event: ResponseCreate) -> None:
        try:
            self._require_configured(event).create_response()
        except ProtocolError as problem:
            problem.event_id = event.event_id
            raise

    def _require_configured(self, event: ClientEvent) -> TurnTaking:
        if self._turns is None:
            raise ProtocolError(
                ErrorCode.INVALID_REQUEST,
                f"{event.type} came before session.configured",
                event_id=event.event_id,
            )
        return self._turns

    def _end(self, message: str, event_id: str | None) -> None:
        self._outlet.error(ProtocolError(ErrorCode.SESSION_ENDED, message, event_id=event_id))
        self._over = True
        if self._settings.session_ended_close_code is not None:
            self._close(self._settings.session_ended_close_code)

    def _close(self, how: Ending) -> None:
        self._outlet.close(how)
        self._spawn(self._abort_later(), "abort")

    async def _abort_later(self) -> None:
        await asyncio.sleep(CLOSE_GRACE_SECS)
        self._websocket.transport.abort()

    # Faults.

    def _note_fault(self, fault: Fault, detail: str) -> None:
        record = self._record.note_fault(self._injection.chosen.number, fault, detail)
        tell(self._on_activity, Activity("injected", self._record, fault=record))

    def _end_by_fault(self, how: Ending, at_once: bool) -> None:
        if how in ANNOUNCED or at_once:
            self._end_now(how)
        else:
            self._close(how)

    def _end_now(self, how: Ending) -> None:
        if how in ANNOUNCED:
            self._outlet.error(ProtocolError(str(how), "the session is over"))
            self._outlet.fall_silent()
            return
        self._outlet.abandon()
        if self._writer is not None:
            self._writer.cancel()  # it may be blocked by a client that does not read
        self._spawn(self._end_connection(how), "end")
        self._spawn(self._abort_later(), "abort")

    async def _end_connection(self, how: Ending) -> None:
        with suppress(ConnectionClosed):
            await end(self._websocket, how)
