"""Real calls that are recorded: the course of each is what its two voices say by themselves.

What is measured here for comparison knows nothing of the recording: the user's speech was put
where it is by the test, and the bot is what the transport's loudspeaker has taken.
"""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from pipecat.frames.frames import LLMUpdateSettingsFrame
from pipecat.services.llm_service import FunctionCallParams
from support.call import NO_GREETING, SHAPES, Shape, call, emulator, recording
from support.functions import tools

from pipecat_hydra import HydraLLMSettings, HydraRecorder
from pipecat_hydra.cli.report.calls import open_calls
from pipecat_hydra.cli.report.page import page
from pipecat_hydra.emulator import Call, Say, Script
from pipecat_hydra.recording import Recording
from pipecat_hydra.recording.course import Course

RATE = 16_000
SECS = 30.0
SAID = {"question": 2.0, "interrupt": 9.0, "hello": 21.0}
"""What the user says, and when."""

LOUD = 327
"""40 dB below full scale."""

TOLERANCE = 0.02


def microphone() -> np.ndarray:
    """The user's side of the whole call, with noise under it."""
    samples = np.random.default_rng(3).normal(0, 40, round(SECS * RATE))
    for name, begin in SAID.items():
        speech = recording(name)
        samples[round(begin * RATE) :][: len(speech)] += speech
    return samples.clip(-32768, 32767).astype(np.int16)


def spoken(name: str) -> tuple[float, float]:
    """First and last sound of something that the user says."""
    loud = np.flatnonzero(np.abs(recording(name).astype(int)) > LOUD) / RATE
    return SAID[name] + loud[0], SAID[name] + loud[-1]


def note(secs: float, words: str) -> Say:
    moments = np.arange(round(secs * 24_000)) / 24_000
    pcm = (8_000 * np.sin(2 * np.pi * 440 * moments)).astype("<i2").tobytes()
    return Say(pcm, 24_000, words)


async def weather(params: FunctionCallParams, city: str):
    """Look up the weather.

    Args:
        city: Where.
    """
    await asyncio.sleep(0.3)
    await params.result_callback({"sky": "sunny", "city": city})


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_call_comes_to_what_its_voices_say(shape: Shape, tmp_path: Path):
    turns = [
        [Call("weather", {"city": "Paris"}), note(9, "It will be sunny in Paris.")],
        note(2, "I have stopped."),
    ]
    server = emulator(Script(turns), transcripts=True)
    async with (
        server as hydra,
        call(
            hydra,
            shape,
            microphone=microphone(),
            settings=NO_GREETING,
            recorder=HydraRecorder(tmp_path),
            **tools(shape, weather),
        ) as talk,
    ):
        axis = talk.transport.timeline
        await axis.sleep_until(14)
        await hydra.drop()
        await axis.sleep_until(18)
        await talk.worker.queue_frame(LLMUpdateSettingsFrame(delta=HydraLLMSettings(voice="kai")))
        await axis.sleep_until(SECS)
        bot = talk.transport.bot_samples()
        rate = talk.transport.heard[0].sample_rate
    (folder,) = tmp_path.iterdir()
    course = Course.of(Recording.open(folder))

    loud = np.flatnonzero(np.abs(bot.astype(int)) > LOUD) / rate

    def answer(name: str) -> float:
        ended = spoken(name)[1]
        return float(loud[loud > ended][0]) - ended

    began = spoken("interrupt")[0]
    silent = loud[(loud > began) & (np.diff(loud, append=np.inf) > 0.2)][0]
    assert course.is_complete
    assert course.is_measured
    measured = course.latencies
    # In the session after the drop the server begins its script again.
    expected = [answer("question"), answer("hello")]
    assert measured["tool_turn"] == pytest.approx(expected, abs=TOLERANCE)
    assert measured["barge_in"] == pytest.approx([silent - began], abs=TOLERANCE)
    assert measured["answer"] == pytest.approx([answer("interrupt")], abs=TOLERANCE)
    assert measured["ttfb"]
    assert [reply.is_cut for reply in course.replies if reply.generated_secs] == [
        True,
        False,
        False,
    ]
    assert [tool.result for tool in course.tools] == 2 * [{"sky": "sunny", "city": "Paris"}]
    assert [len(course.turns), len(course.reconnects), len(course.settings)] == [3, 1, 1]
    assert "broke" in course.reconnects[0].reason
    assert all(one.opening and one.open and one.configured for one in course.sessions)
    spans = [moment for one in course.sessions for moment in (one.opening or 0, one.closed or 0)]
    assert len(spans) == 6
    assert spans == sorted(spans)
    assert "It will be sunny in Paris." in page(open_calls([folder]))
