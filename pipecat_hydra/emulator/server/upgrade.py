"""Checks upgrade requests: path, page, API key and model (§1).

A browser lets any page on the internet open a WebSocket to a server on the visitor's machine, and
tells the server which page it was in the header `Origin`. So pages are refused unless the settings
name their origin. Clients that are no browsers send no `Origin`, or, as some libraries do, the
address that they connect to.
"""

import hmac
import http
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from websockets.http11 import Request

from pipecat_hydra.wire.protocol import DEFAULT_BASE_URL, DEFAULT_MODEL, MODELS

PATH = urlsplit(DEFAULT_BASE_URL).path
"""The path of the endpoint."""

_MOVED_PATH = f"{PATH}/moved"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an upgrade request is refused.

    Parameters:
        status: The HTTP status.
        reason: What the client is told, and what is logged; it quotes nothing of the request.
        advice: What to do about it.
        location: Where the endpoint is, if the request is redirected.
    """

    status: http.HTTPStatus
    reason: str
    advice: str = ""
    location: str | None = None


def check(
    request: Request,
    *,
    api_key: str,
    allowed_origins: Collection[str] = (),
    redirect_status: int | None = None,
) -> Refusal | None:
    """Return why a request is refused, or `None` if it is accepted.

    Args:
        request: The upgrade request.
        api_key: The one key that is right.
        allowed_origins: Origins of the pages that may connect.
        redirect_status: HTTP status by which requests are redirected once, to another path of
            the same host; `None` to redirect none.
    """
    path, _, query = request.path.partition("?")
    if redirect_status is not None:
        if path == PATH:
            location = request.path.replace(PATH, _MOVED_PATH, 1)
            return Refusal(http.HTTPStatus(redirect_status), "Moved", location=location)
        path = path.replace(_MOVED_PATH, PATH, 1)
    if path != PATH:
        return Refusal(http.HTTPStatus.NOT_FOUND, "Not found")
    if not _origin_allowed(request, allowed_origins):
        return Refusal(
            http.HTTPStatus.FORBIDDEN,
            "Origin not allowed",
            "This emulator accepts no web pages but those that it is told to. Name the page's "
            "origin in EmulatorSettings(allowed_origins=...) or with --allow-origin.",
        )
    if not _key_is_right(parse_qs(query).get("api_key"), request, api_key):
        return Refusal(http.HTTPStatus.UNAUTHORIZED, "Invalid API key")
    if model(request) not in MODELS:
        return Refusal(http.HTTPStatus.BAD_REQUEST, "Unknown model")
    return None


def model(request: Request) -> str:
    """Return the model that a request asks for."""
    return parse_qs(request.path.partition("?")[2]).get("model", [DEFAULT_MODEL])[-1]


def _key_is_right(in_query: list[str] | None, request: Request, api_key: str) -> bool:
    if in_query is not None:
        key = in_query[-1]
    else:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return False
    given = key.encode(errors="surrogateescape")  # a header may hold any byte
    return hmac.compare_digest(given, api_key.encode())


def _origin_allowed(request: Request, allowed: Collection[str]) -> bool:
    for origin in request.headers.get_all("Origin"):
        own = _own_address(request.headers.get("Host", ""))
        if origin.lower() not in {one.lower() for one in allowed} | {own}:
            return False
    return True


def _own_address(host: str) -> str | None:
    """Return the origin that a page of this server would have, if it had pages.

    Only literal addresses and localhost count. Any other name in `Host` may be that of a page on
    the internet whose name was made to resolve to this machine (DNS rebinding).
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return None
    literal = ":" in name or name.replace(".", "").isdigit()
    return f"http://{host.lower()}" if literal or name == "localhost" else None
