"""Where Hydra is and how a client is let in: the URL, the model and the key (protocol §1)."""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import SecretStr

from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.session.failures import HydraConnectionError

__all__ = ["AuthStyle", "Endpoint"]

AuthStyle = Literal["query", "header"]
"""Where the key goes: `api_key` in the URL's query, or an `Authorization` header."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where Hydra is and how to be let in.

    Parameters:
        base_url: The endpoint, `ws://` or `wss://`, without the key.
        model: Value of the `model` query parameter.
        api_key: The key.
        auth: Where the key goes.
    """

    base_url: str
    model: str
    api_key: SecretStr
    auth: AuthStyle = "query"

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
        host = parts.hostname or ""
        name = host.rstrip(".")
        if parts.scheme == "wss" or name == "localhost" or name.endswith(".localhost"):
            return None
        try:
            return None if ip_address(name).is_loopback else host
        except ValueError:
            return host

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
