"""A queue that is bounded by bytes."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Backlog(Generic[T]):
    """Queues items, and lets producers wait until the queue is short.

    `put` never waits, so that an item can be queued in one step with a change of state. A
    producer that can wait calls `room` before it puts more. So the queue exceeds its limit only
    by what the others put.

    Args:
        limit: Bytes in the queue at which there is no room left.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._items: deque[tuple[T, int]] = deque()
        self._size = 0
        self._closed = False
        self._filled = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()

    @property
    def size(self) -> int:
        """Bytes in the queue."""
        return self._size

    def put(self, item: T, size: int = 0) -> None:
        """Add an item to the queue; does nothing once the queue is closed.

        Args:
            item: The item.
            size: Its length in bytes.
        """
        if self._closed:
            return
        self._items.append((item, size))
        self._resize(size)
        self._filled.set()

    async def get(self) -> T:
        """Take the first item, and wait for one if need be; only one task may call this."""
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        item, size = self._items.popleft()
        self._resize(-size)
        return item

    async def room(self) -> None:
        """Wait until the queue has room; returns at once when the queue is closed."""
        await self._has_room.wait()

    def close(self) -> None:
        """Discard the queue and all later items, and release whoever waits for room."""
        self._closed = True
        self._items.clear()
        self._resize(-self._size)

    def _resize(self, by: int) -> None:
        self._size += by
        if self._size < self._limit:
            self._has_room.set()
        else:
            self._has_room.clear()
