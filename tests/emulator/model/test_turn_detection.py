"""Turn detection on recordings, without a server."""

import os
import subprocess
import sys

import pytest
from emulator.client import SILENCE, burst, recording
from pipecat.audio.vad.vad_analyzer import VADParams

from pipecat_hydra.emulator import EmulatorSettings
from pipecat_hydra.emulator.model.turn_detection import (
    SpeechConfirmed,
    SpeechStarted,
    SpeechStopped,
    TurnDetector,
    TurnEvent,
)


async def detect(
    pcm: bytes, *, chunk: int = 640, min_turn_ms: int = 300, vad: VADParams | None = None
) -> list[TurnEvent]:
    detector = await TurnDetector.load(vad or EmulatorSettings().vad, min_turn_ms=min_turn_ms)
    try:
        events: list[TurnEvent] = []
        for start in range(0, len(pcm), chunk):
            events += await detector.feed(pcm[start : start + chunk])
        return events
    finally:
        await detector.close()


@pytest.mark.parametrize("name", ["hello", "question", "interrupt"])
@pytest.mark.parametrize("lead", [0, 1])
async def test_each_recording_is_one_turn(name: str, lead: int) -> None:
    said = recording(name)
    started, confirmed, stopped = await detect(SILENCE * lead + said + SILENCE)
    assert isinstance(started, SpeechStarted)
    assert isinstance(confirmed, SpeechConfirmed)
    assert isinstance(stopped, SpeechStopped)
    length = len(said) // 32
    assert started.at_ms == pytest.approx(1_000 * lead, abs=250)
    assert stopped.at_ms == pytest.approx(1_000 * lead + length, abs=250)
    assert stopped.confirmed
    assert len(stopped.audio) / 32 == pytest.approx(length, abs=550)


async def test_turns_do_not_depend_on_how_audio_is_cut() -> None:
    pcm = SILENCE + recording("hello") + SILENCE + burst() + SILENCE
    whole = await detect(pcm, chunk=len(pcm), min_turn_ms=600)
    for chunk in (320, 1_000, 1_024, 3_200):
        assert await detect(pcm, chunk=chunk, min_turn_ms=600) == whole


async def test_a_burst_starts_and_is_not_confirmed() -> None:
    started, stopped = await detect(SILENCE + burst() + SILENCE, min_turn_ms=600)
    assert isinstance(started, SpeechStarted)
    assert isinstance(stopped, SpeechStopped)
    assert not stopped.confirmed
    assert started.at_ms < stopped.at_ms


async def test_silence_is_nothing() -> None:
    assert await detect(SILENCE * 4) == []


async def test_speech_without_an_end_is_not_stopped() -> None:
    events = await detect(recording("hello"))
    assert [type(event) for event in events] == [SpeechStarted, SpeechConfirmed]


async def test_parameters_are_pipecats() -> None:
    slow = VADParams(start_secs=3.0, min_volume=0.0)  # longer than the recording
    assert await detect(recording("question") + SILENCE, vad=slow) == []


FIRST_IMPORT = """
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))

sys.meta_path.insert(0, Watch())
import pipecat_hydra.emulator
"""


@pytest.mark.parametrize(("set_before", "at_import"), [(None, "1"), ("0", "0")])
def test_onnxruntime_is_imported_with_its_telemetry_off(
    set_before: str | None, at_import: str
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    if set_before is not None:
        environment["ORT_DISABLE_TELEMETRY"] = set_before
    done = subprocess.run(
        [sys.executable, "-c", FIRST_IMPORT],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [at_import]
