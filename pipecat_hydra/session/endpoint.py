"""Where and how to connect to Hydra: URL, proxy, TLS, and where the key goes (protocol §1)."""

from dataclasses import dataclass, field
from ipaddress import ip_address
from ssl import SSLContext
from typing import Final, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import SecretStr
from websockets.proxy import get_proxy
from websockets.uri import parse_uri

from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.session.failures import HydraConnectionError

__all__ = ["PROXY_OF_ENVIRONMENT", "AuthStyle", "Endpoint", "proxy_host"]

AuthStyle = Literal["query", "header"]
"""Where the key goes: `api_key` in the URL's query, or an `Authorization` header."""

PROXY_OF_ENVIRONMENT: Final = "environment"
"""Stands for the proxy that the environment names, for instance in `HTTPS_PROXY`."""

_PROXY_SCHEMES: Final = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


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
            message = f"base_url must be a ws:// or wss:// URL, not {parts.scheme or 'nothing'}://"
            raise ValueError(message)
        keys = {"api_key", "model"} & dict(parse_qsl(parts.query)).keys()
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
    def insecure_host(self) -> str | None:
        """The host, if it is reached unencrypted over a network; else None."""
        parts = urlsplit(self.base_url)
        return None if parts.scheme == "wss" or self._is_loopback else parts.hostname

    @property
    def _is_loopback(self) -> bool:
        name = (urlsplit(self.base_url).hostname or "").rstrip(".")
        if name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            return ip_address(name).is_loopback
        except ValueError:
            return False

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
        return None if self._is_loopback else get_proxy(parse_uri(self.base_url))

    def url(self) -> str:
        """Return the URL to connect to, with the key if it goes there. Never log it."""
        parts = urlsplit(self.base_url)
        query = [*parse_qsl(parts.query, keep_blank_values=True), ("model", self.model)]
        if self.auth == "query":
            query.append(("api_key", self.api_key.get_secret_value()))
        return urlunsplit(parts._replace(query=urlencode(query)))

    def headers(self) -> dict[str, str]:
        """Return the headers to add. Never log them."""
        if self.auth == "query":
            return {}
        return {"Authorization": f"Bearer {self.api_key.get_secret_value()}"}


def proxy_host(proxy: str | None) -> str | None:
    """Host and port of a proxy, which may be shown; None if the URL is not that of a proxy."""
    try:
        parts = urlsplit(proxy or "")
        if parts.scheme not in _PROXY_SCHEMES or not parts.hostname:
            return None
        return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    except ValueError:
        return None
