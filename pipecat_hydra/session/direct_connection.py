"""A client connection of `websockets` that hands on and takes messages without a task.

The library's `recv` and `send` are made for tasks: a message that arrives wakes the task that
reads it, and a task that sends waits for room. Audio comes and goes a hundred times a second in
each call, and to wake a task costs more than the message does. `DirectConnection` hands a message
on in the step in which it arrives; messages to the server are written by `broadcast`, at once.

So flow control is left to the user of the class: who takes messages says when no more are wanted
for a while, and `has_room` says whether the network takes more. While no messages are wanted,
reading from the network is paused, and those that have come wait here.

The library lets its users make the connection (`create_connection` of `connect`) and calls
`process_event` with each frame (`websockets/asyncio/connection.py`). It writes to all connections
that are given to `broadcast` without waiting (`websockets/asyncio/server.py`).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from typing_extensions import override
from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, State

__all__ = ["DirectConnection", "Take", "Traffic"]

Take = Callable[[bytes | bytearray, float], Callable[[], Awaitable[None]] | None]
"""Takes a message, which came at a time of the event loop. Returns what must be awaited before
another one is wanted, if anything must."""

_DATA: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


@dataclass(slots=True)
class Traffic:
    """Counts the bytes of messages, over all WebSockets of a call.

    Parameters:
        sent_bytes: Bytes of the messages that were sent.
        received_bytes: Bytes of the messages that were received.
    """

    sent_bytes: int = 0
    received_bytes: int = 0


class DirectConnection(ClientConnection):
    """A connection whose messages go to a function in the step in which they arrive."""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with nobody who takes messages, and room to send."""
        super().connection_made(transport)
        self.has_room: bool = True
        """Whether the network takes more data."""
        self.heard_at: float = self.loop.time()
        """When the last message came, in the event loop's time."""
        self.traffic: Traffic = Traffic()
        """Where the bytes that are received are counted."""
        self._on_room_change: Callable[[], None] = _nothing
        self._take: Take | None = None
        # What must be done before another message is wanted.
        self._pause: Callable[[], Awaitable[None]] | None = None
        self._unread: deque[bytes | bytearray] = deque()
        self._fragments: list[bytes] = []
        self._changed = asyncio.Event()

    @property
    def is_listening(self) -> bool:
        """Whether somebody waits for the next message."""
        return self._take is not None and self._pause is None

    @property
    def refused_with(self) -> int | None:
        """The code with which this side has ended the connection, if it has, and it is closed."""
        if self.protocol.state is not State.CLOSED:
            return None
        closed = self.protocol.close_exc
        return closed.sent.code if closed.sent is not None and not closed.rcvd_then_sent else None

    async def read(self, take: Take) -> None:
        """Hand on messages until the connection is closed, first those that have come already."""
        self._take = take
        while True:
            while self._unread and self._pause is None:
                self._pause = take(self._unread.popleft(), self.loop.time())
            if self._pause is not None:
                await self._pause()
                self._pause = None
            elif self.connection_lost_waiter.done():
                return
            else:
                self.transport.resume_reading()
                self._changed.clear()
                await self._changed.wait()

    def drop_messages(self) -> None:
        """Read on, but hand on no message any more."""
        self._take, self._pause = _drop, None
        self._unread.clear()
        self.transport.resume_reading()

    def on_room_change(self, call: Callable[[], None]) -> None:
        """Set what is called when the network takes no more data, and when it does again."""
        self._on_room_change = call

    @override
    def process_event(self, event: Event) -> None:
        """Hand on a message; what else comes is the library's."""
        if not isinstance(event, Frame) or event.opcode not in _DATA:
            super().process_event(event)
            return
        # Not all versions of the library type it alike.
        data: Any = event.data
        if self._fragments or not event.fin:
            self._fragments.append(data)
            if not event.fin:
                return
            data, self._fragments = b"".join(self._fragments), []
        self.traffic.received_bytes += len(data)
        self.heard_at = now = self.loop.time()
        if self._take is None or self._pause is not None:
            self._unread.append(data)
            self.transport.pause_reading()
        elif (pause := self._take(data, now)) is not None:
            self._pause = pause
            self.transport.pause_reading()
            self._changed.set()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """End the reading."""
        super().connection_lost(exc)
        self._changed.set()

    @override
    def pause_writing(self) -> None:
        """Note that the network takes no more data."""
        super().pause_writing()
        self.has_room = False
        self._on_room_change()

    @override
    def resume_writing(self) -> None:
        """Note that the network takes data again."""
        super().resume_writing()
        self.has_room = True
        self._on_room_change()


def _nothing() -> None:
    pass


def _drop(_message: bytes | bytearray, _now: float) -> None:
    pass
