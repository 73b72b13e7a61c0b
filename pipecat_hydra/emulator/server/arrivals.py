"""Connections from when TCP accepts them, and what goes wrong before they are sessions."""

import asyncio
import http
from contextlib import suppress

from loguru import logger
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Response
from websockets.protocol import State

from pipecat_hydra.emulator.conversation.ledger import FaultRecord
from pipecat_hydra.emulator.faults.injection import ConnectionFaults
from pipecat_hydra.emulator.faults.kinds import Drop, Fault, Hang, Refuse
from pipecat_hydra.emulator.faults.plan import FaultPlan
from pipecat_hydra.emulator.wire.ending import end

_CLOSE_GRACE_SECS = 2.0


class Arrivals:
    """Knows every open TCP connection, and gives each its faults.

    Args:
        plan: The faults.
        record: Whether to keep what happens.
    """

    def __init__(self, plan: FaultPlan, *, record: bool) -> None:
        self.injected: list[FaultRecord] = []
        """Every fault that happened here, in order."""
        self._plan = plan
        self._record = record
        self._requests = 0
        self._connections: dict[ServerConnection, ConnectionFaults | None] = {}

    @property
    def plan(self) -> FaultPlan:
        """The faults; those of a new plan are for connections counted from 1 again."""
        return self._plan

    @plan.setter
    def plan(self, plan: FaultPlan) -> None:
        self._plan = plan
        self._requests = 0

    def faults(self, connection: ServerConnection) -> ConnectionFaults:
        """Return what a connection has that was `admitted` and is open."""
        chosen = self._connections[connection]
        assert chosen is not None
        return chosen

    def connection_class(self) -> type[ServerConnection]:
        """Return a class whose instances are known here from when TCP accepts them."""
        connections = self._connections

        class Known(ServerConnection):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                connections[self] = None

            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                connections.pop(self, None)

        return Known

    async def admitted(self, connection: ServerConnection) -> Response | None:
        """Let go wrong what is to, for a connection that asks for its upgrade.

        Returns:
            The answer, if it is refused; a connection that was dropped is closed.
        """
        self._requests += 1
        chosen = self._plan.connection(self._requests)
        if connection in self._connections:  # else it went as soon as it had asked
            self._connections[connection] = chosen
        for fault in chosen.faults:
            if connection.state is not State.CONNECTING:
                break
            match fault:
                case Hang(at="upgrade"):
                    self._note(chosen, fault)
                    await _gone(connection, fault.secs)
                case Drop(during="upgrade"):
                    await _gone(connection, fault.secs)
                    self._note(chosen, fault)
                    await _drop(connection, fault)
                case Refuse():
                    self._note(chosen, fault)
                    return _refuse(connection, fault)
                case _:
                    pass
        return None

    def abort(self, *, upgraded: bool) -> None:
        """Abort the connections that are open.

        Args:
            upgraded: Also those whose upgrade was answered.
        """
        for connection in self._connections:
            if upgraded or connection.state is State.CONNECTING:
                connection.transport.abort()

    def _note(self, chosen: ConnectionFaults, fault: Fault) -> None:
        logger.info("The emulator lets connection {} fail: {}", chosen.number, fault)
        if self._record:
            self.injected.append(FaultRecord(0.0, chosen.number, fault))


async def _gone(connection: ServerConnection, secs: float | None) -> None:
    """Wait until a connection is closed, so many seconds at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(secs):
            await connection.wait_closed()


async def _drop(connection: ServerConnection, fault: Drop) -> None:
    await end(connection, fault.how)
    await _gone(connection, _CLOSE_GRACE_SECS)
    connection.transport.abort()
    await connection.wait_closed()


def _refuse(connection: ServerConnection, fault: Refuse) -> Response:
    response = connection.respond(http.HTTPStatus(fault.status), "Refused\n")
    if fault.retry_after is not None:
        response.headers["Retry-After"] = str(fault.retry_after)
    return response
