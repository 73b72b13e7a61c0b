"""The recorder's thread: what it writes, what it survives, and what it never makes wait."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipecat_hydra.recording import HydraRecorder, Recording, audio_files, call_files
from pipecat_hydra.recording.tape import Kind, Tape
from pipecat_hydra.recording.writer import CallWriter

PCM = bytes(640)
APPEND = b'{"type":"input_audio_buffer.append","audio":"' + b"AAAA" * 213 + b'AA=="}'


def until(condition: Any) -> None:
    """Wait for what a thread does."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def begun(root: Path) -> CallWriter:
    writer = HydraRecorder(root).begin(model="hydra-v1.1", voice="aria")
    writer.note("call", "session_opening", model="hydra-v1.1")
    return writer


def ended(writer: CallWriter) -> Recording:
    writer.end("done")
    writer.close()
    assert writer.folder is not None
    return Recording.open(writer.folder)


def test_what_is_put_before_the_end_is_written_and_nothing_after(tmp_path: Path):
    writer = begun(tmp_path)
    for _ in range(1_000):
        writer.sent(APPEND, PCM)
    writer.end("done")
    writer.sent(APPEND, PCM)
    writer.note("pipeline", "interruption")
    call = ended(writer)
    assert [record.type for record in call.records[1:]] == ["input_audio_buffer.append"] * 1_000
    assert call.reason == "done"
    assert sum(len(call.samples(record.audio)) for record in call.records) == 1_000 * 320


@pytest.mark.realtime
def test_all_is_on_the_disk_a_second_later(tmp_path: Path):
    writer = begun(tmp_path)
    until(lambda: writer.folder is not None)
    folder = writer.folder
    assert folder is not None
    writer.sent(APPEND, PCM)
    writer.note("pipeline", "user_started")
    began = time.monotonic()
    until(lambda: len(Recording.open(folder).records) == 3)
    assert time.monotonic() - began < 5.0
    ended(writer)


def test_values_are_kept_as_they_were_and_whatever_they_are(tmp_path: Path):
    writer = begun(tmp_path)
    arguments: dict[str, Any] = {"a": 1}
    writer.note("pipeline", "function_started", name="f", arguments=arguments)
    arguments["a"] = 2
    loop: list[Any] = []
    loop.append(loop)
    writer.note("pipeline", "function_ended", result=loop)
    writer.note("pipeline", "function_ended", result=Path("x"), error="\ud800")
    _, started, first, second = ended(writer).records
    assert started.data["arguments"] == {"a": 1}
    assert first.data["result"] == "[[...]]"
    assert second.data == {"result": "x", "error": "?"}


def test_a_secret_is_written_nowhere(tmp_path: Path):
    key = 'sk-5ecret/with+odd=char acters&%41"t4il'
    writer = begun(tmp_path)
    writer.hide(key)
    writer.hide("12345678")
    writer.hide("short")
    writer.received(
        json.dumps({"type": "error", "error": {"message": f"bad key {key}"}}).encode(), b""
    )
    writer.note("pipeline", "error", message=f"wss://x?api_key={key} short 12345678")
    writer.received(key.encode(), b"")
    call = ended(writer)
    written = (call.folder / "call.jsonl").read_text()
    assert "5ecret" not in written
    assert call.records[1].data["error"]["message"] == "bad key [key]"
    # A short one may be a part of anything.
    assert call.records[2].data["message"] == "wss://x?api_key=[key] short 12345678"


class TestFullDisk:
    @pytest.mark.parametrize("what", ["lines", "audio"])
    def test_it_ends_the_recording_with_one_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str], what: str
    ):
        writer = begun(tmp_path)
        writer.sent(APPEND, PCM)
        until(lambda: writer.folder is not None and (writer.folder / "user.flac").exists())
        full = OSError(errno.ENOSPC, "No space left on device")

        def fails(*_: Any) -> Any:
            raise full

        if what == "audio":
            monkeypatch.setattr(audio_files.FlacWriter, "append", fails)
        else:
            monkeypatch.setattr(call_files.os, "write", fails)
        writer.sent(APPEND, PCM)
        until(lambda: warnings)
        monkeypatch.undo()
        for _ in range(10_000):
            writer.sent(APPEND, PCM)
        call = ended(writer)
        (error,) = warnings
        assert "ERROR" in error
        assert f"in {call.folder}: No space left on device. The call goes on" in error
        assert not call.is_complete
        if what == "audio":
            last = call.records[-1]
            assert (last.type, last.data["message"]) == ("recorder_error", full.strerror)
            assert last.t > 0

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
    def test_libsndfile_says_it_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
    ):
        monkeypatch.setattr(audio_files.Path, "touch", lambda *_, **__: None)
        opened = audio_files.sf.SoundFile
        monkeypatch.setattr(
            audio_files.sf, "SoundFile", lambda _, *args, **kw: opened("/dev/full", *args, **kw)
        )
        writer = begun(tmp_path)
        for _ in range(100):
            writer.sent(APPEND, PCM)
        until(lambda: warnings)
        call = ended(writer)
        (error,) = warnings
        assert "is the disk full?" in error
        assert call.records[-1].type == "recorder_error"


def test_a_bug_costs_the_recording_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
):
    def fails(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(call_files.CallFiles, "write", fails)
    writer = begun(tmp_path)
    until(lambda: len(warnings) == 2)
    call = ended(writer)
    assert "Traceback" in warnings[0]
    assert "RuntimeError: a bug" in warnings[1]
    assert call.records[-1].type == "recorder_error"


class TestTape:
    def test_entries_come_out_in_order(self):
        tape = Tape()
        for number in range(10):
            tape.put(Kind.NOTE, float(number), number, 8)
        assert [entry.payload for entry in tape.take(4)] == [0, 1, 2, 3]
        assert [entry.payload for entry in tape.take(100)] == [4, 5, 6, 7, 8, 9]
        assert tape.take(100) == []

    def test_what_has_no_room_is_dropped_and_told_once(self, warnings: list[str]):
        tape = Tape(limit_bytes=10_000)
        for number in range(100):
            tape.put(Kind.NOTE, float(number), number, 800)
        assert len(tape.take(100)) == 10
        tape.put(Kind.NOTE, 200.0, "again", 800)
        dropped, again = tape.take(100)
        assert (dropped.kind, dropped.payload) == (Kind.DROPPED, (90, 10.0))
        assert again.payload == "again"
        for number in range(100):
            tape.put(Kind.NOTE, float(number), number, 800)
        (warning,) = warnings
        assert "has gaps" in warning

    def test_the_end_always_has_room(self):
        tape = Tape(limit_bytes=0)
        tape.put(Kind.NOTE, 1.0, "dropped", 8)
        tape.end(2.0, "done")
        tape.put(Kind.NOTE, 3.0, "too late", 8)
        assert [(entry.kind, entry.payload) for entry in tape.take(9)] == [(Kind.END, "done")]

    def test_the_thread_is_woken_when_much_waits(self):
        woken: list[bool] = []
        tape = Tape(lambda: woken.append(True))
        tape.put(Kind.SENT, 1.0, b"", 1_000)
        assert not woken
        tape.put(Kind.SENT, 1.0, b"", 2_000_000)
        assert woken


def test_a_recorder_takes_paths_and_functions(tmp_path: Path):
    with pytest.raises(TypeError, match="folder must be a path, not int"):
        HydraRecorder(7)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="redact must be a function, not str"):
        HydraRecorder(tmp_path, redact="all")  # pyright: ignore[reportArgumentType]
    assert HydraRecorder(tmp_path).folder is None


KILLED = """
import os, sys, time
from pipecat_hydra.recording import HydraRecorder
writer = HydraRecorder(sys.argv[1]).begin(model="hydra-v1.1")
writer.note("call", "session_opening", model="hydra-v1.1")
pcm = bytes(640)
append = b'{"type":"input_audio_buffer.append","audio":"' + b"AAAA" * 213 + b'AA=="}'
for n in range(100_000):
    writer.sent(append, pcm)
    writer.heard(time.monotonic(), b"ab" * 480, 24_000, 1)
    print(n, flush=True)
    time.sleep(0.02)
"""


@pytest.mark.realtime
def test_a_killed_process_leaves_a_recording_that_says_where_it_ends(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    began, put = time.monotonic(), 0
    for line in process.stdout:
        if time.monotonic() - began > 3 and int(line) > 100:
            process.send_signal(signal.SIGKILL)
            put = int(line)
            break
    process.communicate()
    (folder,) = tmp_path.iterdir()
    call = Recording.open(folder)
    assert not call.is_complete
    sent = [record for record in call.records if record.source == "client"]
    # A second, and a block of the encoder.
    assert len(sent) > put - 75
    assert 0 <= call.ended_at - sent[-1].t < 0.1
    audio = np.concatenate([call.samples(record.audio) for record in sent])
    assert len(audio) > len(sent) * 320 - 4_096
    assert len(call.heard_track().samples) / 24_000 > call.ended_at - 0.5
    assert not [thread for thread in threading.enumerate() if thread.name == "hydra-recorder"]
