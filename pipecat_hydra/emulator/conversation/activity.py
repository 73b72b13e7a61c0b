"""Reports what happens in sessions to a hook of the application, while it happens."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pipecat_hydra.emulator.conversation.ledger import FaultRecord
from pipecat_hydra.emulator.conversation.records import EmulatedSession, Record
from pipecat_hydra.emulator.wire.logs import log_failure


@dataclass(frozen=True, slots=True)
class Activity:
    """Something that happened in a session.

    Parameters:
        kind: The session was `opened` or `closed`, an event was `received` or `sent`, or a
            fault was `injected`.
        session: The session.
        record: The event, if `received` or `sent`.
        fault: The fault, if `injected`.
    """

    kind: Literal["opened", "received", "sent", "injected", "closed"]
    session: EmulatedSession
    record: Record | None = None
    fault: FaultRecord | None = None


ActivityHook = Callable[[Activity], None]
"""Called on the event loop for each activity; must not block."""


def tell(hook: ActivityHook | None, activity: Activity) -> None:
    """Call a hook, if there is one. An exception from the hook is logged and not raised."""
    if hook is None:
        return
    try:
        hook(activity)
    except Exception as exception:
        log_failure("The emulator's activity hook failed", exception)
