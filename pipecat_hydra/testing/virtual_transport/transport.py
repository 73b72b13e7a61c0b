"""The virtual transport, with its input and output processors."""

import asyncio
import itertools
from pathlib import Path
from typing import Final

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    InputAudioRawFrame,
    OutputAudioRawFrame,
    StartFrame,
)
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import BaseTransport, TransportParams

from pipecat_hydra.testing.virtual_transport.microphone import Microphone
from pipecat_hydra.testing.virtual_transport.timeline import HeardAudio, Timeline
from pipecat_hydra.wire.audio import downmix
from pipecat_hydra.wire.protocol import INPUT_SAMPLE_RATE

SPEAKER_BUFFER_SECS: Final = 0.02
"""How far ahead of playback the loudspeaker accepts audio, as a sound card does."""


def read_recording(path: str | Path) -> tuple[NDArray[np.int16], int]:
    """Read a recording as PCM16.

    Args:
        path: A file of any format, rate, channel count and sample width that soundfile reads.

    Returns:
        Samples of shape `(frames, channels)` and their rate in Hz.

    Raises:
        soundfile.LibsndfileError: The file cannot be read or is not audio.
    """
    with sf.SoundFile(path) as file:
        # As floats, since libsndfile neither scales float files to int16 nor clips Vorbis.
        samples = np.asarray(file.read(dtype="float32", always_2d=True), np.float32)
        pcm = np.rint(samples * 32768).clip(-32768, 32767).astype(np.int16)
        return pcm, file.samplerate


class VirtualTransportParams(TransportParams):
    """Configuration of a virtual transport.

    Parameters:
        audio_in_enabled: Whether there is a microphone.
        audio_out_enabled: Whether there is a loudspeaker.
        audio_out_end_silence_secs: Silence added at the end of the conversation; none by
            default, so that all recorded audio comes from the bot.
        audio_in_frame_ms: Length of a microphone frame in ms.
    """

    audio_in_enabled: bool = True
    audio_out_enabled: bool = True
    audio_out_end_silence_secs: int = 0
    audio_in_frame_ms: int = 20


class VirtualTransport(BaseTransport):
    """A transport whose user is a recording and whose bot is recorded.

    Event handlers:
        on_client_connected(transport, client): The conversation begins; `client` is `None`.
            A bot that speaks first starts here, as with any transport.
        on_client_disconnected(transport, client): The user has hung up.

    Attributes:
        microphone: The user's side. More speech can be queued at any time.
        heard: The bot's audio that the user heard, in order.
    """

    def __init__(
        self,
        pcm: bytes | NDArray[np.int16] = b"",
        *,
        sample_rate: int = INPUT_SAMPLE_RATE,
        num_channels: int = 1,
        params: VirtualTransportParams | None = None,
    ):
        """Create a transport.

        Args:
            pcm: The user's speech from the start, PCM16 LE, as bytes or as an array of
                shape `(frames,)` or `(frames, channels)`. Silence follows it.
            sample_rate: Rate of the speech and of the microphone's frames in Hz.
            num_channels: Number of interleaved channels of both.
            params: Configuration. The loudspeaker's rate is `audio_out_sample_rate`, or the
                pipeline's.

        Raises:
            ValueError: `pcm` is not a whole number of frames, or the rate or the channel count
                is not positive.
        """
        super().__init__()
        params = params or VirtualTransportParams()
        self.microphone: Microphone = Microphone(sample_rate, num_channels)
        self.microphone.paused = not params.audio_in_stream_on_start
        if len(pcm):
            self.microphone.queue(pcm)
        self.heard: list[HeardAudio] = []
        self.timeline: Timeline = Timeline()
        self._input = _VirtualInput(self, params)
        self._output = _VirtualOutput(self, params)
        self._register_event_handler("on_client_connected")
        self._register_event_handler("on_client_disconnected")

    @classmethod
    def from_file(
        cls, path: str | Path, *, params: VirtualTransportParams | None = None
    ) -> "VirtualTransport":
        """Create a transport whose user speaks a recording.

        Args:
            path: A file of any format, rate, channel count and sample width that soundfile
                reads.
            params: Configuration.

        Returns:
            The transport, with a microphone at the rate and channel count of the file.

        Raises:
            soundfile.LibsndfileError: The file cannot be read or is not audio.
        """
        pcm, sample_rate = read_recording(path)
        return cls(pcm, sample_rate=sample_rate, num_channels=pcm.shape[1], params=params)

    async def hang_up(self) -> None:
        """Disconnect the user, as when a caller hangs up."""
        self.microphone.paused = True
        await self._call_event_handler("on_client_disconnected", None)

    def input(self) -> BaseInputTransport:
        """Get the processor that pushes the microphone's frames.

        Returns:
            The input processor.
        """
        return self._input

    def output(self) -> BaseOutputTransport:
        """Get the processor that plays the bot's audio.

        Returns:
            The output processor.
        """
        return self._output

    @property
    def heard_pcm(self) -> bytes:
        """All audio that was heard, in order and without the pauses: interleaved PCM16 LE."""
        return b"".join(audio.pcm for audio in self.heard)

    @property
    def heard_until_secs(self) -> float:
        """End of the last sample heard so far, in seconds since the start; 0 if there is none."""
        return self.heard[-1].end_secs if self.heard else 0.0

    def user_samples(self) -> NDArray[np.int16]:
        """Get the user's side of the timeline.

        Returns:
            Mono samples at the microphone's rate, shape `(n,)`.
        """
        return _mono(self.microphone.pcm, self.microphone.num_channels)

    def bot_samples(self) -> NDArray[np.int16]:
        """Get the bot's side of the timeline as heard, with silence between.

        Returns:
            Mono samples at the rate of `heard`, shape `(n,)`, up to the last one heard.
        """
        timeline = np.zeros(self.heard[-1].end_sample if self.heard else 0, np.int16)
        for audio in self.heard:
            samples = _mono(audio.pcm, audio.num_channels)
            timeline[audio.start_sample : audio.end_sample] = samples
        return timeline

    @property
    def stereo_sample_rate(self) -> int:
        """Rate in Hz of `stereo()`: the higher one of the two sides."""
        return max(self.microphone.sample_rate, *(audio.sample_rate for audio in self.heard), 0)

    def stereo(self) -> NDArray[np.int16]:
        """Get the conversation at `stereo_sample_rate`, user left and bot right.

        Returns:
            Samples of shape `(n, 2)`, where `n` reaches to the end of the longer side.
        """
        rate = self.stereo_sample_rate
        user = _resampled(self.user_samples(), self.microphone.sample_rate, rate)
        bot = self.bot_samples()
        if self.heard:
            bot = _resampled(bot, self.heard[0].sample_rate, rate)
        both = np.zeros((max(len(user), len(bot)), 2), np.int16)
        both[: len(user), 0] = user
        both[: len(bot), 1] = bot
        return both

    def save_stereo(self, path: str | Path) -> None:
        """Write the conversation to an audio file, user left and bot right.

        Args:
            path: The file. Its suffix names the format, for instance `.wav`.

        Raises:
            soundfile.LibsndfileError: The file cannot be written.
        """
        sf.write(path, self.stereo(), self.stereo_sample_rate, subtype="PCM_16")


class _VirtualInput(BaseInputTransport):
    """Pushes the microphone's frames at real time."""

    def __init__(self, transport: VirtualTransport, params: VirtualTransportParams):
        super().__init__(params, name=f"{transport.name}#input")
        self._microphone = transport.microphone
        self._timeline = transport.timeline
        self._frame_secs = params.audio_in_frame_ms / 1000
        self._capture_task: asyncio.Task[None] | None = None

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)
        self._capture_task = self._capture_task or self.create_task(self._capture())

    async def stop(self, frame: EndFrame) -> None:
        await self._stop_capture()
        await super().stop(frame)

    async def cancel(self, frame: CancelFrame) -> None:
        await self._stop_capture()
        await super().cancel(frame)

    async def cleanup(self) -> None:
        await self._stop_capture()
        await super().cleanup()

    async def _start_audio_in_streaming(self) -> None:
        self._microphone.paused = False

    async def _stop_capture(self) -> None:
        if self._capture_task:
            await self.cancel_task(self._capture_task)
            self._capture_task = None

    async def _capture(self) -> None:
        rate, num_channels = self._microphone.sample_rate, self._microphone.num_channels
        await self._timeline.started()
        for number in itertools.count(1):
            # The end of each frame is rounded, not its length, so that errors do not add up.
            end_sample = round(number * self._frame_secs * rate)
            await self._timeline.sleep_until(end_sample / rate)
            if pcm := self._microphone.capture(end_sample):
                await self.push_audio_frame(InputAudioRawFrame(pcm, rate, num_channels))


class _VirtualOutput(BaseOutputTransport):
    """Plays audio at real time, and records what was heard."""

    def __init__(self, transport: VirtualTransport, params: VirtualTransportParams):
        super().__init__(params, name=f"{transport.name}#output")
        self._transport = transport
        self._timeline = transport.timeline
        # How late the event loop woke after the last write. The next write is not late by that.
        self._late_secs = 0.0

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)
        # The last processor has started, so all have: the user may speak now.
        self._timeline.start()
        await self._transport._call_event_handler("on_client_connected", None)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        now = self._timeline.secs
        heard = self._transport.heard
        end_sample = heard[-1].end_sample if heard else 0
        # Audio that is written while the loudspeaker still plays follows without a gap.
        follows = round((now - self._late_secs) * frame.sample_rate) <= end_sample
        start_sample = end_sample if follows else round(now * frame.sample_rate)
        audio = HeardAudio(start_sample, frame.audio, frame.sample_rate, frame.num_channels)
        heard.append(audio)
        due_secs = audio.end_secs - SPEAKER_BUFFER_SECS
        await self._timeline.sleep_until(due_secs)
        self._late_secs = max(0.0, self._timeline.secs - due_secs)
        return True


def _mono(pcm: bytes, num_channels: int) -> NDArray[np.int16]:
    return np.rint(downmix(pcm, num_channels)).astype(np.int16)


def _resampled(samples: NDArray[np.int16], rate: int, new_rate: int) -> NDArray[np.int16]:
    if rate == new_rate or not len(samples):
        return samples
    return soxr.resample(samples, rate, new_rate)
