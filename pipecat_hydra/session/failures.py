"""Describes failures of a connection: what each means, in words for a person.

Each refusal, error and close becomes a `HydraConnectionError` with a `FailureKind`, which
says whether trying again is of use, and with a message that names the cause. The error
carries neither the WebSocket library's exception nor its URL, which may hold the key.

Protocol: §1.
"""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from websockets.exceptions import (
    InvalidHandshake,
    InvalidProxy,
    InvalidProxyStatus,
    InvalidStatus,
    ProxyError,
)
from websockets.frames import CloseCode
from websockets.http11 import Response

from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.wire.protocol import CLOSE_AT_CAPACITY, CLOSE_NORMAL

__all__ = ["HydraConnectionError", "describe_close", "describe_failure"]

# A longer wait is either a mistake or of no use to a call.
_MAX_RETRY_AFTER_SECS: Final = 3600.0

# Of a longer text, the beginning says what is wrong.
_MAX_QUOTED_CHARS: Final = 120

_CLOSINGS: Final = {
    CLOSE_NORMAL: (FailureKind.ENDED, "ended the session"),
    CloseCode.GOING_AWAY: (FailureKind.CONNECTIVITY, "is going away"),
    CloseCode.INTERNAL_ERROR: (FailureKind.SERVER, "failed"),
    CloseCode.SERVICE_RESTART: (FailureKind.SERVER, "is being restarted"),
    CLOSE_AT_CAPACITY: (FailureKind.CAPACITY, "has no room at the moment"),
}


class HydraConnectionError(Exception):
    """No connection to Hydra could be made, or it broke.

    Attributes:
        kind: Why.
        message: For a person; holds neither the key nor the URL's query.
        retry_after_secs: How long the server asks to wait before the next attempt,
            in seconds; None if it does not say.
    """

    def __init__(self, kind: FailureKind, message: str, retry_after_secs: float | None = None):
        """Make the error.

        Args:
            kind: Why.
            message: For a person.
            retry_after_secs: How long the server asks to wait, in seconds.
        """
        super().__init__(kind, message, retry_after_secs)
        self.kind = kind
        self.message = message
        self.retry_after_secs = retry_after_secs

    def __str__(self) -> str:
        return self.message


def describe_close(code: int | None, reason: str | None, host: str) -> HydraConnectionError:
    """Say why a connection that was open is closed.

    Args:
        code: The close code that the server sent; None if it sent none.
        reason: The reason that the server sent.
        host: Host and port, which may be shown.
    """
    server = f"Hydra at {host}"
    if code in (None, CloseCode.ABNORMAL_CLOSURE):
        message = f"the connection to {server} broke"
        return HydraConnectionError(FailureKind.CONNECTIVITY, message)
    kind, words = _CLOSINGS.get(code, (FailureKind.CONNECTIVITY, ""))
    reason = f", {reason[:_MAX_QUOTED_CHARS]!r}" if reason else ""
    words = f"{words} and " if words else ""
    message = f"{server} {words}closed the connection (code {code}{reason})"
    return HydraConnectionError(kind, message)


def describe_failure(
    error: Exception,
    host: str,
    timeout_secs: float,
    proxy: str | None = None,
    *,
    model: str | None = None,
    mask: Callable[[str], str] = str,
) -> HydraConnectionError:
    """Say why no connection could be opened.

    Args:
        error: What the WebSocket library raised; it may hold the URL.
        host: Host and port, which may be shown.
        timeout_secs: How long connecting was allowed to take, in seconds.
        proxy: Host and port of the proxy on the way; None if there is none.
        model: The model that was asked for; None if it is not known.
        mask: Removes the key from a text of the server, which may quote the request.
    """
    via = f" through the proxy {proxy}" if proxy else ""
    if isinstance(error, InvalidStatus):
        return _describe_status(error.response, host, model, mask)
    if isinstance(error, TimeoutError):
        message = f"Hydra at {host} did not answer within {timeout_secs:g} s{via}"
        return HydraConnectionError(FailureKind.TIMEOUT, message)
    if isinstance(error, ssl.SSLCertVerificationError):
        return _describe_certificate(error, f"{host}{via}")
    if isinstance(error, OSError):
        reason = error.strerror or type(error).__name__
        what = ", base_url and the proxy" if via else " and base_url"
        message = f"Hydra at {host} cannot be reached{via}: {reason}. Check the network{what}"
        return HydraConnectionError(FailureKind.CONNECTIVITY, message)
    if isinstance(error, InvalidProxyStatus):
        return _describe_proxy_status(error.response.status_code, host, proxy)
    if isinstance(error, InvalidProxy):
        message = (
            f"the proxy {proxy or 'named in the environment'} has no usable URL. Set HTTPS_PROXY, "
            "or proxy=, as in http://user:password@host:port"
        )
        return HydraConnectionError(FailureKind.CONFIGURATION, message)
    if isinstance(error, ProxyError):
        message = f"the proxy {proxy or 'named in the environment'} is not usable. Check it"
        return HydraConnectionError(FailureKind.CONNECTIVITY, message)
    if isinstance(error, ImportError) and via:
        message = f"Hydra at {host} cannot be reached{via}: SOCKS needs `pip install python-socks`"
        return HydraConnectionError(FailureKind.CONFIGURATION, message)
    if isinstance(error, InvalidHandshake | EOFError):
        message = f"{host} does not speak the WebSocket protocol as Hydra does. Check base_url"
        return HydraConnectionError(FailureKind.CONNECTIVITY, message)
    reason = f": {error}" if isinstance(error, ImportError) else ""
    message = f"Hydra at {host} cannot be reached ({type(error).__name__}{reason})"
    return HydraConnectionError(FailureKind.CONNECTIVITY, message)


def _describe_status(
    response: Response, host: str, model: str | None, mask: Callable[[str], str]
) -> HydraConnectionError:
    status = response.status_code
    said = _quoted(response, mask)
    if status in (401, 403):
        message = (
            f"Hydra at {host} refused the API key (HTTP {status}{said}). Check that "
            "SMALLEST_API_KEY holds a valid key with access to Hydra"
        )
        return HydraConnectionError(FailureKind.AUTHENTICATION, message)
    message = f"Hydra at {host} refused the connection with HTTP {status}{said}"
    if status == 429:
        return HydraConnectionError(FailureKind.CAPACITY, message, _retry_after(response))
    if status >= 500 or status in (408, 425):
        return HydraConnectionError(FailureKind.SERVER, message, _retry_after(response))
    named = f"the model {model!r}" if model else "the model"
    return HydraConnectionError(FailureKind.CONFIGURATION, f"{message}. Check {named} and base_url")


def _quoted(response: Response, mask: Callable[[str], str]) -> str:
    """Return the text of a refusal, on one line and behind a comma; nothing for a page of HTML."""
    # Masked before it is cut, which might leave a part of the key.
    text = " ".join(mask(bytes(response.body or b"").decode(errors="replace")).split())
    return f", {text[:_MAX_QUOTED_CHARS]!r}" if text and not text.startswith("<") else ""


def _describe_certificate(error: ssl.SSLCertVerificationError, host: str) -> HydraConnectionError:
    reason = error.verify_message
    if "key identifier" in reason.lower():
        # Python 3.13 is strict about what many an intercepting proxy leaves out.
        remedy = (
            "Something on the way intercepts TLS, with a certificate that Python finds incomplete: "
            "pass ssl= a context that trusts it, without ssl.VERIFY_X509_STRICT in its verify_flags"
        )
    else:
        remedy = (
            "If a proxy or a virus scanner intercepts TLS, or the authority is your own, name its "
            "certificate in SSL_CERT_FILE, or pass ssl= a context that trusts it"
        )
    message = f"the TLS certificate of {host} cannot be verified: {reason}. {remedy}"
    return HydraConnectionError(FailureKind.CONNECTIVITY, message)


_PROXY_REMEDIES: Final = {
    407: "it asks for a user and a password: give them as proxy='http://user:password@host:port'",
    403: "it does not let anybody there: have it allowed, or exempt the host by NO_PROXY",
    502: "it cannot reach it: check base_url, or exempt the host by NO_PROXY or proxy=None",
}


def _describe_proxy_status(status: int, host: str, proxy: str | None) -> HydraConnectionError:
    message = f"the proxy {proxy} refused to connect to {host} with HTTP {status}"
    if remedy := _PROXY_REMEDIES.get(status):
        return HydraConnectionError(FailureKind.CONFIGURATION, f"{message}: {remedy}")
    return HydraConnectionError(FailureKind.CONNECTIVITY, message)


def _retry_after(response: Response) -> float | None:
    """Return how many seconds the server asks to wait, if it makes sense (RFC 9110 §10.2.3)."""
    text = ", ".join(response.headers.get_all("Retry-After")).strip()
    try:
        if text.isdecimal():
            secs = float(text)
        else:
            secs = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        # Not a date, or one without a time zone, which cannot be compared.
        return None
    return min(secs, _MAX_RETRY_AFTER_SECS) if secs >= 0 else None
