"""Decides which HTTP requests the page's server refuses: by host name, origin and size.

A page of another site must not use the key, and a browser sends requests for any page. Two headers
that no page can change tell such requests from those of the server's own page:

- `Host` is the name in the address bar. A site can let its own name point to this machine (DNS
  rebinding) and is then of the same origin as the server. So a request may only use a name that no
  other site has: an IP address, localhost, a name of this machine, or one that `--allow-host` has.
- `Origin` is the page that sends the request. It must be of the same host as the request.

A request for a file has no body, and an offer is a few kilobytes. Larger bodies are refused before
they fill the memory.
"""

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from fastapi import HTTPException, Request
from fastapi.responses import PlainTextResponse

__all__ = ["BodyLimit", "Hosts"]

_MOST_BODY_BYTES: Final = 256 * 1024

_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]


class Hosts:
    """Knows the host names that requests may use."""

    def __init__(self, listens_on: str, allowed: Collection[str] = ()):
        """Collect the names.

        Args:
            listens_on: Address or name that the server listens on.
            allowed: More names, as `--allow-host` has them.

        Raises:
            ValueError: One of `allowed` is not a host name.
        """
        self._allowed = {_checked(name) for name in allowed}
        self._names = {"localhost", listens_on.lower(), *_own_names(), *self._allowed}

    def refusal(self, request: Request) -> str | None:
        """Return why a request is refused, as text for the user; None if it is not."""
        # Not the host of `request.url`: if the header is odd, that is the server's own address.
        host = _host_name(request.headers.get("host", ""))
        if not self._may_use(host):
            return (
                f"This server does not know the name {host!r}. Open the address that the server "
                f"has printed, or start it with --allow-host {host}."
            )
        if not self._is_same_origin(request):
            return (
                "Pages of other sites may not call here. If the page comes through a proxy, start "
                "the server with --allow-host and the name in the address bar."
            )
        return None

    def _may_use(self, host: str) -> bool:
        return host in self._names or _is_address(host)

    def _is_same_origin(self, request: Request) -> bool:
        """Return whether a request comes from a page of this server, or not from a page."""
        origin = request.headers.get("origin")
        if origin is None:
            return True
        page = origin.partition("://")[2]
        if page == request.headers.get("host"):
            return True
        # A proxy may change the host. This header is set by the browser, and no page can change it.
        if request.headers.get("sec-fetch-site") == "same-origin":
            return True
        return _host_name(page) in self._allowed


class BodyLimit:
    """ASGI middleware that answers requests with too large a body by status 413."""

    def __init__(self, app: Callable[[_Message, _Receive, _Send], Awaitable[None]]):
        """Wrap an application.

        Args:
            app: The application. If it reads a body that is too large, the reading raises
                `HTTPException`.
        """
        self._app = app

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Serve a request whose body is not too large."""
        announced = dict(scope.get("headers", ())).get(b"content-length", b"0")
        # If it is not announced, or wrongly, it is counted.
        if announced.isdigit() and int(announced) > _MOST_BODY_BYTES:
            await PlainTextResponse(_too_large().detail, 413)(scope, receive, send)
            return
        taken, is_answered = 0, False

        async def count() -> _Message:
            nonlocal taken
            message = await receive()
            size = len(message.get("body", b""))
            taken += size
            if size and taken > _MOST_BODY_BYTES:
                if not is_answered:
                    raise _too_large()
                # The answer needs no body. Who has it waits only for the client to go.
                message = {**message, "body": b""}
            return message

        async def answer(message: _Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        await self._app(scope, count, answer)


def _too_large() -> HTTPException:
    kilobytes = _MOST_BODY_BYTES // 1024
    return HTTPException(413, f"The request is too large: at most {kilobytes} kB are taken.")


def _own_names() -> set[str]:
    """Return the names of this machine that can be told without asking the network."""
    name = socket.gethostname().lower()
    short = name.partition(".")[0]
    return {name, short, f"{short}.local"} - {"", ".local"}


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _host_name(authority: str) -> str:
    """Return the host of a host with port, in small letters; empty if it has none.

    A name with all its domains may end in a dot, which is left out.
    """
    try:
        return (urlsplit(f"//{authority}").hostname or "").removesuffix(".")
    except ValueError:
        return ""


def _checked(name: str) -> str:
    """Return a host name as browsers write it.

    Raises:
        ValueError: It is not a host name.
    """
    try:
        written = name.lower().removesuffix(".").encode("idna").decode()
    except ValueError:
        written = ""
    if written and "*" not in written and _host_name(written) == written:
        return written
    raise ValueError(
        f"--allow-host takes a host name such as bot.example.org, without port, not {name!r}"
    )
