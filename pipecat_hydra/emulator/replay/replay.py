"""Plays all connections of a recorded call, one after another."""

import asyncio
import http
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Final

from loguru import logger
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Response

from pipecat_hydra.emulator.conversation.activity import ActivityHook
from pipecat_hydra.emulator.conversation.records import EmulatedSession
from pipecat_hydra.emulator.replay.differences import Difference, ReplayDifferenceError
from pipecat_hydra.emulator.replay.plan import Attempt, CallPlan
from pipecat_hydra.emulator.replay.session import ReplaySession
from pipecat_hydra.recording import Recording, RecordingError

_NO_MORE: Final = "the recording has no more sessions"


class Replay:
    """Says which recorded connection each connection of a client is, and compares the two.

    Args:
        path: The folder of the recording.
        strict: Whether `check` raises.

    Raises:
        RecordingError: There is no recording that can be read, or none of a session.
    """

    def __init__(self, path: Path | str, *, strict: bool) -> None:
        self._call = CallPlan.of(recording := Recording.open(path))
        if not self._call.attempts:
            raise RecordingError(f"{recording.folder} has no session that could be replayed")
        self._strict = strict
        self._requests = 0
        self._chosen: dict[ServerConnection, Attempt] = {}
        self._sessions: list[ReplaySession] = []
        self._additional: list[Difference] = []

    async def admitted(self, connection: ServerConnection) -> Response | None:
        """Answer an upgrade request as recorded, after as long as in the recording.

        Returns:
            The response if the connection is refused, else `None`. The connection may be closed
            then, because it was not opened in the recording either.
        """
        self._requests += 1
        if self._requests > len(self._call.attempts):
            self._note_additional()
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, f"{_NO_MORE}\n")
        attempt = self._call.attempts[self._requests - 1]
        with suppress(TimeoutError):
            async with asyncio.timeout(attempt.opening_secs):
                await connection.wait_closed()
        if attempt.status is not None:
            return connection.respond(http.HTTPStatus(attempt.status), "Refused\n")
        if not attempt.is_open:
            connection.transport.abort()
            await connection.wait_closed()
        self._chosen[connection] = attempt
        return None

    def begin(
        self, connection: ServerConnection, model: str, on_activity: ActivityHook | None
    ) -> ReplaySession:
        """Return the session that plays the recorded one of an admitted connection."""
        attempt = self._chosen.pop(connection)
        ids = (step.event["session_id"] for step in attempt.steps if "session_id" in step.event)
        record = EmulatedSession(str(next(ids, uuid.uuid4())), model)
        session = ReplaySession(connection, record, attempt, self._call, on_activity)
        self._sessions.append(session)
        return session

    @property
    def differences(self) -> list[Difference]:
        """How what the client has done so far differs from the recording, in its order."""
        found = [one for session in self._sessions for one in session.differences()]
        return [*found, *self._unopened(), *self._additional]

    def check(self) -> None:
        """Log the differences, and raise if there are any and the replay is strict.

        Raises:
            ReplayDifferenceError: See above.
        """
        if not (found := self.differences):
            return
        if self._strict:
            raise ReplayDifferenceError(found)
        for difference in found:
            logger.info("The replay differs from the recording: {}", difference)

    def _unopened(self) -> list[Difference]:
        return [
            Difference(
                "session", attempt.number, "the session was not opened", attempt.line, attempt.t
            )
            for attempt in self._call.attempts[self._requests :]
        ]

    def _note_additional(self) -> None:
        what = f"a session was opened, but {_NO_MORE}"
        self._additional.append(Difference("session", self._requests, what, None, 0.0))
