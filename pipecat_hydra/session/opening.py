"""Opens a WebSocket to Hydra: the way through the network, redirects, and one time limit for all.

A host may have several addresses, and some may be dead: IPv6 that leads nowhere, a server that
is gone. So the addresses are tried at short intervals, side by side, and the first that answers
is used ("happy eyeballs", RFC 8305). The event loop is not asked to do it, because uvloop cannot.
A proxy is reached at the first of its addresses.

A redirect is followed if it stays on the same host and port and keeps TLS. Any other redirect is
refused, so that the key and the call reach no other host.

The key travels in the URL's query by default, and libraries log URLs. So nothing in here logs
the URL, the WebSocket library gets a logger that is silent below INFO, and each failure becomes
a `HydraConnectionError` (failures.py), which carries neither the library's exception nor its URL.

Protocol: §1.
"""

import asyncio
import errno
import logging
import socket
from ipaddress import ip_address
from typing import Any, Final, cast

from aiohappyeyeballs import start_connection  # pyright: ignore[reportUnknownVariableType]
from loguru import logger
from typing_extensions import override
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidProxy, InvalidStatus

from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.session.direct_connection import DirectConnection
from pipecat_hydra.session.endpoint import Endpoint, proxy_host
from pipecat_hydra.session.failures import HydraConnectionError, describe_failure
from pipecat_hydra.session.time_limits import time_limit

__all__ = ["open_connection"]

# How long an address may stay silent until the next one is tried too (RFC 8305 §5).
_NEXT_ADDRESS_SECS: Final = 0.25

_REDIRECTS: Final = (301, 302, 303, 307, 308)
_MAX_REDIRECTS: Final = 5

_hosts_warned_about: set[str] = set()

_library_logger = logging.getLogger("pipecat_hydra.session.opening.library")
# The library logs the request line and the headers at DEBUG, and with them the key.
_library_logger.setLevel(logging.INFO)
_library_logger.addFilter(lambda record: record.levelno >= logging.INFO)


class _Connect(connect):
    """Leaves redirects to this module: the library follows them to other hosts."""

    @override
    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def open_connection(
    endpoint: Endpoint, *, timeout_secs: float, **options: Any
) -> DirectConnection:
    """Connect and authenticate.

    Args:
        endpoint: Where to, and with which key.
        timeout_secs: For DNS, TCP, TLS and the upgrade together, in seconds in which the
            event loop runs.
        options: More arguments for `websockets.connect`.

    Raises:
        HydraConnectionError: If no connection could be made.
    """
    _warn_if_insecure(endpoint)
    try:
        async with time_limit(timeout_secs):
            return await _follow_redirects(endpoint, options)
    except HydraConnectionError as error:
        failure = error
    except Exception as error:
        # Any exception: for instance, a package that a proxy needs may be missing.
        proxy = proxy_host(endpoint.proxy_url())
        failure = describe_failure(
            error,
            endpoint.host,
            timeout_secs,
            proxy,
            model=endpoint.model,
            mask=endpoint.without_key,
        )
    # Raised out here, so that the library's exception is not even its context.
    raise failure


async def _follow_redirects(endpoint: Endpoint, options: dict[str, Any]) -> DirectConnection:
    for _ in range(_MAX_REDIRECTS + 1):
        try:
            return await _connect(endpoint, options)
        except InvalidStatus as error:
            status = error.response.status_code
            location = next(iter(error.response.headers.get_all("Location")), None)
            if location is None or status not in _REDIRECTS:
                raise
        endpoint = endpoint.redirected(location, status)
    message = f"Hydra at {endpoint.host} redirects more than {_MAX_REDIRECTS} times. Check base_url"
    raise HydraConnectionError(FailureKind.CONFIGURATION, message)


async def _connect(endpoint: Endpoint, options: dict[str, Any]) -> DirectConnection:
    proxy = endpoint.proxy_url()
    if proxy is not None and proxy_host(proxy) is None:
        # The library finds only some of these, and fails in other ways on the others.
        raise InvalidProxy(proxy, "it is no URL of a proxy")
    # Of `ws://` the library takes no context, not even None.
    more: dict[str, Any] = {} if endpoint.tls is None else {"ssl": endpoint.tls}
    if proxy is None and not _is_address(endpoint.hostname):
        more["sock"] = await _first_to_answer(endpoint.hostname, endpoint.port)
    try:
        connecting = _Connect(
            endpoint.url(),
            additional_headers=endpoint.headers(),
            # Deflating base64 audio costs four times what all else does.
            compression=None,
            open_timeout=None,
            logger=_library_logger,
            proxy=proxy,
            create_connection=DirectConnection,
            **more,
            **options,
        )
    except Exception:
        if "sock" in more:
            more["sock"].close()
        raise
    # From here on the socket is the library's.
    return cast(DirectConnection, await connecting)


async def _first_to_answer(host: str, port: int) -> socket.socket:
    """Connect to that address of a host which answers first, preferring the earlier ones."""
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    try:
        return await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECS)
    except OSError as error:
        if error.errno is not None:
            raise
        # Each address failed in another way. The text has the ways, and no URL.
        raise OSError(errno.EHOSTUNREACH, str(error)) from error


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _warn_if_insecure(endpoint: Endpoint) -> None:
    """Warn of an unencrypted connection over a network, once for each host."""
    host = endpoint.insecure_host
    if host is None or host in _hosts_warned_about:
        return
    _hosts_warned_about.add(host)
    logger.warning(
        f"Hydra: the connection to {host} is not encrypted: whoever is on the way can read the "
        "API key and hear the call. Use wss://"
    )
