"""Protocol §1: which upgrade requests are refused, and why."""

import asyncio
import json
from http import HTTPStatus

import pytest
from websockets.asyncio.client import connect
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request

from pipecat_hydra.emulator import EmulatorSettings, HydraEmulator, OriginError
from pipecat_hydra.emulator.server.upgrade import PATH, check, model

KEY = "sk-right"
QUERY = f"?api_key={KEY}"
HOST = "127.0.0.1:8765"
APP = "http://localhost:3000"


def status(
    query: str = QUERY,
    *origins: str,
    path: str = PATH,
    host: str = HOST,
    allowed: tuple[str, ...] = (),
    **headers: str,
) -> HTTPStatus | None:
    given = Headers({"Host": host, **headers})
    for origin in origins:
        given["Origin"] = origin
    refusal = check(Request(path + query, given), api_key=KEY, allowed_origins=allowed)
    return refusal.status if refusal else None


def test_the_key_is_in_the_url_or_in_a_header() -> None:
    assert status() is None
    assert status("", Authorization=f"Bearer {KEY}") is None
    assert status("", Authorization=f"Basic {KEY}") == HTTPStatus.UNAUTHORIZED
    assert status("") == status("?api_key=sk-wrong") == HTTPStatus.UNAUTHORIZED


def test_path_and_model_are_known() -> None:
    assert status(path="/waves/v1/tts") == HTTPStatus.NOT_FOUND
    assert status(f"{QUERY}&model=hydra-v9") == HTTPStatus.BAD_REQUEST
    assert model(Request(f"{PATH}?model=hydra", Headers())) == "hydra"
    assert model(Request(PATH, Headers())) == "hydra-v1.1"


@pytest.mark.parametrize("code", [307, 308])
def test_a_request_may_be_redirected_once(code: int) -> None:
    refusal = check(Request(PATH + QUERY, Headers()), api_key=KEY, redirect_status=code)
    assert refusal is not None
    assert refusal.status == code
    assert refusal.location is not None
    moved = Request(refusal.location, Headers())
    assert check(moved, api_key=KEY, redirect_status=code) is None
    assert check(moved, api_key="sk-other", redirect_status=code) is not None
    assert check(moved, api_key=KEY) is not None  # nothing is there if nothing is redirected


@pytest.mark.parametrize(
    "origin",
    ["https://example.org", APP, "null", "", "http://127.0.0.1:80", "https://127.0.0.1:8765"],
)
def test_a_page_is_refused(origin: str) -> None:
    assert status(QUERY, origin) == HTTPStatus.FORBIDDEN


@pytest.mark.parametrize("origin", [APP, "HTTP://LOCALHOST:3000", "null"])
def test_a_page_that_is_named_is_accepted(origin: str) -> None:
    allowed = (APP, "null")
    assert status(QUERY, origin, allowed=allowed) is None
    assert status("", origin, allowed=allowed) == HTTPStatus.UNAUTHORIZED
    assert status(QUERY, "http://localhost:3001", allowed=allowed) == HTTPStatus.FORBIDDEN
    assert status(QUERY, origin, "https://example.org", allowed=allowed) == HTTPStatus.FORBIDDEN


@pytest.mark.parametrize("host", [HOST, "localhost:8765", "[::1]:8765", "192.168.0.7:8765"])
def test_a_library_may_call_the_server_its_origin(host: str) -> None:
    assert status(QUERY, f"http://{host}", host=host) is None


@pytest.mark.parametrize("host", ["evil.example.org:8765", "127.0.0.1.example.org", "[::1", ""])
def test_a_name_that_was_made_to_resolve_to_this_machine_is_no_own_origin(host: str) -> None:
    assert status(QUERY, f"http://{host}", host=host) == HTTPStatus.FORBIDDEN


@pytest.mark.parametrize(
    "origin", ["localhost:3000", "http://localhost:3000/", "http://localhost:3000/app", "*", ""]
)
def test_what_no_browser_sends_is_no_origin_to_allow(origin: str) -> None:
    with pytest.raises(OriginError, match="write it as scheme://host:port"):
        EmulatorSettings(allowed_origins=(origin,))


async def test_a_client_follows_the_redirect() -> None:
    settings = EmulatorSettings(redirect_status=308)
    async with HydraEmulator(settings=settings) as hydra:
        async with connect(f"{hydra.url}?api_key={hydra.api_key}&model=hydra") as websocket:
            await websocket.recv()
        assert [session.model for session in hydra.sessions] == ["hydra"]


async def test_over_a_socket() -> None:
    settings = EmulatorSettings(allowed_origins=(APP,))
    async with HydraEmulator(settings=settings) as hydra:
        url = f"{hydra.url}?api_key={hydra.api_key}"
        with pytest.raises(InvalidStatus) as caught:
            await connect(url, origin="https://example.org").__aenter__()  # type: ignore[arg-type]
        response = caught.value.response
        assert response.status_code == 403
        assert response.body is not None
        body = response.body.decode()
        assert body.startswith("Origin not allowed. ")
        assert "EmulatorSettings(allowed_origins=...)" in body
        async with connect(url, additional_headers={"Origin": APP}) as websocket:
            async with asyncio.timeout(5):
                assert json.loads(await websocket.recv())["type"] == "session.created"
