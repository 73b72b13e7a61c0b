"""Microphone audio to Hydra's format, whole samples, and the recordings themselves."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADState

from pipecat_hydra.wire.audio import MicrophoneAudio, WholeSamples, downmix

HERE = Path(__file__).parent.parent
RECORDINGS = sorted((HERE / "recordings").glob("*.wav"))
DEMO = HERE.parent / "examples" / "recordings" / "barge_in.wav"

FORMATS = [(8_000, 1), (16_000, 1), (16_000, 2), (24_000, 1), (44_100, 2), (48_000, 2)]
DELAY_LIMIT_SECS = 0.030


def tone(hz: float, rate: int, secs: float = 1.0, amplitude: float = 10_000) -> NDArray[np.int16]:
    time_secs = np.arange(int(rate * secs)) / rate
    return np.rint(amplitude * np.sin(2 * np.pi * hz * time_secs)).astype("<i2")


def interleaved(mono: NDArray[np.int16], num_channels: int) -> bytes:
    return np.repeat(mono, num_channels).tobytes()


def split(pcm: bytes, size: int) -> list[bytes]:
    return [pcm[i : i + size] for i in range(0, len(pcm), size)]


def convert(pcm: bytes, rate: int, num_channels: int, frame_ms: int = 20) -> list[bytes]:
    microphone = MicrophoneAudio()
    size = rate * frame_ms // 1000 * num_channels * 2
    chunks = [c for f in split(pcm, size) for c in microphone.push(f, rate, num_channels)]
    return chunks + microphone.flush()


def samples(chunks: list[bytes]) -> NDArray[np.int16]:
    return np.frombuffer(b"".join(chunks), "<i2")


def level_db(signal: NDArray[np.int16]) -> float:
    return 20 * np.log10(max(1e-3, np.sqrt((signal.astype(float) ** 2).mean())))


class TestMicrophoneAudio:
    @pytest.mark.parametrize(("rate", "num_channels"), FORMATS)
    def test_pitch_length_and_level_stay(self, rate: int, num_channels: int):
        source = tone(1000, rate)
        out = samples(convert(interleaved(source, num_channels), rate, num_channels))
        assert len(out) == pytest.approx(16_000, abs=160)  # the padding of the last chunk
        middle = out[1000:15_000]
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
        assert spectrum.argmax() * 16_000 / len(middle) == pytest.approx(1000, abs=2)
        assert level_db(middle) == pytest.approx(level_db(source), abs=0.1)

    @pytest.mark.parametrize(("rate", "num_channels"), FORMATS)
    def test_is_not_shifted_in_time(self, rate: int, num_channels: int):
        click = np.zeros(rate, np.int16)
        click[rate // 2] = 20_000
        out = samples(convert(interleaved(click, num_channels), rate, num_channels))
        assert np.abs(out.astype(int)).argmax() == 8_000

    @pytest.mark.parametrize("rate", [24_000, 44_100, 48_000])
    @pytest.mark.parametrize("hz", [8_500, 9_000, 10_500, 11_900])
    def test_what_hydra_cannot_hear_does_not_come_back_as_an_alias(self, rate: int, hz: int):
        source = tone(hz, rate, amplitude=30_000)
        out = samples(convert(source.tobytes(), rate, 1))[1000:15_000]
        assert level_db(out) < level_db(source) - 60

    def test_a_telephone_gets_no_image_above_its_band(self):
        out = samples(convert(tone(3_000, 8_000, amplitude=30_000).tobytes(), 8_000, 1))
        middle = out[1000:15_000]
        spectrum = np.abs(np.fft.rfft(middle * np.blackman(len(middle))))
        hz = np.fft.rfftfreq(len(middle), 1 / 16_000)
        assert spectrum[hz > 4_000].max() < spectrum.max() / 1000

    @pytest.mark.parametrize("frame_ms", [5, 10, 20, 30, 40, 60, 100, 500])
    @pytest.mark.parametrize(("rate", "num_channels"), FORMATS)
    def test_chunks_are_20_to_40_ms(self, rate: int, num_channels: int, frame_ms: int):
        pcm = interleaved(tone(440, rate), num_channels)
        *chunks, last = convert(pcm, rate, num_channels, frame_ms)
        assert all(640 <= len(chunk) <= 1280 for chunk in chunks)
        assert 320 <= len(last) <= 1280
        assert all(len(chunk) % 2 == 0 for chunk in [*chunks, last])

    @pytest.mark.parametrize("frame_ms", [1, 5, 10, 15, 20, 23, 40])
    @pytest.mark.parametrize(("rate", "num_channels"), [*FORMATS, (22_050, 1), (32_000, 1)])
    def test_adds_less_than_30_ms(self, rate: int, num_channels: int, frame_ms: int):
        """Invariant A2, counted in samples: what was pushed minus what came out, at any time."""
        microphone = MicrophoneAudio()
        pcm = interleaved(tone(440, rate), num_channels)
        pushed = given_out = 0.0
        for frame in split(pcm, rate * frame_ms // 1000 * num_channels * 2):
            chunks = microphone.push(frame, rate, num_channels)
            pushed += len(frame) / (rate * num_channels * 2)
            given_out += sum(map(len, chunks)) / 32_000
            assert pushed - given_out < DELAY_LIMIT_SECS

    @pytest.mark.parametrize("size", [640, 960, 1280])
    def test_a_frame_of_the_right_format_and_size_passes_as_it_is(self, size: int):
        microphone = MicrophoneAudio()
        frame = bytes(range(256)) * 5
        (out,) = microphone.push(frame := frame[:size], 16_000, 1)
        assert out is frame

    @given(sizes=st.lists(st.integers(0, 4000), max_size=30))
    def test_16_khz_mono_is_unchanged_whatever_the_split(self, sizes: list[int]):
        pcm = np.random.default_rng(0).bytes(sum(sizes))
        microphone = MicrophoneAudio()
        edges = np.cumsum([0, *sizes])
        out = b"".join(c for a, b in pairwise(edges) for c in microphone.push(pcm[a:b], 16_000, 1))
        out += b"".join(microphone.flush())
        whole = len(pcm) // 2 * 2
        assert out[:whole] == pcm[:whole]
        assert not any(out[whole:])

    @settings(max_examples=40, deadline=None)
    @given(
        audio_format=st.sampled_from([*FORMATS, (22_050, 1), (96_000, 2), (11_025, 3)]),
        sizes=st.lists(st.integers(0, 6000), min_size=1, max_size=20),
    )
    def test_output_does_not_depend_on_the_split(
        self, audio_format: tuple[int, int], sizes: list[int]
    ):
        rate, num_channels = audio_format
        pcm = np.random.default_rng(1).bytes(sum(sizes))
        whole, pieces = MicrophoneAudio(), MicrophoneAudio()
        expected = whole.push(pcm, rate, num_channels) + whole.flush()
        edges = np.cumsum([0, *sizes])
        actual = [c for a, b in pairwise(edges) for c in pieces.push(pcm[a:b], rate, num_channels)]
        actual += pieces.flush()
        shorter, longer = sorted((b"".join(expected), b"".join(actual)), key=len)
        assert longer.startswith(shorter)
        assert not any(longer[len(shorter) :])  # only the padding of the last chunk differs

    def test_rate_and_channels_may_change_in_mid_stream(self):
        microphone = MicrophoneAudio()
        chunks: list[bytes] = []
        for rate, num_channels in [(48_000, 2), (16_000, 1), (8_000, 1), (8_000, 2), (16_000, 1)]:
            pcm = interleaved(tone(1000, rate), num_channels)
            for frame in split(pcm, rate // 50 * 2 * num_channels):
                chunks += microphone.push(frame, rate, num_channels)
        chunks += microphone.flush()
        out = samples(chunks)
        assert len(out) == pytest.approx(5 * 16_000, abs=160)
        for second in range(5):
            middle = out[second * 16_000 + 1000 : second * 16_000 + 15_000]
            spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
            assert spectrum.argmax() * 16_000 / len(middle) == pytest.approx(1000, abs=2)

    def test_half_a_frame_of_the_old_format_does_not_shift_the_new_one(self):
        microphone = MicrophoneAudio()
        assert microphone.push(b"\x01\x02\x03", 16_000, 2) == []
        frame = bytes(range(128)) * 5
        assert microphone.push(frame, 16_000, 1) == [frame]

    def test_flush_gives_the_tail_padded_to_what_hydra_takes(self):
        microphone = MicrophoneAudio()
        assert microphone.push(b"\x01\x02" * 5, 16_000, 1) == []
        assert microphone.flush() == [(b"\x01\x02" * 5).ljust(320, b"\0")]
        assert microphone.flush() == []

    @pytest.mark.parametrize(("secs", "glued"), [(0.3, True), (0.5, False)])
    def test_what_was_held_back_before_a_pause_is_not_glued_to_what_follows(
        self, secs: float, glued: bool
    ):
        microphone = MicrophoneAudio()
        before, after = b"\x01\x02" * 100, b"\x03\x04" * 320
        assert microphone.push(before, 16_000, 1, now=10.0) == []
        chunks = microphone.push(after, 16_000, 1, now=10.0 + secs)
        assert chunks == [before + after if glued else after]

    @pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
    @pytest.mark.parametrize("frame_ms", [410, 500, 1_000])
    def test_a_long_frame_has_no_pause_before_it(self, rate: int, frame_ms: int):
        pcm = tone(440, rate, 3.0)
        size = rate * frame_ms // 1000
        microphone, whole = MicrophoneAudio(), MicrophoneAudio()
        chunks: list[bytes] = []
        for n in range(len(pcm) // size):
            frame = pcm[n * size : (n + 1) * size].tobytes()
            chunks += microphone.push(frame, rate, 1, now=(n + 1) * frame_ms / 1000)
        expected = b"".join(whole.push(pcm.tobytes(), rate, 1))
        assert expected.startswith(b"".join(chunks))

    def test_a_pause_leaves_nothing_of_what_was_before_in_the_resampler(self):
        microphone, fresh = MicrophoneAudio(), MicrophoneAudio()
        loud, quiet = b"\xff\x7f" * 480, bytes(2 * 960)
        assert microphone.push(loud + b"\x01", 48_000, 1, now=1.0) == []
        after = microphone.push(quiet, 48_000, 1, now=2.0)
        assert after == fresh.push(quiet, 48_000, 1)

    def test_stereo_is_averaged_and_does_not_overflow(self):
        loud = np.full((640, 2), 32_767, "<i2")
        (out,) = MicrophoneAudio().push(loud.tobytes(), 16_000, 2)
        assert set(samples([out]).tolist()) == {32_767}
        assert downmix(np.array([[32_767, -32_768]], "<i2").tobytes(), 2).tolist() == [-0.5]

    def test_full_scale_is_clipped_rather_than_wrapped(self):
        square = np.where(tone(500, 48_000) >= 0, 32_767, -32_768).astype("<i2")
        out = samples(convert(square.tobytes(), 48_000, 1)).astype(int)
        assert np.abs(np.diff(out[100:-100])).max() < 60_000  # wrapped, it would jump by 65 535

    @pytest.mark.parametrize("audio_format", [(0, 1), (-8_000, 1), (16_000, 0)])
    def test_refuses_audio_that_cannot_be(self, audio_format: tuple[int, int]):
        with pytest.raises(ValueError, match="no such audio"):
            MicrophoneAudio().push(b"", *audio_format)


class TestWholeSamples:
    def test_gives_the_same_object_when_nothing_is_pending(self):
        pcm = b"\x01\x02\x03\x04"
        assert WholeSamples().push(pcm) is pcm

    def test_carries_an_odd_byte(self):
        stream = WholeSamples()
        assert stream.push(b"\x01\x02\x03") == b"\x01\x02"
        assert stream.push(b"") == b""
        assert stream.push(b"\x04") == b"\x03\x04"

    @given(st.lists(st.binary(max_size=20)))
    def test_loses_nothing_and_gives_only_whole_samples(self, pieces: list[bytes]):
        stream = WholeSamples()
        out = [stream.push(piece) for piece in pieces]
        total = b"".join(pieces)
        assert all(len(piece) % 2 == 0 for piece in out)
        assert b"".join(out) == total[: len(total) // 2 * 2]


class TestRecordings:
    """What the recordings promise to all the tests that speak with them."""

    @staticmethod
    async def spoken(path: Path, lead_in_secs: float) -> list[VADState]:
        """Feed a recording to Silero as Pipecat would; return each start and stop."""
        speech, rate = sf.read(path, dtype="int16")
        analyzer = SileroVADAnalyzer(sample_rate=rate)
        analyzer.set_sample_rate(rate)
        lead_in = np.zeros(int(lead_in_secs * rate), np.int16)
        audio = np.concatenate([lead_in, speech, np.zeros(rate, np.int16)]).tobytes()
        turns = [VADState.QUIET]
        for frame in split(audio, rate // 50 * 2):
            state = await analyzer.analyze_audio(frame)
            if state in (VADState.SPEAKING, VADState.QUIET) and state != turns[-1]:
                turns.append(state)
        await analyzer.cleanup()
        return turns[1:]

    @pytest.mark.parametrize("lead_in_secs", [0.0, 0.011, 0.5])
    @pytest.mark.parametrize("path", [*RECORDINGS, DEMO], ids=lambda path: path.stem)
    async def test_silero_hears_each_utterance_once(self, path: Path, lead_in_secs: float):
        utterances = 2 if path == DEMO else 1
        heard = await self.spoken(path, lead_in_secs)
        assert heard == [VADState.SPEAKING, VADState.QUIET] * utterances

    @pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
    def test_are_small_16_khz_mono_and_trimmed(self, path: Path):
        info = sf.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        assert path.stat().st_size < 120_000
        loud = np.flatnonzero(np.abs(sf.read(path, dtype="int16")[0].astype(int)) > 300)
        assert loud[0] < 0.05 * 16_000
        assert info.frames - loud[-1] < 0.05 * 16_000
