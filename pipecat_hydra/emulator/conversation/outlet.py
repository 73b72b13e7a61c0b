"""The way out of a session: every event the server sends, in one order."""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from pipecat_hydra.emulator.conversation.ledger import FaultRecord
from pipecat_hydra.emulator.conversation.records import EmulatedSession, Record
from pipecat_hydra.emulator.faults.injection import Injection
from pipecat_hydra.emulator.faults.kinds import Ending
from pipecat_hydra.emulator.faults.mangler import Mangler, Outgoing, Raw, Stall, Told
from pipecat_hydra.emulator.wire.backlog import Backlog
from pipecat_hydra.emulator.wire.ending import end
from pipecat_hydra.emulator.wire.events import Event, ProtocolError, error, item_event, new_id
from pipecat_hydra.emulator.wire.logs import log_failure

_MAX_WAITING_BYTES = 4 * 2**20
"""How much may wait for a client that does not read: a minute or so of reply audio."""


@dataclass(frozen=True, slots=True)
class _End:
    how: Ending


@dataclass(frozen=True, slots=True)
class Activity:
    """Something that happened in a session, told while it happens.

    Parameters:
        kind: A session was `opened` or `closed`, an event was `received` or `sent`, or a
            fault `injected`.
        session: The session.
        record: The event, when there is one.
        fault: The fault, when there is one.
    """

    kind: Literal["opened", "received", "sent", "injected", "closed"]
    session: EmulatedSession
    record: Record | None = None
    fault: FaultRecord | None = None


ActivityHook = Callable[[Activity], None]
"""Is called on the event loop for each activity, and must not block."""


def tell(hook: ActivityHook | None, activity: Activity) -> None:
    """Call a hook; what it raises is logged and harms no session."""
    if hook is None:
        return
    try:
        hook(activity)
    except Exception as exception:
        log_failure("The emulator's activity hook failed", exception)


class Outlet:
    """Sends events without waiting: state changes and what is told of them stay one step.

    A single writer empties the line, so the order of calls is the order on the wire, and
    nothing that is cancelled can tear a frame. A client that does not read lets the line
    grow: whoever can wait must do so in `room` first.

    Args:
        session: Keeps a record of what is sent.
        on_activity: Told of it too.
        injection: The session's faults.
    """

    def __init__(
        self, session: EmulatedSession, on_activity: ActivityHook | None, injection: Injection
    ) -> None:
        self._session = session
        self._on_activity = on_activity
        self._injection = injection
        chosen = injection.chosen
        self._mangler = Mangler(chosen.faults, chosen.rng, injection.note, self._put)
        self._line: Backlog[str | bytes | Stall | _End] = Backlog(_MAX_WAITING_BYTES)
        self._last_item_id: str | None = None
        self._previous: dict[str, str | None] = {}
        self.closing = False
        """Whether `close` was called: nothing is sent any more."""
        self.last_sent = time.monotonic()
        """When the last frame went out."""

    def send(self, event: Event, *, audio: bytes = b"") -> None:
        """Send an event, given its id here; `audio` becomes its `delta` (§3)."""
        if self.closing:
            return
        event = {"event_id": new_id("sv"), **event}
        self._mangler.send(event, audio)
        self._injection.sent(event)

    def error(self, problem: ProtocolError) -> None:
        """Send an `error` event."""
        self.send(error(problem))

    def item_added(self, item: Event) -> None:
        """Send `conversation.item.added`, after the item that was last."""
        self._previous[item["id"]] = self._last_item_id
        self.send(item_event("added", self._last_item_id, dict(item)))
        self._last_item_id = item["id"]

    def item_done(self, item: Event) -> None:
        """Send `conversation.item.done` of an item that was added."""
        self.send(item_event("done", self._previous.pop(item["id"], None), dict(item)))

    async def room(self) -> None:
        """Wait while too much is not yet written; not once the connection is gone."""
        await self._line.room()

    def close(self, how: Ending) -> None:
        """End the connection, once all that was sent before is out."""
        if not self.closing:
            self._mangler.release()
            self.closing = True
            self._line.put(_End(how))

    def abandon(self) -> None:
        """Send nothing any more, not even what waits."""
        self.closing = True
        self._mangler.close()
        self._line.close()

    async def run(self, websocket: ServerConnection) -> None:
        """Write to the socket until it is closed."""
        try:
            while not isinstance(message := await self._line.get(), _End):
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
                    event = {**event, "delta": base64.b64encode(audio).decode("ascii")}
                message = json.dumps(event)
                self._line.put(message, len(message))
                tell(self._on_activity, Activity("sent", self._session, record))
            case Raw(payload):
                self._line.put(payload, len(payload))
            case Stall():
                self._line.put(outgoing)
