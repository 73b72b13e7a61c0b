"""README is short, and its bot runs as pasted."""

import signal
from pathlib import Path

import pytest
from support.bots import until
from support.command import LONG_SECS
from support.documents import ROOT, page
from support.programs import is_listening, started, unused_port
from support.webrtc import Browser, needs_network

README = page(ROOT / "README.md")


def test_it_is_short():
    assert README.words() < 900


@needs_network
@pytest.mark.realtime
async def test_its_bot_talks_to_a_browser_without_a_key(tmp_path: Path):
    (block,) = README.blocks("python")
    assert block.file == "bot.py"
    program = tmp_path / block.file
    program.write_text(block.code, encoding="utf-8")
    port = unused_port()
    with started(program, port, tmp_path) as running:
        await until(lambda: is_listening(port), within=LONG_SECS)
        browser = Browser(f"http://127.0.0.1:{port}")
        try:
            await browser.call()
            await browser.until("bot-stopped-speaking")
            assert browser.heard_peak > 1_000
            browser.heard_peak = 0
            browser.say("hello")
            await browser.until("bot-stopped-speaking", 2)
            assert browser.heard_peak > 1_000
        finally:
            await browser.hang_up()
        running.send_signal(signal.SIGINT)
        await until(lambda: running.poll() is not None, within=LONG_SECS)
    logged = (tmp_path / "log").read_text(encoding="utf-8")
    assert "SMALLEST_API_KEY is not set: talking to an emulator" in logged
    assert "Traceback" not in logged
