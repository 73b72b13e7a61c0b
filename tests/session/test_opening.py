"""The opening of a WebSocket: addresses, redirects, the time limit, and who could listen."""

import asyncio
import time
from http import HTTPStatus

import pytest
from support.network import dead_address, resolve_to
from support.sockets import KEY, port_of, server, until_closed, websocket
from support.tls import SELF_SIGNED, tls_server
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.session.endpoint import AuthStyle, Endpoint
from pipecat_hydra.session.failures import HydraConnectionError
from pipecat_hydra.session.websocket import HydraWebSocket


async def reach(endpoint: Endpoint, *, timeout_secs: float = 5.0) -> None:
    opened = await HydraWebSocket.open(
        endpoint, timeout_secs=timeout_secs, on_congested=lambda _: None
    )
    await opened.close()


async def fail(endpoint: Endpoint, *, timeout_secs: float = 5.0) -> HydraConnectionError:
    with pytest.raises(HydraConnectionError) as raised:
        await reach(endpoint, timeout_secs=timeout_secs)
    error = raised.value
    assert "secret" not in error.message
    assert KEY.get_secret_value() not in error.message
    assert error.__cause__ is None
    assert error.__context__ is None
    return error


async def test_a_connection_that_can_be_overheard_is_warned_of_once(warnings: list[str]):
    for path in ("s2s", "other"):
        with pytest.raises(HydraConnectionError):
            async with websocket(f"ws://overheard.invalid/{path}"):
                pass
    (warning,) = warnings
    assert "overheard.invalid is not encrypted" in warning
    assert KEY.get_secret_value() not in warning


#
# Addresses
#


@pytest.mark.parametrize("dead", [1, 3])
async def test_a_dead_address_costs_a_moment(dead: int, monkeypatch: pytest.MonkeyPatch):
    began = time.monotonic()
    async with server(until_closed) as url:
        with dead_address() as nowhere:
            resolve_to(monkeypatch, *[nowhere] * dead, ("127.0.0.1", port_of(url)))
            await reach(Endpoint("ws://hydra.localhost/s2s", "hydra-v1.1", KEY))
    assert dead * 0.25 <= time.monotonic() - began < dead * 0.25 + 0.2


async def test_an_address_that_refuses_costs_nothing(monkeypatch: pytest.MonkeyPatch):
    began = time.monotonic()
    async with server(until_closed) as url:
        resolve_to(monkeypatch, ("127.0.0.1", 9), ("127.0.0.1", port_of(url)))
        await reach(Endpoint("ws://hydra.localhost/s2s", "hydra-v1.1", KEY))
    assert time.monotonic() - began < 0.2


async def test_addresses_that_are_all_dead_take_no_longer_than_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
):
    began = time.monotonic()
    with dead_address() as nowhere:
        resolve_to(monkeypatch, nowhere, nowhere)
        endpoint = Endpoint("ws://hydra.localhost/s2s", "hydra-v1.1", KEY)
        error = await fail(endpoint, timeout_secs=3.0)
    assert error.kind is FailureKind.TIMEOUT
    assert "did not answer within 3 s" in error.message
    assert 3.0 <= time.monotonic() - began < 3.2


@pytest.mark.parametrize("other", ["127.0.0.2", "255.255.255.255"])
async def test_addresses_that_all_refuse_are_told(other: str, monkeypatch: pytest.MonkeyPatch):
    resolve_to(monkeypatch, ("127.0.0.1", 9), (other, 9))
    error = await fail(Endpoint("ws://hydra.localhost/s2s", "hydra-v1.1", KEY))
    assert error.kind is FailureKind.CONNECTIVITY
    assert "hydra.localhost cannot be reached: Multiple exceptions: " in error.message
    assert error.message.count("[Errno ") == 2


async def test_tls_is_verified_against_the_name_and_not_the_address(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("SSL_CERT_FILE", str(SELF_SIGNED))
    async with tls_server(monkeypatch) as url:
        resolve_to(monkeypatch, ("127.0.0.1", port_of(url)))
        error = await fail(Endpoint("wss://hydra.localhost/s2s", "hydra-v1.1", KEY))
    assert "certificate of hydra.localhost cannot be verified" in error.message


#
# Redirects
#


class Redirecting:
    """Answers with redirects to one place after the other, then takes the connection."""

    def __init__(self, *locations: str, status: int = 307):
        self._locations = list(locations)
        self._status = HTTPStatus(status)
        self.requests: list[Request] = []

    def __call__(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if not self._locations:
            return None
        response = connection.respond(self._status, "there")
        response.headers["Location"] = self._locations.pop(0)
        return response


@pytest.mark.parametrize("auth", ["query", "header"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_on_the_same_host_is_followed(status: int, auth: AuthStyle):
    redirecting = Redirecting("/eu/s2s?region=eu", "more/", status=status)
    async with server(until_closed, process_request=redirecting) as url:
        await reach(Endpoint(f"{url}?tier=1", "hydra-v1.1", KEY, auth))
    key = "&api_key=sk-1+2%263" if auth == "query" else ""
    assert [request.path for request in redirecting.requests] == [
        f"/s2s?tier=1&model=hydra-v1.1{key}",
        f"/eu/s2s?region=eu&model=hydra-v1.1{key}",
        f"/eu/more/?model=hydra-v1.1{key}",
    ]
    bearer = "Bearer sk-1 2&3" if auth == "header" else None
    assert {r.headers.get("Authorization") for r in redirecting.requests} == {bearer}


async def test_a_redirect_may_repeat_the_whole_url_as_http():
    async def redirect(connection: ServerConnection, request: Request) -> Response | None:
        return redirecting(connection, request)

    async with server(until_closed, process_request=redirect) as url:
        there = url.replace("ws:", "http:") + "/there?model=other&api_key=secret&x="
        redirecting = Redirecting(there)
        await reach(Endpoint(url, "hydra-v1.1", KEY))
    assert redirecting.requests[1].path == "/s2s/there?x=&model=hydra-v1.1&api_key=sk-1+2%263"


async def test_a_redirect_over_tls_stays_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(SELF_SIGNED))
    redirecting = Redirecting("/there")
    async with tls_server(monkeypatch, process_request=redirecting) as url:
        await reach(Endpoint(url, "hydra-v1.1", KEY))
    assert len(redirecting.requests) == 2


@pytest.mark.parametrize("auth", ["query", "header"])
async def test_a_redirect_to_another_port_is_not_followed(auth: AuthStyle):
    async def handler(connection: ServerConnection):
        raise AssertionError("it was followed")

    async with server(handler) as elsewhere:
        redirecting = Redirecting(elsewhere)
        async with server(handler, process_request=redirecting) as url:
            error = await fail(Endpoint(url, "hydra-v1.1", KEY, auth))
    assert error.kind is FailureKind.CONFIGURATION
    assert f"redirects (HTTP 307) to '{elsewhere.removesuffix('/s2s')}'" in error.message
    assert "If you trust it, make it the base_url" in error.message


@pytest.mark.parametrize(
    ("location", "address"),
    [
        ("wss://secret@other.example:99/s2s?api_key=secret", "'wss://other.example:99'"),
        ("//other.example/s2s", "'wss://other.example'"),
        ("https://127.0.0.1:443/s2s", "'wss://127.0.0.1:443'"),
        ("javascript:secret", "'javascript://'"),
        ("//" + "x" * 1_000, f"'wss://{'x' * 114}'"),
    ],
)
async def test_a_redirect_to_another_host_is_refused(
    location: str, address: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(SELF_SIGNED))
    redirecting = Redirecting(location, status=308)
    async with tls_server(monkeypatch, process_request=redirecting) as url:
        error = await fail(Endpoint(url, "hydra-v1.1", KEY))
    assert error.kind is FailureKind.CONFIGURATION
    assert f"redirects (HTTP 308) to {address}, which does not get the API key" in error.message


@pytest.mark.parametrize("scheme", ["ws", "http"])
async def test_a_redirect_that_gives_up_tls_is_refused(
    scheme: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(SELF_SIGNED))

    async def redirect(connection: ServerConnection, request: Request) -> Response | None:
        return Redirecting(url.replace("wss", scheme))(connection, request)

    async with tls_server(monkeypatch, process_request=redirect) as url:
        error = await fail(Endpoint(url, "hydra-v1.1", KEY))
    assert error.kind is FailureKind.CONFIGURATION
    assert f"to 'ws://127.0.0.1:{port_of(url)}', which" in error.message


@pytest.mark.parametrize("location", ["ws://127.0.0.1:secret/", "ws://[secret/", "ws://a:99999/"])
async def test_a_redirect_to_what_is_no_url_is_told(location: str):
    async with server(until_closed, process_request=Redirecting(location)) as url:
        error = await fail(Endpoint(url, "hydra-v1.1", KEY))
    assert error.kind is FailureKind.CONFIGURATION
    assert "malformed URL" in error.message


async def test_redirects_come_to_an_end():
    redirecting = Redirecting(*["/s2s"] * 99)
    async with server(until_closed, process_request=redirecting) as url:
        error = await fail(Endpoint(url, "hydra-v1.1", KEY))
    assert error.kind is FailureKind.CONFIGURATION
    assert "redirects more than 5 times" in error.message
    assert len(redirecting.requests) == 6


async def test_a_redirect_that_leads_nowhere_is_a_refusal():
    def redirect(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(HTTPStatus.TEMPORARY_REDIRECT, "where?")

    async with server(until_closed, process_request=redirect) as url:
        error = await fail(Endpoint(url, "hydra-v1.1", KEY))
    assert error.kind is FailureKind.CONFIGURATION
    assert "refused the connection with HTTP 307" in error.message


#
# The time limit
#


@pytest.mark.parametrize("stall", [4.0, 60.0])
async def test_an_event_loop_that_stood_still_does_not_fail_an_opening(stall: float):
    async def stand_still(connection: ServerConnection, request: Request) -> None:
        time.sleep(stall)  # noqa: ASYNC251
        # The answer still takes its time.
        await asyncio.sleep(1.0)

    async with (
        server(until_closed, process_request=stand_still, open_timeout=None) as url,
        websocket(url, timeout_secs=3.0),
    ):
        pass


async def test_a_server_that_is_slow_fails_an_opening():
    async def dawdle(connection: ServerConnection, request: Request) -> None:
        await asyncio.sleep(4.0)

    async with server(until_closed, process_request=dawdle) as url:
        began = time.monotonic()
        error = await fail(Endpoint(url, "hydra-v1.1", KEY), timeout_secs=3.0)
        assert 3.0 <= time.monotonic() - began < 3.1
    assert error.kind is FailureKind.TIMEOUT
