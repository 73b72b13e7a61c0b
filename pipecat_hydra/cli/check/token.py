"""Mints a short-lived token from the key (protocol §1), by one HTTP request."""

import asyncio
import json
from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from typing_extensions import override

from pipecat_hydra.session.endpoint import Endpoint

__all__ = ["TokenError", "mint"]

_PATH: Final = "/waves/v1/auth/token"
_TTL_SECS: Final = 60
_LIMIT_SECS: Final = 10.0
_MAX_BYTES: Final = 65_536


class TokenError(Exception):
    """No token could be minted; the message holds neither the key nor a token."""


class _NoRedirects(HTTPRedirectHandler):
    """Follows no redirect: the library would send the key along, to whichever host."""

    @override
    def redirect_request(
        self, req: Request, fp: object, code: int, msg: str, headers: object, newurl: str
    ) -> None:
        return None


async def mint(endpoint: Endpoint) -> str:
    """Return a token that is valid for a minute.

    Args:
        endpoint: Whose server is asked, with the key.

    Raises:
        TokenError: If there is none.
    """
    if urlsplit(endpoint.base_url).scheme != "wss":
        raise TokenError("only asked of an endpoint with TLS (wss://)")
    return await asyncio.to_thread(_mint, endpoint)


def _mint(endpoint: Endpoint) -> str:
    request = Request(
        f"https://{endpoint.host}{_PATH}",
        data=json.dumps({"ttl_seconds": _TTL_SECS}).encode(),
        headers={
            "Authorization": f"Bearer {endpoint.api_key.get_secret_value()}",
            "Content-Type": "application/json",
        },
    )
    failure, token = "", ""
    try:
        opener = build_opener(_NoRedirects, HTTPSHandler(context=endpoint.ssl))
        with opener.open(request, timeout=_LIMIT_SECS) as response:
            token = _token_in(json.loads(response.read(_MAX_BYTES)))
    except HTTPError as error:
        failure = f"POST {_PATH} is answered with HTTP {error.code}"
    except (HTTPException, OSError, ValueError) as error:
        failure = f"POST {_PATH} failed with {type(error).__name__}"
    # Raised out here, so that an exception that knows the request is not even its context.
    if not token:
        raise TokenError(failure or f"POST {_PATH} gives no token that begins with wat_")
    return token


def _token_in(answer: object) -> str:
    """Find the token in the answer, whose shape is not documented."""
    if isinstance(answer, str) and answer.startswith("wat_"):
        return answer
    parts = answer.values() if isinstance(answer, dict) else ()
    return next(filter(None, map(_token_in, parts)), "")
