"""Holds a recorded call again: the recorded microphone and server, and a pipeline between them."""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from pipecat.frames.frames import EndFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra import HydraLLMService, HydraRecorder
from pipecat_hydra.cli.replay.comparison import Comparison
from pipecat_hydra.cli.replay.recorded import (
    RecordedFunctions,
    later_frames,
    service_settings,
    tools,
)
from pipecat_hydra.cli.talk.errors import ExitCode, TalkError
from pipecat_hydra.emulator import HydraEmulator
from pipecat_hydra.recording import Record, Recording
from pipecat_hydra.testing import VirtualTransport, VirtualTransportParams
from pipecat_hydra.wire.protocol import INPUT_SAMPLE_RATE

__all__ = ["ReplayOptions", "replay"]

MakeService = Callable[..., HydraLLMService]
"""Makes the service, with the arguments of `HydraLLMService`."""

_START_LIMIT_SECS: Final = 30.0
_END_LIMIT_SECS: Final = 10.0
_POLL_SECS: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """The options of `pipecat-hydra replay`.

    Parameters:
        call: The folder of the recording.
        record: Where the recording of the replay is kept; `None` to keep none.
        aggregators: Whether the pipeline has context aggregators.
    """

    call: Path
    record: Path | None = None
    aggregators: bool = True


async def replay(
    options: ReplayOptions,
    *,
    progress: Callable[[float, float], None] = lambda now, end: None,
    make_service: MakeService = HydraLLMService,
) -> Comparison:
    """Hold a recorded call again, and compare.

    Args:
        options: The recording, and how it is replayed.
        progress: Called with how far the replay is and how long the call is, in seconds.
        make_service: Makes the service that is replayed to.

    Returns:
        What is the same, and what is different.

    Raises:
        RecordingError: The recording cannot be read.
        TalkError: The call cannot be replayed.
    """
    recording = Recording.open(options.call)
    _check(recording)
    with ExitStack() as stack:
        folder = options.record or Path(
            stack.enter_context(TemporaryDirectory(prefix="pipecat-hydra-replay-"))
        )
        recorder = HydraRecorder(folder)
        async with HydraEmulator.from_recording(recording.folder) as hydra:
            await _Call(options, recording, hydra, recorder, make_service).hold(progress)
        differences = [str(difference) for difference in hydra.differences]
        assert recorder.folder is not None
        return Comparison.of(recording, Recording.open(recorder.folder), differences)


class _Call:
    """One replay, from the first frame to the last."""

    def __init__(
        self,
        options: ReplayOptions,
        recording: Recording,
        hydra: HydraEmulator,
        recorder: HydraRecorder,
        make_service: MakeService,
    ):
        self._recording = recording
        self._first = next(r for r in recording.records if r.source == "client" and r.audio)
        self._transport = VirtualTransport(
            sample_rate=INPUT_SAMPLE_RATE,
            params=VirtualTransportParams(audio_in_frame_ms=_frame_ms(self._first)),
        )
        schema = tools(recording)
        llm = make_service(
            api_key=hydra.api_key,
            base_url=hydra.url,
            settings=service_settings(recording),
            tools=schema,
            recorder=recorder,
        )
        llm.register_function(None, RecordedFunctions(recording).answer)
        processors: list[FrameProcessor] = [
            self._transport.input(),
            llm,
            self._transport.output(),
        ]
        if options.aggregators:
            context = LLMContext(tools=schema) if schema else LLMContext()
            pair = LLMContextAggregatorPair(
                context,
                user_params=LLMUserAggregatorParams(
                    user_turn_strategies=ExternalUserTurnStrategies()
                ),
            )
            processors = [processors[0], pair.user(), *processors[1:], pair.assistant()]
        self._worker = PipelineWorker(
            Pipeline(processors),
            params=PipelineParams(
                audio_out_sample_rate=recording.heard_track().rate or 24_000,
                enable_metrics=True,
                enable_usage_metrics=True,
            ),
            enable_rtvi=False,
            enable_turn_tracking=False,
            idle_timeout_secs=None,
        )

    async def hold(self, progress: Callable[[float, float], None]) -> None:
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self._worker)
        began = time.monotonic()
        running = asyncio.create_task(runner.run())
        try:
            async with asyncio.timeout(_START_LIMIT_SECS):
                await self._transport.timeline.started()
            self._speak(time.monotonic() - began)
            for at, frame in [*later_frames(self._recording), (self._recording.ended_at, None)]:
                while (left := at - (time.monotonic() - began)) > 0 and not running.done():
                    progress(time.monotonic() - began, self._recording.ended_at)
                    await asyncio.sleep(min(left, _POLL_SECS))
                await self._worker.queue_frame(frame or EndFrame())
            await asyncio.wait([running], timeout=_END_LIMIT_SECS)
        except TimeoutError:
            raise TalkError(f"the pipeline did not start in {_START_LIMIT_SECS:g} s") from None
        finally:
            if not running.done():
                await self._worker.cancel()
            await running

    def _speak(self, begun: float) -> None:
        """Give the microphone the recorded audio, from how far the call has come, in seconds.

        Frames of the microphone begin where those began that were recorded, so that each report
        of the server about the user comes with the same frame.
        """
        track = self._recording.user_track()
        frame = round(_frame_ms(self._first) / 1000 * track.rate)
        ends = self._first.t - self._first.held
        first = round(begun * track.rate)
        phase = (round(ends * track.rate) - first) % frame
        first += phase if phase <= frame // 2 else phase - frame
        samples = track.samples[max(0, first) :]
        self._transport.microphone.queue(
            np.concatenate([np.zeros(max(0, -first), np.int16), samples])
        )


def _frame_ms(record: Record) -> int:
    """Return the length of a frame of the user's audio, as a transport may have it."""
    samples = record.audio.samples if record.audio else 0
    return min(100, max(10, round(1000 * samples / INPUT_SAMPLE_RATE)))


def _check(recording: Recording) -> None:
    """Refuse a recording that cannot be replayed."""
    if all(record.source != "server" for record in recording.records):
        raise TalkError(f"{recording.folder} has no session that could be replayed", ExitCode.USAGE)
    if not recording.user_track().samples.any():
        raise TalkError(
            f"{recording.folder} has no audio of the user, so that there is nothing to say. "
            "HydraRecorder(audio=False) keeps none",
            ExitCode.USAGE,
        )
