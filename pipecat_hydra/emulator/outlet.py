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

from pipecat_hydra.emulator.logs import log_failure
from pipecat_hydra.emulator.records import EmulatedSession, Record
from pipecat_hydra.emulator.wire import Event, ProtocolError, error, item_event, new_id


@dataclass(frozen=True, slots=True)
class Activity:
    """Something that happened in a session, told while it happens.

    Parameters:
        kind: A session was `opened` or `closed`, or an event was `received` or `sent`.
        session: The session.
        record: The event, when there is one.
    """

    kind: Literal["opened", "received", "sent", "closed"]
    session: EmulatedSession
    record: Record | None = None


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

    A single writer empties the queue, so the order of calls is the order on the wire, and
    nothing that is cancelled can tear a frame.

    Args:
        session: Keeps a record of what is sent.
        on_activity: Told of it too.
    """

    def __init__(self, session: EmulatedSession, on_activity: ActivityHook | None) -> None:
        self._session = session
        self._on_activity = on_activity
        self._queue: asyncio.Queue[str | int] = asyncio.Queue()
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
        record = self._session.note("sent", event, audio=audio)
        if audio:
            event = {**event, "delta": base64.b64encode(audio).decode("ascii")}
        self._queue.put_nowait(json.dumps(event))
        tell(self._on_activity, Activity("sent", self._session, record))

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

    def close(self, code: int) -> None:
        """Close the socket, once all that was sent before is out."""
        if not self.closing:
            self.closing = True
            self._queue.put_nowait(code)

    async def run(self, websocket: ServerConnection) -> None:
        """Write to the socket until it is closed."""
        try:
            while isinstance(message := await self._queue.get(), str):
                await websocket.send(message)
                self.last_sent = time.monotonic()
            await websocket.close(message)
        except ConnectionClosed:
            self.closing = True
