"""What is written of a call is read again: records, audio, and both voices on one time axis."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from numpy.typing import NDArray

from pipecat_hydra.recording import Recording, RecordingError
from pipecat_hydra.recording.call_files import Beginning, CallFiles
from pipecat_hydra.recording.format import AudioReference
from pipecat_hydra.recording.tape import Entry, Kind
from pipecat_hydra.recording.wire_events import Redact, Redaction

ROOT = Path(__file__).parent.parent.parent
LINE = Draft202012Validator(json.loads((ROOT / "docs" / "recording.schema.json").read_text()))
BEGAN = 5_000.0


class Writing:
    """Writes a recording as the recorder's thread does, at times that the test says."""

    def __init__(self, root: Path, *, audio: bool = True, redact: Redact | None = None):
        beginning = Beginning(BEGAN, 1_800_000_000.25, "hydra-v1.1", {"voice": "aria"})
        redaction = Redaction(redact) if redact is not None else None
        self.files = CallFiles(root, beginning, keeps_audio=audio, redaction=redaction)
        self.folder = self.files.folder

    def put(self, kind: int, t: float, payload: Any) -> None:
        self.files.write([Entry(kind, BEGAN + t, payload)])

    def sent(self, t: float, audio: bytes = b"", **event: Any) -> None:
        self.put(Kind.SENT, t, (json.dumps(event).encode(), audio))

    def received(self, t: float, audio: bytes = b"", **event: Any) -> None:
        self.put(Kind.RECEIVED, t, (json.dumps(event).encode(), audio))

    def said(self, t: float, samples: NDArray[np.int16]) -> None:
        event = {"type": "input_audio_buffer.append", "audio": _base64(samples)}
        self.put(Kind.SENT, t, (json.dumps(event).encode(), samples.tobytes()))

    def spoken(self, t: float, samples: NDArray[np.int16], response: str = "r1") -> None:
        self.received(
            t,
            samples.tobytes(),
            type="response.output_audio.delta",
            response_id=response,
            delta=_base64(samples),
        )

    def note(self, t: float, source: str, kind: str, **fields: Any) -> None:
        self.put(Kind.NOTE, t, (source, kind, json.dumps(fields)))

    def opening(self, t: float = 0.0, model: str = "hydra-v1.1") -> None:
        self.note(t, "call", "session_opening", model=model)

    def ended(self, t: float) -> Recording:
        """End the recording, and open it."""
        self.put(Kind.END, t, "done")
        self.files.flush()
        self.files.close()
        return Recording.open(self.folder)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "call.jsonl").read_text().splitlines()]


def _base64(samples: NDArray[np.int16]) -> str:
    return base64.b64encode(samples.astype("<i2").tobytes()).decode()


def _noise(samples: int, seed: int = 1) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-9_000, 9_000, samples).astype(np.int16)


def test_a_recording_has_a_header_the_records_and_an_end(tmp_path: Path):
    writing = Writing(tmp_path)
    writing.opening(0.1)
    writing.sent(0.2, type="session.configure", session={"voice": "zoé"})
    writing.note(0.3, "pipeline", "function_started", name="f", call_id="c", arguments={"a": 1})
    call = writing.ended(1.5)
    assert call.header["format"] == "pipecat-hydra recording"
    assert call.header["began"] == "2027-01-15T08:00:00.250000Z"
    assert (call.header["model"], call.header["voice"]) == ("hydra-v1.1", "aria")
    opening, configure, function = call.records
    assert (opening.source, opening.type) == ("call", "session_opening")
    assert (configure.source, configure.type) == ("client", "session.configure")
    assert configure.session == 1
    assert configure.data == {"type": "session.configure", "session": {"voice": "zoé"}}
    assert (configure.t, configure.at) == (0.2, 1_800_000_000.45)
    assert function.data == {"name": "f", "call_id": "c", "arguments": {"a": 1}}
    assert call.is_complete
    assert (call.ended_at, call.reason) == (1.5, "done")


def test_each_line_is_as_the_schema_says(tmp_path: Path):
    writing = Writing(tmp_path)
    writing.opening()
    writing.said(0.1, _noise(320))
    writing.spoken(0.2, _noise(480, seed=2))
    writing.received(0.3, type="response.done", response={"id": "r1", "x": float("nan")})
    writing.put(Kind.RECEIVED, 0.4, (b"no JSON\n", b""))
    writing.put(Kind.HEARD, 0.4, (_noise(960).tobytes(), 24_000, 1))
    writing.put(Kind.DROPPED, 0.5, (3, BEGAN + 0.4))
    writing.note(0.6, "pipeline", "interruption")
    writing.ended(1.0)
    lines = writing.lines()
    assert len(lines) == 10
    for line in lines:
        assert LINE.is_valid(line), line
    # It tells what is wrong from what is right.
    assert not LINE.is_valid({**lines[2], "audio": ["other.flac", 0, 1]})
    assert not LINE.is_valid({**lines[1], "type": "something"})


def test_audio_is_kept_exactly_and_records_refer_to_it(tmp_path: Path):
    user, bot = _noise(3_200, 1), _noise(4_800, 2)
    writing = Writing(tmp_path)
    writing.opening()
    for n in range(10):
        writing.said(n * 0.02, user[n * 320 : n * 320 + 320])
        writing.spoken(n * 0.02, bot[n * 480 : n * 480 + 480])
    call = writing.ended(1.0)
    sent = [record for record in call.records if record.source == "client"]
    received = [record for record in call.records if record.source == "server"]
    assert sent[3].audio == AudioReference("user.flac", 960, 320)
    assert sent[3].data == {"type": "input_audio_buffer.append", "audio": ""}
    assert received[3].data["delta"] == ""
    assert np.array_equal(np.concatenate([call.samples(r.audio) for r in sent]), user)
    assert np.array_equal(np.concatenate([call.samples(r.audio) for r in received]), bot)
    assert (call.rate("user.flac"), call.rate("bot.flac")) == (16_000, 24_000)


@pytest.mark.parametrize(
    "written",
    [
        '{"type": "response.output_audio.delta", "audio" : "%s"}',
        '{"audio":"%s","type":"response.output_audio.delta"}',
        '{"type":"response.output_audio.delta",\n"delta":"%s"}',
        '{"type":"response.output_audio.delta","delta":"%s\\n"}',
    ],
)
@pytest.mark.parametrize("is_decoded", [True, False])
def test_audio_is_found_however_the_event_is_written(
    tmp_path: Path, written: str, is_decoded: bool
):
    bot = _noise(480)
    writing = Writing(tmp_path)
    writing.opening()
    message = (written % _base64(bot)).encode()
    writing.put(Kind.RECEIVED, 0.1, (message, bot.tobytes() if is_decoded else b""))
    call = writing.ended(1.0)
    assert np.array_equal(call.samples(call.records[1].audio), bot)
    assert set(call.records[1].data.values()) == {"response.output_audio.delta", ""}


def test_a_word_that_looks_like_base64_stays_a_word(tmp_path: Path):
    writing = Writing(tmp_path)
    writing.received(0.1, type="response.output_audio_transcript.delta", delta="abcd")
    call = writing.ended(1.0)
    assert call.records[0].data["delta"] == "abcd"
    assert call.records[0].audio is None


def test_a_message_that_is_no_event_is_kept_as_it_is(tmp_path: Path):
    writing = Writing(tmp_path)
    writing.put(Kind.RECEIVED, 0.1, (b"[1]\n\xff", b""))
    call = writing.ended(1.0)
    assert (call.records[0].type, call.records[0].data["raw"]) == ("malformed", "[1]\n�")


def test_a_session_with_another_rate_begins_another_file(tmp_path: Path):
    writing = Writing(tmp_path)
    writing.opening()
    writing.spoken(0.1, _noise(480))
    writing.opening(0.5)
    writing.received(0.6, type="session.configured", session={"output_audio_sample_rate": 48_000})
    writing.spoken(0.7, _noise(960))
    call = writing.ended(1.0)
    assert [r.audio.file for r in call.records if r.audio] == ["bot.flac", "bot-2.flac"]
    assert (call.rate("bot.flac"), call.rate("bot-2.flac")) == (24_000, 48_000)
    assert [r.session for r in call.records if r.audio] == [1, 2]
    # Both are on one track.
    track = call.generated_track()
    assert (track.rate, len(track.samples)) == (24_000, round(0.72 * 24_000))


def test_the_users_audio_lies_where_it_was_said_and_not_where_it_was_sent(tmp_path: Path):
    # A second is kept while the session is opened, and sent at twice real time.
    user = _noise(32_000)
    writing = Writing(tmp_path)
    writing.opening()
    for n in range(100):
        said_at = (n + 1) * 0.02
        writing.said(max(said_at, 1.0 + n * 0.01), user[n * 320 : n * 320 + 320])
    call = writing.ended(3.0)
    track = call.user_track()
    # By so much the reader allows a microphone's clock to differ from ours.
    shift = _shift(track.samples, user)
    assert abs(shift) <= 0.002 * 16_000
    held = [record.held for record in call.records if record.source == "client"]
    assert held[0] == pytest.approx(0.98, abs=0.003)
    assert held[-1] == 0.0


def _shift(track: NDArray[np.int16], samples: NDArray[np.int16]) -> int:
    """How many samples later than at 0 the middle of some audio lies on a track."""
    middle = len(samples) // 2
    probe = samples[middle : middle + 256].astype(float)
    found = np.correlate(track.astype(float), probe, "valid")
    return int(np.argmax(found)) - middle


def test_a_second_session_that_hears_audio_again_does_not_move_the_first(tmp_path: Path):
    user = _noise(16_000)
    writing = Writing(tmp_path)
    writing.opening()
    for n in range(50):
        writing.said((n + 1) * 0.02, user[n * 320 : n * 320 + 320])
    writing.opening(1.05)
    writing.said(1.5, user)
    call = writing.ended(2.0)
    held = [r.held for r in call.records if r.source == "client" and r.session == 1]
    assert max(held) < 0.002


def test_the_bots_audio_is_laid_end_to_end_from_when_a_response_begins(tmp_path: Path):
    bot = _noise(48_000)
    writing = Writing(tmp_path)
    writing.opening()
    # Three times as fast as real time, and then another response.
    for n in range(25):
        writing.spoken(1.0 + n * 0.0133, bot[n * 960 : n * 960 + 960], "r1")
    writing.spoken(5.0, bot[:960], "r2")
    track = writing.ended(6.0).generated_track()
    assert not track.samples[:24_000].any()
    assert np.array_equal(track.samples[24_000:48_000], bot[:24_000])
    assert np.array_equal(track.samples[120_000:], bot[:960])


def test_what_was_heard_is_on_the_time_axis(tmp_path: Path):
    bot = _noise(24_000)
    writing = Writing(tmp_path)
    # The transport asks for a chunk 20 ms before the last one ends.
    for n in range(10):
        writing.put(Kind.HEARD, 0.5 + max(0, n * 0.04 - 0.02), _heard(bot[n * 960 : n * 960 + 960]))
        writing.files.flush(BEGAN + 0.5 + n * 0.04)
    call = writing.ended(2.0)
    track = call.heard_track()
    assert track.rate == 24_000
    assert not track.samples[:12_000].any()
    assert np.array_equal(track.samples[12_000:], bot[:9_600])
    heard = [record for record in call.records if record.type == "heard"]
    assert [record.t for record in heard] == pytest.approx([0.5 + n * 0.04 for n in range(10)])
    assert heard[1].audio == AudioReference("heard.flac", 960, 960)


def test_what_was_heard_as_it_was_received_is_kept_once(tmp_path: Path):
    bot, phrase = _noise(48_000), _noise(24_000, seed=2)
    writing = Writing(tmp_path)
    writing.opening()
    writing.spoken(0.1, bot)
    writing.put(Kind.HEARD, 0.5, _heard(bot[:24_000]))
    writing.put(Kind.HEARD, 2.0, _heard(phrase))
    call = writing.ended(9.0)
    first, second = [record for record in call.records if record.type == "heard"]
    assert (first.t, first.audio) == (0.5, AudioReference("bot.flac", 0, 24_000))
    assert (second.t, second.audio) == (2.0, AudioReference("heard.flac", 0, 24_000))
    track = call.heard_track()
    assert np.array_equal(track.samples[12_000:36_000], bot[:24_000])
    assert not track.samples[36_000:48_000].any()
    assert np.array_equal(track.samples[48_000:], phrase)
    assert call.rate("heard.flac") == 24_000


def test_what_was_heard_at_another_rate_is_kept_as_it_was_heard(tmp_path: Path):
    bot = _noise(4_800)
    writing = Writing(tmp_path)
    writing.opening()
    writing.spoken(0.1, bot)
    writing.put(Kind.HEARD, 0.5, (bot.tobytes(), 48_000, 1))
    call = writing.ended(1.0)
    assert call.records[-1].audio == AudioReference("heard.flac", 0, 4_800)
    assert call.heard_track().rate == 48_000


def _heard(samples: NDArray[np.int16]) -> tuple[bytes, int, int]:
    return samples.tobytes(), 24_000, 1


def test_without_audio_no_file_is_written_and_records_refer_all_the_same(tmp_path: Path):
    writing = Writing(tmp_path, audio=False)
    writing.opening()
    writing.said(0.1, _noise(320))
    writing.put(Kind.HEARD, 0.1, _heard(_noise(960)))
    call = writing.ended(1.0)
    assert os.listdir(writing.folder) == ["call.jsonl"]
    assert call.records[1].audio == AudioReference("user.flac", 0, 320)
    assert len(call.samples(call.records[1].audio)) == 0
    assert len(call.heard_track().samples) == len(call.generated_track().samples) == 0


def test_a_recording_that_was_cut_off_says_where_it_ends(tmp_path: Path):
    user = _noise(16_000)
    writing = Writing(tmp_path)
    writing.opening()
    for n in range(50):
        writing.said((n + 1) * 0.02, user[n * 320 : n * 320 + 320])
    writing.files.flush(BEGAN + 1.0)
    file = writing.folder / "call.jsonl"
    os.truncate(file, file.stat().st_size - 7)
    call = Recording.open(writing.folder)
    assert not call.is_complete
    assert call.ended_at == 0.98
    # The encoder keeps a block back.
    assert np.array_equal(call.samples(AudioReference("user.flac", 0, 12_000)), user[:12_000])
    writing.files.close()


def test_audio_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path: Path):
    user = _noise(16_000)
    writing = Writing(tmp_path)
    writing.opening()
    writing.said(1.0, user)
    writing.ended(2.0)
    file = writing.folder / "user.flac"
    for size in (file.stat().st_size - 100, 60, 10, 0):
        os.truncate(file, size)
        call = Recording.open(writing.folder)
        samples = call.samples(AudioReference("user.flac", 0, 16_000))
        assert np.array_equal(samples, user[: len(samples)])
        assert (len(samples) >= 8_000) == (size > 60)


def test_the_file_itself_opens_the_recording_too(tmp_path: Path):
    writing = Writing(tmp_path)
    folder = writing.ended(1.0).folder
    assert Recording.open(folder / "call.jsonl").folder == folder


def test_what_is_no_recording_is_told(tmp_path: Path):
    with pytest.raises(RecordingError, match=r"no recording of a call: call\.jsonl: No such file"):
        Recording.open(tmp_path)
    (tmp_path / "call.jsonl").write_text('{"type": "something"}\n')
    with pytest.raises(RecordingError, match="is not the recording of a call"):
        Recording.open(tmp_path)
    (tmp_path / "call.jsonl").write_bytes(b"\xff\x00\n[]\n")
    with pytest.raises(RecordingError, match="is not the recording of a call"):
        Recording.open(tmp_path)


def test_a_newer_version_is_told(tmp_path: Path):
    header = {"type": "header", "format": "pipecat-hydra recording", "version": 2}
    (tmp_path / "call.jsonl").write_text(json.dumps(header))
    with pytest.raises(RecordingError, match=r"version 2 .* update pipecat-hydra"):
        Recording.open(tmp_path)


def test_two_calls_of_one_second_have_two_folders(tmp_path: Path):
    folders = {Writing(tmp_path).ended(0.1).folder for _ in range(30)}
    assert len(folders) == 30
    assert all(folder.name.startswith("2027-01-15T08-00-00-") for folder in folders)


def test_a_reference_cannot_name_a_file_elsewhere(tmp_path: Path):
    call = Writing(tmp_path).ended(1.0)
    assert len(call.samples(AudioReference("../other/user.flac", 0, 10))) == 0
