"""Tells the application how the connection fares: in the log, by events and by error frames.

A lost connection is reported once, by an error that is not permanent, and then by the events
`on_reconnecting` and `on_reconnected`. Only a connection that is given up is a permanent error, and
makes the service unusable.
"""

from typing import Any

from loguru import logger
from pipecat.services.llm_service import LLMService
from pipecat.utils.errors import ErrorCategory

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import (
    Connected,
    ConnectionEffect,
    Disconnected,
    FailureKind,
    GivenUp,
    Lost,
    Queued,
    Ready,
    Report,
    Rested,
    Retrying,
    SessionStarted,
    Severity,
)
from pipecat_hydra.service.meters import Meters
from pipecat_hydra.service.metrics import push_session_metrics
from pipecat_hydra.service.pipecat_private import call_event_handler
from pipecat_hydra.service.wanted_session import WantedSession
from pipecat_hydra.wire.protocol import ErrorCode

__all__ = ["ConnectionEvents"]

_CATEGORIES = {
    FailureKind.AUTHENTICATION: ErrorCategory.AUTHENTICATION,
    FailureKind.CONFIGURATION: ErrorCategory.INVALID_REQUEST,
    FailureKind.CAPACITY: ErrorCategory.RATE_LIMIT,
    FailureKind.CONNECTIVITY: ErrorCategory.CONNECTIVITY,
    FailureKind.TIMEOUT: ErrorCategory.CONNECTIVITY,
    FailureKind.SERVER: ErrorCategory.SERVER,
    FailureKind.ENDED: ErrorCategory.CONNECTIVITY,
}

# An `error` event rejects one request and never the session, so none of these may be
# a category that Pipecat takes for permanent.
_REPORT_CATEGORIES = {
    ErrorCode.INTERNAL: ErrorCategory.SERVER,
    ErrorCode.TOOL_RESPONSE_TIMEOUT: ErrorCategory.APPLICATION,
}


class ConnectionEvents:
    """Logs, events and errors about the connection, and reports to the developer."""

    def __init__(
        self,
        service: LLMService[Any],
        conversation: Conversation,
        session: WantedSession,
        meters: Meters,
    ):
        """Start without a connection.

        Args:
            service: Raises the events and pushes the errors.
            conversation: Measures the sessions.
            session: Told of the connection.
            meters: Told how long each session was open.
        """
        self._service = service
        self._conversation = conversation
        self._session = session
        self._meters = meters
        self._is_connected = self._is_lost = False

    async def close(self) -> None:
        """Tell of the end of what is still open; no effect comes any more."""
        if self._is_connected:
            await self._on_disconnected("the pipeline has ended")
        # Of which no effect has told.
        await self._tell_ended_sessions()

    async def tell(self, effect: ConnectionEffect) -> None:
        """Log a change of the connection, raise its event and push its error."""
        match effect:
            case Queued(position):
                logger.debug(f"{self._service}: number {position} of those who wait for a session")
                await self.raise_event("on_capacity_position", position)
            case Connected():
                self._is_connected = True
                await self.raise_event("on_connected")
                self._session.replace_if_outdated()
            case SessionStarted(session_id):
                logger.debug(f"{self._service}: Hydra session {session_id!r} opened")
                await self.raise_event("on_session_started", session_id)
            case Ready():
                await self._on_ready(effect)
            case Disconnected(reason):
                await self._on_disconnected(reason)
            case Rested(message, failed):
                level = "WARNING" if failed else "DEBUG"
                text = "{}: no session is open until it is used: {}"
                logger.log(level, text, self._service, message)
            case Lost():
                self._is_lost = True
                self.push_error_soon(effect.message, _CATEGORIES[effect.kind])
            case Retrying():
                await self._on_retrying(effect)
            case GivenUp():
                await self._on_given_up(effect)

    async def _on_ready(self, ready: Ready) -> None:
        self._session.on_ready()
        asked, rate = self._session.wanted, ready.output_sample_rate
        message = f"Hydra is ready: {asked.model}, {asked.voice or 'a voice of its own'}, {rate} Hz"
        logger.debug(f"{self._service}: {message}")
        if self._is_lost:
            self._is_lost = False
            await self.raise_event("on_reconnected", self._session.is_restored(ready))

    async def _on_disconnected(self, reason: str) -> None:
        self._is_connected = False
        logger.debug(f"{self._service}: disconnected: {reason}")
        await self._tell_ended_sessions()
        await self.raise_event("on_disconnected", reason)

    async def _tell_ended_sessions(self) -> None:
        for secs in self._conversation.clock.take_ended():
            self._meters.session_ended(secs)
            await push_session_metrics(self._service, self._conversation.model, secs)
            await self.raise_event("on_session_ended", secs)

    async def _on_retrying(self, retrying: Retrying) -> None:
        attempt, delay_secs = retrying.attempt, retrying.delay_secs
        message = f"attempt {attempt} in {delay_secs:.2f} s: {retrying.message}"
        logger.debug(f"{self._service}: {message}")
        await self.raise_event("on_reconnecting", attempt, delay_secs)
        if retrying.kind is FailureKind.CAPACITY:
            await self.raise_event("on_capacity", attempt, delay_secs)

    async def _on_given_up(self, given_up: GivenUp) -> None:
        self._session.cancel_kickoff()
        # First, so that event handlers find the service unusable.
        await self._service.set_usable(False)
        # If the application makes the service usable again, the next use may connect.
        self._session.renew()
        category = _CATEGORIES[given_up.kind]
        self.push_error_soon(given_up.message, category, permanent=True)
        await self.raise_event("on_given_up", given_up.message)

    # What the application is told

    async def raise_event(self, event: str, *args: Any) -> None:
        """Call the handlers of an event of the service.

        Args:
            event: Its name.
            *args: What they are called with, after the service.
        """
        await call_event_handler(self._service, event, *args)

    def report(self, report: Report) -> None:
        """Log what the conversation reports to the developer; push an error as an error frame."""
        match report.severity:
            case Severity.INFO:
                logger.debug(f"{self._service}: {report.message}")
            case Severity.WARNING:
                logger.warning(f"{self._service}: {report.message}")
            case Severity.ERROR:
                category = _REPORT_CATEGORIES.get(report.code or "", ErrorCategory.UNKNOWN)
                self.push_error_soon(report.message, category)

    def push_error_soon(
        self, message: str, category: ErrorCategory, *, permanent: bool = False
    ) -> None:
        """Push an error without waiting for the application's `on_error` handlers."""
        pushing = self._service.push_error(
            message, category=category, force_treat_as_permanent=permanent
        )
        self._service.create_task(pushing, "error")
