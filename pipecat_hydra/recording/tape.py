"""What waits to be recorded: a bounded queue from the event loop to the recorder's thread.

The event loop only appends; it never waits, and takes no lock. When more waits than the bound
allows, because the disk is slow, what comes is dropped until there is room, and an entry says how
much that was. Each side counts for itself what it has put in and taken out, since neither may
change a number of the other.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from loguru import logger

__all__ = ["Entry", "Kind", "Tape"]

_LIMIT_BYTES: Final = 16 * 2**20
# With so much the thread begins at once, whenever it would have begun.
_MUCH_BYTES: Final = 2**20
# What an entry takes beside its payload.
_ENTRY_BYTES: Final = 200


class Kind:
    """What an entry is, and what its payload is."""

    SENT: Final = 0
    """A message to Hydra: `(message, PCM16 that is in it)`."""

    RECEIVED: Final = 1
    """A message from Hydra: likewise."""

    HEARD: Final = 2
    """Audio that was written to the output: `(PCM16, rate in Hz, channels)`."""

    NOTE: Final = 3
    """Something that happened: `(source, type, JSON of its fields)`."""

    DROPPED: Final = 4
    """Entries were dropped before this one: `(how many, when the first one came)`."""

    HIDE: Final = 5
    """A text that must not be written: the text."""

    END: Final = 6
    """The recording ends: the reason."""


class Entry(NamedTuple):
    """Something to record.

    Parameters:
        kind: A value of `Kind`.
        at: When it happened, in seconds of the monotonic clock.
        payload: See `Kind`.
    """

    kind: int
    at: float
    payload: Any


class Tape:
    """Takes entries from the event loop, and gives them to a thread."""

    def __init__(
        self, on_much: Callable[[], None] = lambda: None, *, limit_bytes: int = _LIMIT_BYTES
    ):
        """Make an empty tape.

        Args:
            on_much: Called when much waits, again and again.
            limit_bytes: How much may wait; more is dropped.
        """
        self._on_much = on_much
        self._entries: deque[tuple[Entry, int]] = deque()
        self._limit = limit_bytes
        self._put = 0
        self._taken = 0
        self._dropped = 0
        self._dropped_since = 0.0
        self._has_warned = False
        self._is_closed = False

    def put(self, kind: int, at: float, payload: Any, size: int) -> None:
        """Append an entry, or drop it where there is no room. Only the event loop calls this.

        Args:
            kind: A value of `Kind`.
            at: When it happened.
            payload: See `Kind`.
            size: About how many bytes that are.
        """
        size += _ENTRY_BYTES
        waiting = self._put - self._taken + size
        if waiting > _MUCH_BYTES:
            self._on_much()
        if waiting > self._limit:
            self._drop(at)
            return
        if self._dropped:
            self._append(Kind.DROPPED, at, (self._dropped, self._dropped_since), _ENTRY_BYTES)
            self._dropped = 0
        self._append(kind, at, payload, size)

    def end(self, at: float, reason: str) -> None:
        """Append the last entry; what comes after it is not taken. Only the event loop calls this.

        Args:
            at: When the recording ends.
            reason: Why.
        """
        self._append(Kind.END, at, reason, _ENTRY_BYTES)
        self._refuse()

    def take(self, most: int) -> list[Entry]:
        """Take the oldest entries, at most so many. Only the thread calls this."""
        taken: list[Entry] = []
        while self._entries and len(taken) < most:
            entry, size = self._entries.popleft()
            self._taken += size
            taken.append(entry)
        return taken

    def close(self) -> None:
        """Take nothing any more, and say nothing of it: the thread has ended."""
        self._refuse()
        self._entries.clear()

    def _refuse(self) -> None:
        self._is_closed = True
        self._limit = -1

    def _append(self, kind: int, at: float, payload: Any, size: int) -> None:
        self._put += size
        self._entries.append((Entry(kind, at, payload), size))

    def _drop(self, at: float) -> None:
        if self._is_closed:
            return
        if not self._dropped:
            self._dropped_since = at
        self._dropped += 1
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "the recording of the call has gaps: the disk is too slow for it. The call goes on"
            )
