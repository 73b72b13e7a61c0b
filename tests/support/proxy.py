"""A proxy that carries connections to a server, as HTTP's CONNECT asks for."""

import asyncio
from contextlib import closing, suppress
from types import TracebackType
from typing import Self


class ConnectProxy:
    """Answers CONNECT by a status; if that is 200, carries the connection to a port of ours.

    It takes no notice of the host that it is asked for, so that any name leads to the port.
    """

    def __init__(self, port: int, *, status: int = 200):
        self._port = port
        self._status = status
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()
        self.asked: list[str] = []
        """The heads of the requests that came."""

    @property
    def host(self) -> str:
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

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
        self._carrying.add(asyncio.create_task(self._serve(client, to_client)))

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        with closing(to_client), suppress(ConnectionError, asyncio.IncompleteReadError):
            self.asked.append((await client.readuntil(b"\r\n\r\n")).decode())
            to_client.write(f"HTTP/1.1 {self._status} Answer\r\n\r\n".encode())
            if self._status != 200:
                await to_client.drain()
                return
            server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
            with closing(to_server):
                await asyncio.gather(_carry(client, to_server), _carry(server, to_client))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()
