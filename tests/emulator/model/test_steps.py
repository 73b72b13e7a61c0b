"""Steps of a reply."""

import wave
from pathlib import Path

from pipecat_hydra.emulator import (
    Say,
)


def test_a_recording_is_mixed_down_to_mono(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "stereo.wav"), "wb") as file:
        file.setparams((2, 2, 8_000, 0, "NONE", ""))
        file.writeframes(b"\x00\x02\x00\x04" * 100)
    step = Say.file(tmp_path / "stereo.wav", "words")
    assert step == Say(b"\x00\x03" * 100, 8_000, "words")
    assert "\\x03" not in repr(step)
