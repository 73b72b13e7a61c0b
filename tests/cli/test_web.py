"""The page's server: what it answers, and a call from its offer to its end, without a browser."""

import asyncio
import importlib.metadata
import json
import re
import signal
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiortc import RTCPeerConnection
from packaging.requirements import Requirement
from pipecat.services.llm_service import FunctionCallParams
from support.bots import until, until_ended
from support.call import emulator, recording
from support.command import KEY, LONG_SECS, assert_failed, command, next_line, run
from support.web import calling, holding, options, run_in_executor
from support.webrtc import Browser, needs_network

import pipecat_hydra.cli.web.call
import pipecat_hydra.cli.web.calls
import pipecat_hydra.cli.web.main
from pipecat_hydra.cli.web import DEFAULT_INSTRUCTIONS
from pipecat_hydra.cli.web.guard import BodyLimit
from pipecat_hydra.cli.web.server import WebServer
from pipecat_hydra.cli.web.tools import TOOLS, get_time
from pipecat_hydra.emulator import (
    Call,
    EmulatedSession,
    EmulatorSettings,
    HydraEmulator,
    Say,
    Script,
    load_script,
)
from pipecat_hydra.wire.protocol import MODELS

PACKAGE = Path(__file__).parent.parent.parent / "pipecat_hydra" / "cli" / "web"
STATIC = PACKAGE / "static"
SCRIPT = PACKAGE / "demo" / "script.yaml"


@pytest.fixture(autouse=True)
def _files_are_read_in_the_executor(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("anyio.to_thread.run_sync", run_in_executor)


async def fetched(web: WebServer, path: str, **request: Any) -> tuple[int, Any, str]:
    """Status, headers and text of a page."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(request.pop("method", "GET"), web.url + path, **request) as response,
    ):
        return response.status, response.headers, await response.text()


class TestPage:
    async def test_it_is_served_with_headers_that_forbid_what_it_does_not_do(self):
        files = {
            "/": "text/html",
            "/main.js": "text/javascript",
            "/style.css": "text/css",
            "/icon.svg": "image/svg+xml",
        }
        async with WebServer(options()) as web:
            for path, kind in files.items():
                status, headers, text = await fetched(web, path)
                assert status == 200
                assert headers["Content-Type"].startswith(kind)
                assert text == (STATIC / (path[1:] or "index.html")).read_text(encoding="utf-8")
                rules = headers["Content-Security-Policy"].split("; ")
                policy = dict(rule.split(" ", 1) for rule in rules)
                assert policy["default-src"] == "'none'"
                assert policy["script-src"] == policy["style-src"] == "'self'"
                assert policy["connect-src"] == "'self'"
                assert "microphone=(self)" in headers["Permissions-Policy"]
                assert headers["X-Content-Type-Options"] == "nosniff"

    async def test_nothing_else_is_served(self):
        async with WebServer(options()) as web:
            for path in ("/docs", "/openapi.json", "/../call.py", "/%2e%2e/call.py", "/start"):
                assert (await fetched(web, path))[0] in (404, 405), path

    def test_it_loads_nothing_from_elsewhere(self):
        for path in STATIC.iterdir():
            text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert re.findall(r"""(?:https?:)?//[\w.]+\.\w""", text) == [], path
        html = (STATIC / "index.html").read_text(encoding="utf-8")
        # The policy would forbid them.
        assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?![^>]*\ssrc=)", html)

    async def test_it_says_that_the_emulator_answers(self):
        async with WebServer(options()) as web:
            about = json.loads((await fetched(web, "/api/about"))[2])
        assert about["service"] == "emulator"
        assert about["script"] == "own"
        assert about["can_disturb"]

    async def test_it_says_that_hydra_answers_but_not_with_which_key(self):
        async with WebServer(options(api_key=KEY, voice="zoe")) as web:
            text = (await fetched(web, "/api/about"))[2]
            about = json.loads(text)
        assert about == {
            "service": "hydra",
            "model": "hydra-v1.1",
            "voice": "zoe",
            "script": None,
            "instructions": DEFAULT_INSTRUCTIONS,
            "models": [
                {
                    "name": model.name,
                    "voices": list(model.voices),
                    "default_voice": model.default_voice,
                }
                for model in MODELS.values()
            ],
            "can_disturb": False,
            "instructions_limit": 8_000,
            "text_limit": 2_000,
            "version": importlib.metadata.version("pipecat-hydra"),
            "links": {
                "Smallest AI": "https://smallest.ai",
                "Pipecat": "https://github.com/pipecat-ai/pipecat",
            },
            "prebuilt": None,
        }
        assert KEY not in text
        assert KEY not in repr(options(api_key=KEY))

    async def test_it_says_that_it_is_there(self):
        async with WebServer(options()) as web:
            assert (await fetched(web, "/api/alive"))[0] == 204

    async def test_other_pages_may_not_call(self):
        async with WebServer(options()) as web:
            offer = {"method": "POST", "json": {"sdp": "", "type": "offer"}}
            for origin in ("https://example.org", "null", "http://localhost:1"):
                status, _, text = await fetched(
                    web, "/api/offer", headers={"Origin": origin}, **offer
                )
                assert status == 403
                assert "other sites" in text
            status, _, text = await fetched(web, "/", headers={"Host": "rebound.example.org"})
            assert status == 403
            assert "address that the server has printed" in text
            # As through a forwarded port.
            forwarded = {"Host": "localhost:99", "Origin": "http://localhost:99"}
            assert (await fetched(web, "/", headers=forwarded))[0] == 200

    async def test_the_name_of_this_machine_may_have_capitals(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        resolved = socket.getaddrinfo

        def resolve(host: Any, *args: Any, **more: Any) -> Any:
            return resolved("127.0.0.1" if host == "MyBox" else host, *args, **more)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        async with WebServer(options(host="MyBox")) as web:
            assert web.url == f"http://MyBox:{web.port}"
            async with (
                aiohttp.ClientSession() as session,
                session.get(
                    f"http://127.0.0.1:{web.port}/", headers={"Host": f"mybox:{web.port}"}
                ) as response,
            ):
                assert response.status == 200
                # A server that is left in the middle of a file may not close it in time.
                await response.read()

    async def test_its_own_page_may_call_through_a_proxy_that_names_another_host(self):
        async with WebServer(options()) as web:
            page = {"Origin": "https://bot.example.org"}
            for site, status in (("same-origin", 200), ("same-site", 403), ("cross-site", 403)):
                headers = {**page, "Sec-Fetch-Site": site}
                assert (await fetched(web, "/api/about", headers=headers))[0] == status

    async def test_which_names_requests_may_use(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(socket, "gethostname", lambda: "MyBox.corp.example")
        open_to_all = options(host="0.0.0.0", allowed_hosts=("Bot.Example.org", "bücher.example"))
        answers = {
            200: "localhost 127.0.0.1 [::1] 192.0.2.7 203.0.113.9 mybox mybox.local "
            "MYBOX.corp.example bot.example.org bot.example.org. xn--bcher-kva.example",
            403: "rebound.example.org example.org mybox.example x.bot.example.org 0x7f.1 local "
            "localhost.example.org",
        }
        async with WebServer(open_to_all) as web:
            for status, hosts in answers.items():
                for host in hosts.split():
                    for authority in (host, f"{host}:{web.port}"):
                        same = {"Host": authority, "Origin": f"http://{authority}"}
                        got, headers, text = await fetched(web, "/api/about", headers=same)
                        assert got == status, (authority, text)
                        assert headers["X-Content-Type-Options"] == "nosniff"
                        if status == 403:
                            assert f"--allow-host {host}" in text

    async def test_a_proxys_page_may_call_if_its_name_is_allowed(self):
        page = {"Origin": "https://bot.example.org"}
        async with WebServer(options(host="0.0.0.0")) as web:
            status, _, text = await fetched(web, "/api/about", headers=page)
            assert status == 403
            assert "--allow-host" in text
        async with WebServer(options(allowed_hosts=("bot.example.org",))) as web:
            assert (await fetched(web, "/api/about", headers=page))[0] == 200
            other = {"Origin": "https://example.org"}
            assert (await fetched(web, "/api/about", headers=other))[0] == 403

    async def test_names_that_are_none(self):
        async with WebServer(options()) as web:
            for header in ("Host", "Origin"):
                for name in ("[", "http://[", "a b", ":", "no_host.org", "localhost@example.org"):
                    status, _, _ = await fetched(web, "/api/about", headers={header: name})
                    assert status == 403, (header, name)

    async def test_a_request_that_is_too_large(self):
        most = 256 * 1024

        async def in_pieces(size: int) -> AsyncGenerator[bytes]:
            yield b" " * (size - 2)
            yield b"{}"

        async with WebServer(options()) as web:
            for size, status in ((most, 422), (most + 1, 413), (4 * most, 413)):
                for body in (b" " * (size - 2) + b"{}", in_pieces(size)):
                    request = {"data": body, "headers": {"Content-Type": "application/json"}}
                    got, _, text = await fetched(web, "/api/offer", method="POST", **request)
                    assert got == status
                    assert ("at most 256 kB" in text) is (status == 413)

    async def test_what_is_too_large_behind_an_answer_that_has_begun_fails_nothing(self):
        """A file is answered without a look at the body, then the server waits for the client."""
        incoming = [{"type": "http.request", "body": bytes(2**18), "more_body": True}] * 3
        incoming.append({"type": "http.disconnect"})
        sent: list[Any] = []

        async def serve_file(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while (await receive())["type"] != "http.disconnect":
                pass

        async def receive() -> Any:
            return incoming.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        await BodyLimit(serve_file)({"type": "http", "headers": []}, receive, send)
        assert [message["status"] for message in sent] == [200]

    async def test_an_offer_that_cannot_be_read(self):
        no_type = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 96"
        offers: list[tuple[dict[str, Any], int]] = [
            ({"sdp": "v=0", "type": "offer"}, 400),
            ({"sdp": "m=audio nonsense", "type": "offer"}, 400),
            ({"sdp": no_type, "type": "nonsense"}, 400),
            ({"sdp": 3}, 422),
            ({}, 422),
        ]
        async with WebServer(options()) as web:
            for body, status in offers:
                answered = await fetched(web, "/api/offer", method="POST", json=body)
                assert answered[0] == status, body
                assert "Traceback" not in answered[2]
                assert len(web.calls) == 0

    async def test_candidates_for_no_call(self):
        async with WebServer(options()) as web:
            body = {"pc_id": "none", "candidates": []}
            assert (await fetched(web, "/api/offer", method="PATCH", json=body))[0] == 404

    async def test_pipecats_page_is_beside_it_if_it_is_installed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        package = tmp_path / "pipecat_ai_prebuilt"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "index.html").write_text("prebuilt")
        (package / "frontend.py").write_text(
            "from fastapi.staticfiles import StaticFiles\n"
            "print('Looking for dist directory')\n"
            f"PipecatPrebuiltUI = StaticFiles(directory={str(package)!r}, html=True)\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        async with WebServer(options()) as web:
            about = json.loads((await fetched(web, "/api/about"))[2])
            status, headers, text = await fetched(web, about["prebuilt"])
            started = json.loads((await fetched(web, "/start", method="POST", json={}))[2])
            path = f"/sessions/{started['sessionId']}/api/offer"
            refused = await fetched(web, path, method="POST", json={"sdp": "", "type": "offer"})
        assert (status, text) == (200, "prebuilt")
        assert "Content-Security-Policy" not in headers
        assert refused[0] == 400
        assert capsys.readouterr().out == ""


def weather_bot() -> HydraEmulator:
    """An emulator whose first answer, of eight seconds, begins with a function call."""
    script = Script(
        [
            [Call("get_weather", {"city": "Paris"}, "weather"), Say.tones(8, "It is sunny.")],
            Say.tones(0.4, "Stopped."),
        ],
        greeting=Say.tones(0.4, "Hello there."),
    )
    return HydraEmulator(script, settings=EmulatorSettings(transcripts=True))


def typed(session: EmulatedSession) -> list[str]:
    """The texts that a session was told as messages."""
    items = [record.event["item"] for record in session.received_of("conversation.item.create")]
    return [item["content"][0]["text"] for item in items if item["type"] == "message"]


class TestCall:
    """One call, with a page that needs no WebRTC."""

    async def test_what_the_page_is_told(self, monkeypatch: pytest.MonkeyPatch):
        async with weather_bot() as hydra, holding(hydra, monkeypatch) as (page, _):
            await page.introduce()
            await page.until("bot-stopped-speaking")
            await page.microphone.say(recording("question"))
            await page.until("bot-started-speaking", 2)
            await page.microphone.say(recording("interrupt"))
            await page.until("bot-stopped-speaking", 3)

        told = page.types()
        for message in ("bot-llm-text", "bot-transcription", "bot-tts-text", "server-message"):
            told = [kind for kind in told if kind != message]
        telling = [kind for kind in told if kind not in ("metrics", "bot-tts-stopped")]
        assert telling[0] == "bot-ready"
        turn = telling[telling.index("user-started-speaking") :]
        assert turn[: turn.index("bot-output") + 1] == [
            "user-started-speaking",
            "bot-interrupted",
            "user-stopped-speaking",
            "bot-llm-started",
            "bot-llm-stopped",
            "llm-function-call-started",
            "llm-function-call-in-progress",
            "llm-function-call-stopped",
            "bot-llm-started",
            "bot-tts-started",
            "bot-started-speaking",
            "bot-output",
        ]
        (begun,) = page.data("llm-function-call-in-progress")
        assert begun["function_name"] == "get_weather"
        assert begun["arguments"] == {"city": "Paris"}
        (done,) = page.data("llm-function-call-stopped")
        assert done["result"] == {"city": "Paris", "sky": "sunny", "degrees_celsius": 21}
        assert done["tool_call_id"] == begun["tool_call_id"]
        said = "".join(data["text"] for data in page.data("bot-output"))
        assert said == "Hello there.It is sunny.Stopped."
        ttfb = [metric for data in page.data("metrics") for metric in data.get("ttfb", [])]
        assert len(ttfb) == 3
        assert all(0 < metric["value"] < 2 for metric in ttfb)
        heard = [kind for kind in turn if "llm" not in kind and kind != "bot-output"]
        barge_in = heard[heard.index("bot-started-speaking") + 1 :]
        assert barge_in[:3] == ["user-started-speaking", "bot-interrupted", "bot-stopped-speaking"]
        assert "error" not in page.types()

    async def test_a_key_that_is_rejected(self, monkeypatch: pytest.MonkeyPatch):
        async with emulator() as hydra:
            async with holding(hydra, monkeypatch, api_key=KEY) as (page, call):
                await page.introduce()
                await page.until("server-message")
                (problem,) = page.told("problem")
                assert problem["ended"]
                assert "rejected the key: check SMALLEST_API_KEY" in problem["text"]
                # A page would hang up now; it ends without that, too.
                await until_ended(call)
                assert page.announced == [problem["text"]]
            assert page.is_disconnected
            assert KEY not in json.dumps(page.messages)

    async def test_a_session_that_is_lost_and_comes_back(self, monkeypatch: pytest.MonkeyPatch):
        async with emulator() as hydra, holding(hydra, monkeypatch) as (page, _):
            await page.introduce()
            await page.until("bot-stopped-speaking")
            await hydra.drop()
            await until(lambda: page.told("note"))
            await page.microphone.say(recording("hello"))
            await page.until("bot-started-speaking", 2)
            assert len(hydra.sessions) == 2
            lost, back = page.told("problem", "note")
        assert (lost["type"], lost["ended"]) == ("problem", False)
        assert lost["text"].startswith("no connection to Hydra: ")
        assert back == {"type": "note", "text": "The session is back."}

    async def test_a_page_that_is_forgotten(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(pipecat_hydra.cli.web.call, "_IDLE_LIMIT_SECS", 3.0)
        async with emulator() as hydra, holding(hydra, monkeypatch) as (page, call):
            await page.introduce()
            await until_ended(call)
            assert page.is_disconnected
        assert page.told("problem") == [
            {"type": "problem", "text": "nobody spoke for 0.05 minutes", "ended": True}
        ]

    async def test_how_much_of_a_reply_is_generated(self, monkeypatch: pytest.MonkeyPatch):
        async with weather_bot() as hydra, holding(hydra, monkeypatch) as (page, _):
            await page.introduce()
            await page.until("bot-stopped-speaking")
            await page.microphone.say(recording("question"))
            await page.until("bot-started-speaking", 2)
            await page.microphone.say(recording("interrupt"))
            await page.until("bot-stopped-speaking", 3)
        secs = {told["reply"]: told["secs"] for told in page.told("generated")}
        assert secs.keys() == {1, 2, 3}
        assert secs[1] == pytest.approx(0.4, abs=0.25)  # with silence after it
        assert 1 < secs[2] < 8.5  # of eight seconds, of which half a second was heard
        heard = [told for told in page.told("generated") if told["reply"] == 2]
        assert len(heard) > 1

    async def test_what_is_typed_is_answered_at_once(self, monkeypatch: pytest.MonkeyPatch):
        async with weather_bot() as hydra, holding(hydra, monkeypatch) as (page, _):
            await page.introduce()
            await page.until("bot-stopped-speaking")
            await page.send("say", {"text": " What about Paris? "})
            await page.until("bot-started-speaking", 2)
            await page.send("say", {"text": "Stop."})  # of eight seconds
            await page.until("bot-stopped-speaking", 3)
            (session,) = hydra.sessions
        assert typed(session) == ["What about Paris?", "Stop."]
        assert page.timeline.secs < 8

    @pytest.mark.parametrize("text", ["", "  ", None, 7, ["x"]])
    async def test_what_is_no_text(self, text: Any, monkeypatch: pytest.MonkeyPatch):
        async with weather_bot() as hydra, holding(hydra, monkeypatch) as (page, _):
            await page.introduce()
            await page.until("bot-stopped-speaking")
            await page.send("say", {"text": text})
            await page.send("say", text)
            await page.send("something new", {"text": "x"})
            await page.send("disturb", {"what": "drop"})  # it has nothing that it could disturb
            await page.send("say", {"text": "x" * 3_000})
            await page.until("bot-started-speaking", 2)
            (session,) = hydra.sessions
            assert typed(session) == ["x" * 2_000]

    async def test_a_page_that_is_never_ready(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(pipecat_hydra.cli.web.call, "_READY_LIMIT_SECS", 3.0)
        async with emulator() as hydra, holding(hydra, monkeypatch) as (page, call):
            await until_ended(call)
            assert page.is_disconnected
            assert page.messages == []
            assert page.timeline.secs > 2.5

    async def test_a_page_that_hangs_up(self, monkeypatch: pytest.MonkeyPatch):
        async with emulator() as hydra, holding(hydra, monkeypatch) as (page, call):
            await page.introduce()
            await page.until("bot-started-speaking")
            await page.hang_up()
            await until_ended(call)
            assert page.is_disconnected
            await until(lambda: hydra.open_sessions == [])


@needs_network
@pytest.mark.realtime
class TestCallOverWebRTC:
    async def test_a_call_is_heard_can_be_interrupted_and_leaves_nothing(self):
        before = asyncio.all_tasks()
        async with weather_bot() as hydra:
            async with WebServer(options(hydra)) as web:
                serving = asyncio.all_tasks()
                async with calling(web) as browser:
                    assert set(browser.answer) == {"sdp", "type", "pc_id"}
                    await browser.until("bot-stopped-speaking")
                    assert browser.heard_peak > 1_000
                    browser.say("question")
                    await browser.until("bot-started-speaking", 2)
                    browser.say("interrupt")
                    await browser.until("bot-stopped-speaking", 3)
                    assert len(web.calls) == 1
                await until(lambda: not len(web.calls))
                # Of aiortc's a few end only after the connection has.
                await until(lambda: asyncio.all_tasks() <= serving, asyncio.all_tasks)
                (session,) = hydra.sessions
                assert session.closed
                assert session.errors == []
            await until(lambda: hydra.open_sessions == [])
        assert asyncio.all_tasks() == before
        assert browser.types()[0] == "bot-ready"
        (done,) = browser.data("llm-function-call-stopped")
        assert done["result"] == {"city": "Paris", "sky": "sunny", "degrees_celsius": 21}
        assert "error" not in browser.types()

    async def test_each_call_has_a_session_and_the_end_of_the_server_ends_it(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        # Pipecat's own page calls by another path, and sends more.
        monkeypatch.setattr("pipecat_hydra.cli.web.app.has_prebuilt", lambda: True)
        monkeypatch.setattr("pipecat_hydra.cli.web.prebuilt.import_module", lambda _: Prebuilt)
        more: dict[str, Any] = {"pc_id": None, "restart_pc": False, "requestData": {}}
        announced: list[str] = []
        async with emulator() as hydra:
            async with (
                WebServer(options(hydra), announced.append) as web,
                calling(web) as one,
            ):
                other = Browser(web.url, offer_path="/sessions/any/api/offer", **more)
                await other.call()
                await one.until("bot-started-speaking")
                await other.until("bot-started-speaking")
                assert len(hydra.open_sessions) == len(web.calls) == 2
                await one.hang_up()
                await until(lambda: len(web.calls) == 1)
                await until(lambda: len(hydra.open_sessions) == 1)
                assert other.state == "connected"
            await until(lambda: hydra.open_sessions == [])
            await until(lambda: other.state == "closed", lambda: other.state)
        assert other.messages[-1]["message"] == {"type": "peerLeft"}
        await other.hang_up()
        assert announced[1:3] == ["call 1 began", "call 2 began"]
        assert re.fullmatch(r"call 1 ended after \d+ s", announced[3])
        assert re.fullmatch(r"call 2 ended after \d+ s", announced[4])

    async def test_the_terminal_is_told_why_a_key_ended_the_call(self):
        announced: list[str] = []
        async with (
            emulator() as hydra,
            WebServer(options(hydra, api_key=KEY), announced.append) as web,
            calling(web) as browser,
        ):
            await browser.until("server-message")
            await until(lambda: len(announced) == 4, lambda: announced)
        assert announced[1] == "call 1 began"
        assert announced[2].startswith("call 1: Hydra rejected the key: check SMALLEST_API_KEY")
        assert announced[3].startswith("call 1 ended after")
        assert KEY not in "".join(announced)

    async def test_the_terminal_is_told_problems_without_escapes(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        class Odd(pipecat_hydra.cli.web.call.Call):
            async def run(self) -> None:
                self._announce("a \x1b[31mred\x1b[0m word")
                await super().run()

        monkeypatch.setattr(pipecat_hydra.cli.web.calls, "Call", Odd)
        announced: list[str] = []
        async with (
            emulator() as hydra,
            WebServer(options(hydra), announced.append) as web,
            calling(web),
        ):
            await until(lambda: len(announced) == 3, lambda: announced)
        assert announced[2] == r"call 1: 'a \x1b[31mred\x1b[0m word'"

    async def test_calls_that_end_as_they_begin_or_never_begin(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(pipecat_hydra.cli.web.call, "_READY_LIMIT_SECS", 1.0)
        monkeypatch.setattr(pipecat_hydra.cli.web.calls, "_CONNECT_LIMIT_SECS", 1.0)
        delays = [0.0, 0.02, 0.05, 0.1, 0.2, 0.5]

        async def page_goes(web: WebServer, later_secs: float) -> None:
            async with calling(web):
                await asyncio.sleep(later_secs)

        async def server_goes(hydra: HydraEmulator, later_secs: float) -> None:
            async with WebServer(options(hydra)) as web:
                browser = Browser(web.url)
                await browser.call()
                await asyncio.sleep(later_secs)
            assert len(web.calls) == 0
            await browser.hang_up()

        async with emulator() as hydra, an_offer() as body:
            async with WebServer(options(hydra)) as web:
                assert (await fetched(web, "/api/offer", method="POST", json=body))[0] == 200
                assert len(web.calls) == 1
                for delay in delays:
                    await page_goes(web, delay)
                await until(lambda: not len(web.calls))
            for delay in delays:
                await server_goes(hydra, delay)
            await until(lambda: hydra.open_sessions == [])

    async def test_an_offer_whose_page_never_connects_takes_a_place_for_a_while_but_no_session(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(pipecat_hydra.cli.web.calls, "_CONNECT_LIMIT_SECS", 2.0)
        before = asyncio.all_tasks()
        announced: list[str] = []
        async with emulator() as hydra, an_offer() as body:
            async with WebServer(options(hydra), announced.append) as web:
                serving = asyncio.all_tasks()
                offers = [fetched(web, "/api/offer", method="POST", json=body) for _ in range(10)]
                answers = await asyncio.gather(*offers)
                assert sorted(answer[0] for answer in answers) == [*[200] * 8, *[503] * 2]
                assert len(web.calls) == 8
                refused = next(json.loads(text) for status, _, text in answers if status == 503)
                assert refused["detail"].startswith("The server holds 8 calls")
                await until(lambda: not len(web.calls))
                await until(lambda: asyncio.all_tasks() <= serving, asyncio.all_tasks)
                async with calling(web) as browser:
                    await browser.until("bot-started-speaking")
                    # One that is still waiting when the server ends.
                    assert (await fetched(web, "/api/offer", method="POST", json=body))[0] == 200
            assert len(hydra.sessions) == 1
            await until(lambda: asyncio.all_tasks() <= before, asyncio.all_tasks)
        assert [line.rpartition(" after")[0] or line for line in announced[1:]] == [
            "call 1 began",
            "call 1 ended",
        ]

    async def test_a_call_in_progress_may_renegotiate_when_no_place_is_free(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(pipecat_hydra.cli.web.calls, "_MOST_CALLS", 1)
        async with emulator() as hydra, WebServer(options(hydra)) as web, calling(web) as one:
            await one.until("bot-started-speaking")
            async with an_offer() as body:
                renewed = {**body, "pc_id": one.answer["pc_id"]}
                for offer, status in ((body, 503), (renewed, 200)):
                    answer = await fetched(web, "/api/offer", method="POST", json=offer)
                    assert answer[0] == status, answer


@asynccontextmanager
async def an_offer() -> AsyncGenerator[dict[str, str]]:
    """An offer without an ICE candidate, so it never connects."""
    peer = RTCPeerConnection()
    peer.addTransceiver("audio")
    offer = await peer.createOffer()
    yield {"sdp": offer.sdp, "type": offer.type}
    await peer.close()


class Prebuilt:
    @staticmethod
    async def PipecatPrebuiltUI(*_: Any) -> None: ...  # noqa: N802


class TestScript:
    """What the emulator answers when nothing else is asked for."""

    def test_it_calls_the_functions_that_there_are(self):
        script = load_script(SCRIPT)
        steps = [step for turn in script.turns for step in turn]  # pyright: ignore
        called = {step.name for step in steps if isinstance(step, Call)}
        assert called == {tool.__name__ for tool in TOOLS}

    def test_the_package_holds_no_recording_that_is_not_said(self):
        said = set(re.findall(r"say: (\S+)", SCRIPT.read_text(encoding="utf-8")))
        assert said == {path.name for path in SCRIPT.parent.glob("*.ogg")}
        assert sum(path.stat().st_size for path in SCRIPT.parent.glob("*.ogg")) < 100_000

    def test_its_recordings_say_what_its_transcripts_say(self):
        recorded = (SCRIPT.parent / "make.sh").read_text(encoding="utf-8").replace("\\\n", "")
        turns = yaml.safe_load(SCRIPT.read_text(encoding="utf-8"))["turns"]
        for step in [
            step for turn in turns for step in (turn if isinstance(turn, list) else [turn])
        ]:
            if "transcript" in step:
                assert step["transcript"].replace("-", " ") in recorded


class TestGetTime:
    async def told(self, time_zone: str) -> dict[str, str]:
        results: list[Any] = []

        class Params:
            async def result_callback(self, result: Any) -> None:
                results.append(result)

        params: Any = Params()
        assert isinstance(get_time.__annotations__["params"], type(FunctionCallParams))
        await get_time(params, time_zone)
        (result,) = results
        return result

    async def test_a_time_zone(self):
        told = await self.told("Europe/Rome")
        assert told["time_zone"] == "Europe/Rome"
        assert re.fullmatch(r"\d\d:\d\d", told["time"])

    @pytest.mark.parametrize(
        "name", ["", "Nowhere/Else", "Europe", "../etc/passwd", "/etc", "a\0b"]
    )
    async def test_no_time_zone(self, name: str):
        assert "error" in await self.told(name)


class TestCommand:
    def test_help(self):
        result = run("web", "--help")
        assert result.exit_code == 0
        for what in (
            "--host",
            "--port",
            "--allow-host",
            "--voice",
            "--model",
            "--instructions",
            "--script",
        ):
            assert what in result.output
        assert "pip install aiortc fastapi uvicorn" in " ".join(result.output.split())

    def test_the_extra_is_missing(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(pipecat_hydra.cli.web.main, "find_spec", lambda _: None)
        message = "the page needs aiortc, fastapi, uvicorn: pip install aiortc fastapi uvicorn"
        assert_failed(run("web"), 1, message)

    def test_the_extra_is_what_pipecat_asks_for_but_for_video(self):
        asked = [Requirement(line) for line in importlib.metadata.requires("pipecat-ai") or []]
        of_pipecat = {
            (requirement.name, requirement.specifier)
            for requirement in asked
            for extra in ("webrtc", "runner")
            if requirement.marker
            and requirement.marker.evaluate({"extra": extra})
            and not requirement.marker.evaluate({"extra": ""})
            and requirement.name not in ("opencv-python-headless", "pipecat-ai-prebuilt")
        }
        own = [Requirement(line) for line in importlib.metadata.requires("pipecat-hydra") or []]
        of_the_extra = {
            (requirement.name, requirement.specifier)
            for requirement in own
            if "web" in str(requirement.marker) and requirement.name != "tzdata"
        }
        assert of_the_extra == of_pipecat

    def test_options_that_exclude_each_other(self):
        url = "ws://127.0.0.1:1/waves/v1/s2s"
        assert_failed(run("web", "--emulator", "--url", url), 2, "exclude each other")
        assert_failed(run("web", "--url", url), 2, "SMALLEST_API_KEY")

    def test_no_such_url(self):
        result = run("web", "--port", 0, "--url", "http://host", key=KEY)
        assert_failed(result, 2, "ws://")
        result = run("web", "--port", 0, "--url", f"wss://host/?api_key={KEY}-2", key="other")
        assert_failed(result, 2, "must not carry the key")

    def test_no_such_name(self):
        for name in ("https://bot.example.org", "bot.example.org:443", "*.example.org", "", "a/b"):
            failed = run("web", "--port", 0, "--allow-host", name)
            assert_failed(failed, 2, "--allow-host takes a host name such as bot.example.org")

    def test_bad_script(self, tmp_path: Path):
        script = tmp_path / "script.yaml"
        script.write_text("turns: 3\n")
        assert_failed(run("web", "--port", 0, "--script", script), 2, str(script))

    def test_port_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            result = run("web", "--port", port)
        assert_failed(result, 1, f"cannot listen on 127.0.0.1, port {port}: address already in use")
        assert "--port" in result.stderr

    def test_no_such_host(self):
        assert_failed(run("web", "--host", "no.such.host.invalid"), 2, "no address for the host")
        assert_failed(run("web", "--host", "192.0.2.77", "--port", 0), 1, "cannot listen on")

    def test_ctrl_c_ends_it(self):
        result = run("web", "--port", 0, interrupt_after="in a browser")
        starting, whom, where, ended = result.output.splitlines()
        assert starting == "Starting the page ..."
        assert "embedded emulator, which answers by a script" in whom
        assert re.search(r"Open http://127\.0\.0\.1:\d+ in a browser", where)
        assert ended == "ended"
        assert result.exit_code == 0

    @needs_network
    @pytest.mark.realtime
    async def test_ctrl_c_ends_a_call_too(self, tmp_path: Path):
        process = command("web", "--port", 0, cwd=tmp_path)
        next_line(process)
        next_line(process)
        found = re.search(r"http://\S+", next_line(process))
        assert found
        browser = Browser(found[0])
        await browser.call()
        await browser.until("bot-started-speaking")
        process.send_signal(signal.SIGINT)
        output, errors = await asyncio.to_thread(process.communicate, timeout=LONG_SECS)
        assert re.fullmatch(r"call 1 began\ncall 1 ended after \d+ s\nended\n", output)
        assert (errors, process.returncode) == ("", 0)
        await browser.hang_up()

    def test_other_machines_need_https(self):
        result = run("web", "--host", "0.0.0.0", "--port", 0, interrupt_after="Whoever reaches")
        _, _, where, https, whoever, ended = result.output.splitlines()
        assert re.search(r"Open http://localhost:\d+ in", where)
        assert re.search(r"without https.*ssh -L (\d+):localhost:\1", https)
        assert "Whoever reaches this port can call" in whoever
        assert ended == "ended"
        assert result.exit_code == 0
