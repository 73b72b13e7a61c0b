"""The parts of the page around a call: settings, devices, typing, disturbances, the recording."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import soundfile as sf
from support.bots import until

pytest.importorskip("playwright", reason="Playwright is missing: make test-browser installs it")
pytest.importorskip("aiortc", reason="the extra is missing: make test-browser installs it")

from browser.chromium import CHROMIUM, FAKE_MICROPHONE, FAKE_PERMISSION, Tab, chromium, tab
from support.web import options
from support.webrtc import needs_network

from pipecat_hydra.cli.web.server import WebServer
from pipecat_hydra.emulator import Call, EmulatorSettings, HydraEmulator, Say, Script
from pipecat_hydra.wire.protocol import MODELS, VOICES

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
    needs_network,
]

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def hydra(*turns: Any, greeting: Say | None = None) -> HydraEmulator:
    script = Script(list(turns), greeting=greeting or Say.tones(0.6, "Hello there."))
    return HydraEmulator(script, settings=EmulatorSettings(transcripts=True))


def silent() -> Any:
    """A browser whose microphone gives what Chromium makes up; it is muted by each test."""
    return chromium(FAKE_PERMISSION, FAKE_MICROPHONE)


async def options_of(page: Tab, selector: str) -> list[str]:
    return await page.page.locator(f"{selector} option").all_inner_texts()


async def test_model_voice_and_instructions_are_those_of_the_call():
    async with (
        hydra() as server,
        WebServer(options(server)) as web,
        silent() as browser,
        tab(browser, web.url) as page,
    ):
        assert await page.text("#chosen") == "hydra-v1.1, aria"
        await page.page.click("#settings")
        assert await options_of(page, "#model") == list(MODELS)
        voices = await options_of(page, "#voice")
        assert voices[0] == "aria (default)"
        assert sorted(voices[1:]) == sorted(set(VOICES) - {"aria"})
        await page.page.select_option("#model", "hydra-v1.0")
        assert await page.text("#chosen") == "hydra-v1.0, sterling"
        await page.page.select_option("#voice", "maya")
        await page.page.fill("#instructions", "Speak slowly.")
        assert await page.text("#chosen") == "hydra-v1.0, maya"

        await page.call()
        for field in ("#model", "#voice", "#instructions"):
            assert await page.page.locator(field).is_disabled()
        assert "before the next call" in await page.text("#fixed")
        (session,) = server.sessions
        assert session.model == "hydra-v1.0"
        assert session.configuration["voice"] == "maya"
        assert session.configuration["instructions"].startswith("Speak slowly.")
        await page.page.click("#call")
        assert await page.page.locator("#model").is_enabled()


async def test_the_devices():
    async with (
        hydra() as server,
        WebServer(options(server)) as web,
        silent() as browser,
        tab(browser, web.url) as page,
    ):
        await page.page.click("#settings")
        await page.call()
        microphones = await options_of(page, "#microphone")
        assert microphones[0] == "Default"
        assert len(microphones) > 1
        assert (await options_of(page, "#loudspeaker"))[0] == "Default"
        before = await page.page.evaluate("microphone.getAudioTracks()[0].id")
        await page.page.select_option("#microphone", index=1)
        track = "microphone.getAudioTracks()[0]"

        async def is_another() -> bool:
            return before != await page.page.evaluate(f"{track}.id")

        await page.until(is_another)
        assert await page.page.evaluate(f"{track}.label") == microphones[1]
        assert await page.page.get_attribute("body", "data-phase") == "live"


async def test_what_is_typed_is_answered():
    async with (
        hydra(Say.tones(0.6, "It is noon.")) as server,
        WebServer(options(server)) as web,
        silent() as browser,
        tab(browser, web.url) as page,
    ):
        text = page.page.get_by_role("textbox", name="Text for the bot")
        assert await text.is_disabled()
        await page.call()
        await page.page.click("#mute")
        await page.until_shown("Hello there.", "#timeline")
        await text.fill("  What time is it?  ")
        await page.page.click("#send")
        assert await text.input_value() == ""
        assert await page.entries("typed") == ["You typed What time is it?"]
        await page.until_shown("It is noon.", "#timeline")
        await text.fill("   ")
        await page.page.keyboard.press("Enter")
        assert len(await page.entries("typed")) == 1


async def test_the_values_of_a_function_call_can_be_copied():
    turn = [Call("get_weather", {"city": "Paris"}), Say.tones(0.6, "It is sunny.")]
    async with (
        hydra(turn) as server,
        WebServer(options(server)) as web,
        silent() as browser,
        tab(browser, web.url, permissions=["clipboard-read", "clipboard-write"]) as page,
    ):
        await page.call()
        await page.page.click("#mute")
        await page.until_shown("Hello there.", "#timeline")
        await page.page.fill("#text", "What is the weather in Paris?")
        await page.page.keyboard.press("Enter")
        await page.until_shown("It is sunny.", "#timeline")
        for name, value in (
            ("arguments", {"city": "Paris"}),
            ("result", {"city": "Paris", "sky": "sunny", "degrees_celsius": 21}),
        ):
            await page.page.get_by_role("button", name=f"Copy {name}").click()
            await page.until_shown("Copied.", "[role=status]")
            copied = await page.page.evaluate("navigator.clipboard.readText()")
            assert json.loads(copied) == value


async def test_the_emulators_calls_can_be_disturbed():
    async with (
        WebServer(options()) as web,
        silent() as browser,
        tab(browser, web.url, **PHONE) as page,
    ):
        buttons = page.page.get_by_role("group", name="Disturb the call").get_by_role("button")
        assert await buttons.count() == 0
        await page.call()
        await page.page.click("#mute")
        assert await buttons.all_inner_texts() == ["Cough", "Slow network", "Drop the connection"]
        await page.until_shown("is speaking", "#state")
        await buttons.nth(0).click()
        await page.until_shown("discarded as noise", "#timeline")
        await buttons.nth(1).click()
        await page.until_shown("The network is slow for 8 seconds.", "#timeline")
        await buttons.nth(2).click()
        await page.until_shown("The session is back.", "#timeline")
        marks = page.page.locator("#picture .sign")
        assert {"~", "!", "↻"} <= set(await marks.locator("text").all_text_contents())
        assert await page.page.locator("#picture .turns .noise").count() == 1


async def test_hydras_calls_cannot_be_disturbed():
    async with (
        hydra() as server,
        WebServer(options(server)) as web,
        silent() as browser,
        tab(browser, web.url) as page,
    ):
        await page.call()
        assert await page.page.locator("#disturbances button:visible").count() == 0


@pytest.mark.parametrize("context", [{}, PHONE], ids=["desktop", "phone"])
async def test_the_call_is_played_and_saved_afterwards(context: dict[str, Any], tmp_path: Path):
    async with (
        hydra() as server,
        WebServer(options(server)) as web,
        silent() as browser,
        tab(browser, web.url, **context) as page,
    ):
        recording = page.page.get_by_role("group", name="Recording of the call")
        await page.call()
        await page.page.click("#mute")
        await page.until_shown("Hello there.", "#timeline")
        await until_quiet(page)
        assert await recording.count() == 0
        await page.page.click("#call")
        await page.page.wait_for_selector("#recording:not([hidden])")
        links = recording.get_by_role("link")
        assert await links.all_inner_texts() == ["Audio (WAV)", "Data (JSON)", "Report"]
        saved: dict[str, Path] = {}
        for link in await links.all():
            async with page.page.expect_download() as waiting:
                await link.click()
            download = await waiting.value
            name = download.suggested_filename
            saved[name] = tmp_path / name
            await download.save_as(saved[name])
        assert saved.keys() == {"hydra-call.wav", "hydra-call.json", "hydra-report.html"}
        samples, _ = sf.read(saved["hydra-call.wav"], dtype="int16")
        assert abs(samples[:, 1]).max() > 1_000
        (call,) = json.loads(saved["hydra-call.json"].read_text())["calls"]
        assert len(call["replies"]) == 1
        assert saved["hydra-report.html"].read_text().startswith("<!")

        await page.page.evaluate("player.play()")
        await page.until(lambda: page.page.evaluate("player.currentTime > 0.2"))
        await page.page.wait_for_selector("#picture .cursor[visibility=visible]", state="attached")
        await page.page.evaluate("player.pause()")
        # A click on the picture plays from there: where the reply begins, in the sound too.
        reply = page.page.locator("#picture .reply .turn")
        left = float(await reply.get_attribute("x") or 0)
        await page.page.locator("#picture").click(position={"x": left + 1, "y": 90}, force=True)
        began = await page.page.evaluate("player.currentTime")
        rate = len(samples) / await page.page.evaluate("player.duration")
        loud = (abs(samples[:, 1]) > 500).nonzero()[0][0] / rate
        assert began == pytest.approx(loud, abs=0.5)

        await page.call()
        assert await recording.count() == 0


async def until_quiet(page: Tab) -> None:
    async def is_quiet() -> bool:
        return "is speaking" not in await page.text("#state")

    await page.until(is_quiet)


async def test_version_and_links():
    async with (
        WebServer(options()) as web,
        chromium() as browser,
        tab(browser, web.url) as page,
    ):
        assert re.fullmatch(
            r"pipecat-hydra \d\S* · Smallest AI · Pipecat", await page.text("footer")
        )
        links = page.page.locator("footer a")
        assert [await link.get_attribute("rel") for link in await links.all()] == ["noopener"] * 2
        await until(lambda: len(web.calls) == 0)
