"""The token that `check` mints: it comes from the server itself, and the key goes nowhere else."""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from pydantic import SecretStr
from support.command import KEY
from support.tls import SELF_SIGNED

from pipecat_hydra.cli.check.token import TokenError, mint
from pipecat_hydra.session.endpoint import Endpoint


@asynccontextmanager
async def https(*answers: str) -> AsyncGenerator[tuple[Endpoint, list[str]]]:
    """Serve answers by HTTPS, one after the other; gives the endpoint and the requests."""
    requests: list[str] = []
    waiting = list(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0] or 0)
        requests.append(head + (await reader.readexactly(size)).decode())
        writer.write(waiting.pop(0).encode())
        writer.close()
        await writer.wait_closed()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SELF_SIGNED)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        url = f"wss://{host}/waves/v1/s2s"
        yield Endpoint(url, "hydra-v1.1", SecretStr(KEY), ssl=trusting), requests


def ok(body: object) -> str:
    text = json.dumps(body)
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}"


@pytest.mark.parametrize(
    "body", ["wat_1", {"token": "wat_1"}, {"data": {"ttl": 60, "token": "wat_1"}}]
)
async def test_a_token_is_found_wherever_the_answer_has_it(body: object):
    async with https(ok(body)) as (endpoint, requests):
        assert await mint(endpoint) == "wat_1"
    assert requests[0].startswith("POST /waves/v1/auth/token HTTP/1.1\r\n")
    assert f"Authorization: Bearer {KEY}" in requests[0]
    assert requests[0].endswith('{"ttl_seconds": 60}')


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered with HTTP 404"),
        (ok({"token": "other"}), "no token that begins with wat_"),
        (ok([1, 2]), "no token that begins with wat_"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "failed with JSONDecodeError"),
        ("nonsense\r\n\r\n", "failed with BadStatusLine"),
    ],
    ids=["404", "another token", "a list", "no JSON", "no HTTP"],
)
async def test_what_is_no_token_is_told_without_the_key(answer: str, message: str):
    async with https(answer) as (endpoint, _):
        with pytest.raises(TokenError, match=message) as raised:
            await mint(endpoint)
    assert raised.value.__context__ is None
    assert KEY not in str(raised.value)


async def test_a_redirect_is_not_followed():
    redirect = "HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    async with https(redirect) as (endpoint, requests):
        with pytest.raises(TokenError, match="answered with HTTP 302"):
            await mint(endpoint)
    assert len(requests) == 1


async def test_a_server_without_tls_is_not_given_the_key():
    endpoint = Endpoint("ws://127.0.0.1:9/waves/v1/s2s", "hydra-v1.1", SecretStr(KEY))
    with pytest.raises(TokenError, match="with TLS"):
        await mint(endpoint)


async def test_a_certificate_that_is_not_trusted_ends_it():
    async with https(ok("wat_1")) as (endpoint, requests):
        with pytest.raises(TokenError, match="failed with URLError"):
            await mint(replace(endpoint, ssl=None))
    assert requests == []
