"""Whole calls on lines of all kinds: sparse frames, long frames, jitter, telephones, losses."""

import asyncio
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray
from pipecat.frames.frames import LLMFullResponseStartFrame
from support.call import (
    NO_GREETING,
    SHAPES,
    Call,
    Shape,
    call,
    emulator,
    session,
)
from support.lines import (
    Dtx,
    Jitter,
    Line,
    LongFrames,
    through_8_khz,
    through_mulaw,
    with_loss,
)

from pipecat_hydra.emulator import EmulatedSession, HydraEmulator
from pipecat_hydra.testing import read_recording

LINES: dict[str, Callable[[], Line]] = {
    "continuous": Line,
    "DTX 160 ms": lambda: Dtx(0.16),
    "DTX 400 ms": lambda: Dtx(0.4),
    "frames of 500 ms": lambda: LongFrames(0.5),
}
# The emulator ends a turn after so much silence, and answers so much later.
SILENCE_SECS = 0.6
ANSWER_SECS = 0.05

EXAMPLES = Path(__file__).parents[2] / "examples" / "recordings"
RECORDINGS = {"barge_in": 2, "paris": 1, "rome": 1}
"""Those of the examples, and how many turns each is."""


def example(name: str) -> NDArray[np.int16]:
    pcm, rate = read_recording(EXAMPLES / f"{name}.wav")
    assert rate == 16_000
    return pcm[:, 0]


async def reply_delays(make: Callable[[], Line], shape: Shape, turns: int = 4) -> list[float]:
    """How long after the user's silence each reply begins, in seconds.

    The silence is that which ends a turn. It counts from the moment when the clock says that it has
    lasted, or, on a line that gives all audio in long frames, when the line has given it.
    """
    line = make()
    delays: list[float] = []
    async with (
        emulator(response_latency_secs=ANSWER_SECS) as hydra,
        call(hydra, shape, before_aggregator=[line], settings=NO_GREETING) as talk,
    ):
        await asyncio.sleep(0.77)
        for n in range(turns):
            await talk.say("hello" if n % 2 else "question")
            over = time.monotonic() + SILENCE_SECS
            await talk.until(lambda n=n: len(talk.frames.of(LLMFullResponseStartFrame)) > n)
            known = over
            if isinstance(line, LongFrames):
                known = next(at for at, _ in line.carried if at >= over)
            delays.append(replies_began(talk)[n] - known)
            await talk.until_quiet()
            await asyncio.sleep(1.13)
        assert session(hydra).errors == []
        check_clock(session(hydra), sparse=isinstance(line, Dtx))
    return delays


def replies_began(talk: Call) -> list[float]:
    frames = zip(talk.frames.pushed, talk.frames.times, strict=True)
    return [at for (frame, _), at in frames if isinstance(frame, LLMFullResponseStartFrame)]


def check_clock(heard: EmulatedSession, *, sparse: bool) -> None:
    """All that Hydra has heard is as long as the session; it is never sent too fast."""
    (configured,) = heard.sent_of("session.configured")
    level, total, last = 0.0, 0.0, configured.time
    for record in heard.received_of("input_audio_buffer.append"):
        secs = record.audio_bytes / 32_000
        level = max(0.0, level - 2.0 * (record.time - last)) + secs
        total += secs
        last = record.time
        assert level <= 0.5 + 0.02
        assert total <= 2.0 * (record.time - configured.time) + 0.02
    # A line that gives long frames begins with silence; a pause that jitter explains is not owed.
    assert total == pytest.approx(last - configured.time, abs=0.4 if sparse else 0.55)


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_reply_comes_as_soon_on_every_line(shape: Shape):
    delays = {name: await reply_delays(make, shape) for name, make in LINES.items()}
    means = {name: float(np.mean(of_line)) for name, of_line in delays.items()}
    assert max(means.values()) - min(means.values()) <= 0.05, delays
    # The emulator looks at 32 ms at a time, wherever a turn ends.
    each = [delay for of_line in delays.values() for delay in of_line]
    assert max(abs(delay - means["continuous"]) for delay in each) <= 0.05, delays


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", LINES)
async def test_what_was_answered_on_any_line_the_next_session_does_not_hear(
    shape: Shape, name: str
):
    async with (
        emulator() as hydra,
        call(hydra, shape, before_aggregator=[LINES[name]()], settings=NO_GREETING) as talk,
    ):
        await asyncio.sleep(1.0)
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseStartFrame)
        await talk.until_quiet()
        await talk.llm.renew_session()
        await talk.until(lambda: len(hydra.sessions) == 2 and hydra.sessions[1].configured)
        await asyncio.sleep(3.0)
        assert len(replies_began(talk)) == 1
        assert (
            np.abs(np.frombuffer(hydra.sessions[1].received_audio, "<i2").astype(int)).max() < 200
        )


async def hear(hydra: HydraEmulator, talk: Call, turns: int) -> NDArray[np.int16]:
    """Wait until so many turns are over, and a while longer; what Hydra has heard."""
    stops = lambda: session(hydra).sent_of("input_audio_buffer.speech_stopped")  # noqa: E731
    await talk.transport.microphone.done()
    await talk.until(lambda: len(stops()) >= turns)
    await asyncio.sleep(1.5)
    assert len(stops()) == turns
    items = [r.event["item"] for r in session(hydra).sent_of("conversation.item.done")]
    said = [item["status"] for item in items if item["role"] == "user"]
    assert said == ["completed"] * turns
    return np.frombuffer(session(hydra).received_audio, np.int16)


WIRES: dict[str, tuple[int, Callable[[NDArray[np.int16]], NDArray[np.int16]]]] = {
    "as it is": (16_000, lambda speech: speech),
    "mu-law": (8_000, through_mulaw),
    "16-8-16 kHz": (16_000, through_8_khz),
    "1 % lost": (16_000, lambda speech: with_loss(speech, 0.01)),
    "5 % lost": (16_000, lambda speech: with_loss(speech, 0.05)),
    "mu-law, 5 % lost": (8_000, lambda speech: with_loss(through_mulaw(speech), 0.05, rate=8_000)),
}
"""What becomes of the samples: the rate at which they come, and how."""

FRAMES: dict[str, Callable[[], Line]] = {**LINES, "jitter of 200 ms": lambda: Jitter(0.2)}
"""What becomes of the frames."""

KINDS = [
    *((wire, "continuous") for wire in WIRES),
    *(("as it is", frames) for frames in FRAMES if frames != "continuous"),
    ("mu-law, 5 % lost", "jitter of 200 ms"),
    ("mu-law, 5 % lost", "DTX 160 ms"),
]


@pytest.mark.parametrize(
    ("shape", "name"),
    [*((shape, "barge_in") for shape in SHAPES), ("bare", "paris"), ("aggregators", "rome")],
)
@pytest.mark.parametrize(("wire", "frames"), KINDS)
async def test_words_arrive(shape: Shape, wire: str, frames: str, name: str):
    """Each utterance is a turn of its own and no noise; without DTX not a sample is missing."""
    rate, make = WIRES[wire]
    given = make(example(name))
    async with (
        emulator() as hydra,
        call(
            hydra,
            shape,
            microphone=given,
            microphone_rate=rate,
            before_aggregator=[FRAMES[frames]()],
            settings=NO_GREETING,
        ) as talk,
    ):
        received = await hear(hydra, talk, RECORDINGS[name])
    if "DTX" in frames:
        return
    if rate == 16_000:
        assert given.tobytes() in received.tobytes()
    else:
        assert noise_db(received, soxr.resample(given, rate, 16_000, quality="VHQ")) < -30


def noise_db(received: NDArray[np.int16], expected: NDArray[np.int16]) -> float:
    """How loud the difference is between what was received and what it should be, at best."""
    heard, said = received.astype(np.float64), expected.astype(np.float64)
    size = 1 << (len(heard) + len(said)).bit_length()
    likeness = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(said, size)), size)
    at = int(np.argmax(likeness[: len(heard)]))
    error = heard[at : at + len(said)] - said
    return float(10 * np.log10(np.sum(error**2) / np.sum(said**2)))


@pytest.mark.parametrize("shape", SHAPES)
async def test_of_what_is_too_much_at_once_one_stretch_is_lost_and_told(
    shape: Shape, warnings: list[str]
):
    """A loop that is blocked for longer than is kept: afterwards all frames come at once."""
    # Each frame says which one it is.
    counted = np.repeat(np.arange(1, 601, dtype=np.int16), 320)
    async with (
        emulator() as hydra,
        call(hydra, shape, microphone=counted, settings=NO_GREETING, preroll_secs=2.0) as talk,
    ):
        await talk.until(lambda: hydra.sessions and session(hydra).received_audio)
        await asyncio.sleep(1.0)
        time.sleep(6.0)  # noqa: ASYNC251
        await asyncio.sleep(1.0)
        told = [line for line in warnings if "what the user said are lost" in line]
        await talk.transport.microphone.done()
        await asyncio.sleep(1.0)
        samples = np.frombuffer(session(hydra).received_audio, np.int16)
    heard = [int(n) for n in samples[::320] if n]
    gaps = [after - before - 1 for before, after in pairwise(heard) if after != before + 1]
    assert len(gaps) == 1
    assert 6.0 - 2.5 - 0.6 <= gaps[0] * 0.02 <= 6.0 - 2.0
    assert heard[-1] == 600
    assert len(told) == 1
    assert f"{gaps[0] * 0.02:.1f} s of what the user said" in told[0]
    assert len([line for line in warnings if "are lost" in line]) == 1
