"""Whole calls that are recorded: what is in the recording, and that the call does not notice."""

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from numpy.typing import NDArray
from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    EndFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMUpdateSettingsFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
)
from pipecat.services.llm_service import FunctionCallParams
from support.call import NO_GREETING, SHAPES, Call, Ears, Shape, call, emulator, recording, session
from support.functions import tools

from pipecat_hydra import HydraLLMService, HydraLLMSettings, HydraRecorder
from pipecat_hydra.emulator import Call as ToolCall
from pipecat_hydra.emulator import HydraEmulator, Say, Script
from pipecat_hydra.recording import Record, Recording

shapes = pytest.mark.parametrize("shape", SHAPES)

ROOT = Path(__file__).parent.parent.parent
LINE = Draft202012Validator(json.loads((ROOT / "docs" / "recording.schema.json").read_text()))
# Noise that repeats nowhere, so that each stretch of it tells where it belongs.
REPLY = np.random.default_rng(7).integers(-6_000, 6_000, 24_000 * 3).astype("<i2")


async def weather(params: FunctionCallParams, city: str):
    """Look up the weather.

    Args:
        city: Where.
    """
    await asyncio.sleep(0.1)
    await params.result_callback({"weather": f"sunny in {city}"})


def only(folder: Path) -> Recording:
    """The one recording in a folder."""
    (path,) = folder.iterdir()
    return Recording.open(path)


def of(call: Recording, kind: str) -> list[Record]:
    return [record for record in call.records if record.type == kind]


def kinds(call: Recording, *sources: str) -> list[str]:
    return [record.type for record in call.records if record.source in sources]


class Axis:
    """The transport's timeline on the recording's time axis, while the call is in progress."""

    def __init__(self, talk: Call):
        self.began_at = time.time() - talk.transport.timeline.secs
        self.transport = talk.transport

    def assert_heard(self, call: Recording, within_secs: float = 0.02) -> None:
        """Each chunk that was heard lies where it was heard, and nothing else was heard."""
        track = call.heard_track()
        begins = self.began_at - call.header["at"]
        slack = round(within_secs * track.rate)
        total = 0
        for heard in self.transport.heard:
            samples = np.frombuffer(heard.pcm, "<i2")
            if np.count_nonzero(samples) > 100:
                at = round(begins * track.rate) + heard.start_sample
                assert _is_in(track.samples[at - slack : at + len(samples) + slack], samples)
            total += np.count_nonzero(samples)
        assert np.count_nonzero(track.samples) == total > 0


def _is_in(stretch: NDArray[np.int16], samples: NDArray[np.int16]) -> bool:
    shifts = len(stretch) - len(samples) + 1
    return any(np.array_equal(stretch[n : n + len(samples)], samples) for n in range(shifts))


def assert_wire_is_whole(call: Recording, hydra: HydraEmulator) -> None:
    """The recording has each event that the server sent and received, and all audio."""
    for number, one in enumerate(hydra.sessions, 1):
        of_session = [record for record in call.records if record.session == number]
        sent = [record.type for record in of_session if record.source == "client"]
        received = [record.type for record in of_session if record.source == "server"]
        # Of what was under way when the connection dropped, neither side has heard.
        assert [record.type for record in one.received] == sent[: len(one.received)]
        assert received == [record.type for record in one.sent][: len(received)]
        assert len(sent) - len(one.received) < 40
    bot = b"".join(one.sent_audio() for one in hydra.sessions)
    assert (
        np.concatenate(
            [call.samples(r.audio) for r in call.records if r.source == "server" and r.audio]
        ).tobytes()
        == bot
    )
    user = np.concatenate(
        [call.samples(r.audio) for r in call.records if r.source == "client" and r.audio]
    ).tobytes()
    begin = 0
    for one in hydra.sessions:
        begin = user.index(one.received_audio, begin) + len(one.received_audio)


@shapes
async def test_a_call_with_everything_in_it_is_recorded(shape: Shape, tmp_path: Path):
    """A tool, a barge-in, noise, a drop and a change of the settings."""
    script = Script(
        [
            [ToolCall("weather", {"city": "Rome"}, "call_1"), Say(REPLY.tobytes(), 24_000)],
            Say(REPLY[::-1].tobytes(), 24_000, "It is sunny."),
        ]
    )
    # The third turn is noise, because it is short of this.
    server = {"cancel_on": "turn_confirmed", "transcripts": True, "min_turn_ms": 800}
    async with (
        emulator(script, **server) as hydra,
        call(
            hydra,
            shape,
            settings=NO_GREETING,
            recorder=HydraRecorder(tmp_path),
            **tools(shape, weather),
        ) as talk,
    ):
        axis = Axis(talk)
        await talk.say("question")
        await talk.until(lambda: len(talk.transport.heard) > 12)
        # A barge-in, and noise over the answer to that.
        await talk.say("interrupt")
        await talk.until_pushed(TTSStartedFrame, 2)
        await talk.transport.microphone.say(recording("hello")[:7_000])
        await talk.until_quiet()
        delta = HydraLLMSettings(voice="zoe")
        await talk.worker.queue_frame(LLMUpdateSettingsFrame(delta=delta))
        await talk.until(lambda: len(hydra.sessions) == 2 and hydra.sessions[-1].configured)
        await hydra.drop()
        await talk.until(lambda: len(hydra.sessions) == 3 and hydra.sessions[-1].configured)
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame, 3)
        await talk.until_quiet()
        await talk.worker.queue_frame(EndFrame())
        await talk.ended()
    told = only(tmp_path)
    assert told.is_complete
    assert told.reason == "the pipeline has ended"
    assert_wire_is_whole(told, hydra)
    axis.assert_heard(told)
    for line in (told.folder / "call.jsonl").read_text().splitlines():
        assert LINE.is_valid(json.loads(line)), line
    (started,) = of(told, "function_started")
    assert started.data == {"name": "weather", "call_id": "call_1", "arguments": {"city": "Rome"}}
    (ended,) = of(told, "function_ended")
    assert ended.data == {"call_id": "call_1", "result": {"weather": "sunny in Rome"}}
    assert [r.data["voice"] for r in of(told, "settings")] == ["zoe"]
    assert [r.data["voice"] for r in of(told, "session_opening")] == ["aria", "zoe", "zoe"]
    assert len(of(told, "session_configured")) == len(of(told, "session_closed")) == 3
    assert len(of(told, "reconnecting")) == len(of(told, "reconnected")) == 1
    (error,) = of(told, "error")
    assert (error.source, error.data["is_permanent"]) == ("call", False)
    assert len(of(told, "interruption")) == len(talk.frames.of(InterruptionFrame))
    assert len(of(told, "turn_discarded")) == 1
    assert "It is sunny." in "".join(r.data["text"] for r in of(told, "bot_words"))
    for kind, frame in {
        "response_ended": LLMFullResponseEndFrame,
        "bot_stopped": BotStoppedSpeakingFrame,
    }.items():
        pushed = {f.id for f, _ in talk.frames.pushed if isinstance(f, frame)}
        assert len(of(told, kind)) == len(pushed), kind
    assert {"s", "count"} >= {r.data["unit"] for r in of(told, "metrics")}
    assert "HydraSession" in {r.data["name"] for r in of(told, "metrics")}


@shapes
async def test_a_turn_and_its_answer_are_told_in_order(shape: Shape, tmp_path: Path):
    async with (
        emulator() as hydra,
        call(hydra, shape, settings=NO_GREETING, recorder=HydraRecorder(tmp_path)) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await talk.until_quiet()
    told = only(tmp_path)
    assert told.reason == "the pipeline was cancelled"
    happened = [kind for kind in kinds(told, "pipeline") if kind != "metrics"]
    # The bot is heard beside what comes from the server.
    spoken = ["bot_started", "heard", "bot_stopped"]
    assert [kind for kind in happened if kind not in spoken] == [
        "user_started",
        "interruption",
        "user_stopped",
        "response_started",
        "tts_started",
        "tts_stopped",
        "response_ended",
    ]
    assert [kind for kind in happened if kind in spoken and kind != "heard"] == [
        "bot_started",
        "bot_stopped",
    ]
    assert kinds(told, "call") == [
        "session_opening",
        "session_open",
        "session_configured",
        "session_closed",
    ]


@shapes
async def test_what_is_heard_ends_where_an_interruption_cuts_it(shape: Shape, tmp_path: Path):
    async with (
        emulator(Script([Say(REPLY.tobytes(), 24_000)])) as hydra,
        call(hydra, shape, settings=NO_GREETING, recorder=HydraRecorder(tmp_path)) as talk,
    ):
        axis = Axis(talk)
        await talk.say("hello")
        await talk.until(lambda: len(talk.transport.heard) > 12)
        await talk.worker.queue_frame(InterruptionFrame())
        await talk.until_quiet()
        # What was being written at the interruption is heard to its end.
        await asyncio.sleep(0.1)
    told = only(tmp_path)
    axis.assert_heard(told)
    assert len(told.heard_track().samples) < len(told.generated_track().samples)


@shapes
async def test_what_is_heard_is_kept_once(shape: Shape, tmp_path: Path):
    script = Script([Say(REPLY.tobytes(), 24_000)], then="repeat")
    async with (
        emulator(script) as hydra,
        call(hydra, shape, settings=NO_GREETING, recorder=HydraRecorder(tmp_path)) as talk,
    ):
        axis = Axis(talk)
        await talk.say("question")
        await talk.until(lambda: len(talk.transport.heard) > 12)
        # After an interruption what was not played of the reply is passed over.
        await talk.say("interrupt")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        await talk.until_quiet()
    told = only(tmp_path)
    axis.assert_heard(told)
    heard = [record.audio for record in of(told, "heard") if record.audio is not None]
    assert {audio.file for audio in heard} <= {"bot.flac", "heard.flac"}
    received = sum(audio.samples for audio in heard if audio.file == "bot.flac")
    # The last chunk of a reply is made whole with silence.
    assert received > 0.97 * sum(audio.samples for audio in heard)


async def test_a_reconnect_tells_whether_hydra_knows_what_was_said(tmp_path: Path):
    async with (
        emulator(Script([Say.tones(0.3)], then="repeat")) as hydra,
        call(hydra, settings=NO_GREETING, recorder=HydraRecorder(tmp_path)) as talk,
    ):
        await talk.until(lambda: bool(hydra.sessions) and hydra.sessions[-1].configured)
        await hydra.drop()
        await talk.until(lambda: len(hydra.sessions) == 2 and hydra.sessions[-1].configured)
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await hydra.drop()
        await talk.until(lambda: len(hydra.sessions) == 3 and hydra.sessions[-1].configured)
        await talk.until_quiet()
    # Hydra sends no transcript, so it cannot be told what the user has said.
    told = of(only(tmp_path), "reconnected")
    assert [record.data["state_restored"] for record in told] == [True, False]


@pytest.mark.parametrize("out_rate", [8_000, 16_000, 48_000])
async def test_what_is_heard_has_the_rate_of_the_transport(out_rate: int, tmp_path: Path):
    async with (
        emulator() as hydra,
        call(
            hydra, out_rate=out_rate, settings=NO_GREETING, recorder=HydraRecorder(tmp_path)
        ) as talk,
    ):
        axis = Axis(talk)
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await talk.until_quiet()
    told = only(tmp_path)
    assert told.heard_track().rate == out_rate
    axis.assert_heard(told)


async def test_the_user_is_heard_where_the_user_spoke(tmp_path: Path):
    """Also what was kept while the session was opened."""
    async with (
        emulator(configured_delay_secs=1.5) as hydra,
        call(hydra, settings=NO_GREETING, recorder=HydraRecorder(tmp_path)) as talk,
    ):
        axis = Axis(talk)
        await talk.say("question")
        await talk.until_pushed(LLMFullResponseEndFrame)
    told = only(tmp_path)
    track = told.user_track()
    spoken = talk.transport.user_samples()
    begins = round((axis.began_at - told.header["at"]) * 16_000)
    found = np.flatnonzero(np.abs(track.samples) > 1_000)
    said = np.flatnonzero(np.abs(spoken) > 1_000)
    for at in (0, len(said) // 2, -1):
        assert (
            abs(int(found[at * len(found) // len(said)]) - begins - int(said[at])) < 0.02 * 16_000
        )
    assert max(record.held for record in told.records) > 1.0


async def test_words_of_an_stt_service_are_recorded(tmp_path: Path):
    async with (
        emulator(user_item_text="What is new?") as hydra,
        call(hydra, settings=NO_GREETING, recorder=HydraRecorder(tmp_path)) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
    assert [r.data["text"] for r in of(only(tmp_path), "user_words")] == ["What is new?"]


async def test_two_runs_give_two_recordings(tmp_path: Path):
    async with emulator() as hydra:
        recorder = HydraRecorder(tmp_path)
        llm = HydraLLMService(
            api_key=hydra.api_key, base_url=hydra.url, settings=NO_GREETING, recorder=recorder
        )
        folders: list[Path | None] = []
        for _ in range(2):
            async with call(hydra, llm=llm) as talk:
                await talk.say("hello")
                await talk.until_pushed(LLMFullResponseEndFrame)
            folders.append(recorder.folder)
    assert sorted(filter(None, folders)) == sorted(tmp_path.iterdir())
    for number, folder in enumerate(sorted(tmp_path.iterdir(), key=lambda f: f.stat().st_mtime)):
        told = Recording.open(folder)
        assert told.is_complete
        assert (
            np.concatenate(
                [told.samples(r.audio) for r in told.records if r.source == "server" and r.audio]
            ).tobytes()
            == hydra.sessions[number].sent_audio()
        )


async def test_two_services_in_one_process_have_each_its_own(tmp_path: Path):
    recorder = HydraRecorder(tmp_path)
    async with (
        emulator() as hydra,
        call(hydra, settings=NO_GREETING, recorder=recorder) as one,
        call(hydra, settings=NO_GREETING, recorder=recorder) as other,
    ):
        await asyncio.gather(one.say("hello"), other.say("question"))
        await one.until_pushed(LLMFullResponseEndFrame)
        await other.until_pushed(LLMFullResponseEndFrame)
    assert [Recording.open(path).is_complete for path in tmp_path.iterdir()] == [True, True]


async def test_the_environment_may_ask_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HYDRA_RECORD", str(tmp_path / "calls"))
    async with emulator() as hydra, call(hydra, settings=NO_GREETING) as talk:
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
    assert only(tmp_path / "calls").is_complete


async def test_the_argument_wins_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HYDRA_RECORD", str(tmp_path / "other"))
    async with (
        emulator() as hydra,
        call(hydra, recorder=HydraRecorder(tmp_path / "calls")) as talk,
    ):
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame)
    assert [path.name for path in tmp_path.iterdir()] == ["calls"]


async def test_without_a_recorder_nothing_is_written_and_no_thread_runs(tmp_path: Path):
    async with emulator() as hydra, call(hydra, settings=NO_GREETING) as talk:
        assert "hydra-recorder" not in {thread.name for thread in threading.enumerate()}
        assert "write_audio_frame" not in vars(talk.transport.output())


async def test_the_transport_is_left_as_it_was(tmp_path: Path):
    async with emulator() as hydra, call(hydra, recorder=HydraRecorder(tmp_path)) as talk:
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert "write_audio_frame" in vars(talk.transport.output())
    assert "write_audio_frame" not in vars(talk.transport.output())


async def test_a_folder_that_cannot_be_written_costs_one_error_and_no_call(
    tmp_path: Path, warnings: list[str]
):
    (tmp_path / "file").touch()
    async with (
        emulator() as hydra,
        call(hydra, settings=NO_GREETING, recorder=HydraRecorder(tmp_path / "file")) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert session(hydra).sent_of("response.done")
    (error,) = [line for line in warnings if "recording" in line]
    assert "ERROR" in error
    assert "exists" in error


async def test_a_call_that_is_never_used_is_recorded_too(tmp_path: Path):
    async with emulator() as hydra, call(hydra, recorder=HydraRecorder(tmp_path)):
        await hydra.wait_for_session()
    assert only(tmp_path).is_complete


async def test_a_phrase_for_the_model_is_in_the_recording(tmp_path: Path):
    async with (
        emulator() as hydra,
        call(hydra, settings=NO_GREETING, recorder=HydraRecorder(tmp_path)) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await talk.worker.queue_frame(TTSSpeakFrame("Goodbye."))
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
    created = of(only(tmp_path), "conversation.item.create")
    assert "Goodbye." in json.dumps(created[-1].data)


def kept_from(kind: str, value: Any) -> Any:
    return f"[{kind}]"


@shapes
async def test_texts_are_redacted_and_nothing_else(shape: Shape, tmp_path: Path):
    script = Script(
        [
            [ToolCall("weather", {"city": "Rome"}, "call_1"), Say.tones(0.4, "secret answer")],
        ]
    )
    ears = Ears("secret question")
    async with (
        emulator(script, transcripts=True) as hydra,
        call(
            hydra,
            shape,
            settings=HydraLLMSettings(
                generate_initial_response=False, system_instruction="secret order"
            ),
            before_aggregator=[ears] if shape == "aggregators" else [],
            recorder=HydraRecorder(tmp_path, redact=kept_from),
            **tools(shape, weather),
        ) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        await talk.llm.send_text("secret text")
        await talk.until_pushed(LLMFullResponseEndFrame, 3)
        delta = HydraLLMSettings(system_instruction="secret rule")
        await talk.worker.queue_frame(LLMUpdateSettingsFrame(delta=delta))
        await talk.until(lambda: len(hydra.sessions) == 2 and hydra.sessions[-1].configured)
    told = only(tmp_path)
    written = (told.folder / "call.jsonl").read_text()
    for word in ("secret", "Rome", "sunny"):
        assert word not in written
    for kind in ("user_text", "bot_text", "instructions", "arguments", "result"):
        assert f"[{kind}]" in written
    assert "Look up the weather" in written
    assert_wire_is_whole(told, hydra)


async def test_a_redaction_that_fails_keeps_nothing(tmp_path: Path, warnings: list[str]):
    def fails(kind: str, value: Any) -> Any:
        raise RuntimeError(value)

    async with (
        emulator(Script([Say.tones(0.4, "secret answer")]), transcripts=True) as hydra,
        call(hydra, settings=NO_GREETING, recorder=HydraRecorder(tmp_path, redact=fails)) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
    written = (only(tmp_path).folder / "call.jsonl").read_text()
    assert "secret" not in written
    assert "[redaction failed]" in written
    (error,) = [line for line in warnings if "redaction" in line]
    assert "secret" not in error
