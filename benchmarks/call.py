"""A call: the pipeline around a peer, with a transport that costs as little as one can.

The microphone delivers a frame each 20 ms, at absolute times, and the loudspeaker takes audio at
real time; neither encodes or records anything. A `Probe` stands between the service and the
loudspeaker: it is "the output" in all rows.
"""

import asyncio
import itertools
import time
from typing import Any

import numpy as np
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMRunFrame,
    OutputAudioRawFrame,
    StartFrame,
    TTSAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import IDLE_TIMEOUT_SECS, PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.llm_service import FunctionCallParams
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from benchmarks.cells import Shape
from benchmarks.marks import OUTPUT_RATE, click, marked_times, tone

__all__ = ["Call"]

FRAME_SECS = 0.02
CLICK_FRAMES = 10
"""Each of so many frames is a click, where the microphone clicks."""


class Microphone(BaseInputTransport):
    """Delivers silence, clicks or a voice at real time."""

    def __init__(self, shape: Shape):
        """Start with nothing delivered."""
        super().__init__(_params())
        self.clicked: list[float] = []
        self.frames = 0
        self._shape = shape
        self._capturing: asyncio.Task[None] | None = None

    async def start(self, frame: StartFrame):
        """Begin to capture."""
        await super().start(frame)
        await self.set_transport_ready(frame)
        self._capturing = self.create_task(self._capture())

    async def stop(self, frame: EndFrame):
        """End capturing."""
        await self._end()
        await super().stop(frame)

    async def cancel(self, frame: CancelFrame):
        """End capturing at once."""
        await self._end()
        await super().cancel(frame)

    async def cleanup(self):
        """End capturing, however the pipeline ended."""
        await self._end()
        await super().cleanup()

    async def _end(self) -> None:
        if self._capturing is not None:
            await self.cancel_task(self._capturing)
            self._capturing = None

    async def _capture(self) -> None:
        rate = self._shape.microphone_rate
        size = 2 * round(rate * FRAME_SECS)
        silence = tone(size) if self._shape.speaks else bytes(size)
        loud = click(rate, FRAME_SECS) if self._shape.clicks else silence
        if self._shape.noise:
            silence = _noise(rate)
        began = time.monotonic()
        for number in itertools.count(1):
            await asyncio.sleep(began + number * FRAME_SECS - time.monotonic())
            clicks = self._shape.clicks and number % CLICK_FRAMES == 0
            if clicks:
                self.clicked.append(time.monotonic())
            self.frames += 1
            await self.push_audio_frame(InputAudioRawFrame(loud if clicks else silence, rate, 1))


class Loudspeaker(BaseOutputTransport):
    """Takes audio at real time."""

    def __init__(self):
        """Start with nothing to play."""
        super().__init__(_params())
        self._played_at = 0.0

    async def start(self, frame: StartFrame):
        """Begin to play."""
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Take audio, and wait until 20 ms of it are left to play."""
        now = time.monotonic()
        secs = len(frame.audio) / (2 * frame.num_channels * frame.sample_rate)
        self._played_at = max(self._played_at, now) + secs
        await asyncio.sleep(self._played_at - FRAME_SECS - now)
        return True


class Probe(FrameProcessor):
    """Stands before the loudspeaker and notes when what is measured comes."""

    def __init__(self):
        """Start with nothing seen."""
        super().__init__()
        self.first_deltas: list[tuple[float, float]] = []
        """When a delta that is marked was sent, and when it came."""
        self.interruptions: list[float] = []
        self.audio_bytes = 0
        self.heard = asyncio.Event()

    def forget(self) -> None:
        """Drop what was seen so far."""
        self.first_deltas.clear()
        self.interruptions.clear()
        self.audio_bytes = 0
        self.heard.clear()

    def take(self, audio: bytes) -> None:
        """Note audio of a reply."""
        now = time.monotonic()
        self.audio_bytes += len(audio)
        self.heard.set()
        self.first_deltas += [(sent, now) for sent in marked_times(audio)]

    async def process_frame(self, frame: Frame, direction: FrameDirection):
        """Note a frame, and pass it on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InterruptionFrame):
            self.interruptions.append(time.monotonic())
        elif isinstance(frame, TTSAudioRawFrame):
            self.take(frame.audio)
        await self.push_frame(frame, direction)


async def get_weather(params: FunctionCallParams, city: str):
    """Get the weather.

    Args:
        params: Takes the result.
        city: Name of the city.
    """
    await params.result_callback({"city": city, "sky": "clear"})


class Call:
    """One call: a pipeline that runs until it is ended."""

    def __init__(self, llm: FrameProcessor, shape: Shape):
        """Build the pipeline.

        Args:
            llm: The peer.
            shape: What is around it.
        """
        self.llm = llm
        self.probe = Probe()
        self.microphone = Microphone(shape)
        self.started = 0.0
        self._shape = shape
        self._worker = _worker(self._pipeline(), shape)
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Run the pipeline, and ask for the first words."""
        runner = WorkerRunner(handle_sigint=False)
        self.started = time.monotonic()
        await runner.add_workers(self._worker)
        self._running = asyncio.create_task(runner.run())
        if self._shape.run and not self._shape.bare:
            await self._worker.queue_frame(LLMRunFrame())

    async def end(self) -> None:
        """End the pipeline."""
        assert self._running is not None
        await self._worker.cancel()
        await self._running

    @property
    def has_ended(self) -> bool:
        """Whether the pipeline runs no more."""
        return self._running is not None and self._running.done()

    def _pipeline(self) -> Pipeline:
        ends: list[FrameProcessor] = [self.probe, Loudspeaker()]
        if self._shape.bare:
            return Pipeline([self.microphone, self.llm, *ends])
        user, assistant = LLMContextAggregatorPair(
            _context(self._shape),
            user_params=LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies()),
        )
        return Pipeline([self.microphone, user, self.llm, *ends, assistant])


def _noise(rate: int) -> bytes:
    """A frame that takes FLAC as long as one of speech, at half of its size."""
    samples = np.random.default_rng(1).normal(0, 300, round(rate * FRAME_SECS))
    return samples.astype("<i2").tobytes()


def _params() -> TransportParams:
    return TransportParams(audio_in_enabled=True, audio_out_enabled=True)


def _context(shape: Shape) -> LLMContext:
    messages: list[Any] = []
    for number in range(shape.past_turns):
        messages.append({"role": "user", "content": f"Question {number}: what is it like?"})
        messages.append({"role": "assistant", "content": f"Answer {number}: it is like this."})
    return LLMContext(messages, tools=[get_weather]) if shape.tools else LLMContext(messages)


def _worker(pipeline: Pipeline, shape: Shape) -> PipelineWorker:
    metrics = "metrics" in shape.extras
    return PipelineWorker(
        pipeline,
        params=PipelineParams(
            audio_in_sample_rate=shape.microphone_rate,
            audio_out_sample_rate=OUTPUT_RATE,
            enable_metrics=metrics,
            enable_usage_metrics=metrics,
        ),
        enable_rtvi="RTVI" in shape.extras,
        enable_turn_tracking="turn tracking" in shape.extras,
        enable_tracing=shape.traced,
        idle_timeout_secs=IDLE_TIMEOUT_SECS if "idle observer" in shape.extras else None,
    )
