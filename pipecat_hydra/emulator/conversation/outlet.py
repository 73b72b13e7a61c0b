"""The outlet of a session: sends all events of the server, in one order."""

import asyncio
import base64
import json
import time
from dataclasses import dataclass

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from pipecat_hydra.emulator.conversation.activity import Activity, ActivityHook, tell
from pipecat_hydra.emulator.conversation.records import EmulatedSession
from pipecat_hydra.emulator.faults.injection import Injection
from pipecat_hydra.emulator.faults.mangler import Mangler, Outgoing, Raw, Stall, Told
from pipecat_hydra.emulator.wire.backlog import Backlog
from pipecat_hydra.emulator.wire.ending import Ending, end
from pipecat_hydra.emulator.wire.events import Event, ProtocolError, new_id
from pipecat_hydra.emulator.wire.server_events import error, item_event

_MAX_WAITING_BYTES = 4 * 2**20
"""How much may wait for a client that does not read: about a minute of reply audio."""


@dataclass(frozen=True, slots=True)
class _End:
    how: Ending


class Outlet:
    """Queues events and writes them to the socket.

    `send` does not wait, so that a change of state and its event are one step. A single task
    writes what is queued. So events are sent in the order of the calls, and a task that is
    cancelled cannot cut a frame in two. If the client does not read, the queue grows: callers that
    can wait must await `room` before they send.

    Args:
        session: Records what is sent.
        on_activity: Called for each event that is sent.
        injection: The faults of the session.
        audio_key: The field that holds the audio of a delta.
        base64_lines: Whether its base64 is broken into lines.
    """

    def __init__(
        self,
        session: EmulatedSession,
        on_activity: ActivityHook | None,
        injection: Injection,
        *,
        audio_key: str = "delta",
        base64_lines: bool = False,
    ) -> None:
        self._session = session
        self._on_activity = on_activity
        self._injection = injection
        self._audio_key = audio_key
        self._encode = base64.encodebytes if base64_lines else base64.b64encode
        chosen = injection.chosen
        self._mangler = Mangler(chosen.faults, chosen.rng, injection.note, self._put)
        self._queue: Backlog[str | bytes | Stall | _End] = Backlog(_MAX_WAITING_BYTES)
        self._last_item_id: str | None = None
        self._previous: dict[str, str | None] = {}
        self.closing: bool = False
        """Whether `close`, `fall_silent` or `abandon` was called; no event is sent any more."""
        self.last_sent: float = time.monotonic()
        """When the last frame was written, on the clock of `time.monotonic`."""

    def send(self, event: Event, *, audio: bytes = b"") -> None:
        """Queue an event and give it an id; `audio` is added to it in base64 (§3)."""
        if self.closing:
            return
        event = {"event_id": new_id("sv"), **event}
        self._mangler.send(event, audio)
        self._injection.sent(event)

    def error(self, problem: ProtocolError) -> None:
        """Send an `error` event."""
        self.send(error(problem))

    def item_added(self, item: Event) -> None:
        """Send `conversation.item.added`, with the last item as the previous one."""
        self._previous[item["id"]] = self._last_item_id
        self.send(item_event("added", self._last_item_id, dict(item)))
        self._last_item_id = item["id"]

    def item_done(self, item: Event) -> None:
        """Send `conversation.item.done` of an item that was added before."""
        self.send(item_event("done", self._previous.pop(item["id"], None), dict(item)))

    async def room(self) -> None:
        """Wait until the queue is short; returns at once if the connection is gone."""
        await self._queue.room()

    def close(self, how: Ending) -> None:
        """End the connection, once all that was sent before is written."""
        if not self.closing:
            self._mangler.release()
            self.closing = True
            self._queue.put(_End(how))

    def fall_silent(self) -> None:
        """Send nothing any more but what was sent before, and leave the connection open."""
        self._mangler.release()
        self.closing = True

    def abandon(self) -> None:
        """Send nothing any more, and discard what is queued."""
        self.closing = True
        self._mangler.close()
        self._queue.close()

    async def run(self, websocket: ServerConnection) -> None:
        """Write what is queued to the socket until it is closed."""
        try:
            while not isinstance(message := await self._queue.get(), _End):
                if isinstance(message, Stall):
                    await asyncio.sleep(message.secs)
                    continue
                await websocket.send(message)
                self.last_sent = time.monotonic()
            await end(websocket, message.how)
        except ConnectionClosed:
            pass
        finally:
            self.abandon()

    def _put(self, outgoing: Outgoing) -> None:
        match outgoing:
            case Told(event, audio):
                record = self._session.note("sent", event, audio=audio)
                if audio:
                    event = {**event, self._audio_key: self._encode(audio).decode("ascii")}
                message = json.dumps(event)
                self._queue.put(message, len(message))
                tell(self._on_activity, Activity("sent", self._session, record))
            case Raw(payload):
                self._queue.put(payload, len(payload))
            case Stall():
                self._queue.put(outgoing)
