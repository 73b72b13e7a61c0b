"""What follows from an error or a warning of the server, and from a message that is no event.

An `error` event is a diagnostic: the session lives on (S3), unless the error rejects the
configuration or announces an end (`announced_end.py`). An error may also reject one request, or
tell that the server has given up waiting for the answer to a function call.

Protocol: §3.
"""

from typing import Final

from pipecat_hydra.conversation.announced_end import AnnouncedEnd
from pipecat_hydra.conversation.call_rules import EventHandlers
from pipecat_hydra.conversation.diagnostics import (
    report_error,
    report_malformed,
    report_tool_timeout,
    report_unknown,
    report_warning,
)
from pipecat_hydra.conversation.effects import Effect
from pipecat_hydra.conversation.handshake import Handshake
from pipecat_hydra.conversation.owed_replies import OwedReplies
from pipecat_hydra.conversation.toolcalls import OpenCalls
from pipecat_hydra.wire.events import (
    ErrorDetail,
    ErrorEvent,
    MalformedMessage,
    UnknownEvent,
    WarningEvent,
)
from pipecat_hydra.wire.protocol import ErrorCode

__all__ = ["ErrorRules"]


class ErrorRules:
    """Holds the rules about errors, warnings and messages that are no events."""

    def __init__(
        self, *, handshake: Handshake, owed: OwedReplies, calls: OpenCalls, end: AnnouncedEnd
    ):
        """Make the rules for rooms.

        Args:
            handshake: May fail by an error.
            owed: The replies that the model owes, one of which may have been refused.
            calls: The function calls, one of which may have timed out.
            end: Told of an error that announces an end.
        """
        self._handshake = handshake
        self._owed = owed
        self._calls = calls
        self._end = end
        self.handlers: Final[EventHandlers] = {
            ErrorEvent: self._on_error,
            WarningEvent: lambda event, now: [report_warning(event, model=handshake.model)],
            UnknownEvent: lambda event, now: [report_unknown(event)],
            MalformedMessage: lambda event, now: [report_malformed(event)],
        }
        """The handlers of the events that this object takes."""

    def _on_error(self, event: ErrorEvent, now: float) -> list[Effect]:
        error = event.error or ErrorDetail()
        self._owed.refused(error.event_id)
        if failed := self._handshake.rejected(error):
            return failed
        self._end.take(error, now)
        if error.code == ErrorCode.TOOL_RESPONSE_TIMEOUT:
            return [report_tool_timeout(error, [*self._calls.abandon_oldest().values()])]
        return [report_error(error)]
