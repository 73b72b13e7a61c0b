"""The virtual transport: what it hands over, what was heard, and when."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from numpy.typing import NDArray
from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    InputTransportStartAudioStreamingFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra.testing import (
    HeardAudio,
    VirtualTransport,
    VirtualTransportParams,
)
from pipecat_hydra.testing.virtual_transport.transport import SPEAKER_BUFFER_SECS

RECORDING = Path(__file__).parent.parent / "recordings" / "hello.wav"


def tone(rate: int, secs: float, hz: float = 440) -> NDArray[np.int16]:
    return (8000 * np.sin(2 * np.pi * hz * np.arange(round(rate * secs)) / rate)).astype("<i2")


class Between(FrameProcessor):
    """Stands where the bot would, and keeps the microphone's frames."""

    def __init__(self):
        super().__init__()
        self.captured: list[InputAudioRawFrame] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection):
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self.captured.append(frame)
        await self.push_frame(frame, direction)

    @property
    def pcm(self) -> bytes:
        return b"".join(frame.audio for frame in self.captured)

    async def speak(self, samples: NDArray[np.int16], rate: int) -> None:
        """Push a reply at once, as a server faster than real time would."""
        pcm = samples.tobytes()
        for i in range(0, len(pcm), 4000):
            await self.push_frame(TTSAudioRawFrame(pcm[i : i + 4000], rate, 1))
        await self.push_frame(TTSStoppedFrame())


@asynccontextmanager
async def running(transport: VirtualTransport) -> AsyncIterator[Between]:
    between = Between()
    worker = PipelineWorker(
        Pipeline([transport.input(), between, transport.output()]),
        params=PipelineParams(audio_out_sample_rate=24_000),
        enable_rtvi=False,
    )
    started = asyncio.Event()

    @transport.event_handler("on_client_connected")
    async def on_client_connected(transport: VirtualTransport, client: None):
        started.set()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    task = asyncio.create_task(runner.run())
    await asyncio.wait_for(started.wait(), 10)
    try:
        yield between
    finally:
        await worker.cancel()
        await task


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


class TestMicrophone:
    @pytest.mark.parametrize(("rate", "num_channels"), [(16_000, 1), (44_100, 2), (11_025, 1)])
    async def test_plays_the_recording_at_its_own_rate_and_channels(
        self, rate: int, num_channels: int
    ):
        recording = np.repeat(tone(rate, 0.31)[:, None], num_channels, axis=1)
        transport = VirtualTransport(recording, sample_rate=rate, num_channels=num_channels)
        async with running(transport) as between:
            await transport.microphone.done()
            await eventually(lambda: len(between.pcm) > recording.nbytes)
        assert {(f.sample_rate, f.num_channels) for f in between.captured} == {(rate, num_channels)}
        assert between.pcm.startswith(recording.tobytes())
        assert not any(between.pcm[recording.nbytes :])  # silence follows
        assert {round(f.num_frames / rate, 3) for f in between.captured} == {0.02}

    async def test_frames_come_at_real_time_and_not_before(self):
        transport = VirtualTransport(tone(16_000, 0.5))
        async with running(transport) as between:
            while transport.timeline.secs < 0.5:
                assert len(between.pcm) / 32_000 <= transport.timeline.secs
                assert transport.microphone.position_secs <= transport.timeline.secs
                await asyncio.sleep(0.007)

    async def test_missed_frames_are_made_up_for_after_a_stall(self):
        transport = VirtualTransport(tone(16_000, 0.5))
        async with running(transport) as between:
            await transport.timeline.sleep_until(0.2)
            time.sleep(0.2)  # noqa: ASYNC251
            await eventually(lambda: len(between.pcm) >= transport.timeline.secs * 32_000 - 1280)
            await transport.microphone.done()
            await eventually(lambda: len(between.pcm) >= 16_000)
        assert between.pcm[:16_000] == tone(16_000, 0.5).tobytes()

    async def test_more_can_be_said_and_knows_when_it_was(self):
        transport = VirtualTransport()
        async with running(transport):
            await transport.timeline.sleep_until(0.1)
            first = await transport.microphone.say(tone(16_000, 0.11))
            second = transport.microphone.queue(tone(16_000, 0.05).tobytes())
            third = await transport.microphone.say(tone(16_000, 0.05))
        assert first.start_secs is not None
        assert first.start_secs >= 0.08  # the frame that was being captured
        for utterance, secs in [(first, 0.11), (second, 0.05), (third, 0.05)]:
            assert utterance.start_secs is not None
            assert utterance.end_secs == pytest.approx(utterance.start_secs + secs)
        assert third.start_secs == second.end_secs
        start = round(first.start_secs * 16_000)
        assert (transport.user_samples()[start : start + 1760] == tone(16_000, 0.11)).all()
        assert not transport.user_samples()[:start].any()

    async def test_a_paused_microphone_gives_no_frames_and_loses_no_speech(self):
        speech = tone(16_000, 0.1)
        transport = VirtualTransport(
            speech, params=VirtualTransportParams(audio_in_stream_on_start=False)
        )
        async with running(transport) as between:
            await transport.timeline.sleep_until(0.1)
            assert between.captured == []
            await transport.input().queue_frame(InputTransportStartAudioStreamingFrame())
            await transport.microphone.done()
            await eventually(lambda: len(between.pcm) >= speech.nbytes)
        assert between.pcm.startswith(speech.tobytes())
        waited = transport.user_samples()[: round(0.1 * 16_000) - 640]
        assert not waited.any()  # the timeline went on, in silence

    def test_refuses_what_cannot_be_said(self):
        transport = VirtualTransport(sample_rate=8_000, num_channels=2)
        with pytest.raises(ValueError, match="frames of 4"):
            transport.microphone.queue(b"\0\0")
        with pytest.raises(ValueError, match="0 bytes"):
            transport.microphone.queue(b"")
        with pytest.raises(ValueError, match="no such audio"):
            VirtualTransport(sample_rate=0)

    @pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_U8", "FLOAT", "ULAW"])
    def test_reads_any_sample_width_at_its_level(self, tmp_path: Path, subtype: str):
        path = tmp_path / "tone.wav"
        sf.write(path, tone(8_000, 0.2) / 32768, 8_000, subtype=subtype)
        transport = VirtualTransport.from_file(path)
        transport.microphone.capture(1600)
        assert transport.microphone.sample_rate == 8_000
        error = transport.user_samples() - tone(8_000, 0.2).astype(int)
        assert np.abs(error).max() <= {"PCM_U8": 256, "ULAW": 300}.get(subtype, 1)


class TestLoudspeaker:
    @pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
    async def test_hears_a_reply_whole_without_gaps_at_the_output_rate(self, rate: int):
        reply = tone(rate, 0.5)
        gaps: list[int] = []
        # On a machine that stands still for longer than the loudspeaker has audio left, it has
        # a gap, as a real one would. So there must be none in one of some attempts.
        for _ in range(5):
            transport = VirtualTransport(params=VirtualTransportParams(audio_out_sample_rate=rate))
            async with running(transport) as between:
                await between.speak(reply, rate)
                await eventually(lambda heard=transport: len(heard.heard_pcm) >= reply.nbytes)
            assert {audio.sample_rate for audio in transport.heard} == {rate}
            assert transport.heard_pcm.startswith(reply.tobytes())
            assert not any(transport.heard_pcm[reply.nbytes :])  # the padding of the last chunk
            start = transport.heard[0].start_sample
            heard = transport.bot_samples()[start : start + len(reply)]
            gaps.append(int((heard != reply).sum()))
            if not gaps[-1]:
                break
        assert gaps[-1] == 0, gaps

    async def test_plays_at_real_time(self):
        transport = VirtualTransport()
        async with running(transport) as between:
            await between.speak(tone(24_000, 0.6), 24_000)
            while len(transport.heard) < 15:
                # Of what is ahead, one chunk of 40 ms was taken with 20 ms still to be heard.
                ahead = transport.heard_until_secs - transport.timeline.secs
                assert ahead <= 0.04 + SPEAKER_BUFFER_SECS + 1e-4
                await asyncio.sleep(0.005)

    async def test_a_stall_of_the_machine_makes_no_gap(self):
        transport = VirtualTransport()
        reply = tone(24_000, 0.6)
        async with running(transport) as between:
            await between.speak(reply, 24_000)
            await eventually(lambda: len(transport.heard) >= 3)
            time.sleep(0.15)  # noqa: ASYNC251
            await eventually(lambda: len(transport.heard_pcm) >= reply.nbytes)
        start = transport.heard[0].start_sample
        assert (transport.bot_samples()[start:] == reply).all()

    async def test_an_interruption_is_heard_where_it_takes_effect(self):
        transport = VirtualTransport()
        async with running(transport) as between:
            await between.speak(tone(24_000, 2.0), 24_000)
            await eventually(lambda: len(transport.heard) >= 5)
            await between.broadcast_interruption()
            interrupted_secs = transport.timeline.secs
            await eventually(lambda: transport.timeline.secs > transport.heard_until_secs + 0.1)
            heard_until_secs = transport.heard_until_secs
            heard_bytes = len(transport.heard_pcm)
            await between.speak(tone(24_000, 0.2, hz=880), 24_000)
            await eventually(lambda: len(transport.heard_pcm) >= heard_bytes + 9600)
        # What had been written is heard to its end, nothing after it; then the new reply.
        before = [audio for audio in transport.heard if audio.end_secs <= heard_until_secs]
        assert before[-1].start_secs <= interrupted_secs + SPEAKER_BUFFER_SECS + 0.04
        assert len(before) < 45
        pause = transport.bot_samples()[before[-1].end_sample :]
        silence = np.flatnonzero(pause)[0]
        assert silence >= 0.1 * 24_000
        assert (pause[silence - 1 :][:4800] == tone(24_000, 0.2, hz=880)).all()

    async def test_the_conversation_as_a_stereo_file(self, tmp_path: Path):
        transport = VirtualTransport.from_file(RECORDING)
        speech, _ = sf.read(RECORDING, dtype="int16")
        async with running(transport) as between:
            await transport.timeline.sleep_until(0.3)
            await between.speak(tone(24_000, 0.4), 24_000)
            await transport.microphone.done()
        path = tmp_path / "conversation.wav"
        transport.save_stereo(path)
        stereo, rate = sf.read(path, dtype="int16")
        assert rate == 24_000
        assert (stereo == transport.stereo()).all()
        user, bot = stereo[:, 0].astype(float), stereo[:, 1]
        assert len(user) / rate >= len(speech) / 16_000
        assert np.abs(user).max() == pytest.approx(np.abs(speech.astype(float)).max(), rel=0.1)
        assert not bot[: int(0.3 * rate)].any()
        start = transport.heard[0].start_sample
        assert (bot[start : start + 9600] == tone(24_000, 0.4)).all()

    def test_nothing_said_nothing_heard(self):
        transport = VirtualTransport()
        assert transport.stereo().shape == (0, 2)
        assert transport.heard_pcm == b""
        assert transport.heard_until_secs == 0

    def test_a_write_knows_its_place(self):
        audio = HeardAudio(2400, bytes(4 * 1200), 24_000, 2)
        assert (audio.start_secs, audio.end_sample, audio.end_secs) == (0.1, 3600, 0.15)


async def test_ends_with_the_pipeline_and_leaves_no_task():
    transport = VirtualTransport(tone(16_000, 5))
    async with running(transport):
        await transport.timeline.sleep_until(0.05)
    assert {
        task.get_name() for task in asyncio.all_tasks() if "Virtual" in task.get_name()
    } == set()
