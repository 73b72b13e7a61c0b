"""The timers of a conversation, kept at its deadlines.

Nearly every step moves a deadline, mostly to a later time, and to find the earliest all rooms of
the conversation are asked. So they are asked once for all steps of a turn of the event loop, after
what those steps have brought about is on its way. The user's audio moves the uplink's deadline
fifty times a second and no other, so that has a timer of its own, which finds out when it fires.
"""

import asyncio
from collections.abc import Callable

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.session.deadline import DeadlineTimer

__all__ = ["ConversationTimers"]


class ConversationTimers:
    """Calls a function when something is due in a conversation."""

    def __init__(self, conversation: Conversation, on_due: Callable[[], None]):
        """Make timers without a deadline.

        Args:
            conversation: Says when something is due.
            on_due: Called when something may be due. It must have the timers moved again.
        """
        self._conversation = conversation
        self._on_due = on_due
        self.talk: DeadlineTimer = DeadlineTimer(on_due)
        """The timer of all rooms but the uplink."""
        self._uplink = DeadlineTimer(self._on_uplink_due)
        self._moves_soon = False
        self._is_cancelled = False

    def move(self) -> None:
        """Move the timers to the deadlines, at the end of this turn of the event loop."""
        if not self._moves_soon:
            self._moves_soon = True
            asyncio.get_running_loop().call_soon(self._move)

    def audio_waits(self) -> None:
        """Look at the uplink's deadline: audio waits there that may be due earlier."""
        self._uplink.hasten(self._conversation.uplink.deadline)

    def cancel(self) -> None:
        """Stop for good, with no timer left in the event loop."""
        self._is_cancelled = True
        self.talk.cancel()
        self._uplink.cancel()

    def _move(self) -> None:
        self._moves_soon = False
        if not self._is_cancelled:
            self.talk.move(self._conversation.deadline_of_talk)
            self._uplink.move(self._conversation.uplink.deadline)

    def _on_uplink_due(self) -> None:
        deadline = self._conversation.uplink.deadline
        if deadline is not None and deadline > asyncio.get_running_loop().time():
            self._uplink.move(deadline)
        else:
            self._on_due()
