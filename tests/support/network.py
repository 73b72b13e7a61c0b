"""A network that can go away without a word, and addresses that lead nowhere."""

import asyncio
import socket
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import pytest


class HalfOpen:
    """Carries connections to a server; what it forgets is still open, and carries nothing."""

    def __init__(self, url: str):
        self._parts = urlsplit(url)
        self._era = 0
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return self._parts._replace(netloc=f"127.0.0.1:{port}").geturl()

    def go_away(self) -> None:
        """Carry nothing more of the connections that there are; new ones are carried."""
        self._era += 1

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    def _connect(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self._carrying.add(asyncio.create_task(self._join(client, to_client)))

    async def _join(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection("127.0.0.1", self._parts.port)
        with closing(to_client), closing(to_server):
            await asyncio.gather(
                self._carry(client, to_server, self._era), self._carry(server, to_client, self._era)
            )

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, era: int
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                if self._era == era:
                    writer.write(data)


@contextmanager
def dead_address() -> Generator[tuple[str, int]]:
    """An address that never answers: its queue of new connections is full, and nobody takes one."""
    with socket.socket() as listening, socket.socket() as waiting:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address: tuple[str, int] = listening.getsockname()
        waiting.connect(address)
        yield address


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Have the running event loop find these addresses for every name."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", a) for a in addresses]

    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    async def getaddrinfo(host: str, *args: Any, **kwargs: Any) -> list[Any]:
        # uvloop asks also for each address that it connects to.
        is_address = any(host == address for address, _ in addresses)
        return await resolve(host, *args, **kwargs) if is_address else found

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
