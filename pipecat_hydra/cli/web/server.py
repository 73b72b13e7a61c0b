"""The web server: listens, runs the emulator if there is no key, and ends all calls at its end."""

import asyncio
import ipaddress
import os
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import uvicorn
from fastapi import FastAPI
from typing_extensions import override

from pipecat_hydra.cli.listening import cannot_listen
from pipecat_hydra.cli.talk.errors import ExitCode, TalkError, without_key
from pipecat_hydra.cli.web.app import About, build_app
from pipecat_hydra.cli.web.calls import Calls
from pipecat_hydra.cli.web.guard import Hosts
from pipecat_hydra.cli.web.options import WebOptions
from pipecat_hydra.cli.web.recordings import Recordings
from pipecat_hydra.cli.web.service import Service, offered_models
from pipecat_hydra.wire.protocol import MODELS

__all__ = ["WebServer", "run"]

_OWN_SCRIPT: Final = Path(__file__).parent / "demo" / "script.yaml"

_MIN_TURN_MS: Final = 450
"""How long the emulator has to hear somebody: longer than a cough (`cli/web/disturbances.py`)."""

_CLOSE_LIMIT_SECS: Final = 2
"""How long requests in flight may still take when the server ends."""

Announce = Callable[[str], None]


async def run(options: WebOptions, announce: Announce) -> None:
    """Serve the page until Ctrl-C or SIGTERM, or until it is cancelled.

    Args:
        options: The address, and the service to talk to.
        announce: Called with each line for the user.

    Raises:
        TalkError: The port is in use, or an option is not valid.
        ScriptError: The emulator's script cannot be used.
    """
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows has none of this: there Ctrl-C ends it as a KeyboardInterrupt.
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with WebServer(options, announce) as server:
        announce(f"Open {server.url} in a browser; Ctrl-C ends it.")
        if not server.is_loopback:
            here = server.url.removeprefix("http://")
            announce(
                "From another machine a browser gives no microphone to a page without https: "
                "put an https proxy in front, whose name --allow-host has to give, or forward the "
                "port, for instance with "
                f"ssh -L {server.port}:{here}, and open http://localhost:{server.port} there. "
                "The sound goes over UDP all the same: the two have to reach each other."
            )
            announce("Whoever reaches this port can call, and nobody is asked who he is.")
        await ended.wait()
    announce("ended")


class WebServer:
    """Serves the page from `__aenter__` to `__aexit__`; no call or task is left after that.

    Attributes:
        calls: The calls in progress.
        recordings: The recorded calls.
        port: The TCP port.
        is_loopback: Whether only this machine can reach it.
    """

    calls: Calls
    recordings: Recordings
    port: int
    is_loopback: bool

    def __init__(self, options: WebOptions, announce: Announce = lambda line: None):
        """Create a server.

        Args:
            options: The address, and the service to talk to.
            announce: Called with each line for the user.
        """
        self._options = options
        self._announce = announce
        self._stack = AsyncExitStack()

    @property
    def url(self) -> str:
        """The URL of the page, for a browser on this machine."""
        host = self._options.host
        with suppress(ValueError):
            address = ipaddress.ip_address(host)
            if address.is_unspecified:
                host = "localhost"
            elif address.version == 6:
                host = f"[{host}]"
        return f"http://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            TalkError: The port is in use, or an option is not valid.
            ScriptError: The emulator's script cannot be used.
        """
        async with AsyncExitStack() as stack:
            hosts = self._known_hosts()
            listener = stack.enter_context(_bind(self._options.host, self._options.port))
            address = listener.getsockname()
            self.port = address[1]
            self.is_loopback = ipaddress.ip_address(address[0].partition("%")[0]).is_loopback
            service = await self._choose_service(stack)
            is_emulated = self._options.api_key is None
            self.recordings = stack.enter_context(Recordings(self._options.record))
            self.calls = Calls(service, self._announce, self.recordings, can_disturb=is_emulated)
            stack.push_async_callback(self.calls.end)
            app = build_app(self.calls, self.recordings, self._about(service), hosts)
            server = _Server(app)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            stack.push_async_callback(_stop, server, serving)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Accept no more calls, and end those in progress."""
        await self._stack.aclose()

    def _known_hosts(self) -> Hosts:
        try:
            return Hosts(self._options.host, self._options.allowed_hosts)
        except ValueError as error:
            raise TalkError(str(error), ExitCode.USAGE) from error

    async def _choose_service(self, stack: AsyncExitStack) -> Service:
        """Start the emulator if there is no key; return the service that the page talks to."""
        options = self._options
        api_key, base_url = options.api_key, options.base_url
        if api_key is None:
            # Imported here, because the emulator loads Silero, which takes time.
            from pipecat_hydra.emulator import EmulatorSettings, HydraEmulator

            hydra = await stack.enter_async_context(
                HydraEmulator(
                    options.script or _OWN_SCRIPT,
                    settings=EmulatorSettings(
                        transcripts=True, record=False, min_turn_ms=_MIN_TURN_MS
                    ),
                )
            )
            api_key, base_url = hydra.api_key, hydra.url
            whom = (
                "the embedded emulator, which answers by "
                f"{options.script or 'a script'} (set SMALLEST_API_KEY for Hydra)"
            )
        else:
            whom = f"Hydra at {base_url}"
        service = Service(
            api_key=api_key,
            base_url=base_url,
            model=options.model,
            voice=options.voice,
            instructions=options.instructions,
        )
        try:
            service.create()
        except ValueError as error:
            raise TalkError(without_key(str(error), api_key), ExitCode.USAGE) from error
        # Not before: a URL that is refused may contain a key.
        self._announce(f"Talking to {whom}.")
        return service

    def _about(self, service: Service) -> About:
        is_emulator = self._options.api_key is None
        model = MODELS.get(service.model)
        return About(
            service="emulator" if is_emulator else "hydra",
            model=service.model,
            voice=service.voice or (model.default_voice if model else None),
            script=("other" if self._options.script else "own") if is_emulator else None,
            instructions=service.instructions,
            models=offered_models(service),
            can_disturb=is_emulator,
        )


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers, because a signal must end the calls too."""

    def __init__(self, app: FastAPI):
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_CLOSE_LIMIT_SECS,
            )
        )

    @override
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def _stop(server: _Server, serving: "asyncio.Task[None]") -> None:
    server.should_exit = True
    await serving


def _bind(host: str, port: int) -> socket.socket:
    """Bind a socket to the address, before anything that takes time.

    Raises:
        TalkError: The address is in use, or this machine does not have it.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise cannot_listen(host, port, error) from error
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name != "nt":  # on Windows it would let two programs use one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # If the other program has set the same option, only this shows that the port is in use.
        listener.listen()
    except OSError as error:
        listener.close()
        raise cannot_listen(host, port, error) from error
    return listener
