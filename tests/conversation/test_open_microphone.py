"""Sound and silence on an open microphone, and what is kept back of silence during a rest."""

import numpy as np
import pytest
from numpy.typing import NDArray
from support.call import recording

from pipecat_hydra.conversation.open_microphone import OpenMicrophone

CHUNK_SAMPLES = 320
"""20 ms."""

Sound = NDArray[np.float64]


def chunks(samples: Sound) -> list[bytes]:
    pcm = np.rint(samples).clip(-32768, 32767).astype("<i2")
    whole = len(pcm) // CHUNK_SAMPLES * CHUNK_SAMPLES
    return [pcm[n : n + CHUNK_SAMPLES].tobytes() for n in range(0, whole, CHUNK_SAMPLES)]


def noise(secs: float, level: float, *, exponent: float = 0.0) -> Sound:
    """Steady noise whose spectrum falls with the frequency to a power: 0 hiss, 0.5 a fan."""
    number = round(secs * 16_000)
    spectrum = np.fft.rfft(np.random.default_rng(1).normal(0, 1, number))
    spectrum /= np.maximum(np.fft.rfftfreq(number, 1 / 16_000), 50) ** exponent
    samples = np.fft.irfft(spectrum, number)
    return samples / samples.std() * level


def heard(microphone: OpenMicrophone, samples: Sound) -> list[bool]:
    """Whether somebody is heard after each chunk."""
    told: list[bool] = []
    for chunk in chunks(samples):
        microphone.push(chunk)
        told.append(microphone.hears_somebody)
    return told


@pytest.mark.parametrize("background", [0.0, 30.0, 200.0])
@pytest.mark.parametrize("gain", [1.0, 0.1])
@pytest.mark.parametrize("name", ["hello", "question", "interrupt"])
def test_speech_is_heard_at_its_first_sound(name: str, gain: float, background: float):
    microphone = OpenMicrophone()
    heard(microphone, noise(60, background) if background else np.zeros(60 * 16_000))
    microphone.rest()
    said = recording(name) * gain
    onset = np.flatnonzero(np.abs(said) > 3 * background + 100)[0]
    told = heard(microphone, said + noise(len(said) / 16_000, background + 1e-9))
    assert told.index(True) <= onset // CHUNK_SAMPLES + 3
    assert not microphone.rests


@pytest.mark.parametrize(
    "silence",
    [
        np.zeros(16_000 * 60),
        np.full(16_000 * 60, 8_000.0),  # a constant offset
        np.random.default_rng(1).choice([-8.0, 0.0, 8.0], 16_000 * 60),  # µ-law that idles
        noise(60, 30),
        noise(60, 50, exponent=0.5),
    ],
    ids=["digital", "offset", "telephone", "hiss", "fan"],
)
def test_silence_is_nobody(silence: Sound):
    assert not any(heard(OpenMicrophone(), silence))


@pytest.mark.parametrize("exponent", [0.0, 0.5])
@pytest.mark.parametrize("level", [100, 400, 1_500])
def test_a_steady_noise_becomes_silence(level: float, exponent: float):
    microphone = OpenMicrophone()
    told = heard(microphone, noise(120, level, exponent=exponent))
    assert any(told)  # when it begins
    assert not any(told[30 * 50 :])


@pytest.mark.parametrize("name", ["hello", "question", "interrupt"])
def test_speech_is_told_from_the_noise_of_a_line_from_the_first_chunk_on(name: str):
    microphone = OpenMicrophone()
    for chunk in chunks(noise(1, 150)):
        microphone.push(chunk)
        assert not microphone.hears_speech
    said = [
        microphone.hears_speech
        for chunk in chunks(recording(name).astype(np.float64))
        if microphone.push(chunk)
    ]
    assert any(said)


def test_a_click_is_nobody():
    microphone = OpenMicrophone()
    line = noise(10, 20)
    line[80_000 : 80_000 + CHUNK_SAMPLES] = 20_000 * np.sin(np.arange(CHUNK_SAMPLES))
    assert not any(heard(microphone, line))


def test_while_no_session_rests_all_audio_passes():
    microphone = OpenMicrophone()
    for chunk in chunks(noise(2, 1)):
        assert microphone.push(chunk) == [chunk]


def test_during_a_rest_the_newest_half_second_goes_out_before_the_sound():
    microphone = OpenMicrophone()
    microphone.rest()
    silence = [bytes([n % 3, 0]) * CHUNK_SAMPLES for n in range(500)]
    for chunk in silence:
        assert microphone.push(chunk) == []
        assert microphone.rests
    out: list[bytes] = []
    speech = chunks(recording("hello").astype(np.float64))
    for chunk in speech:
        out += microphone.push(chunk)
    assert out[-len(speech) :] == speech
    lead_in = out[: -len(speech)]
    assert silence[-len(lead_in) :] == lead_in
    assert 0.35 < len(lead_in) * 0.02 <= 0.5


def test_if_somebody_else_opens_a_session_nothing_is_kept_back_any_more():
    microphone = OpenMicrophone()
    microphone.rest()
    silence = [bytes([n, 0]) * CHUNK_SAMPLES for n in range(3)]
    assert [out for chunk in silence for out in microphone.push(chunk)] == []
    assert microphone.wake() == silence
    assert microphone.wake() == []
    assert microphone.push(silence[0]) == [silence[0]]
