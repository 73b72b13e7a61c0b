"""The emulated server: listens on a socket, checks upgrade requests, and serves sessions."""

import asyncio
import errno
import ipaddress
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from loguru import logger
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from pipecat_hydra.emulator.conversation.activity import ActivityHook
from pipecat_hydra.emulator.conversation.ledger import FaultRecord
from pipecat_hydra.emulator.conversation.records import EmulatedSession
from pipecat_hydra.emulator.faults.fault import Fault
from pipecat_hydra.emulator.faults.plan import FaultPlan
from pipecat_hydra.emulator.model.responders import Echo, Responder
from pipecat_hydra.emulator.model.script import Script
from pipecat_hydra.emulator.model.script_file import load_script
from pipecat_hydra.emulator.model.steps import Turn
from pipecat_hydra.emulator.replay import Difference, Replay
from pipecat_hydra.emulator.replay.session import ReplaySession
from pipecat_hydra.emulator.server.arrivals import Arrivals
from pipecat_hydra.emulator.server.session import CLOSE_GRACE_SECS, Session
from pipecat_hydra.emulator.server.upgrade import PATH, Refusal, check, model
from pipecat_hydra.emulator.settings import EmulatorSettings
from pipecat_hydra.emulator.wire.ending import Ending
from pipecat_hydra.emulator.wire.logs import websockets_logger

_MAX_FRAME_BYTES = 16 * 2**20
_CLOSE_TIMEOUT_SECS = 1.0


class EmulatorPortInUseError(OSError):
    """Another program listens on the emulator's port."""


class HydraEmulator:
    """A local server that speaks Hydra's protocol, for tests and for work without an account.

    ::

        async with HydraEmulator() as hydra:
            llm = HydraLLMService(api_key=hydra.api_key, base_url=hydra.url)
            ...
        assert hydra.sessions[0].received_of("session.configure")

    Args:
        responder: Decides what the model says. `"echo"` repeats what the user said. A path
            names a script in YAML (see `pipecat_hydra.emulator.model.script_file`). A sequence
            is the turns of a `Script`. Any other `Responder` may be given too.
        host: Network interface to listen on.
        port: TCP port to listen on; 0 takes any free port.
        api_key: The key that clients must send, in the URL or as a bearer token.
        settings: All other settings.
        faults: What fails on purpose; see `pipecat_hydra.emulator.faults`.
        on_activity: Called for each session that is opened or closed, each event that is
            received or sent, and each fault in a session, as it happens.

    Raises:
        ScriptError: The script cannot be used.
    """

    def __init__(
        self,
        responder: Responder | Sequence[Turn] | Path | str = "echo",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str = "sk-emulator",
        settings: EmulatorSettings | None = None,
        faults: FaultPlan | Sequence[Fault] = (),
        on_activity: ActivityHook | None = None,
    ) -> None:
        self._responder = _to_responder(responder)
        self._host = host
        self._port = port
        self._api_key = api_key
        self._settings = _complete(settings or EmulatorSettings(), self._responder)
        self._on_activity = on_activity
        self._server: Server | None = None
        self._url = ""
        self._served = 0
        self._arrivals = Arrivals(FaultPlan.of(faults), record=self._settings.record)
        self._replay: Replay | None = None
        self._open: dict[str, Session | ReplaySession] = {}
        self._arrival = asyncio.Event()
        self.sessions: list[EmulatedSession] = []
        """Every session that was served, the oldest first, including those refused as full."""

    @classmethod
    def from_recording(
        cls,
        path: Path | str,
        *,
        strict: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str = "sk-emulator",
        on_activity: ActivityHook | None = None,
    ) -> Self:
        """Make an emulator that plays the server's side of a recorded call, with its timing.

        What the client sends is matched by meaning: it may be sent earlier or later than
        recorded, with other ids, and with other silence between the user's words. See
        `pipecat_hydra.emulator.replay` for the rules::

            async with HydraEmulator.from_recording("calls/2026-11-30T21-40-12-3f9a") as hydra:
                llm = HydraLLMService(api_key=hydra.api_key, base_url=hydra.url)
                ...
            assert not hydra.differences

        Args:
            path: The folder of the recording.
            strict: Whether the end of `async with` raises if the client has sent something else
                than was recorded.
            host: Network interface to listen on.
            port: TCP port to listen on; 0 takes any free port.
            api_key: The key that clients must send.
            on_activity: As in `HydraEmulator`.

        Raises:
            RecordingError: There is no recording that can be read, or it has no session.
        """
        emulator = cls(host=host, port=port, api_key=api_key, on_activity=on_activity)
        emulator._replay = Replay(path, strict=strict)
        return emulator

    @property
    def differences(self) -> list[Difference]:
        """How what the client has sent so far differs from the recording that is played.

        Empty for an emulator that plays none.
        """
        return self._replay.differences if self._replay else []

    def __repr__(self) -> str:
        return f"<HydraEmulator {self._url or 'not started'}>"

    @property
    def url(self) -> str:
        """The endpoint without query, to be a client's `base_url`.

        Raises:
            RuntimeError: The emulator was never started.
        """
        if not self._url:
            raise RuntimeError("HydraEmulator has no url yet: use `async with` or `start()`")
        return self._url

    @property
    def api_key(self) -> str:
        """The key that clients must send."""
        return self._api_key

    @property
    def settings(self) -> EmulatorSettings:
        """The settings in force."""
        return self._settings

    @property
    def faults(self) -> FaultPlan:
        """The fault plan. It may be set at any time, and applies to connections from then on.

        Those are counted from 1 again. Connections that are open keep their faults.
        """
        return self._arrivals.plan

    @faults.setter
    def faults(self, faults: FaultPlan | Sequence[Fault]) -> None:
        self._arrivals.plan = FaultPlan.of(faults)

    @property
    def injected(self) -> list[FaultRecord]:
        """Every fault that happened: first those of upgrades, then those of each session."""
        in_sessions = [fault for session in self.sessions for fault in session.injected]
        return self._arrivals.injected + in_sessions

    @property
    def running(self) -> bool:
        """Whether the emulator listens."""
        return self._server is not None

    @property
    def open_sessions(self) -> list[EmulatedSession]:
        """The sessions whose socket is open."""
        return [session for session in self.sessions if not session.closed]

    async def start(self) -> None:
        """Start to listen; `stop` must be called at the end. `async with` does both.

        Raises:
            EmulatorPortInUseError: Another program listens on the port.
            OSError: The socket cannot be opened on the host.
        """
        if self._server is not None:
            raise RuntimeError("HydraEmulator is running already")
        try:
            self._server = await serve(
                self._serve,
                self._host,
                self._port,
                process_request=self._check,
                create_connection=self._arrivals.connection_class(),
                compression=None,
                logger=websockets_logger,
                max_size=_MAX_FRAME_BYTES,
                open_timeout=None,  # a fault may hold the upgrade back for ever
                ping_interval=None,  # no ping from the server is documented (§1, idle)
                close_timeout=_CLOSE_TIMEOUT_SECS,
            )
        except OSError as exception:
            if exception.errno != errno.EADDRINUSE:
                raise
            raise EmulatorPortInUseError(
                exception.errno,
                f"port {self._port} on {self._host} is in use: stop the program that listens "
                "there, or choose another port (0 takes any that is free)",
            ) from None
        host, port = next(iter(self._server.sockets)).getsockname()[:2]
        self._url = f"ws://{_reachable(host)}:{port}{PATH}"

    async def stop(self) -> None:
        """Close all sessions and the socket, and end all tasks. May be called twice."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        self._arrivals.abort(upgraded=False)  # `wait_closed` would wait for them
        try:
            async with asyncio.timeout(CLOSE_GRACE_SECS):
                await server.wait_closed()
        except TimeoutError:
            self._arrivals.abort(upgraded=True)
            await server.wait_closed()

    async def drop(self, how: Ending = "reset") -> list[EmulatedSession]:
        """Drop all open sessions, and wait until they are closed.

        Args:
            how: `"reset"`, `"eof"` or a close code; see `Ending`. A connection that the client
                does not close is aborted after 2 s.

        Returns:
            The sessions that were dropped.

        Raises:
            FaultError: A close code of this number cannot be sent.
        """
        sessions = list(self._open.values())
        for session in sessions:
            session.drop(how)
        for session in sessions:
            await session.record.wait_closed(within=2 * CLOSE_GRACE_SECS)
        return [session.record for session in sessions]

    async def serve_forever(self) -> None:
        """Serve until cancelled, then stop. Starts the emulator if it does not listen yet.

        Raises:
            EmulatorPortInUseError: Another program listens on the port.
        """
        if self._server is None:
            await self.start()
        try:
            await asyncio.Event().wait()
        finally:
            await self.stop()

    async def wait_for_session(self, index: int = 0, *, within: float = 5.0) -> EmulatedSession:
        """Wait until a session is opened, and return it.

        Args:
            index: Number of the session, from 0, counted from the creation of the emulator.
            within: Time limit in seconds.

        Raises:
            TimeoutError: The session was not opened in time.
        """
        async with asyncio.timeout(within):
            while len(self.sessions) <= index:
                self._arrival.clear()
                await self._arrival.wait()
        return self.sessions[index]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()
        if self._replay is not None and exc is None:
            self._replay.check()

    async def _check(self, connection: ServerConnection, request: Request) -> Response | None:
        """Accept or reject an upgrade request (§1), or let it fail on purpose."""
        if (refused := await self._arrivals.admitted(connection)) is not None:
            return refused
        refusal = check(
            request,
            api_key=self._api_key,
            allowed_origins=self._settings.allowed_origins,
            redirect_status=self._settings.redirect_status,
        )
        if refusal is not None:
            return _refuse(connection, refusal)
        return None if self._replay is None else await self._replay.admitted(connection)

    async def _serve(self, websocket: ServerConnection) -> None:
        assert websocket.request is not None
        settings = self._settings
        name = model(websocket.request)
        if self._replay is not None:
            await self._serve_replay(self._replay.begin(websocket, name, self._on_activity))
            return
        record = EmulatedSession(str(uuid.uuid4()), name, record=settings.record)
        full = settings.max_sessions is not None and self._served >= settings.max_sessions
        session = Session(
            websocket,
            record,
            self._responder.begin(),
            settings,
            self._on_activity,
            self._arrivals.faults(websocket),
        )
        self.sessions.append(record)
        self._arrival.set()
        self._open[record.id] = session
        try:
            if full:
                await session.refuse()
                return
            self._served += 1
            try:
                await session.run()
            finally:
                self._served -= 1
        finally:
            del self._open[record.id]
            if not settings.record:
                self.sessions.remove(record)

    async def _serve_replay(self, session: ReplaySession) -> None:
        self.sessions.append(session.record)
        self._arrival.set()
        self._open[session.record.id] = session
        try:
            await session.run()
        finally:
            del self._open[session.record.id]


def _refuse(connection: ServerConnection, refusal: Refusal) -> Response:
    # Nothing of the request is logged: a key may be anywhere in it.
    status, reason = refusal.status, refusal.reason
    text = f"{reason}. {refusal.advice}" if refusal.advice else reason
    logger.warning("The emulator refused a connection with HTTP {}: {}", status.value, text)
    response = connection.respond(status, f"{text}\n")
    if refusal.location is not None:
        response.headers["Location"] = refusal.location
    return response


def _reachable(host: str) -> str:
    """Return the address for a client's URL, given the one that the server listens on."""
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        address = ipaddress.ip_address("::1" if address.version == 6 else "127.0.0.1")
    return f"[{address}]" if address.version == 6 else str(address)


def _to_responder(
    responder: Responder | Sequence[Turn] | Path | str,
) -> Responder:
    if responder == "echo":
        return Echo()
    if isinstance(responder, str | Path):
        return load_script(responder)
    if isinstance(responder, Sequence):
        return Script(responder)
    return responder


def _complete(settings: EmulatorSettings, responder: Responder) -> EmulatorSettings:
    """Return the settings with those filled in that depend on the responder."""
    if settings.transcripts is not None:
        return settings
    return replace(
        settings, transcripts=isinstance(responder, Script) and responder.has_transcripts
    )
