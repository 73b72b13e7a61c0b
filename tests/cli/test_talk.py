"""`talk`: the log of turns, the measures, and whole conversations with the emulator."""

import io
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from numpy.typing import NDArray
from pipecat.utils.errors import ErrorCategory
from rich.console import Console
from support.command import LONG_SECS, command, run

from pipecat_hydra.cli.talk import (
    Display,
    ExitCode,
    Limits,
    Report,
    Row,
    TalkError,
    TalkOptions,
    talk,
    talk_repeatedly,
)
from pipecat_hydra.cli.talk.errors import from_category, without_key
from pipecat_hydra.cli.talk.turns import Turn, TurnLog
from pipecat_hydra.emulator import (
    Call,
    EmulatorSettings,
    HydraEmulator,
    Pause,
    Say,
    Script,
    ScriptError,
)
from pipecat_hydra.recording import Recording
from pipecat_hydra.recording.course import Course
from pipecat_hydra.recording.sound import Sounds
from pipecat_hydra.testing import VirtualTransport, read_recording

RECORDINGS = Path(__file__).parent.parent / "recordings"
EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def speech(name: str) -> NDArray[np.int16]:
    return read_recording(RECORDINGS / f"{name}.wav")[0][:, 0]


class Shown(Display):
    """A display whose lines can be read."""

    def __init__(self, width: int = 120):
        self._file = io.StringIO()
        super().__init__(Console(file=self._file, width=width, highlight=False))

    @property
    def text(self) -> str:
        return self._file.getvalue()


@asynccontextmanager
async def emulated(recording: Path, **options: object) -> AsyncIterator[TalkOptions]:
    async with HydraEmulator(settings=EmulatorSettings(transcripts=True)) as hydra:
        yield TalkOptions(
            recording=recording,
            output=recording.with_name("conversation.wav"),
            api_key=hydra.api_key,
            base_url=hydra.url,
            **options,  # pyright: ignore[reportArgumentType]
        )


class TestTurnLog:
    @staticmethod
    def answering() -> TurnLog:
        """A log in which the answer to the first turn is heard, since 1.2 s."""
        log = TurnLog()
        log.user_started(0.0)
        log.user_stopped(1.0)
        log.response_started()
        log.audio_received(100, 1.1)
        log.bot_started(1.2)
        return log

    def test_a_turn_and_its_answer(self):
        log = TurnLog()
        log.user_started(0.5)
        assert log.user_speaking
        assert not log.answered
        log.user_stopped(1.5)
        log.response_started()
        log.first_byte(0.2)
        log.first_byte(0.9)
        assert not log.audio_received(100, 1.7)
        log.audio_received(28, 1.75)
        assert log.bot_started(1.8)
        assert not log.answered
        log.tokens(3, 4)
        log.response_ended()
        log.bot_stopped(3.0)
        assert log.answered
        assert log.last_event_secs == 3.0
        (turn,) = log.turns
        assert (turn.number, turn.user_started_secs, turn.user_stopped_secs) == (1, 0.5, 1.5)
        assert (turn.bot_started_secs, turn.bot_stopped_secs, turn.ttfb_secs) == (1.8, 3.0, 0.2)
        assert (turn.received_bytes, turn.prompt_tokens, turn.completion_tokens) == (128, 3, 4)
        assert turn.interrupted_secs is None

    def test_what_comes_late_of_an_interrupted_reply_counts_for_its_own_turn(self):
        log = self.answering()
        log.user_started(2.0)
        assert log.interrupted(2.01)
        log.bot_stopped(2.02)
        log.tokens(5, 6)
        first, second = log.turns
        assert (first.interrupted_secs, first.bot_stopped_secs) == (2.01, 2.02)
        assert first.completion_tokens == 6
        assert (second.bot_started_secs, second.completion_tokens) == (None, None)
        assert not log.answered

    def test_an_interruption_of_silence_is_none(self):
        log = TurnLog()
        assert not log.interrupted(0.1)
        log.user_started(0.1)
        assert not log.interrupted(0.1)
        assert log.turns[0].interrupted_secs is None

    def test_a_last_piece_of_what_was_interrupted_is_no_answer(self):
        log = self.answering()
        log.user_started(2.0)
        assert log.interrupted(2.01)
        assert log.bot_stopped(2.02)
        assert not log.bot_started(2.03)
        log.user_stopped(3.0)
        # The start of the answer is not reported: the bot speaks already, they say.
        assert log.audio_received(100, 3.2)
        assert not log.audio_received(100, 3.3)
        assert log.bot_stopped(4.0)
        # Or it was reported to stop before there was an answer.
        log.user_started(5.0)
        log.interrupted(5.01)
        log.bot_started(5.02)
        log.user_started(6.0)
        assert not log.interrupted(6.01)
        assert not log.bot_stopped(8.1)
        times = [(turn.bot_started_secs, turn.bot_stopped_secs) for turn in log.turns]
        assert times == [(1.2, 2.02), (3.2, 4.0), (None, None), (None, None)]
        assert [turn.interrupted_secs for turn in log.turns] == [2.01, None, None, None]

    def test_the_bot_may_speak_first(self):
        log = TurnLog()
        assert log.last_event_secs == 0
        log.response_started()
        log.audio_received(100, 0.2)
        log.bot_started(0.3)
        log.bot_stopped(0.9)
        log.user_started(2.0)
        assert [turn.user_started_secs for turn in log.turns] == [None, 2.0]

    def test_a_function_call_is_no_answer_yet_whatever_was_said_before_it(self):
        log = self.answering()
        log.called()
        log.called()
        log.response_ended()
        log.bot_stopped(1.5)
        assert not log.answered  # what it says about them is to come
        log.response_started()
        assert not log.answered
        log.audio_received(100, 1.7)
        log.bot_started(1.8)
        log.response_ended()
        assert not log.answered  # it is being heard
        log.bot_stopped(2.5)
        assert log.answered
        assert log.turns[0].calls == 2

    def test_a_reply_in_two_parts_is_one_reply(self):
        log = self.answering()
        log.bot_stopped(1.5)
        log.audio_received(100, 1.9)
        log.bot_started(2.0)
        log.response_ended()
        assert not log.answered
        log.bot_stopped(2.5)
        assert (log.turns[0].bot_started_secs, log.turns[0].bot_stopped_secs) == (1.2, 2.5)


class TestErrors:
    @pytest.mark.parametrize(
        ("category", "exit_code"),
        [
            (ErrorCategory.AUTHENTICATION, ExitCode.BAD_KEY),
            (ErrorCategory.AUTHORIZATION, ExitCode.BAD_KEY),
            (ErrorCategory.CONNECTIVITY, ExitCode.NO_NETWORK),
            (ErrorCategory.RATE_LIMIT, ExitCode.AT_CAPACITY),
            (ErrorCategory.INVALID_REQUEST, ExitCode.FAILED),
            (None, ExitCode.FAILED),
        ],
    )
    def test_each_category_has_its_exit_code(
        self, category: ErrorCategory | None, exit_code: ExitCode
    ):
        assert from_category(category, "because", "wss://host/path").exit_code is exit_code

    def test_a_message_is_one_line_without_the_key(self):
        assert without_key("bad\n key sk-1", "sk-1") == "bad key [REDACTED]"
        assert without_key("no key", None) == "no key"


class TestTalk:
    async def test_the_demo_two_turns_with_function_calls_and_a_barge_in(self, tmp_path: Path):
        options = TalkOptions(
            recording=EXAMPLES / "recordings" / "barge_in.wav",
            output=tmp_path / "conversation.wav",
            script=EXAMPLES / "demo.yaml",
            sample_tools=True,
        )
        said, _ = read_recording(options.recording)
        display = Shown()
        report = await talk(options, display)

        interrupted, last = report.rows
        for row in report.rows:
            assert row.turn.received_bytes > 0
            assert row.heard_bytes > 0
            assert row.turn.prompt_tokens
            assert row.turn.completion_tokens
            assert row.turn.ttfb_secs is not None
            assert row.first_audio_after_speech_secs is not None
            assert row.first_audio_after_report_secs is not None
            assert row.first_audio_after_report_secs < row.first_audio_after_speech_secs < 5
        assert interrupted.turn.interrupted_secs is not None
        assert last.turn.interrupted_secs is None
        assert interrupted.heard_bytes < interrupted.turn.received_bytes
        assert last.heard_bytes >= last.turn.received_bytes  # with the padding of a chunk

        # The second utterance begins after 4.94 s, and cuts the reply that is being heard.
        assert interrupted.barge_in_secs is not None
        assert 0 < interrupted.barge_in_secs < 1.7
        assert last.user_start_secs == pytest.approx(4.97, abs=0.1)
        assert interrupted.reply_start_secs is not None
        assert interrupted.reply_end_secs is not None
        assert last.reply_start_secs is not None
        assert last.user_start_secs is not None
        assert interrupted.reply_start_secs < last.user_start_secs < interrupted.reply_end_secs

        stereo, rate = read_recording(options.output)
        user, bot = (Sounds(stereo[:, channel], rate) for channel in (0, 1))
        assert len(stereo) / rate == pytest.approx(report.length_secs, abs=0.01)
        assert user.begins[0] == pytest.approx(0.05, abs=0.1)
        assert user.ends[-1] == pytest.approx(len(said) / 16_000, abs=0.2)
        # The figures are those of the file, in which nothing is heard between the two replies.
        (cut,) = np.flatnonzero(np.abs(bot.ends - interrupted.reply_end_secs) < 0.02)
        assert bot.begins[cut + 1] == pytest.approx(last.reply_start_secs, abs=0.02)
        assert np.abs(user.begins - last.user_start_secs).min() < 0.02

        # Both replies are about the result of a function.
        assert report.latencies["answer"] == []
        waits = [row.first_audio_after_speech_secs for row in report.rows]
        assert report.latencies["tool_turn"] == pytest.approx(waits)
        assert report.latencies["barge_in"] == [interrupted.barge_in_secs]
        assert report.errors == []

        assert [row.turn.calls for row in report.rows] == [1, 1]
        assert f"answers by {options.script}" in display.text.splitlines()[0]
        for shown in (
            'bot calls get_weather(city="Paris")',
            'get_weather gives {"city": "Paris", "sky": "sunny", "degrees_celsius": 21}',
            "bot says: sunny in Paris",
            "bot is interrupted",
            'bot calls get_weather(city="Rome")',
            "2 turns in",
            f"{interrupted.barge_in_secs:.2f}",
        ):
            assert shown in display.text

    async def test_a_bare_pipeline_and_a_recording_of_another_kind(self, tmp_path: Path):
        recording = tmp_path / "other.flac"
        fast = np.repeat(speech("hello"), 3)
        sf.write(recording, np.stack([fast, fast], axis=1), 48_000, subtype="PCM_24")
        async with emulated(recording, aggregators=False, model="hydra-v1.0") as options:
            display = Shown()
            report = await talk(options, display)
        (row,) = report.rows
        assert row.reply_start_secs is not None
        assert row.barge_in_secs is None
        assert options.api_key
        assert options.api_key not in display.text
        stereo, rate = read_recording(options.output)
        assert rate == 48_000
        assert np.abs(stereo.astype(int)).max(axis=0).min() > 1_000  # both sides are heard

    async def test_the_bot_speaks_first(self, tmp_path: Path):
        recording = tmp_path / "hello.wav"
        sf.write(recording, speech("hello"), 16_000)
        async with emulated(recording, greet=True) as options:
            report = await talk(options, Shown())
        greeting, row = report.rows
        assert greeting.user_start_secs is None
        assert greeting.reply_end_secs is not None
        assert row.user_start_secs is not None
        assert row.user_start_secs > greeting.reply_end_secs
        assert row.reply_start_secs is not None

    async def test_the_recording_is_kept_where_the_environment_says(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("HYDRA_RECORD", str(tmp_path / "calls"))
        recording = tmp_path / "hello.wav"
        sf.write(recording, speech("hello"), 16_000)
        async with emulated(recording) as options:
            report = await talk(options, Shown())
        (folder,) = (tmp_path / "calls").iterdir()
        assert Course.of(Recording.open(folder)).latencies == report.latencies

    async def test_the_recording_is_kept_where_the_option_says(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("HYDRA_RECORD", str(tmp_path / "other"))
        recording = tmp_path / "hello.wav"
        sf.write(recording, speech("hello"), 16_000)
        async with emulated(recording) as options:
            report = await talk(replace(options, record=tmp_path / "calls"), Shown())
        (folder,) = (tmp_path / "calls").iterdir()
        assert Course.of(Recording.open(folder)).latencies == report.latencies
        assert not (tmp_path / "other").exists()

    async def test_what_is_said_before_a_function_call_is_not_all_of_the_reply(
        self, tmp_path: Path
    ):
        recording = tmp_path / "hello.wav"
        sf.write(recording, speech("hello"), 16_000)
        script = Script(
            [
                [
                    Say.tones(0.2, "I shall look"),
                    Call("get_weather", {"city": "Oslo"}),
                    Call("get_tides", {}),
                    Pause(0.9),  # more than there is after the last word of a conversation
                    Say.tones(0.4, "It says {output}"),
                ]
            ]
        )
        display = Shown()
        async with HydraEmulator(script) as hydra:
            options = TalkOptions(
                recording=recording,
                output=tmp_path / "conversation.wav",
                api_key=hydra.api_key,
                base_url=hydra.url,
                aggregators=False,
                sample_tools=True,
            )
            (row,) = (await talk(options, display)).rows
            (session,) = hydra.sessions
            assert row.heard_bytes >= len(session.sent_audio())
            weather, tides = session.calls
            assert "cloudy" in (weather.output or "")
            assert "not" in (tides.output or "")
        assert row.turn.calls == 2
        assert "calls" in display.text

    async def test_silence_gets_no_answer(self, tmp_path: Path):
        recording = tmp_path / "silence.wav"
        sf.write(recording, np.zeros(4_000, np.int16), 8_000)
        async with emulated(recording, limit_secs=0.3) as options:
            with pytest.raises(TalkError, match=r"no answer within 0\.3 s: no speech") as error:
                await talk(options, Shown())
        assert error.value.exit_code is ExitCode.NO_ANSWER
        assert not options.output.exists()

    async def test_a_model_that_does_not_greet(self, tmp_path: Path):
        display = Shown()
        async with HydraEmulator(Script([Say.tones(0.2)], greeting=[Pause(0.1)])) as hydra:
            options = TalkOptions(
                recording=RECORDINGS / "hello.wav",
                output=tmp_path / "conversation.wav",
                api_key=hydra.api_key,
                base_url=hydra.url,
                limit_secs=0.5,
                greet=True,
            )
            with pytest.raises(TalkError, match=r"no greeting within 0\.5 s") as error:
                await talk(options, display)
        assert error.value.exit_code is ExitCode.NO_ANSWER

    async def test_what_cannot_be_written_is_shown_all_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        def no_room(*_: object) -> None:
            raise OSError("No space left on device")

        monkeypatch.setattr(VirtualTransport, "save_stereo", no_room)
        display = Shown()
        async with emulated(RECORDINGS / "hello.wav") as options:
            options = replace(options, output=tmp_path / "conversation.wav")
            with pytest.raises(TalkError, match=r"conversation\.wav: No space left") as error:
                await talk(options, display)
        assert error.value.exit_code is ExitCode.FAILED
        assert "1 turn in" in display.text
        assert "left the user" not in display.text

    async def test_a_model_that_stays_silent_gives_no_answer_but_a_file(self, tmp_path: Path):
        script = tmp_path / "silent.yaml"
        script.write_text("turns:\n  - pause: 0.1\nthen: silence\n")
        display = Shown()
        async with HydraEmulator(script) as hydra:
            options = TalkOptions(
                recording=RECORDINGS / "hello.wav",
                output=tmp_path / "conversation.wav",
                api_key=hydra.api_key,
                base_url=hydra.url,
                limit_secs=0.5,
            )
            with pytest.raises(TalkError, match="to turn 1") as error:
                await talk(options, display)
        assert error.value.exit_code is ExitCode.NO_ANSWER
        assert options.output.exists()
        assert "1 turn in" in display.text

    async def test_a_script_that_cannot_be_used(self, tmp_path: Path):
        options = TalkOptions(
            recording=RECORDINGS / "hello.wav",
            output=tmp_path / "conversation.wav",
            script=tmp_path / "none.yaml",
        )
        with pytest.raises(ScriptError, match="none"):
            await talk(options, Shown())

    def test_options_do_not_show_the_key(self):
        options = TalkOptions(recording=Path("in"), output=Path("out"), api_key="sk-secret")
        assert "sk-secret" not in repr(options)


class TestRuns:
    @staticmethod
    def options(folder: Path, **more: Any) -> TalkOptions:
        return TalkOptions(
            recording=RECORDINGS / "hello.wav", output=folder / "conversation.wav", **more
        )

    async def test_several_runs_have_files_of_their_own_and_a_spread(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        await talk_repeatedly(self.options(tmp_path), Limits(answer=5.0), repeat=2)
        shown = capsys.readouterr().out
        assert "run 2 of 2" in shown
        (answer,) = (line.split() for line in shown.splitlines() if "answer " in line)
        assert answer[1] == "2"
        assert all(0.6 < float(figure) < 2 for figure in answer[2:])
        assert sorted(file.name for file in tmp_path.iterdir()) == [
            "conversation-1.wav",
            "conversation-2.wav",
        ]

    async def test_what_is_exceeded_is_named(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        with pytest.raises(TalkError) as error:
            await talk_repeatedly(self.options(tmp_path), Limits(answer=0.1, barge_in=1.0))
        assert error.value.exit_code is ExitCode.EXCEEDED
        assert re.search(
            r"answer 1 of run 1 took \d\.\d\d s, \d\.\d\d s more than 0\.1 s; "
            r"no barge_in was measured in run 1",
            str(error.value),
        )
        assert "1 turn in" in capsys.readouterr().out

    async def test_machines_read_standard_output(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        await talk_repeatedly(self.options(tmp_path), Limits(), repeat=2, machine=True)
        captured = capsys.readouterr()
        told = json.loads(captured.out)
        assert told["passed"]
        assert told["latencies"]["answer"]["count"] == 2
        first, second = told["runs"]
        assert first["conversation"].endswith("conversation-1.wav")
        (turn,) = second["turns"]
        (answer,) = second["latencies"]["answer"]
        assert turn["bot_from"] - turn["user_until"] == pytest.approx(answer, abs=0.002)
        assert "run 2 of 2" in captured.err

    async def test_a_run_that_fails_is_the_last(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        script = tmp_path / "silent.yaml"
        script.write_text("turns:\n  - pause: 0.1\nthen: silence\n")
        options = self.options(tmp_path, script=script, limit_secs=0.5)
        with pytest.raises(TalkError, match="run 1 of 3: no answer") as error:
            await talk_repeatedly(options, Limits(), repeat=3, machine=True)
        assert error.value.exit_code is ExitCode.NO_ANSWER
        told = json.loads(capsys.readouterr().out)
        assert not told["passed"]
        assert told["failure"] == str(error.value)
        assert told["runs"] == []


class TestDisplay:
    @pytest.mark.parametrize("calls", [0, 1])
    @pytest.mark.parametrize("width", [80, 100, 120])
    def test_no_figure_is_cut_at_any_width(self, width: int, calls: int):
        display = Shown(width)
        turns = [
            Turn(
                number,
                interrupted_secs=31.0,
                ttfb_secs=0.25,
                received_bytes=1_234_567,
                prompt_tokens=1_234,
                completion_tokens=5_678,
                calls=calls,
            )
            for number in (1, 2)
        ]
        rows = [Row(turn, 10.25, 20.25, 25.25, 31.75, 0.5, 765_432) for turn in turns]
        display.report(Report(rows, 40.0, 1_280_000))
        for figure in (
            "10.25 - 20.25",
            "25.25 - 31.75 cut",
            "5.00 / -",
            "0.25",
            "0.50",
            "1234567 / 765432",
            "1234 / 5678",
        ):
            assert display.text.count(figure) >= 2
        assert ("calls" in display.text) == bool(calls)
        table = display.text[: display.text.index("2 turns in")]
        assert max(map(len, table.splitlines())) <= width
        assert "…" not in table

    def test_nothing_of_a_table_is_shown_for_no_turns(self):
        display = Shown()
        display.report(Report([], 1.0, 32_000))
        assert "0 turns in 1.0 s" in display.text


@pytest.mark.realtime
def test_a_call_whose_process_is_killed_can_be_reported(tmp_path: Path):
    question = Path(__file__).parent.parent / "recordings" / "question.wav"
    calls = tmp_path / "calls"
    process = command("talk", question, "--emulator", "--record", calls, cwd=tmp_path)
    deadline = time.monotonic() + LONG_SECS
    while not any(file.stat().st_size for file in calls.glob("*/bot.flac")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # Half of the reply has been played.
    time.sleep(1.5)
    process.kill()
    process.communicate()
    (folder,) = calls.iterdir()
    told = Recording.open(folder)
    assert not told.is_complete
    assert told.ended_at > 2.5
    assert len(told.heard_track().samples) / 24_000 > 3
    result = run("report", folder, "--text")
    assert result.exit_code == 0
    assert f"{told.ended_at:.2f} s  end    the recording is cut off here" in result.output
