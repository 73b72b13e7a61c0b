"""Text that goes into the conversation, and waits while there is no session.

Theory of operation. A text message is sent at once when the session is live. Until then it
waits, in order, and goes out as soon as the session is configured: first the messages that the
session is opened with (its history, when that is told as items), then those that have come
since. Whoever composes the configuration may take the waiting messages out instead and tell
them there.

That Hydra honours messages at all is unproven (protocol §4).
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from pipecat_hydra.conversation.effects import Effect, Send
from pipecat_hydra.conversation.event_ids import EventIds
from pipecat_hydra.wire.events import ItemCreate, MessageRole

__all__ = ["Messages"]

_MAX_WAITING: Final = 256


class Messages:
    """The text messages of a conversation; each is sent once, by one session."""

    def __init__(self, event_ids: EventIds):
        """Start with no message.

        Args:
            event_ids: Numbers what is sent.
        """
        self._event_ids = event_ids
        self._opening: tuple[tuple[MessageRole, str], ...] = ()
        # Bounded in memory: of more than that, the oldest are dropped.
        self._waiting: deque[tuple[MessageRole, str]] = deque(maxlen=_MAX_WAITING)

    def open_with(self, opening: Sequence[tuple[MessageRole, str]]) -> None:
        """Set the messages that the next session gets before any other."""
        self._opening = tuple(opening)

    def put(self, role: MessageRole, text: str) -> None:
        """Add a message, which waits for `send` or `take_waiting`."""
        self._waiting.append((role, text))

    def take_waiting(self) -> list[tuple[MessageRole, str]]:
        """Remove the messages that wait, and return them, each with its role."""
        messages = [*self._waiting]
        self._waiting.clear()
        return messages

    def send(self) -> list[Effect]:
        """Send all messages that wait; the session is live."""
        opening, self._opening = self._opening, ()
        return self._sends([*opening, *self.take_waiting()])

    def _sends(self, messages: Iterable[tuple[MessageRole, str]]) -> list[Effect]:
        return [
            Send(ItemCreate.message(text, role=role, event_id=self._event_ids.next()))
            for role, text in messages
        ]
