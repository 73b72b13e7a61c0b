"""Telephone calls with `examples/voice_agent.py`, over the runner's WebSocket."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer
from support.bots import example, until
from support.call import emulator, pitch, recording
from support.served import served
from support.telephone import (
    FRAME_SAMPLES,
    RATE,
    Heard,
    Provider,
    Telephone,
    decode,
    encode,
    telephone,
)

from pipecat_hydra.emulator import HydraEmulator, Say, Script

PROVIDERS: list[Provider] = ["twilio", "telnyx"]
SHORT = 0.48  # seconds; a whole number of the chunks in which Pipecat plays
KEYS = ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TELNYX_API_KEY")


def tone(hertz: float, secs: float) -> Say:
    moments = np.arange(int(24_000 * secs)) / 24_000
    return Say((8_000 * np.sin(2 * np.pi * hertz * moments)).astype("<i2").tobytes(), 24_000)


def rms(samples: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


def clarity(said: NDArray[np.int16], pcm: bytes, low: int, high: int) -> float:
    """How clearly something that was said is in what Hydra got, in dB above what differs.

    Of the quarter seconds of it, this is the middle one: on a machine that is busy, silence may
    have been put in the place of frames that came late.
    """
    got = np.frombuffer(pcm, "<i2").astype(np.float64)
    size = 1 << (len(got) + 4_000).bit_length()  # of which the transform is quick
    heard = np.fft.rfft(got, size)
    band = slice(low // 4, high // 4)  # 0.25 s have a line every 4 Hz
    ratios: list[float] = []
    for start in range(0, len(said) - 4_000, 4_000):
        part = said[start : start + 4_000].astype(np.float64)
        likeness = np.fft.irfft(heard * np.fft.rfft(part, size).conj(), size)
        at = int(np.argmax(likeness[: len(got) - len(part)]))
        error = np.fft.rfft(got[at : at + len(part)] - part)
        energies = np.abs(np.fft.rfft(part)[band]) ** 2, np.abs(error[band]) ** 2
        ratios.append(float(10 * np.log10(energies[0].sum() / energies[1].sum())))
    return float(np.median(ratios))


def pieces(phone: Telephone, hertz: float) -> list[Heard]:
    """What was heard at a pitch."""
    return [h for h in phone.heard if abs(h.pitch - hertz) < 60]


def samples(heard: list[Heard]) -> NDArray[np.int16]:
    return np.concatenate([h.samples for h in heard])


@pytest.fixture
def hung_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Calls that the bot has hung up at the provider, which here is not asked."""
    calls: list[str] = []

    async def twilio(self: TwilioFrameSerializer) -> None:
        calls.append(self._call_sid or "")

    async def telnyx(self: TelnyxFrameSerializer) -> None:
        calls.append(self._call_control_id or "")

    monkeypatch.setattr(TwilioFrameSerializer, "_hang_up_call", twilio)
    monkeypatch.setattr(TelnyxFrameSerializer, "_hang_up_call", telnyx)
    return calls


@asynccontextmanager
async def agent(hydra: HydraEmulator, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[str]:
    """Serve the example, and see that it leaves nothing."""
    bot = example("voice_agent")
    for name in KEYS:
        monkeypatch.setenv(name, "of-the-provider")
    monkeypatch.setenv("SMALLEST_API_KEY", hydra.api_key)
    monkeypatch.setenv("HYDRA_BASE_URL", hydra.url)
    before = asyncio.all_tasks()
    async with served(bot, monkeypatch) as url:
        yield url
    await until(lambda: not asyncio.all_tasks() - before)


@pytest.mark.parametrize("provider", PROVIDERS)
class TestACall:
    async def test_both_hear_each_other_and_the_caller_can_interrupt(
        self, provider: Provider, monkeypatch: pytest.MonkeyPatch, hung_up: list[str]
    ):
        script = Script([tone(1_000, 6.0), tone(700, SHORT)], greeting=tone(500, SHORT))
        async with (
            emulator(script) as hydra,
            agent(hydra, monkeypatch) as url,
            telephone(url, provider) as phone,
        ):
            await until(lambda: len(pieces(phone, 500)) >= 12)
            told = hydra.sessions[0]
            phone.say("question")
            await until(lambda: len(pieces(phone, 1_000)) >= 25)
            begun = time.monotonic()
            phone.say("interrupt")
            await until(lambda: phone.clears and phone.clears[-1] > begun)
            cleared = phone.clears[-1]
            noticed = told.sent_of("input_audio_buffer.speech_started")[-1]
            noticed_at = time.monotonic() - told.elapsed + noticed.time
            await until(lambda: len(pieces(phone, 700)) >= 12)
            await asyncio.sleep(0.2)
            await phone.hang_up()
            await told.wait_closed()

        # What the caller said, as Hydra got it.
        for name in ("question", "interrupt"):
            assert clarity(recording(name), told.received_audio, 300, 1_000) > 25
            assert clarity(recording(name), told.received_audio, 1_000, 3_400) > 20
        # What the bot said, as the caller heard it: pitch, level, length, pace.
        greeting, reply, second = (pieces(phone, hertz) for hertz in (500, 1_000, 700))
        for heard, hertz in ((greeting, 500), (reply, 1_000), (second, 700)):
            assert pitch(samples(heard), RATE) == pytest.approx(hertz, abs=2)
            assert rms(samples(heard[1:-1])) == pytest.approx(8_000 / np.sqrt(2), rel=0.05)
        assert len(samples(greeting)) == len(samples(second)) == SHORT * RATE
        assert {len(h.samples) for h in phone.heard} == {0.04 * RATE}
        assert reply[24].time - reply[0].time > 0.9 * 24 * 0.04
        # When the caller interrupted, it was silent at once, and stayed so, but for the chunk
        # that Pipecat was just writing.
        assert cleared - noticed_at < 1
        assert len([h for h in reply if h.time > cleared]) <= 1
        assert len(reply) * 0.04 < 6
        # Who has hung up need not be hung up.
        assert hung_up == []
        assert told.errors == []
        assert phone.other == []

    async def test_a_call_without_hydra_is_hung_up(
        self,
        provider: Provider,
        monkeypatch: pytest.MonkeyPatch,
        hung_up: list[str],
        warnings: list[str],
    ):
        async with emulator() as hydra, agent(hydra, monkeypatch) as url:
            monkeypatch.setenv("SMALLEST_API_KEY", "sk-of-somebody-else")
            async with telephone(url, provider):
                await until(lambda: hung_up)
        assert hung_up == ["CA0123456789"]
        assert "sk-of-somebody-else" not in "".join(warnings)
        assert any("key" in line and "ERROR" in line for line in warnings)
        assert "Traceback" not in "".join(warnings)

    async def test_a_provider_without_its_keys_is_told_in_one_line(
        self, provider: Provider, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
    ):
        async with emulator() as hydra, agent(hydra, monkeypatch) as url:
            for name in KEYS:
                monkeypatch.delenv(name)
            async with telephone(url, provider):
                await until(lambda: warnings)
        (line,) = warnings
        assert "This call cannot be taken: auto_hang_up is enabled but missing" in line
        assert hydra.sessions == []


class TestTheCodecOfTheseTests:
    @pytest.mark.parametrize("amplitude", [100, 1_000, 32_767])
    def test_it_is_that_of_pipecat(self, amplitude: int):
        # Two implementations, so that an error in one does not undo that of the other.
        import audioop

        samples = (amplitude * np.sin(np.arange(FRAME_SAMPLES * 10) / 7)).astype(np.int16)
        encoded = encode(samples)
        assert np.array_equal(
            decode(encoded), np.frombuffer(audioop.ulaw2lin(encoded, 2), np.int16)
        )
        theirs = np.frombuffer(audioop.ulaw2lin(audioop.lin2ulaw(samples.tobytes(), 2), 2), "<i2")
        assert rms(decode(encoded) - samples) <= rms(theirs - samples) * 1.1 + 1
