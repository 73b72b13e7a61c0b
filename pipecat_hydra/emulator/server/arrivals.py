"""Tracks connections from when TCP accepts them, and applies the faults of the upgrade."""

import asyncio
import http
from contextlib import suppress

from loguru import logger
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Response
from websockets.protocol import State

from pipecat_hydra.emulator.conversation.ledger import FaultRecord
from pipecat_hydra.emulator.faults.fault import Fault
from pipecat_hydra.emulator.faults.kinds import Drop, Hang, Refuse
from pipecat_hydra.emulator.faults.plan import ConnectionFaults, FaultPlan
from pipecat_hydra.emulator.wire.ending import end

_CLOSE_GRACE_SECS = 2.0


class Arrivals:
    """Tracks all open TCP connections, and chooses the faults of each.

    Args:
        plan: The fault plan.
        record: Whether to record the faults that happen.
    """

    def __init__(self, plan: FaultPlan, *, record: bool) -> None:
        self.injected: list[FaultRecord] = []
        """Every fault that happened in the upgrade of a connection, in order."""
        self._plan = plan
        self._record = record
        self._requests = 0
        self._connections: dict[ServerConnection, ConnectionFaults | None] = {}

    @property
    def plan(self) -> FaultPlan:
        """The fault plan; setting a new one counts connections from 1 again."""
        return self._plan

    @plan.setter
    def plan(self, plan: FaultPlan) -> None:
        self._plan = plan
        self._requests = 0

    def faults(self, connection: ServerConnection) -> ConnectionFaults:
        """Return the faults of an open connection that was `admitted`."""
        chosen = self._connections[connection]
        assert chosen is not None
        return chosen

    def connection_class(self) -> type[ServerConnection]:
        """Return a connection class whose instances are tracked here while they are open."""
        connections = self._connections

        class Tracked(ServerConnection):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                connections[self] = None

            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                connections.pop(self, None)

        return Tracked

    async def admitted(self, connection: ServerConnection) -> Response | None:
        """Choose the faults of a connection that asks for its upgrade, and apply them.

        Returns:
            The response if the connection is refused, else `None`. The connection may be closed
            then, if a fault dropped it.
        """
        self._requests += 1
        chosen = self._plan.connection(self._requests)
        if connection in self._connections:  # it may be closed already
            self._connections[connection] = chosen
        for fault in chosen.faults:
            if connection.state is not State.CONNECTING:
                break
            match fault:
                case Hang(at="upgrade"):
                    self._note(chosen, fault)
                    await _wait_closed(connection, fault.secs)
                case Drop(during="upgrade"):
                    await _wait_closed(connection, fault.secs)
                    self._note(chosen, fault)
                    await _drop(connection, fault)
                case Refuse():
                    self._note(chosen, fault)
                    return _refuse(connection, fault)
                case _:
                    pass
        return None

    def abort(self, *, upgraded: bool) -> None:
        """Abort the open connections whose upgrade was not answered yet.

        Args:
            upgraded: Abort those whose upgrade was answered too.
        """
        for connection in self._connections:
            if upgraded or connection.state is State.CONNECTING:
                connection.transport.abort()

    def _note(self, chosen: ConnectionFaults, fault: Fault) -> None:
        logger.info("The emulator lets connection {} fail: {}", chosen.number, fault)
        if self._record:
            self.injected.append(FaultRecord(0.0, chosen.number, fault))


async def _wait_closed(connection: ServerConnection, secs: float | None) -> None:
    """Wait until a connection is closed, at most so many seconds; `None` for no limit."""
    with suppress(TimeoutError):
        async with asyncio.timeout(secs):
            await connection.wait_closed()


async def _drop(connection: ServerConnection, fault: Drop) -> None:
    await end(connection, fault.how)
    await _wait_closed(connection, _CLOSE_GRACE_SECS)
    connection.transport.abort()
    await connection.wait_closed()


def _refuse(connection: ServerConnection, fault: Refuse) -> Response:
    response = connection.respond(http.HTTPStatus(fault.status), "Refused\n")
    if fault.retry_after is not None:
        response.headers["Retry-After"] = str(fault.retry_after)
    return response
