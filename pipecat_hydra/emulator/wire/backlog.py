"""What waits in line, and where to wait while that is too much."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Backlog(Generic[T]):
    """A line with room for so many bytes.

    What must be one step with a change of state is put in without waiting, whatever the
    room; what can wait does so in `room` before it puts in more. So there is never much
    more in line than the limit.

    Args:
        limit: Bytes in line from which on there is no room.
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
        """Bytes in line."""
        return self._size

    def put(self, item: T, size: int = 0) -> None:
        """Put something in line; nothing once it is closed.

        Args:
            item: What.
            size: Its length in bytes.
        """
        if self._closed:
            return
        self._items.append((item, size))
        self._resize(size)
        self._filled.set()

    async def get(self) -> T:
        """Take what is first in line; there must be one taker only."""
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        item, size = self._items.popleft()
        self._resize(-size)
        return item

    async def room(self) -> None:
        """Wait until there is room."""
        await self._has_room.wait()

    def close(self) -> None:
        """Forget what is in line, as nobody takes it any more, and let nobody wait."""
        self._closed = True
        self._items.clear()
        self._resize(-self._size)

    def _resize(self, by: int) -> None:
        self._size += by
        if self._size < self._limit:
            self._has_room.set()
        else:
            self._has_room.clear()
