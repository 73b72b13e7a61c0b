"""The way to Hydra: a proxy that is given, or that the environment names, and TLS on it."""

import ssl
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr
from support.proxy import ConnectProxy
from support.sockets import KEY, port_of, server, until_closed
from support.tls import INTERCEPTED, INTERCEPTING_AUTHORITY, SELF_SIGNED, tls_server

from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.session.endpoint import Endpoint
from pipecat_hydra.session.failures import HydraConnectionError
from pipecat_hydra.session.websocket import HydraWebSocket


@pytest.fixture(autouse=True)
def _no_proxy_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no", "http", "https", "ws", "wss", "socks", "all"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)


async def reach(endpoint: Endpoint) -> None:
    opened = await HydraWebSocket.open(endpoint, timeout_secs=5.0, on_congested=lambda _: None)
    await opened.close()


async def fail(endpoint: Endpoint) -> HydraConnectionError:
    with pytest.raises(HydraConnectionError) as raised:
        await reach(endpoint)
    assert KEY.get_secret_value() not in str(raised.value)
    return raised.value


@pytest.mark.parametrize("given", [True, False])
async def test_a_proxy_carries_the_connection(given: bool, monkeypatch: pytest.MonkeyPatch):
    async with server(until_closed) as url, ConnectProxy(port_of(url)) as proxy:
        if not given:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        more: dict[str, Any] = {"proxy": proxy.url} if given else {}
        await reach(Endpoint("ws://hydra.invalid/s2s", "hydra-v1.1", KEY, **more))
    (asked,) = proxy.asked
    assert asked.startswith("CONNECT hydra.invalid:80 ")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_no_proxy_of_the_environment_leads_to_this_machine(
    host: str, monkeypatch: pytest.MonkeyPatch
):
    async with server(until_closed) as url, ConnectProxy(port_of(url), status=502) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        await reach(Endpoint(url.replace("127.0.0.1", host), "hydra-v1.1", KEY))
    assert not proxy.asked


async def test_none_is_no_proxy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    endpoint = Endpoint("wss://hydra.invalid/s2s", "hydra-v1.1", KEY)
    assert endpoint.proxy_url() == "http://127.0.0.1:9"
    assert Endpoint("wss://hydra.invalid/s2s", "hydra-v1.1", KEY, proxy=None).proxy_url() is None


@pytest.mark.parametrize(
    ("status", "remedy"), [(407, "user:password"), (403, "NO_PROXY"), (502, "check base_url")]
)
async def test_a_proxy_that_refuses_is_named_and_not_tried_again(status: int, remedy: str):
    async with ConnectProxy(9, status=status) as proxy:
        url = f"http://me:secret@{proxy.host}"
        error = await fail(Endpoint("ws://hydra.invalid/s2s", "hydra-v1.1", KEY, proxy=url))
        named = f"the proxy {proxy.host} refused to connect to hydra.invalid with HTTP {status}: "
    assert error.kind.final
    assert error.message.startswith(named)
    assert remedy in error.message
    assert "secret" not in error.message


async def test_a_proxy_that_is_in_trouble_is_tried_again():
    async with ConnectProxy(9, status=503) as proxy:
        error = await fail(Endpoint("ws://hydra.invalid/s2s", "hydra-v1.1", KEY, proxy=proxy.url))
    assert error.kind is FailureKind.CONNECTIVITY
    assert "503" in error.message


async def test_a_proxy_that_is_not_there_is_named():
    async with ConnectProxy(9) as proxy:
        gone = proxy.url
    error = await fail(Endpoint("ws://hydra.invalid/s2s", "hydra-v1.1", KEY, proxy=gone))
    assert error.kind is FailureKind.CONNECTIVITY
    assert f"through the proxy {urlsplit(gone).netloc}: " in error.message


@pytest.mark.parametrize(
    "named",
    ["proxy:3128", "me:secret@proxy:3128", "ftp://proxy", "http://[proxy", "http://proxy:port"],
)
async def test_what_the_environment_names_that_is_no_proxy_is_told_and_not_tried_again(
    named: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HTTPS_PROXY", named)
    error = await fail(Endpoint("wss://hydra.invalid/s2s", "hydra-v1.1", KEY))
    assert error.kind.final
    assert "the proxy named in the environment has no usable URL" in error.message
    assert "Set HTTPS_PROXY" in error.message
    assert "secret" not in error.message


async def test_socks_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    async def lacking(*_: Any, **__: Any) -> None:
        raise ImportError("connecting through a SOCKS proxy requires python-socks")

    # As `websockets` has it where the package is missing.
    monkeypatch.setattr("websockets.asyncio.client.connect_socks_proxy", lacking)
    proxy = "socks5h://me:secret@127.0.0.1:9"
    error = await fail(Endpoint("wss://hydra.invalid/s2s", "hydra-v1.1", KEY, proxy=proxy))
    assert error.kind.final
    assert "through the proxy 127.0.0.1:9: " in error.message
    assert "pip install python-socks" in error.message
    assert "secret" not in error.message


@pytest.mark.parametrize("proxy", ["proxy:3128", "ftp://proxy", "http://", "http://a:secret@x:y"])
def test_what_is_no_proxy_is_refused(proxy: str):
    with pytest.raises(ValueError, match=r"^proxy must be a URL \(http, https, socks4") as raised:
        Endpoint("ws://hydra.invalid/s2s", "hydra-v1.1", KEY, proxy=proxy)
    assert "secret" not in str(raised.value)


def test_the_password_of_a_proxy_is_not_shown():
    endpoint = Endpoint("wss://host/", "hydra", SecretStr("k"), proxy="http://me:secret@proxy")
    assert "secret" not in repr(endpoint)


async def test_a_context_says_which_certificates_are_trusted(monkeypatch: pytest.MonkeyPatch):
    trusting = ssl.create_default_context(cafile=str(SELF_SIGNED))
    async with tls_server(monkeypatch) as url:
        error = await fail(Endpoint(url, "hydra-v1.1", KEY))
        await reach(Endpoint(url, "hydra-v1.1", KEY, ssl=trusting))
        async with ConnectProxy(port_of(url)) as proxy:
            await reach(Endpoint(url, "hydra-v1.1", KEY, ssl=trusting, proxy=proxy.url))
        assert proxy.asked
    assert "intercepts TLS" in error.message
    assert "pass ssl= a context" in error.message


async def test_a_context_does_no_harm_to_a_server_without_tls():
    async with server(until_closed) as url:
        await reach(Endpoint(url, "hydra-v1.1", KEY, ssl=ssl.create_default_context()))


async def test_an_authority_that_intercepts_tls_is_trusted_as_the_message_says(
    monkeypatch: pytest.MonkeyPatch,
):
    context = ssl.create_default_context(cafile=str(INTERCEPTING_AUTHORITY))
    # As Python has it by default since 3.13.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    async with tls_server(monkeypatch, INTERCEPTED) as url:
        endpoint = Endpoint(url, "hydra-v1.1", KEY, ssl=context)
        error = await fail(endpoint)
        assert "cannot be verified: Missing Authority Key Identifier." in error.message
        assert "pass ssl= a context" in error.message
        assert "without ssl.VERIFY_X509_STRICT in its verify_flags" in error.message
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        await reach(endpoint)
