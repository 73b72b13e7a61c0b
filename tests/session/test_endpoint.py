"""Where a session connects to: the URL, the key, and who could listen."""

import runpy
import sys
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr
from support.messages import messages_of
from support.sockets import KEY, server
from websockets import uri
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request

from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.session import endpoint as endpoint_module
from pipecat_hydra.session.endpoint import AuthStyle, Endpoint
from pipecat_hydra.session.failures import HydraConnectionError
from pipecat_hydra.session.websocket import HydraWebSocket


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.smallest.ai/waves/v1/s2s",
        "api.smallest.ai",
        "",
        "wss://",
        "wss://example.com/s2s?api_key=k",
        "wss://example.com/s2s?model=hydra",
        "wss://user:secret@example.com/s2s",
        "wss://secret@example.com/s2s",
        "wss://example.com:secret/s2s",
        "wss://example.com:99999/s2s",
        "wss://[secret/s2s",
    ],
)
def test_a_url_that_cannot_be_right_is_refused(base_url: str):
    with pytest.raises(ValueError, match="base_url") as raised:
        Endpoint(base_url, "hydra-v1.1", KEY)
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("base_url", "suggested"),
    [
        ("127.0.0.1:8911", ": write ws://127.0.0.1:8911/waves/v1/s2s"),
        ("localhost:8911/", ": write ws://localhost:8911/waves/v1/s2s"),
        ("[::1]:8911/other?api_key=secret", ": write ws://[::1]:8911/other"),
        ("hydra.example.com:443", ": write wss://hydra.example.com:443/waves/v1/s2s"),
        ("http://hydra.example.com/s2s", ": write ws://hydra.example.com/s2s"),
        ("https://hydra.example.com", ": write wss://hydra.example.com/waves/v1/s2s"),
        # What may be the key is not repeated.
        ("secret", ", such as wss://api.smallest.ai/waves/v1/s2s"),
        ("example.com:secret", ", such as wss://"),
        ("https://secret@example.com/s2s", ", such as wss://"),
        ("secret://example.com", ", such as wss://"),
    ],
)
def test_a_url_without_its_scheme_is_answered_with_the_right_one(base_url: str, suggested: str):
    with pytest.raises(ValueError, match="must be a ws:// or wss:// URL") as raised:
        Endpoint(base_url, "hydra-v1.1", KEY)
    assert suggested in str(raised.value)
    assert "secret" not in str(raised.value)


def test_the_key_is_masked_in_each_form_that_a_text_may_have_it_in():
    endpoint = Endpoint("wss://example.com/s2s", "hydra-v1.1", SecretStr("a key/1"))
    assert endpoint.without_key("a key/1 a%20key%2F1 a+key%2F1") == " ".join(["[REDACTED]"] * 3)


def test_a_key_that_would_break_a_header_is_refused():
    with pytest.raises(HydraConnectionError, match="line break") as raised:
        Endpoint("wss://example.com/s2s", "hydra-v1.1", SecretStr("secret\n"))
    assert raised.value.kind is FailureKind.AUTHENTICATION
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("wss://api.smallest.ai/s2s", None),
        ("ws://localhost:8765/s2s", None),
        ("ws://LOCALHOST./s2s", None),
        ("ws://hydra.localhost/s2s", None),
        ("ws://127.0.0.1:8765/s2s", None),
        ("ws://127.255.0.9/s2s", None),
        ("ws://[::1]:8765/s2s", None),
        ("ws://api.smallest.ai/s2s", "api.smallest.ai"),
        ("ws://192.168.0.2:8765/s2s", "192.168.0.2"),
        ("ws://[2001:db8::1]/s2s", "2001:db8::1"),
        ("ws://localhost.example.com/s2s", "localhost.example.com"),
        ("ws://notlocalhost/s2s", "notlocalhost"),
    ],
)
def test_where_the_call_could_be_overheard_is_known(base_url: str, host: str | None):
    assert Endpoint(base_url, "hydra-v1.1", KEY).insecure_host == host


@pytest.mark.parametrize("auth", ["query", "header"])
async def test_the_key_goes_where_it_is_to_go(auth: AuthStyle):
    requests: list[Request] = []

    async def handler(connection: ServerConnection):
        assert connection.request is not None
        requests.append(connection.request)

    async with server(handler) as url:
        endpoint = Endpoint(f"{url}?region=eu", "hydra-v1.0", KEY, auth)
        opened = await HydraWebSocket.open(endpoint, timeout_secs=5, on_congested=print)
        assert [message async for message in messages_of(opened)] == []
        await opened.close()
    (request,) = requests
    query = parse_qs(urlsplit(request.path).query)
    assert query["model"] == ["hydra-v1.0"]
    assert query["region"] == ["eu"]
    if auth == "query":
        assert query["api_key"] == ["sk-1 2&3"]
        assert "Authorization" not in request.headers
    else:
        assert "api_key" not in query
        assert request.headers["Authorization"] == "Bearer sk-1 2&3"
    assert "Sec-WebSocket-Extensions" not in request.headers


def test_the_proxy_of_the_environment_is_found_by_an_older_library_too(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(sys.modules, "websockets.proxy", None)
    monkeypatch.setattr(uri, "get_proxy", lambda _: "http://proxy:3128", raising=False)
    module = runpy.run_path(endpoint_module.__file__)
    made = module["Endpoint"]("wss://hydra.example/s2s", "hydra-v1.1", SecretStr("key"))
    assert made.proxy_url() == "http://proxy:3128"
