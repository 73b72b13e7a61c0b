"""What the user has said, in words: each turn once.

Theory of operation. The item of a user turn may hold a transcript; the protocol says both that it
does and that it does not (§3). An item may be told more than once, and has its words once. Turns
that have no answer when a session is lost are heard again by the next session, and are not told
again.

Pure.
"""

from collections import deque
from typing import Final

from pipecat_hydra.wire.events import ConversationItem

__all__ = ["Transcripts"]

_REMEMBERED_ITEMS: Final = 64


class Transcripts:
    """Takes the words of each user turn from its item, once."""

    def __init__(self) -> None:
        """Start with nothing said."""
        self._told: deque[str | int] = deque(maxlen=_REMEMBERED_ITEMS)
        self._turns = 0
        # How many turns are told since the user was understood last, and how many of them the
        # session that is open is still to hear again.
        self._unanswered = 0
        self._again = 0

    def turn_started(self) -> None:
        """Record that the user begins to speak."""
        self._turns += 1

    def take(self, item: ConversationItem) -> str | None:
        """Return the words of a user's item that is done, if it has any and they are new."""
        if item.status == "incomplete" or not item.words.strip():
            return None
        # Items without an id are told apart by their turn.
        key = item.id or self._turns
        if key in self._told:
            return None
        self._told.append(key)
        if self._again:
            self._again -= 1
            return None
        self._unanswered += 1
        return item.words.strip()

    def understood(self) -> None:
        """Record that what the user has said so far is answered, or never will be."""
        self._unanswered = self._again = 0

    def disconnected(self) -> None:
        """Forget the items, because the session is gone. Turns without an answer come again."""
        self._told.clear()
        self._again = self._unanswered
