"""Audio of every rate, both ways: pitch, length, level, and not a word lost."""

from typing import Any

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray
from pipecat.frames.frames import (
    InputAudioRawFrame,
    LLMFullResponseEndFrame,
    TTSAudioRawFrame,
    UserStoppedSpeakingFrame,
)
from support.call import NO_GREETING, Call, call, emulator, pitch, recording, session

from pipecat_hydra import HydraLLMSettings
from pipecat_hydra.emulator import HydraEmulator, Say, Script

TONE_HZ = 440.0
TONE_SECS = 1.0


def tone(rate: int) -> bytes:
    """A second of A4, whose pitch tells whether rates are right."""
    samples = 8_000 * np.sin(2 * np.pi * TONE_HZ * np.arange(int(TONE_SECS * rate)) / rate)
    return samples.astype("<i2").tobytes()


def active_secs(samples: NDArray[np.int16], rate: int) -> float:
    """How long it sounds, from the first loud sample to the last."""
    loud = np.flatnonzero(np.abs(samples.astype(int)) > 800)
    return float(loud[-1] - loud[0] + 1) / rate


def level(samples: NDArray[np.int16]) -> float:
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


def alignment(received: NDArray[np.int16], said: NDArray[np.int16]) -> tuple[float, int]:
    """How alike two recordings are at best (1 is the same), and at which shift in samples."""
    a, b = received.astype(np.float64), said.astype(np.float64)
    size = 1 << (len(a) + len(b)).bit_length()
    products = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    shift = int(np.argmax(products[: len(a)]))
    part = a[shift : shift + len(b)]
    b = b[: len(part)]
    return float(np.dot(part, b) / np.sqrt(np.dot(part, part) * np.dot(b, b))), shift


@pytest.mark.parametrize("out_rate", [8_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("model", ["hydra-v1.1", "hydra-v1.0"])
async def test_a_reply_has_its_pitch_and_length_on_every_transport(model: str, out_rate: int):
    rate = {"hydra-v1.1": 24_000, "hydra-v1.0": 48_000}[model]
    script = Script([], greeting=Say(tone(rate), rate))
    settings = HydraLLMSettings(model=model)
    async with emulator(script) as hydra, call(hydra, out_rate=out_rate, settings=settings) as talk:
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame)
        await talk.until_quiet()
        assert session(hydra).output_sample_rate == rate
        assert {frame.sample_rate for frame in talk.frames.of(TTSAudioRawFrame)} == {rate}
        heard = np.frombuffer(talk.transport.heard_pcm, np.int16)
        assert {audio.sample_rate for audio in talk.transport.heard} == {out_rate}
        assert pitch(heard, out_rate) == pytest.approx(TONE_HZ, abs=1.0)
        assert active_secs(heard, out_rate) == pytest.approx(TONE_SECS, abs=0.01)
        middle = heard[len(heard) // 4 : len(heard) // 2]
        assert level(middle) == pytest.approx(8_000 / np.sqrt(2), rel=0.02)


@pytest.mark.parametrize(("given", "passes"), [({}, True), ({"audio_passthrough": False}, False)])
async def test_the_user_s_audio_is_passed_on_where_somebody_may_use_it(
    given: dict[str, Any], passes: bool
):
    # The virtual transport is none of Pipecat's own, so nobody knows what it does with it.
    async with emulator() as hydra, call(hydra, settings=NO_GREETING, **given) as talk:
        await talk.say("hello")
        await talk.until_pushed(UserStoppedSpeakingFrame)
        assert bool(talk.frames.of(InputAudioRawFrame)) is passes


@pytest.mark.parametrize(("echoed", "rate"), [(False, 24_000), (True, 48_000)])
async def test_the_rate_that_the_server_names_is_the_one_that_counts(echoed: bool, rate: int):
    script = Script([], greeting=Say(tone(rate), rate))
    async with (
        emulator(script, echo_output_rate=echoed, output_sample_rate=rate) as hydra,
        call(hydra) as talk,
    ):
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert {frame.sample_rate for frame in talk.frames.of(TTSAudioRawFrame)} == {rate}


@pytest.mark.parametrize("odd_splits", [False, True])
async def test_a_reply_arrives_byte_for_byte(odd_splits: bool):
    script = Script([], greeting=Say(tone(24_000), 24_000))
    async with emulator(script, odd_splits=odd_splits, delta_ms=7) as hydra, call(hydra) as talk:
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame)
        frames = talk.frames.of(TTSAudioRawFrame)
        assert b"".join(frame.audio for frame in frames) == tone(24_000)
        assert all(len(frame.audio) % 2 == 0 for frame in frames)


async def heard_by_hydra(hydra: HydraEmulator, talk: Call, secs: float) -> NDArray[np.int16]:
    await talk.transport.microphone.done()
    await talk.until(lambda: hydra.sessions and len(session(hydra).received_audio) >= secs * 32_000)
    return np.frombuffer(session(hydra).received_audio, np.int16)


@pytest.mark.parametrize(
    ("rate", "channels"), [(8_000, 1), (16_000, 1), (24_000, 1), (44_100, 2), (48_000, 2)]
)
async def test_speech_from_every_microphone_reaches_hydra(rate: int, channels: int):
    said = recording("hello")
    microphone = soxr.resample(said, 16_000, rate)
    samples = np.repeat(microphone[:, None], channels, axis=1)
    async with (
        emulator() as hydra,
        call(
            hydra,
            "bare",
            microphone=samples,
            microphone_rate=rate,
            microphone_channels=channels,
            settings=HydraLLMSettings(generate_initial_response=False),
        ) as talk,
    ):
        received = await heard_by_hydra(hydra, talk, len(said) / 16_000 + 0.2)
        # What a microphone of that rate can hold of it.
        expected = soxr.resample(microphone, rate, 16_000)
        likeness, shift = alignment(received, expected)
        assert likeness > 0.99
        assert shift / 16_000 < 0.03
        speech = received[shift : shift + len(expected)]
        assert level(speech) == pytest.approx(level(expected), rel=0.03)
        sizes = {r.audio_bytes for r in session(hydra).received_of("input_audio_buffer.append")}
        assert min(sizes) >= 640
        assert max(sizes) <= 1_280


@pytest.mark.parametrize(
    "slow",
    [{"created_delay_secs": 1.0}, {"configured_delay_secs": 1.0}],
    ids=["created", "configured"],
)
async def test_words_from_the_first_millisecond_reach_hydra_without_a_gap(slow: dict[str, float]):
    said = recording("question")
    settings = HydraLLMSettings(generate_initial_response=False)
    async with (
        emulator(**slow) as hydra,
        call(hydra, "bare", microphone=said, settings=settings) as talk,
    ):
        received = await heard_by_hydra(hydra, talk, len(said) / 16_000 + 0.1)
        assert received.tobytes().startswith(said.tobytes())
        assert session(hydra).early_audio_events == 0
        assert not session(hydra).errors
        # Never faster than twice real time.
        (configured,) = session(hydra).sent_of("session.configured")
        secs = 0.0
        for record in session(hydra).received_of("input_audio_buffer.append"):
            secs += record.audio_bytes / 32_000
            assert secs <= 2.0 * (record.time - configured.time) + 0.1


async def test_words_said_while_it_waits_for_a_greeting_reach_hydra():
    said = recording("question")
    async with emulator() as hydra, call(hydra, "aggregators", microphone=said) as talk:
        received = await heard_by_hydra(hydra, talk, len(said) / 16_000 + 0.1)
        assert received.tobytes().startswith(said.tobytes())


@pytest.mark.parametrize("how", ["transport", "service"])
async def test_a_turn_spoken_before_a_mute_still_ends(how: str):
    """Silence is sent in place of the microphone, so the server can end the turn (A3)."""
    async with emulator() as hydra, call(hydra, "bare") as talk:
        await talk.say("hello")
        if how == "transport":
            talk.transport.microphone.paused = True
        else:
            talk.llm.set_audio_input_paused(True)
        await talk.until_pushed(UserStoppedSpeakingFrame)
        await talk.until_pushed(LLMFullResponseEndFrame)


async def test_muted_from_the_start_the_session_stays_alive():
    async with (
        emulator(idle_timeout_secs=0.6) as hydra,
        call(hydra, "bare", start_audio_paused=True) as talk,
    ):
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame)
        silence = session(hydra).received_audio
        await talk.until(lambda: len(session(hydra).received_audio) > len(silence) + 48_000)
        assert not session(hydra).closed
        assert not any(session(hydra).received_audio)


async def test_the_users_audio_goes_on_downstream():
    async with emulator() as hydra, call(hydra, "bare") as talk:
        await talk.say("hello")
        said = recording("hello").tobytes()
        frames = talk.frames
        await talk.until(lambda: said in b"".join(f.audio for f in frames.of(InputAudioRawFrame)))
