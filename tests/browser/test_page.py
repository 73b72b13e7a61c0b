"""The page in a real browser: what a person sees, hears and can do on it.

They need Chromium and Playwright: `make test-browser`. `SCREENSHOTS=folder` names where the
pictures go.
"""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bots import until
from support.call import emulator

pytest.importorskip("playwright", reason="Playwright is missing: make test-browser installs it")
pytest.importorskip("aiortc", reason="the extra is missing: make test-browser installs it")

from browser.chromium import (
    CHROMIUM,
    FAKE_MICROPHONE,
    FAKE_PERMISSION,
    Tab,
    chromium,
    microphone,
    tab,
)
from playwright.async_api import Browser
from support.command import KEY, command, next_line
from support.web import options
from support.webrtc import needs_network

import pipecat_hydra.cli.web.calls
import pipecat_hydra.cli.web.guard
from pipecat_hydra.cli.web.server import WebServer
from pipecat_hydra.emulator import Call, EmulatorSettings, HydraEmulator, Say, Script

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="there is no Chromium: on Debian, apt-get install chromium; or name it in CHROMIUM",
    ),
    needs_network,
]

PHONE = {
    "viewport": {"width": 360, "height": 640},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
DARK = {"color_scheme": "dark"}

HEARD = 0.01
"""A level above which something is heard."""

GREETING = Say.tones(0.6, "Hello there.")


def tone(secs: float, transcript: str) -> Say:
    """One note without a pause in it, so that it can be told when it is cut."""
    moments = np.arange(round(secs * 16_000)) / 16_000
    pcm = (8_000 * np.sin(2 * np.pi * 440 * moments)).astype("<i2").tobytes()
    return Say(pcm, 16_000, transcript)


def hydra(*turns: Any, greeting: Say = GREETING) -> HydraEmulator:
    settings = EmulatorSettings(transcripts=True)
    return HydraEmulator(Script(list(turns), greeting=greeting), settings=settings)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
async def quiet_browser(tmp_path: Path) -> AsyncGenerator[Browser]:
    """A browser whose user is there but says nothing."""
    file = microphone(tmp_path / "silence.wav", [])
    async with chromium(FAKE_PERMISSION, FAKE_MICROPHONE, capture(file)) as browser:
        yield browser


def capture(file: Path) -> str:
    return f"--use-file-for-fake-audio-capture={file}%noloop"


@pytest.mark.parametrize(
    ("name", "context"), [("desktop", {}), ("phone", {**PHONE, **DARK})], ids=["desktop", "phone"]
)
async def test_a_conversation(
    name: str,
    context: dict[str, Any],
    tmp_path: Path,
    pictures: Path,
    record_property: Any,
):
    said = microphone(tmp_path / "said.wav", [4.0, "question", 4.0, "interrupt"])
    turns = [
        [Call("get_weather", {"city": "Paris"}), tone(12, "It will be sunny in Paris tomorrow.")],
        Say.tones(0.6, "I have stopped."),
    ]
    async with hydra(*turns) as server, WebServer(options(server)) as web:
        before = asyncio.all_tasks()
        async with (
            chromium(FAKE_PERMISSION, FAKE_MICROPHONE, capture(said)) as browser,
            tab(browser, web.url, **context) as page,
        ):
            await page.page.screenshot(path=pictures / f"{name}-before.png")
            connected_secs = await page.call()
            assert connected_secs < 10

            await page.until_shown("Hello there.", "#timeline")
            await page.until_shown("It will be", "#timeline")
            await page.page.screenshot(path=pictures / f"{name}-in.png")
            (call,) = await page.entries("call")
            assert call.startswith("get_weather ")
            assert 'Arguments { "city": "Paris" } Copy' in call
            assert '{ "city": "Paris", "sky": "sunny", "degrees_celsius": 21 } Copy' in call
            await page.page.evaluate("document.getElementById('alert').textContent = 'A stall.'")

            await page.until_shown("I have stopped.", "#timeline")
            # It is over when the bot speaks again, which may be a moment after its words.
            await page.page.wait_for_selector("[role=alert]:empty", state="attached")
            await page.until_shown("after your first sound", "#timeline")
            kinds = await page.page.locator("#timeline .entry").evaluate_all(
                "entries => entries.map((entry) => entry.classList[1])"
            )
            assert kinds == [
                "note",
                "reply",
                "user",
                "call",
                "reply",
                "user",
                "interruption",
                "reply",
            ]
            greeting, interrupted, last = await page.entries("reply")
            assert greeting.startswith("Hydra ")
            assert "first audio" in greeting
            assert "interrupted" in interrupted
            assert "interrupted" not in last

            times, user, bot = await page.levels()
            level = float(np.sqrt(np.mean(bot[bot > HEARD] ** 2)))
            assert level > 0.05
            # The first sound of the user's second turn, and the last of the tone before it.
            sounds = times[user > HEARD]
            begins = sounds[np.flatnonzero(np.diff(sounds, prepend=-10) > 2)]
            assert len(begins) == 2
            still = times[(times > begins[1]) & (bot > HEARD)]
            pauses = np.flatnonzero(np.diff(still, append=np.inf) > 0.4)
            silent_secs = float(still[pauses[0]] - begins[1])
            # Some 0.4 s; the tone would go on for 8 s. The machine may have other work.
            assert 0 < silent_secs < 5

            await page.page.click("#call")
            await page.until_phase("ended")
            await page.page.screenshot(path=pictures / f"{name}-after.png")
            assert (await page.entries())[-1].startswith("The call ended after 0:")
            assert await page.page.evaluate(
                "microphone.getTracks().every((track) => track.readyState === 'ended')"
            )
            await until(lambda: len(web.calls) == 0)
            (session,) = server.sessions
            await until(lambda: session.closed)
            assert session.errors == []
        await until(lambda: asyncio.all_tasks() <= before, asyncio.all_tasks)
    record_property("connected_secs", connected_secs)
    record_property("level", level)
    record_property("silent_secs", silent_secs)
    print(f"connected {connected_secs:.2f} s, level {level:.3f}, silent {silent_secs:.2f} s")


async def test_mute_and_unmute(tmp_path: Path):
    said = microphone(tmp_path / "said.wav", [4.0, "hello", 5.0, "hello"])
    async with (
        hydra(Say.tones(0.4, "Yes?")) as server,
        WebServer(options(server)) as web,
        chromium(FAKE_PERMISSION, FAKE_MICROPHONE, capture(said)) as browser,
        tab(browser, web.url) as page,
    ):
        mute = page.page.get_by_role("button", name="Mute")
        assert await mute.is_disabled()
        await page.call()
        await mute.click()
        assert await mute.get_attribute("aria-pressed") == "true"
        assert await page.text("#announcement") == "Muted."
        await page.until_shown("You are muted", "#state")
        began = (await page.levels())[0, -1]
        await asyncio.sleep(6)
        times, user, _ = await page.levels()
        assert user[times > began + 0.5].max() == 0
        assert await page.entries("user") == []

        await mute.click()
        assert await mute.get_attribute("aria-pressed") == "false"
        await page.until_shown("Yes?", "#timeline")
        assert len(await page.entries("user")) == 1


async def test_the_microphone_is_denied(pictures: Path):
    async with (
        emulator() as server,
        WebServer(options(server)) as web,
        chromium(FAKE_MICROPHONE, "--deny-permission-prompts") as browser,
        tab(browser, web.url, **PHONE) as page,
    ):
        await page.page.click("#call")
        await page.until_phase("failed")
        assert "The microphone is blocked. Allow it" in await page.text("[role=alert]")
        assert await page.text("#state") == "Not connected"
        assert await page.text("#call") == "Call"
        await page.page.screenshot(path=pictures / "phone-denied.png")
        assert len(web.calls) == len(server.sessions) == 0


async def test_there_is_no_microphone():
    async with (
        WebServer(options()) as web,
        chromium(FAKE_PERMISSION) as browser,
        tab(browser, web.url) as page,
    ):
        await page.page.add_init_script("navigator.mediaDevices.enumerateDevices = async () => []")
        await page.page.click("#call")
        await page.until_shown("There is no microphone.", "[role=alert]")


async def test_the_page_is_not_secure():
    # As from another machine, by a name that leads here.
    rule = "--host-resolver-rules=MAP an.example.org 127.0.0.1"
    async with (
        WebServer(options(host="0.0.0.0", allowed_hosts=("an.example.org",))) as web,
        chromium(FAKE_PERMISSION, FAKE_MICROPHONE, rule) as browser,
        tab(browser, f"http://an.example.org:{web.port}") as page,
    ):
        await page.page.click("#call")
        await page.until_shown("neither https nor localhost", "[role=alert]")
        assert f"open http://localhost:{web.port}." in await page.text("[role=alert]")


async def test_the_server_is_missing_and_comes_back(quiet_browser: Browser, pictures: Path):
    async with emulator() as server:
        async with WebServer(options(server)) as web:
            port, url = web.port, web.url
            page = Tab(await quiet_browser.new_page(), url)
            await page.page.goto(url)
            await page.until_shown("Hydra takes the call.")
        await page.page.click("#call")
        await page.until_shown("The server does not answer. Start", "[role=alert]")
        await page.page.screenshot(path=pictures / "desktop-missing.png")
        assert "ERR_CONNECTION_REFUSED" in page.complaints.pop()
        async with WebServer(options(server, port=port)) as web:
            await page.call()
            assert await page.text("[role=alert]") == ""
            await page.page.click("#call")
            await until(lambda: len(web.calls) == 0)
            await page.page.wait_for_selector("#recording:not([hidden])")
        assert page.complaints == []


async def test_the_server_ends_the_call(quiet_browser: Browser):
    async with emulator() as server:
        async with WebServer(options(server)) as web:
            page = Tab(await quiet_browser.new_page(), web.url)
            await page.page.goto(web.url)
            await page.until_shown("Hydra takes the call.")
            await page.call()
            await page.page.focus("#mute")
        await page.until_phase("ended", within=3)
        assert await page.page.evaluate("document.activeElement.id") == "call"
        assert await page.text("[role=alert]") == "The server ended the call."
        assert await page.entries("problem") == ["Problem The server ended the call."]
        assert page.complaints == []


@asynccontextmanager
async def served(folder: Path) -> AsyncGenerator[tuple["subprocess.Popen[str]", str]]:
    """A server that is a process of its own, and its URL."""
    process = command("web", "--port", 0, cwd=folder)
    try:
        assert next_line(process) == "Starting the page ...\n"
        next_line(process)
        yield process, next_line(process).split()[1]
    finally:
        process.kill()
        process.communicate()


async def test_the_server_is_killed(quiet_browser: Browser, tmp_path: Path, pictures: Path):
    async with served(tmp_path) as (process, url), tab(quiet_browser, url) as page:
        await page.call()
        process.send_signal(signal.SIGKILL)
        assert await page.until_shown("The server is gone.", "[role=alert]") < 3
        assert "Start pipecat-hydra web again" in await page.text("[role=alert]")
        assert await page.page.get_attribute("body", "data-phase") == "ended"
        await page.page.screenshot(path=pictures / "desktop-killed.png")
        refused = [text for text in page.complaints if "ERR_CONNECTION_REFUSED" in text]
        assert page.complaints == refused
        page.complaints.clear()


async def test_the_connection_is_lost(quiet_browser: Browser, tmp_path: Path):
    async with served(tmp_path) as (process, url), tab(quiet_browser, url) as page:
        await page.call()
        process.send_signal(signal.SIGSTOP)
        noticed_secs = await page.until_shown("Connection interrupted", "#state", within=15)
        ended_secs = await page.until_phase("ended", within=15)
        print(f"noticed after {noticed_secs:.1f} s, ended {ended_secs:.1f} s later")
        assert await page.text("[role=alert]") == "The connection was lost."


async def test_a_key_that_is_rejected(quiet_browser: Browser, pictures: Path):
    async with (
        emulator() as server,
        WebServer(options(server, api_key=KEY)) as web,
        tab(quiet_browser, web.url, **PHONE) as page,
    ):
        await page.page.click("#call")
        await page.until_shown("Hydra rejected the key: check SMALLEST_API_KEY", "[role=alert]")
        await page.until_shown("Call", "#call")
        await until(lambda: len(web.calls) == 0)
        await page.page.screenshot(path=pictures / "phone-rejected.png")
        assert KEY not in await page.page.content()


async def test_no_place_is_free(
    quiet_browser: Browser, pictures: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pipecat_hydra.cli.web.calls, "_MOST_CALLS", 1)
    async with emulator() as server, WebServer(options(server)) as web:
        async with tab(quiet_browser, web.url) as one:
            await one.call()
            other = Tab(await quiet_browser.new_page(), web.url)
            await other.page.goto(web.url)
            await other.page.click("#call")
            await other.until_shown("(HTTP 503). The server holds 1 calls", "[role=alert]")
            await other.page.screenshot(path=pictures / "desktop-full.png")
            assert "503" in other.complaints.pop()
            assert other.complaints == []
        await until(lambda: len(web.calls) == 0)
        await other.call()
        assert await other.text("[role=alert]") == ""
    assert len(server.sessions) == 2


async def test_a_request_that_is_too_large(quiet_browser: Browser, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pipecat_hydra.cli.web.guard, "_MOST_BODY_BYTES", 1024)
    async with WebServer(options()) as web:
        page = Tab(await quiet_browser.new_page(), web.url)
        await page.page.goto(web.url)
        await page.page.click("#call")
        await page.until_shown("(HTTP 413). The request is too large", "[role=alert]")


async def test_a_session_that_is_lost_and_comes_back(quiet_browser: Browser):
    async with (
        hydra() as server,
        WebServer(options(server)) as web,
        tab(quiet_browser, web.url) as page,
    ):
        await page.call()
        await page.until_shown("Hello there.", "#timeline")
        await server.drop()
        await page.until_shown("No connection to Hydra: ", "#timeline .problem")
        await page.until_shown("The session is back.", "#timeline")
        assert await page.text("[role=alert]") == ""
        assert await page.page.get_attribute("body", "data-phase") == "live"


async def test_no_network_to_call_over(quiet_browser: Browser):
    async with WebServer(options()) as web, tab(quiet_browser, web.url) as page:
        await page.page.evaluate("""() => {
            const own = Object.getOwnPropertyDescriptor(
                RTCPeerConnection.prototype, "localDescription");
            Object.defineProperty(RTCPeerConnection.prototype, "localDescription", {
                get() {
                    const { type, sdp } = own.get.call(this);
                    return { type, sdp: sdp.replaceAll(/a=candidate.*\\r\\n/g, "") };
                },
            });
        }""")
        await page.page.click("#call")
        await page.until_shown("found no network to call over", "[role=alert]")
        assert len(web.calls) == 0


async def test_closing_the_page_ends_the_call(quiet_browser: Browser):
    async with emulator() as server, WebServer(options(server)) as web:
        async with tab(quiet_browser, web.url) as page:
            await page.call()
            await page.page.close(run_before_unload=True)
            await until(lambda: len(web.calls) == 0)
        await until(lambda: server.open_sessions == [])


async def test_the_keyboard_alone(quiet_browser: Browser):
    async with (
        emulator() as server,
        WebServer(options(server)) as web,
        tab(quiet_browser, web.url) as page,
    ):
        keys = page.page.keyboard

        async def focused() -> str:
            has_ring = "getComputedStyle(document.activeElement).outlineStyle !== 'none'"
            assert await page.page.evaluate(has_ring)
            return await page.page.evaluate("document.activeElement.id")

        await keys.press("Tab")
        assert await focused() == "call"
        await keys.press("Enter")
        await page.until_phase("live")
        assert await focused() == "call"
        await keys.press("Tab")
        assert await focused() == "mute"
        await keys.press("Space")
        assert await page.page.get_attribute("#mute", "aria-pressed") == "true"
        for part in ("settings", "strip", "scroller", "text", "send"):
            await keys.press("Tab")
            assert await focused() == part
        await keys.press("Shift+Tab")
        await keys.type("Hello.")
        await keys.press("Enter")
        await page.until_shown("Hello.", "#timeline .typed")
        for _ in range(5):
            await keys.press("Shift+Tab")
        await keys.press("Space")
        await page.until_phase("ended")
        assert await focused() == "call"


async def test_a_screen_reader_is_told(quiet_browser: Browser):
    async with (
        hydra() as server,
        WebServer(options(server)) as web,
        tab(quiet_browser, web.url) as page,
    ):
        tree = await page.page.locator("body").aria_snapshot()
        for part in (
            'heading "Talk to Hydra" [level=1]',
            'region "Call"',
            'button "Call"',
            'button "Mute" [disabled]',
            'heading "Timeline" [level=2]',
            'region "Timeline"',
            'meter "Your level"',
            'meter "Level of the reply"',
            'textbox "Text for the bot" [disabled]',
            'button "Send" [disabled]',
            "status",
        ):
            assert part in tree, tree
        await page.call()
        assert await page.text("[role=status]") == "Connected."
        await page.until_shown("Hello there.", "#timeline")
        tree = await page.page.locator("body").aria_snapshot()
        assert 'button "Hang up"' in tree
        assert "listitem" in tree
        assert 'region "Picture of the call"' in tree
        assert 'img "Both voices on one time axis' in tree
        values: list[int] = []
        for _ in range(20):
            values.append(int(await page.page.get_attribute("#bot-level", "aria-valuenow") or 0))
            await asyncio.sleep(0.05)
        await page.page.click("#call")
        assert await page.text("[role=status]") == "The call ended."


# What a hurried reader of a specification would feed it, and what has been seen.
MESSAGES: dict[str, tuple[list[tuple[str, Any]], list[dict[str, Any]]]] = {
    "a turn": (
        [
            ("user-started-speaking", None),
            ("bot-interrupted", None),
            ("user-stopped-speaking", None),
            ("metrics", {"ttfb": [{"processor": "HydraLLMService#0", "value": 0.25}]}),
            ("bot-tts-started", None),
            ("bot-started-speaking", None),
            ("bot-output", {"text": "It is", "spoken": True}),
            ("bot-output", {"text": " noon.", "spoken": True}),
            ("bot-stopped-speaking", None),
        ],
        [
            {"kind": "user", "until": 2},
            {"kind": "reply", "text": "It is noon.", "firstAudio": 0.25, "until": 8},
        ],
    ),
    "words of the user, by a transcriber": (
        [
            ("user-transcription", {"text": "What", "final": True}),
            ("user-started-speaking", None),
            ("user-transcription", {"text": "What time", "final": False}),
            ("user-stopped-speaking", None),
            ("user-transcription", {"text": "What time", "final": True}),
            ("user-transcription", {"text": "is it?", "final": True}),
            ("user-started-speaking", None),
        ],
        [
            {"kind": "user", "text": "What time is it?", "isFirst": True},
            {"kind": "user", "text": "", "isFirst": False},
        ],
    ),
    "a turn that was noise": (
        [
            ("server-message", {"type": "discarded"}),
            ("user-started-speaking", None),
            ("user-stopped-speaking", None),
            ("server-message", {"type": "discarded"}),
            ("user-started-speaking", None),
        ],
        [{"kind": "user", "isDiscarded": True}, {"kind": "user", "isDiscarded": False}],
    ),
    "how much of a reply is generated": (
        [
            ("bot-tts-started", None),
            ("bot-started-speaking", None),
            ("server-message", {"type": "generated", "reply": 1, "secs": 2}),
            ("server-message", {"type": "generated", "reply": 2, "secs": 1}),
            ("server-message", {"type": "generated", "reply": 1, "secs": 3}),
            ("bot-stopped-speaking", None),
            ("bot-tts-started", None),
            ("bot-started-speaking", None),
        ],
        [{"kind": "reply", "generated": 3}, {"kind": "reply", "generated": 1}],
    ),
    "a reply that is never heard is generated too": (
        [
            ("bot-tts-started", None),
            ("server-message", {"type": "generated", "reply": 1, "secs": 2}),
            ("bot-interrupted", None),
            ("bot-tts-started", None),
            ("server-message", {"type": "generated", "reply": 2, "secs": 1}),
            ("bot-started-speaking", None),
        ],
        [{"kind": "reply", "generated": 1}],
    ),
    "a text that interrupts": (
        [
            ("bot-tts-started", None),
            ("bot-started-speaking", None),
            ("bot-interrupted", None),
            ("server-message", {"type": "disturbance", "what": "slow", "text": "It is slow."}),
        ],
        [
            {"kind": "reply", "isInterrupted": True},
            {"kind": "disturbance", "text": "It is slow."},
        ],
    ),
    "a last piece of an interrupted reply": (
        [
            ("bot-tts-started", None),
            ("bot-started-speaking", None),
            ("user-started-speaking", None),
            ("bot-interrupted", None),
            ("bot-stopped-speaking", None),
            ("bot-started-speaking", None),
            ("user-stopped-speaking", None),
            ("bot-tts-started", None),
            ("bot-output", {"text": "Yes?", "spoken": True}),
            ("bot-stopped-speaking", None),
        ],
        [
            {"kind": "reply", "isInterrupted": True, "until": 3},
            {"kind": "user", "until": 6},
            {"kind": "interruption"},
            {"kind": "reply", "time": 7, "text": "Yes?", "until": 9},
        ],
    ),
    "a reply that goes on after noise": (
        [
            ("bot-tts-started", None),
            ("bot-started-speaking", None),
            ("bot-output", {"text": "One", "spoken": True}),
            ("user-started-speaking", None),
            ("bot-interrupted", None),
            ("bot-stopped-speaking", None),
            ("user-stopped-speaking", None),
            ("bot-tts-started", None),
            ("bot-started-speaking", None),
            ("bot-output", {"text": " two", "spoken": True}),
        ],
        [
            {"kind": "reply", "text": "One", "isInterrupted": True},
            {"kind": "user"},
            {"kind": "interruption"},
            {"kind": "reply", "text": " two", "until": None},
        ],
    ),
    "two replies without a pause": (
        [
            ("bot-tts-started", None),
            ("bot-started-speaking", None),
            ("bot-tts-stopped", None),
            ("bot-tts-started", None),
            ("bot-stopped-speaking", None),
            ("bot-started-speaking", None),
        ],
        [{"kind": "reply", "until": 4}, {"kind": "reply", "until": None}],
    ),
    "calls": (
        [
            ("llm-function-call-started", {"function_name": "look"}),
            ("llm-function-call-in-progress", {"tool_call_id": "1", "function_name": "look"}),
            ("llm-function-call-in-progress", {"tool_call_id": "2"}),
            ("llm-function-call-stopped", {"tool_call_id": "2", "cancelled": True}),
            ("llm-function-call-stopped", {"tool_call_id": "1", "cancelled": False, "result": 7}),
            ("llm-function-call-stopped", {"tool_call_id": "3", "cancelled": False}),
        ],
        [
            {"kind": "call", "name": "look", "until": 4, "result": 7, "isCancelled": False},
            {"kind": "call", "until": 3, "isCancelled": True},
        ],
    ),
    "problems": (
        [
            ("error", {"error": "HydraLLMService#0 error", "fatal": False}),
            ("server-message", {"type": "problem", "text": "it is gone", "ended": False}),
            ("server-message", {"type": "note", "text": "It is back."}),
            ("server-message", {"type": "something new"}),
            ("something-new", {}),
        ],
        [
            {"kind": "problem", "text": "It is gone."},
            {"kind": "note", "text": "It is back.", "isReconnect": True},
        ],
    ),
    "nothing is left open": (
        [
            ("bot-tts-started", None),
            ("bot-started-speaking", None),
            ("llm-function-call-in-progress", {"tool_call_id": "1", "function_name": "look"}),
            ("user-started-speaking", None),
            ("end", None),
        ],
        [
            {"kind": "reply", "until": 4},
            {"kind": "call", "until": 4, "isCancelled": True},
            {"kind": "user", "until": 4},
        ],
    ),
}


async def test_what_becomes_of_messages(quiet_browser: Browser):
    async with WebServer(options()) as web, tab(quiet_browser, web.url) as page:
        for what, (messages, expected) in MESSAGES.items():
            entries = await page.page.evaluate(
                """async (messages) => {
                    const { Conversation } = await import("/conversation.js");
                    const conversation = new Conversation(() => {});
                    messages.forEach(([type, data], time) => {
                        if (type === "end") conversation.end(time);
                        else conversation.receive(time, { type, data: data ?? undefined });
                    });
                    return conversation.entries;
                }""",
                messages,
            )
            shown = [
                {key: entry.get(key) for key in wanted}
                for entry, wanted in zip(entries, expected, strict=True)
            ]
            assert shown == expected, what


async def test_what_comes_from_outside_is_text_and_fits_a_phone(quiet_browser: Browser):
    async with WebServer(options(api_key=KEY)) as web, tab(quiet_browser, web.url, **PHONE) as page:
        hostile = "<img src=x onerror=alert(1)>" + "long" * 60
        await page.page.evaluate(
            """async (hostile) => {
                const { Timeline } = await import("/timeline.js");
                const { Picture } = await import("/picture.js");
                const byId = (id) => document.getElementById(id);
                byId("empty").hidden = true;
                byId("call-picture").hidden = false;
                const timeline = new Timeline(byId("timeline"));
                const picture = new Picture(byId("strip"), byId("picture"), () => {});
                const entry = { time: 3, until: 4, text: hostile };
                const reply = { kind: "reply", firstAudio: 12.3, answeredAfter: 1.26, heardFrom: 3,
                                generated: 9, isInterrupted: true };
                const entries = [
                    { kind: "problem" },
                    reply,
                    { kind: "call", name: hostile, args: { hostile },
                      result: { list: [1, { hostile }], none: null } },
                    { kind: "call", name: "f", args: {}, result: null },
                    { kind: "user", isDiscarded: true },
                    { kind: "user", text: "", isFirst: true },
                    { kind: "typed" },
                    { kind: "disturbance" },
                    { kind: "note", isReconnect: true },
                    { kind: "interruption", silentAfter: 0.4123 },
                ];
                entries.forEach((more, id) => {
                    timeline.show({ ...entry, ...more, id });
                    picture.show({ ...entry, ...more, id });
                });
                picture.grow(30);
            }""",
            hostile,
        )
        assert await page.page.locator("#timeline img, #picture img").count() == 0
        entries = await page.entries()
        assert hostile in entries[0]
        assert entries[1].startswith(
            "Hydra 1.0 s of 9.0 s heard · answered after 1.3 s · first audio 12.3 s · interrupted"
        )
        assert json.dumps(hostile) in entries[2]
        assert entries[3] == "f 1.0 s Arguments {} Copy Result null Copy"
        assert entries[4].startswith("You 1.0 s · discarded as noise <img")
        assert "Hydra gives no transcript of what you say" in entries[5]
        assert entries[9] == "Barge-in silent 412 ms after your first sound"
        assert not await page.page.evaluate(OVERFLOWS)
        titles = await page.page.locator("#picture title").all_text_contents()
        assert [hostile in title for title in titles].count(True) == 7
        texts = await page.page.locator("#picture text").all_text_contents()
        assert {"412 ms", "1.3 s", "ƒ", "T", "!", "↻", "~"} <= set(texts)


async def test_it_follows_the_newest_but_leaves_a_reader_alone(quiet_browser: Browser):
    async with WebServer(options()) as web, tab(quiet_browser, web.url, **PHONE) as page:
        add = """async (count) => {
            const { Timeline } = await import("/timeline.js");
            const byId = (id) => document.getElementById(id);
            byId("empty").hidden = true;
            window.shown ??= new Timeline(byId("timeline"));
            window.added ??= 0;
            for (; count; count--) {
                const id = window.added++;
                window.shown.show({ id, kind: "note", time: id, text: `Entry ${id}` });
            }
        }"""
        rest = "scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight"
        await page.page.evaluate(add, 30)
        assert await page.page.evaluate(rest) < 20
        await page.page.evaluate("scroller.scrollTop = 100")
        await asyncio.sleep(0.2)
        await page.page.evaluate(add, 5)
        assert await page.page.evaluate("scroller.scrollTop") == 100
        await page.page.evaluate("scroller.scrollTop = 1e6")
        await asyncio.sleep(0.2)
        await page.page.evaluate(add, 5)
        assert await page.page.evaluate(rest) < 20
        # A message above it makes it lower.
        alert = "document.getElementById('alert').textContent = "
        await page.page.evaluate(alert + "'No connection to Hydra. '.repeat(12)")
        await asyncio.sleep(0.2)
        assert await page.page.evaluate(rest) < 20
        await page.page.evaluate(add, 1)
        await page.page.evaluate(alert + "''")
        await page.page.evaluate(add, 5)
        assert await page.page.evaluate(rest) < 20


OVERFLOWS = """
() => [document.documentElement, ...document.querySelectorAll("#scroller, .stage, .entry *")]
    .filter((part) => part.scrollWidth > part.clientWidth + 1 && part.clientWidth > 1)
    .map((part) => part.outerHTML.slice(0, 200))
    .join("\\n")
"""

# Every text against what is behind it, as WCAG 2 measures it.
CONTRASTS = """
() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) =>
    [r, g, b]
      .map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
      .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (part) => {
    for (; part; part = part.parentElement) {
      const color = parse(getComputedStyle(part).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const low = [];
  while (texts.nextNode()) {
    const part = texts.currentNode.parentElement;
    const text = texts.currentNode.textContent.trim();
    if (!text || !part.checkVisibility() || part.closest(":disabled, .unseen, noscript")) continue;
    const [ink, ground] = [light(parse(getComputedStyle(part).color)), light(behind(part))];
    const contrast = (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
    if (contrast < 4.5) low.push(`${text}: ${contrast.toFixed(2)}`);
  }
  return low;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (768, 1024), (360, 640), (320, 256)])
async def test_it_can_be_read_and_touched(
    quiet_browser: Browser, scheme: str, width: int, height: int, pictures: Path
):
    context: dict[str, Any] = {
        "viewport": {"width": width, "height": height},
        "color_scheme": scheme,
    }
    async with (
        hydra() as server,
        WebServer(options(server)) as web,
        tab(quiet_browser, web.url, **context) as page,
    ):
        await self_check(page)
        await page.call()
        await page.until_shown("Hello there.", "#timeline")
        await page.page.evaluate("document.getElementById('alert').textContent = 'No.'")
        await page.page.click("#mute")
        await page.page.mouse.move(0, 0)
        await asyncio.sleep(0.3)  # until colours have changed over
        await self_check(page)
        await page.page.screenshot(path=pictures / f"{width}-{scheme}.png")


async def self_check(page: Tab) -> None:
    assert await page.page.evaluate(CONTRASTS) == []
    assert not await page.page.evaluate(OVERFLOWS)
    for button in await page.page.get_by_role("button").all():
        box = await button.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 44


@pytest.mark.parametrize(("motion", "moves"), [("reduce", False), ("no-preference", True)])
async def test_nothing_moves_for_those_who_asked_for_that(
    quiet_browser: Browser, motion: str, moves: bool
):
    async with (
        hydra(greeting=tone(5, "A long greeting.")) as server,
        WebServer(options(server)) as web,
        tab(quiet_browser, web.url, reduced_motion=motion) as page,
    ):
        await page.call()
        await page.until_shown("Hydra is speaking", "#state")
        assert await page.page.evaluate("document.getAnimations().length > 0") == moves


async def test_it_says_who_answers(quiet_browser: Browser):
    async with WebServer(options()) as web, tab(quiet_browser, web.url) as page:
        assert (await page.text("#badge")).split("\n") == ["Emulator", "in place of Hydra"]
        assert "stands in for Hydra" in await page.text("#empty")
        assert "It looks up the weather" in await page.text("#empty")
    async with WebServer(options(api_key=KEY)) as web, tab(quiet_browser, web.url) as page:
        assert (await page.text("#badge")).split("\n") == ["Hydra", "hydra-v1.1, aria"]
        assert "Ask what the weather will be like" in await page.text("#empty")
