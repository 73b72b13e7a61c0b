"""The example for the microphone and the speaker of this machine."""

import asyncio
import queue
import sys
import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, cast

import pytest
from support.bots import (
    example,
    until,
)
from support.call import emulator, recording, session

from pipecat_hydra.emulator import Say, Script


class FakeAudio(ModuleType):
    """PyAudio with a microphone and a speaker that run at real time, as devices do."""

    paInt16 = 8  # noqa: N815
    paContinue = 0  # noqa: N815

    def __init__(self, *, missing: str = ""):
        super().__init__("pyaudio")
        self.missing = missing
        self.to_say: queue.Queue[bytes] = queue.Queue()
        self.heard = bytearray()
        self.PyAudio = lambda: self

    def say(self, name: str) -> None:
        pcm = recording(name).tobytes()
        for start in range(0, len(pcm), 640):
            self.to_say.put(pcm[start : start + 640].ljust(640, b"\0"))

    def get_format_from_width(self, width: int) -> int:
        assert width == 2
        return self.paInt16

    def terminate(self) -> None: ...

    def open(self, rate: int, **options: Any) -> "FakeStream":
        for side in ("input", "output"):
            if options.get(side) and side == self.missing:
                raise OSError(-9996, f"Invalid {side} device (no default {side} device)")
        return FakeStream(self, rate, options.get("stream_callback"))


class FakeStream:
    def __init__(self, audio: FakeAudio, rate: int, callback: Callable[..., Any] | None):
        self._audio = audio
        self._rate = rate
        self._callback = callback
        self._running = False
        self._thread: threading.Thread | None = None

    def start_stream(self) -> None:
        self._running = True
        if self._callback is not None:
            self._thread = threading.Thread(target=self._capture)
            self._thread.start()

    def _capture(self) -> None:
        assert self._callback is not None
        while self._running:
            time.sleep(0.02)
            try:
                pcm = self._audio.to_say.get_nowait()
            except queue.Empty:
                pcm = bytes(640)
            self._callback(pcm, 320, {}, 0)

    def write(self, pcm: bytes) -> None:
        time.sleep(len(pcm) / 2 / self._rate)
        self._audio.heard += pcm

    def stop_stream(self) -> None:
        self._running = False
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None: ...


class TestLocalAudio:
    @pytest.fixture(autouse=True)
    def _not_imported(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delitem(sys.modules, "pipecat.transports.local.audio", raising=False)

    @pytest.mark.realtime
    async def test_the_microphone_is_heard_and_the_speaker_speaks(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        devices = FakeAudio()
        monkeypatch.setitem(sys.modules, "pyaudio", devices)
        bot = example("local_audio")
        script = Script([Say.tones(0.4)], greeting=Say.tones(0.4))
        async with emulator(script) as hydra:
            endpoint = {"api_key": hydra.api_key, "base_url": hydra.url}
            running = asyncio.create_task(bot.run_bot(bot.local_transport(), **endpoint))
            await until(lambda: len(devices.heard) >= 2 * 0.4 * bot.OUT_RATE)
            devices.say("hello")
            told = session(hydra)
            await told.wait_for_sent("response.done", count=2, within=20)
            await until(lambda: len(devices.heard) >= 2 * 0.8 * bot.OUT_RATE)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await until(lambda: told.closed)
            assert told.errors == []

    @pytest.mark.parametrize("missing", ["input", "output"])
    async def test_a_missing_device_is_told_in_one_line(
        self, missing: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setitem(sys.modules, "pyaudio", FakeAudio(missing=missing))
        with pytest.raises(SystemExit) as ended:
            await example("local_audio").main()
        assert f"This machine has no audio {missing} to use" in str(ended.value.code)
        assert "\n" not in str(ended.value.code)

    async def test_missing_pyaudio_is_told_in_one_line(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(sys.modules, "pyaudio", cast("ModuleType", None))
        with pytest.raises(SystemExit) as ended:
            await example("local_audio").main()
        assert 'pip install "pipecat-ai[local]"' in str(ended.value.code)
        assert "\n" not in str(ended.value.code)
