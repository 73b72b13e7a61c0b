"""Where and how to connect to Hydra: URL, proxy, TLS, and where the key goes (protocol §1)."""

from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from ssl import SSLContext
from typing import TYPE_CHECKING, Final, Literal, Self
from urllib.parse import (
    SplitResult,
    parse_qsl,
    quote,
    quote_plus,
    urlencode,
    urljoin,
    urlsplit,
    urlunsplit,
)

from pydantic import SecretStr
from websockets.uri import parse_uri

from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.session.failures import HydraConnectionError
from pipecat_hydra.wire.protocol import DEFAULT_BASE_URL

if TYPE_CHECKING:
    from websockets.proxy import get_proxy
else:
    try:
        from websockets.proxy import get_proxy
    except ImportError:
        # Up to websockets 15, which Pipecat's debuggers ask for.
        from websockets.uri import get_proxy

__all__ = ["PROXY_OF_ENVIRONMENT", "AuthStyle", "Endpoint", "proxy_host"]

AuthStyle = Literal["query", "header"]
"""Where the key goes: `api_key` in the URL's query, or an `Authorization` header."""

PROXY_OF_ENVIRONMENT: Final = "environment"
"""Stands for the proxy that the environment names, for instance in `HTTPS_PROXY`."""

_PROXY_SCHEMES: Final = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")

_WEBSOCKET_SCHEMES: Final = {"http": "ws", "https": "wss"}

# What the query says of the session, from arguments of their own.
_ARGUMENTS: Final = frozenset({"api_key", "model"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how to connect to Hydra.

    Parameters:
        base_url: The endpoint, `ws://` or `wss://`, without the key.
        model: Value of the `model` query parameter.
        api_key: The key.
        auth: Where the key goes.
        ssl: What certificates are trusted, for `wss://`; Python's default if None.
        proxy: URL of the proxy to go through, None for none, or `PROXY_OF_ENVIRONMENT`.
    """

    base_url: str
    model: str
    api_key: SecretStr
    auth: AuthStyle = "query"
    ssl: SSLContext | None = field(default=None, repr=False)
    # Its URL may hold a password.
    proxy: str | None = field(default=PROXY_OF_ENVIRONMENT, repr=False)

    def __post_init__(self) -> None:
        """Check the URL and the key.

        Raises:
            ValueError: If it is no WebSocket URL, or carries a key.
            HydraConnectionError: If the key holds a control character, as no key does.
        """
        try:
            parts = urlsplit(self.base_url)
            _ = parts.port
        except ValueError:
            # Its text quotes the URL.
            raise ValueError("base_url is malformed: check its host and port") from None
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ValueError(f"base_url must be a ws:// or wss:// URL{_suggestion(self.base_url)}")
        keys = _ARGUMENTS & dict(parse_qsl(parts.query)).keys()
        if keys or parts.username is not None:
            raise ValueError("base_url must not carry the key or the model: pass them as arguments")
        if self.proxy not in (None, PROXY_OF_ENVIRONMENT) and proxy_host(self.proxy) is None:
            schemes = ", ".join(_PROXY_SCHEMES)
            message = f"proxy must be a URL ({schemes}), None, or {PROXY_OF_ENVIRONMENT!r}"
            raise ValueError(message)
        if not self.api_key.get_secret_value().isprintable():
            # The last line break of a file, for instance; in a header it would begin another.
            message = "the API key holds a line break or another control character"
            raise HydraConnectionError(FailureKind.AUTHENTICATION, message)

    @property
    def host(self) -> str:
        """Host and port, which may be shown."""
        return urlsplit(self.base_url).netloc

    @property
    def hostname(self) -> str:
        """The host alone, in lower case."""
        return urlsplit(self.base_url).hostname or ""

    @property
    def port(self) -> int:
        """The port, also if the URL leaves it out."""
        return _port(urlsplit(self.base_url))

    @property
    def insecure_host(self) -> str | None:
        """The host, if it is reached unencrypted over a network; else None."""
        encrypted = urlsplit(self.base_url).scheme == "wss"
        return None if encrypted or self._is_this_machine else self.hostname

    @property
    def _is_this_machine(self) -> bool:
        return _is_this_machine(self.hostname)

    @property
    def tls(self) -> SSLContext | None:
        """What certificates are trusted, if it is not Python's default and TLS is used."""
        return self.ssl if urlsplit(self.base_url).scheme == "wss" else None

    def proxy_url(self) -> str | None:
        """The proxy to go through, maybe with a password; None for none.

        A proxy that the environment names is not used for an endpoint on this machine, such as
        the emulator, even if `NO_PROXY` does not except this machine.
        """
        if self.proxy != PROXY_OF_ENVIRONMENT:
            return self.proxy
        return None if self._is_this_machine else get_proxy(parse_uri(self.base_url))

    def url(self) -> str:
        """Return the URL to connect to, with the key if it goes there. Never log it."""
        parts = urlsplit(self.base_url)
        query = [*parse_qsl(parts.query, keep_blank_values=True), ("model", self.model)]
        if self.auth == "query":
            query.append(("api_key", self.api_key.get_secret_value()))
        return urlunsplit(parts._replace(query=urlencode(query)))

    def without_key(self, text: str) -> str:
        """Mask the key in a text, as it is and as it stands in a URL."""
        key = self.api_key.get_secret_value()
        for written in sorted({key, quote(key, safe=""), quote_plus(key)} - {""}, key=len):
            text = text.replace(written, "[REDACTED]")
        return text

    def redirected(self, location: str, status: int) -> Self:
        """Return the endpoint that a redirect leads to, with this one's key and model.

        Args:
            location: What the server says, relative to the URL or not.
            status: The HTTP status that the server says it with, for the message.

        Raises:
            HydraConnectionError: If it is not on the same host and port, or without TLS where
                this one has TLS: whoever is there must not get the key.
        """
        here, there = urlsplit(self.base_url), self._resolved(location)
        redirects = f"Hydra at {self.host} redirects (HTTP {status})"
        if there is None:
            message = f"{redirects} to a malformed URL. Check base_url"
            raise HydraConnectionError(FailureKind.CONFIGURATION, message)
        if (there.scheme, there.hostname, _port(there)) != (here.scheme, self.hostname, self.port):
            address = f"{there.scheme}://{there.netloc.rpartition('@')[2]}"[:120]
            message = (
                f"{redirects} to {address!r}, which does not get the API key. If you trust it, "
                "make it the base_url"
            )
            raise HydraConnectionError(FailureKind.CONFIGURATION, message)
        query = parse_qsl(there.query, keep_blank_values=True)
        kept = urlencode([(name, value) for name, value in query if name not in _ARGUMENTS])
        moved = here._replace(path=there.path, query=kept)
        return replace(self, base_url=urlunsplit(moved))

    def _resolved(self, location: str) -> SplitResult | None:
        """The URL that a redirect leads to, as a WebSocket's; None if it is malformed."""
        try:
            there = urlsplit(urljoin(self.base_url, location))
            _ = there.port
        except ValueError:
            # Its text quotes the URL.
            return None
        return there._replace(scheme=_WEBSOCKET_SCHEMES.get(there.scheme, there.scheme))

    def headers(self) -> dict[str, str]:
        """Return the headers to add. Never log them."""
        if self.auth == "query":
            return {}
        return {"Authorization": f"Bearer {self.api_key.get_secret_value()}"}


def _suggestion(base_url: str) -> str:
    """Return what to write instead of a URL without a WebSocket's scheme, for a message.

    Only an address that is one for certain is repeated: anything else may be the key, which was
    given in the wrong place.
    """
    example = f", such as {DEFAULT_BASE_URL}"
    scheme, separator, rest = base_url.partition("://")
    try:
        parts = urlsplit(f"//{rest if separator else base_url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return example
    is_address = scheme in _WEBSOCKET_SCHEMES if separator else port is not None
    if not host or parts.username is not None or not is_address:
        return example
    name = f"[{host}]" if ":" in host else host
    address = name if port is None else f"{name}:{port}"
    encrypted = scheme == "https" if separator else not _is_this_machine(host)
    path = parts.path.rstrip("/") or urlsplit(DEFAULT_BASE_URL).path
    return f": write {'wss' if encrypted else 'ws'}://{address}{path}"


def _is_this_machine(hostname: str) -> bool:
    name = hostname.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    # Who connects to 0.0.0.0, where a server listens, gets this machine.
    return address.is_loopback or address.is_unspecified


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "wss" else 80)


def proxy_host(proxy: str | None) -> str | None:
    """Host and port of a proxy, which may be shown; None if the URL is not that of a proxy."""
    try:
        parts = urlsplit(proxy or "")
        if parts.scheme not in _PROXY_SCHEMES or not parts.hostname:
            return None
        return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    except ValueError:
        return None
