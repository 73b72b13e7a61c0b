"""A real browser for tests: Chromium, with a recording as its microphone."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright
from support.call import recording

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)

# A browser that is run by tests calls home in vain, and says so.
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
FAKE_PERMISSION = "--use-fake-ui-for-media-stream"
FAKE_MICROPHONE = "--use-fake-device-for-media-stream"

# Chromium plays the end of a recording again and again once it is over.
SILENCE_AFTER_SECS = 120.0

# Listens to the microphone and to the reply as the page does, but by itself: every 20 ms
# the time in seconds and both levels, as the root of the mean square.
PROBE = """
(() => {
  const give = navigator.mediaDevices?.getUserMedia.bind(navigator.mediaDevices);
  if (!give) return;
  const levels = (window.probe = []);
  navigator.mediaDevices.getUserMedia = async (constraints) => {
    const stream = await give(constraints);
    window.microphone = stream;
    const context = new AudioContext();
    const listener = (stream) => {
      const analyser = context.createAnalyser();
      analyser.fftSize = 1024;
      context.createMediaStreamSource(stream).connect(analyser);
      return analyser;
    };
    const samples = new Float32Array(1024);
    const level = (analyser) => {
      if (!analyser) return 0;
      analyser.getFloatTimeDomainData(samples);
      return Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / 1024);
    };
    const user = listener(stream);
    let bot = null;
    let heard = null;
    setInterval(() => {
      const stream = document.querySelector("#speaker").srcObject;
      if (stream && stream !== heard) bot = listener((heard = stream));
      levels.push([performance.now() / 1000, level(user), level(bot)]);
    }, 20);
    return stream;
  };
})();
"""


def microphone(path: Path, said: Sequence[str | float]) -> Path:
    """Write what the user says: recordings, and seconds of silence."""
    rate = 16_000
    parts = [
        recording(part) if isinstance(part, str) else np.zeros(round(part * rate), np.int16)
        for part in (*said, SILENCE_AFTER_SECS)
    ]
    sf.write(path, np.concatenate(parts), rate, subtype="PCM_16")
    return path


@asynccontextmanager
async def chromium(*flags: str) -> AsyncGenerator[Browser]:
    """Run a browser of its own."""
    # As root, as in a container, it runs only without its sandbox.
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    arguments = [*QUIET, *flags, *(["--no-sandbox"] if is_root else [])]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


class Tab:
    """A page in the browser, and all that it should not do."""

    def __init__(self, page: Page, origin: str):
        self.page = page
        self._origin = origin
        self.complaints: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._on_request)

    async def text(self, selector: str) -> str:
        return (await self.page.inner_text(selector)).strip()

    async def until(
        self, condition: Callable[[], Awaitable[Any]], *, within: float = 20.0
    ) -> float:
        """Wait until something holds; return how many seconds it took."""
        began = time.monotonic()
        while not await condition():
            if time.monotonic() - began > within:
                raise TimeoutError(await self.text("body"))
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def until_shown(self, text: str, selector: str = "body", **more: Any) -> float:
        async def is_shown() -> bool:
            return text in await self.text(selector)

        return await self.until(is_shown, **more)

    async def until_phase(self, phase: str, **more: Any) -> float:
        async def is_in_phase() -> bool:
            return await self.page.get_attribute("body", "data-phase") == phase

        return await self.until(is_in_phase, **more)

    async def entries(self, kind: str = "entry") -> list[str]:
        """The texts of the timeline's entries of a kind, each on one line."""
        texts = await self.page.locator(f"#timeline .{kind} .body").all_inner_texts()
        return [" ".join(text.split()) for text in texts]

    async def levels(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Times, levels of the user and levels of the bot so far, as three rows."""
        return np.array(await self.page.evaluate("probe")).T

    async def call(self) -> float:
        """Call; return how many seconds it took until the bot was there."""
        await self.page.click("#call")
        return await self.until_phase("live")

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((self._origin + "/", "data:", "blob:")):
            self.complaints.append(f"request to {request.url}")


@asynccontextmanager
async def tab(browser: Browser, url: str, **context: Any) -> AsyncGenerator[Tab]:
    """Open the page; at the end it must have had nothing to complain of."""
    context = {"viewport": {"width": 1280, "height": 800}, **context}
    window = await browser.new_context(**context)
    opened = Tab(await window.new_page(), url)
    await opened.page.add_init_script(PROBE)
    await opened.page.goto(url)
    await opened.page.wait_for_selector("#badge:not([hidden])")
    try:
        yield opened
        assert opened.complaints == []
    finally:
        await window.close()
