"""The page of `pipecat-hydra report` in a real browser: play, zoom, keys, copy, paper."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="Playwright is missing: make test-browser installs it")

from browser.chromium import CHROMIUM, chromium
from playwright.async_api import Page
from support.recordings import USER_RATE, SampleCall, tone

from pipecat_hydra.cli.report.calls import open_calls
from pipecat_hydra.cli.report.page import page as report_page

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="there is no Chromium: on Debian, apt-get install chromium; or name it in CHROMIUM",
    ),
]

NASTY = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'> \u202e"
ARGUMENTS = {"city": NASTY, "days": [1, 2]}


def sample(secs: float = 30) -> SampleCall:
    call = SampleCall(secs)
    call.say(3, tone(2, USER_RATE), NASTY)
    call.call(5.3, "get_weather", ARGUMENTS, answered=5.7, result="sunny")
    call.reply(5.8, tone(6), heard_from=6, cut=9.4, words="It is sunny.")
    call.say(9, tone(1, USER_RATE), "Stop.")
    call.interrupt(9.2)
    return call


@asynccontextmanager
async def opened(folder: Path, *calls: SampleCall, **context: Any) -> AsyncGenerator[Page]:
    """Open the report of some calls; nothing may go wrong in it."""
    folders = [call.write(folder / f"call-{number}") for number, call in enumerate(calls)]
    file = folder / "report.html"
    file.write_text(report_page(open_calls(folders)), encoding="utf-8")
    complaints: list[str] = []
    async with chromium("--autoplay-policy=no-user-gesture-required") as browser:
        window = await browser.new_context(viewport={"width": 1280, "height": 900}, **context)
        page = await window.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(file.as_uri())
        await page.wait_for_selector(".player:not([hidden])")
        yield page
        assert await page.evaluate("window.broken") is None
        assert complaints == []


async def seconds(page: Page) -> float:
    minutes, _, rest = (await page.inner_text("#now")).partition(":")
    return 60 * int(minutes) + float(rest)


async def shown_secs(page: Page) -> float:
    """How many seconds of the call are in view."""
    return await page.evaluate("timeline.room / timeline.scale")


async def test_space_plays_and_pauses(tmp_path: Path):
    async with opened(tmp_path, sample()) as page:
        assert await page.get_attribute("#play", "aria-label") == "Play"
        await page.keyboard.press(" ")
        await page.wait_for_selector("#play.is-playing")
        while await seconds(page) < 0.5:
            await page.wait_for_timeout(50)
        await page.keyboard.press(" ")
        await page.wait_for_selector("#play:not(.is-playing)")
        stopped = await seconds(page)
        await page.wait_for_timeout(300)
        assert await seconds(page) == stopped


async def test_a_click_listens_from_there(tmp_path: Path):
    async with opened(tmp_path, sample()) as page:
        x = await page.evaluate("timeline.x(20)")
        await page.click("#stage", position={"x": x, "y": 60})
        await page.wait_for_selector("#play.is-playing")
        while await seconds(page) < 20.2:
            await page.wait_for_timeout(50)
        await page.click("#lines .user .at >> nth=1")
        while not 9.1 < await seconds(page) < 12:
            await page.wait_for_timeout(50)
        # The line of what is heard is marked: its end of a barge-in, or the turn itself.
        assert await page.locator("#lines .is-now").count() == 1


async def test_keys_move_and_zoom(tmp_path: Path):
    async with opened(tmp_path, sample()) as page:
        for key, expected in [
            ("ArrowRight", 1),
            ("Shift+ArrowRight", 6),
            ("ArrowLeft", 5),
            (".", 9),
            (",", 3),
            ("End", 30),
            ("Home", 0),
            ("ArrowLeft", 0),
        ]:
            await page.keyboard.press(key)
            assert await seconds(page) == pytest.approx(expected, abs=0.05), key
        assert await shown_secs(page) == pytest.approx(30)
        await page.keyboard.press("+")
        assert await shown_secs(page) == pytest.approx(20)
        await page.click("#zoom-in")
        assert await shown_secs(page) == pytest.approx(30 / 1.5**2)
        await page.keyboard.press("-")
        await page.keyboard.press("0")
        assert await shown_secs(page) == pytest.approx(30)


async def test_what_is_played_stays_in_view(tmp_path: Path):
    async with opened(tmp_path, sample()) as page:
        for _ in range(5):
            await page.keyboard.press("+")
        await page.keyboard.press("End")
        begin = await page.evaluate("timeline.begin")
        assert begin + await shown_secs(page) == pytest.approx(30, abs=0.1)
        assert begin > 20


async def test_arguments_are_copied_as_json(tmp_path: Path):
    permissions = ["clipboard-read", "clipboard-write"]
    async with opened(tmp_path, sample(), permissions=permissions) as page:
        await page.click("#lines .tool summary")
        await page.click("#lines .tool .copy >> nth=0")
        await page.wait_for_selector("text=Copied")
        assert json.loads(await page.evaluate("navigator.clipboard.readText()")) == ARGUMENTS


async def test_what_is_under_the_pointer_is_told(tmp_path: Path):
    async with opened(tmp_path, sample()) as page:
        target = await page.evaluate("timeline.targets.find((one) => one.tip.startsWith('barge'))")
        await page.hover("#stage", position={"x": target["x"] + 2, "y": target["y"] + 8})
        assert await page.inner_text("#tip") == "barge-in: 400 ms"


async def test_another_call_is_chosen(tmp_path: Path):
    other = SampleCall(10)
    other.say(1, tone(1, USER_RATE), "Something else.")
    async with opened(tmp_path, sample(), other) as page:
        await page.click("[data-call='1']")
        assert await page.inner_text("#length") == "/ 0:10.0"
        assert "Something else." in await page.inner_text("#lines")
        assert await page.get_attribute("tr:has([data-call='1'])", "aria-current") is not None


async def test_paper_has_the_picture_and_every_line(tmp_path: Path):
    call = SampleCall(120)
    for number in range(110):
        call.say(1 + number, tone(0.2, USER_RATE), f"Turn {number}.", reported=(0.1, 0.2))
    async with opened(tmp_path, call) as page:
        assert await page.locator("#lines > li").count() == 100
        await page.emulate_media(media="print")
        await page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert await page.locator("#lines > li").count() == 110
        assert await page.locator("#pictures svg").is_visible()
        assert not await page.locator(".player").is_visible()
