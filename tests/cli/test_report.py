"""The command `report`: what it writes in each of its forms, and what it says of wrong calls."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
import soundfile as sf
from rich.console import Console
from support.command import assert_failed, run
from support.recordings import BOT_RATE, HEADER, USER_RATE, SampleCall, tone, write_recording

from pipecat_hydra.cli.report.calls import ReportedCall, open_calls
from pipecat_hydra.cli.report.document import document
from pipecat_hydra.cli.report.figures import compare
from pipecat_hydra.cli.report.page import page
from pipecat_hydra.cli.report.perfetto import trace
from pipecat_hydra.cli.report.picture import svg
from pipecat_hydra.cli.report.sound import encoded, peaks
from pipecat_hydra.cli.report.text import show
from pipecat_hydra.recording import Recording, Track

SCHEMA = Path(__file__).parent.parent.parent / "docs" / "report.schema.json"

NASTY = (
    "</script><script>alert(1)</script> \"quoted\" 'too' & <b>bold</b> "
    "\u202eevil \u05e9 👋 \x1b[31m\n"
)
"""What people and models might say."""

Lay = Callable[..., SampleCall]


def sample(words: str = "What about Rome?", *, answer: float = 0.6) -> SampleCall:
    """A call with a tool, a barge-in, a discarded turn, a drop, settings and an error."""
    call = SampleCall(30)
    call.reply(0.3, tone(1.2), heard_from=0.5, words="Hello there.")
    call.say(3, tone(2, USER_RATE), words)
    call.call(5.3, "get_weather", {"city": words}, answered=5.7, result={"sky": words})
    call.reply(5.8, tone(6), heard_from=6, cut=9.4, words=words)
    call.say(9, tone(1, USER_RATE), "Stop.")
    call.interrupt(9.2)
    call.reply(10.3, tone(2), heard_from=10 + answer)
    call.say(15, tone(0.2, USER_RATE), is_discarded=True)
    call.drop(18, 19.5)
    call.say(21, tone(1, USER_RATE))
    call.reply(22.1, tone(3), heard_from=22 + answer)
    call.add(26, "call", "settings", voice=words)
    call.add(27, "call", "error", message=words)
    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sample().write(tmp_path / "call")


@pytest.fixture
def nasty(tmp_path: Path) -> ReportedCall:
    """A call whose every text is an attack."""
    header = {**HEADER, "model": NASTY, "voice": NASTY, "url": NASTY, "began": NASTY}
    written = sample(NASTY).write(tmp_path / "written")
    lines = (written / "call.jsonl").read_text(encoding="utf-8").split("\n")
    records = [json.loads(line) for line in lines if line]
    audio = {name: sf.read(written / f"{name}.flac", dtype="int16") for name in ("user", "heard")}
    files: Any = audio
    return ReportedCall.open(
        write_recording(tmp_path / "<b>'call'", records[1:-1], header=header, **files)
    )


class Parsed(HTMLParser):
    """A page: its elements with their attributes, and the texts of its scripts."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.words = ""
        self._script: dict[str, str | None] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._script = dict(attrs) if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts.append((self._script, data))
        else:
            self.words += data

    def data(self) -> Any:
        return next(json.loads(text) for attrs, text in self.scripts if attrs.get("id") == "data")


class TestPage:
    def test_it_is_written_and_needs_nothing_else(self, folder: Path, tmp_path: Path):
        output = tmp_path / "report.html"
        result = run("report", folder, "-o", output)
        assert (result.exit_code, result.output) == (0, f"{output}: 1 call, 30.0 s\n")
        text = output.read_text(encoding="utf-8")
        parsed = Parsed(text)
        assert {"link", "img", "iframe", "base", "form"}.isdisjoint(t for t, _ in parsed.elements)
        assert not any("src" in attrs or "href" in attrs for _, attrs in parsed.elements)
        style = text.partition("<style>")[2].partition("</style>")[0]
        assert "url(" not in style
        assert "@import" not in style
        urls = re.findall(r"https?://[^\s\"'<)]+", text)
        assert set(urls) <= {"http://www.w3.org/2000/svg"}

    def test_its_policy_allows_its_own_script_and_nothing_else(self, folder: Path):
        parsed = Parsed(page(open_calls([folder])))
        policy = next(
            attrs["content"] or ""
            for tag, attrs in parsed.elements
            if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
        )
        (script,) = [text for attrs, text in parsed.scripts if "type" not in attrs]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in policy
        assert "default-src 'none'" in policy

    def test_texts_of_a_call_stay_texts(self, nasty: ReportedCall):
        text = page([nasty], compare([nasty], [nasty]))
        parsed = Parsed(text)
        assert "alert(1)" in parsed.words
        scripts = [attrs for attrs, _ in parsed.scripts if attrs.get("type") is None]
        assert len(scripts) == 1
        assert not any(tag == "b" for tag, _ in parsed.elements)
        words = [line["what"] for line in parsed.data()["calls"][0]["lines"]]
        assert NASTY in words

    def test_its_audio_has_the_user_on_the_left_and_the_bot_on_the_right(self, folder: Path):
        parsed = Parsed(page(open_calls([folder])))
        (found,) = [(a, text) for a, text in parsed.scripts if a.get("id") == "audio-0"]
        assert found[0]["data-type"] == "audio/flac"
        samples, rate = sf.read(io.BytesIO(base64.b64decode(found[1])), dtype="int16")
        levels = np.abs(samples.reshape(-1, rate // 10, 2)).max(axis=1)
        assert (levels[35] > 1000).tolist() == [True, False]
        assert (levels[70] > 1000).tolist() == [False, True]
        assert len(samples) / rate == pytest.approx(30, abs=0.1)

    def test_a_call_without_audio_has_none_to_play(self, tmp_path: Path):
        text = page(open_calls([sample().write(tmp_path / "call", audio=False)]))
        parsed = Parsed(text)
        assert not parsed.data()["calls"][0]["has_audio"]
        assert "no audio of both voices" in text

    def test_a_call_that_was_cut_off_says_where(self, tmp_path: Path):
        text = page(open_calls([sample().write(tmp_path / "call", is_complete=False)]))
        assert "The recording was cut off, and ends at 0:30.00." in text

    def test_many_calls_have_a_table(self, tmp_path: Path):
        for number in range(3):
            sample().write(tmp_path / "calls" / f"call-{number}")
        parsed = Parsed(page(open_calls([tmp_path / "calls"])))
        chosen = [attrs["data-call"] for _, attrs in parsed.elements if "data-call" in attrs]
        assert chosen == ["0", "1", "2"]
        assert "3 calls" in parsed.words


class TestPicture:
    def test_it_is_small_and_well_formed(self, folder: Path):
        result = run("report", folder, "--svg")
        assert result.exit_code == 0
        assert len(result.output.encode()) < 100_000
        root = ElementTree.fromstring(result.output)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        texts = " ".join(root.itertext())
        for shown in ("What about Rome?", "get_weather", "400 ms", "prefers-color-scheme: dark"):
            assert shown in texts

    def test_texts_of_a_call_stay_texts(self, nasty: ReportedCall):
        for is_standalone in (True, False):
            root = ElementTree.fromstring(svg(nasty, is_standalone=is_standalone))
            names = {element.tag.rpartition("}")[2] for element in root.iter()}
            assert names <= {"svg", "title", "style", "rect", "text", "path", "circle"}

    def test_changes_of_settings_are_marked(self, nasty: ReportedCall):
        root = ElementTree.fromstring(svg(nasty))
        (mark,) = [each for each in root.iter() if each.tag.endswith("circle")]
        assert "".join(mark.itertext()) == "Settings: voice"

    def test_a_long_call_is_drawn_in_rows(self, tmp_path: Path):
        call = SampleCall(200)
        call.say(150, tone(2, USER_RATE), "Late.")
        root = ElementTree.fromstring(svg(ReportedCall.open(call.write(tmp_path / "call"))))
        users = [text for text in root.itertext() if text == "User"]
        assert len(users) == 3
        assert float(root.attrib["height"]) > 500

    def test_it_is_of_one_call(self, folder: Path, tmp_path: Path):
        other = sample().write(tmp_path / "other")
        assert_failed(run("report", folder, other, "--svg"), 2, "--svg takes one call")

    def test_it_says_where_a_recording_ends(self, tmp_path: Path):
        call = ReportedCall.open(sample().write(tmp_path / "call", is_complete=False))
        assert "cut off at 30.00 s" in svg(call)


class TestData:
    def test_it_follows_its_schema(self, folder: Path, nasty: ReportedCall):
        schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
        result = run("report", folder, "--json")
        assert result.exit_code == 0
        made = json.loads(result.output)
        jsonschema.validate(made, schema)
        jsonschema.validate(document([nasty], compare([nasty], [nasty])), schema)
        (call,) = made["calls"]
        assert [turn["answer_secs"] for turn in call["turns"]] == [
            pytest.approx(1, abs=0.02),
            pytest.approx(0.6, abs=0.02),
            None,
            pytest.approx(0.6, abs=0.02),
        ]
        assert made["latencies"]["answer"]["count"] == 2
        assert call["tools"][0]["arguments"] == {"city": "What about Rome?"}

    def test_a_trace_has_what_lasts_and_what_happens(self, folder: Path):
        result = run("report", folder, "--perfetto")
        events = json.loads(result.output)["traceEvents"]
        assert {event["ph"] for event in events} == {"M", "X", "i"}
        (barge_in,) = [event for event in events if event["name"] == "barge-in"]
        assert barge_in["ts"] == pytest.approx(9e6, abs=2e4)
        assert barge_in["dur"] == pytest.approx(0.4e6, abs=2e4)
        assert all(event["dur"] >= 0 for event in events if event["ph"] == "X")

    def test_a_trace_has_a_process_for_each_call(self, folder: Path):
        calls = open_calls([folder, folder])
        assert {event["pid"] for event in trace(calls)["traceEvents"]} == {1, 2}


class TestText:
    def test_it_tells_the_course_of_the_call(self, folder: Path):
        result = run("report", folder, "--text")
        assert result.exit_code == 0
        for shown in (
            "3.00 s  user   What about Rome?  2.0 s",
            'get_weather({"city": "What about Rome?"})',
            "cut, 3.4 of 6.0 s heard",
            "400 ms to silence",
            "(discarded turn)",
            "connection lost: code 1011  1.50 s",
        ):
            assert shown in result.output

    def test_texts_of_a_call_do_not_command_the_terminal(self, nasty: ReportedCall):
        written = io.StringIO()
        show(Console(file=written, width=200), [nasty])
        assert "\x1b" not in written.getvalue()
        assert "\u202e" not in written.getvalue()

    def test_it_can_be_a_file(self, folder: Path, tmp_path: Path):
        run("report", folder, "--text", "-o", tmp_path / "report.txt")
        assert "Answer" in (tmp_path / "report.txt").read_text(encoding="utf-8")

    def test_a_recording_that_was_cut_off_says_where(self, tmp_path: Path):
        folder = sample().write(tmp_path / "call", is_complete=False)
        assert (
            "30.00 s  end    the recording is cut off here"
            in run("report", folder, "--text").output
        )


class TestCompare:
    def sides(self, tmp_path: Path, *answers: list[float]) -> list[Path]:
        for side, secs in zip("ab", answers, strict=True):
            for number, answer in enumerate(secs):
                sample(answer=answer).write(tmp_path / side / str(number))
        return [tmp_path / side for side in "ab"]

    def test_what_moved_is_told_from_what_may_be_chance(self, tmp_path: Path):
        before, after = self.sides(tmp_path, [0.6, 0.62, 0.61], [0.9, 0.92, 0.91])
        found = {d.name: d for d in compare(open_calls([before]), open_calls([after]))}
        assert found["answer"].moved == pytest.approx(0.3, abs=0.02)
        assert found["answer"].verdict == "slower"
        # It is the same in all calls.
        assert found["barge_in"].is_within_spread
        back = {d.name: d for d in compare(open_calls([after]), open_calls([before]))}
        assert back["answer"].verdict == "faster"

    def test_a_difference_within_the_spread_says_so(self, tmp_path: Path):
        sides = self.sides(tmp_path, [0.5, 0.9, 0.6], [0.6, 1.0, 0.5])
        result = run("report", *sides, "--compare", "--text")
        (line,) = [line for line in result.output.splitlines() if "Answer" in line]
        assert "within the spread (±" in line
        assert "6 / 6" in line

    def test_calls_of_a_side_that_differ_among_themselves_widen_the_spread(self, tmp_path: Path):
        before, after = self.sides(tmp_path, [0.5, 1.2], [0.9, 1.4])
        found = compare(open_calls([before]), open_calls([after]))
        assert found[0].is_within_spread

    def test_one_value_cannot_tell(self, tmp_path: Path):
        before, after = self.sides(tmp_path, [0.6], [0.9])
        found = {d.name: d for d in compare(open_calls([before]), open_calls([after]))}
        assert found["barge_in"].verdict == "too few values to tell"
        assert found["barge_in"].is_within_spread is None

    def test_it_is_in_the_page_and_in_the_data(self, tmp_path: Path):
        sides = self.sides(tmp_path, [0.6, 0.62], [0.9, 0.92])
        made = json.loads(run("report", *sides, "--compare", "--json").output)
        assert made["comparison"][0]["verdict"] == "slower"
        run("report", *sides, "--compare", "-o", tmp_path / "report.html")
        assert "slower" in (tmp_path / "report.html").read_text(encoding="utf-8")

    def test_it_takes_two_sides(self, folder: Path):
        assert_failed(run("report", folder, "--compare"), 2, "takes two calls or folders")


class TestErrors:
    def test_no_such_folder(self, tmp_path: Path):
        assert_failed(run("report", tmp_path / "nope"), 2, f"no such folder: {tmp_path / 'nope'}")

    def test_no_recording_in_it(self, tmp_path: Path):
        assert_failed(run("report", tmp_path), 2, f"{tmp_path} has no recording of a call")

    def test_a_newer_version(self, tmp_path: Path):
        folder = write_recording(tmp_path / "call", [], header={**HEADER, "version": 99})
        assert_failed(run("report", folder), 2, "update pipecat-hydra")

    def test_an_empty_recording(self, tmp_path: Path):
        folder = write_recording(tmp_path / "call", [])
        assert_failed(run("report", folder), 2, "is empty: the call ended before anything happened")

    def test_two_forms(self, folder: Path):
        assert_failed(run("report", folder, "--svg", "--json"), 2, "exclude each other")

    def test_a_place_that_cannot_be_written(self, folder: Path, tmp_path: Path):
        assert_failed(run("report", folder, "-o", tmp_path / "no" / "such"), 1, "No such file")


class TestSound:
    def test_a_peak_is_the_greatest_level_of_its_step(self):
        samples = np.zeros(BOT_RATE, np.int16)
        samples[BOT_RATE // 2] = -32768
        samples[-1] = 8192
        levels = peaks(Track(samples, BOT_RATE), 0.01, 2)
        assert len(levels) == 200
        assert (levels[50], levels[99], levels.sum()) == (255, 128, 383)

    def test_a_long_call_is_encoded_in_blocks_and_smaller(self, tmp_path: Path):
        call = SampleCall(130)
        call.say(100, tone(2, USER_RATE))
        file, media_type = encoded(ReportedCall.open(call.write(tmp_path / "call")).recording)
        assert media_type == "audio/ogg; codecs=vorbis"
        samples, rate = sf.read(io.BytesIO(file))
        sounding = np.flatnonzero(np.abs(samples[:, 0]) > 0.05) / rate
        assert [sounding[0], sounding[-1], len(samples) / rate] == pytest.approx(
            [100, 102, 130], abs=0.02
        )


class TestFilesThatAreNoRecordings:
    @pytest.mark.parametrize(
        ("line", "fields"),
        [
            (1, {"t": float("nan")}),
            (1, {"t": 1e300}),
            (1, {"t": -1e9}),
            (1, {"t": "soon"}),
            (1, {"at": None}),
            (1, {"source": ["server"]}),
            (1, {"session": {"number": 1}}),
            (-1, {"t": "at once"}),
            (-1, {"t": None}),
        ],
    )
    def test_a_line_that_makes_no_sense_is_left_out(
        self, folder: Path, line: int, fields: dict[str, Any]
    ):
        file = folder / "call.jsonl"
        lines = file.read_text().splitlines()
        lines[line] = json.dumps({**json.loads(lines[line]), **fields})
        file.write_text("\n".join(lines))
        call = ReportedCall.open(folder)
        assert len(call.recording.records) == len(lines) - 2 - (line == 1)
        assert call.recording.is_complete == (line == 1)
        assert len(call.course.replies) == 5
        assert "Rome" in page([call])

    @pytest.mark.parametrize(
        "audio", [["bot.flac", -1, 5], ["bot.flac", 1.5, 5], [7, 0, 5], ["bot.flac", 0], {}, "x"]
    )
    def test_a_reference_that_makes_no_sense_is_none(self, folder: Path, audio: Any):
        file = folder / "call.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        (index, *_) = (index for index, line in enumerate(lines) if "audio" in line)
        lines[index]["audio"] = audio
        file.write_text("\n".join(json.dumps(line) for line in lines))
        recording = Recording.open(folder)
        assert [record.audio for record in recording.records if record.line == index + 1] == [None]

    def test_a_version_that_is_no_number_is_told(self, folder: Path):
        file = folder / "call.jsonl"
        file.write_text(file.read_text().replace('"version": 1', '"version": "1"', 1))
        assert_failed(run("report", folder), 2, "has version '1' of the format")
