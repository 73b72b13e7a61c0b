"""A voice bot that records its calls: a stereo file each, the user left and the bot right.

Run it, open http://localhost:7860 to talk to it, and find the call in `recordings/`::

    pip install "pipecat-ai[runner,webrtc]"
    export SMALLEST_API_KEY=...   # without, it talks to the embedded emulator
    python examples/recording.py
"""

import asyncio
import sys
import wave
from datetime import datetime
from pathlib import Path
from typing import Any

from loguru import logger
from pipecat.frames.frames import LLMRunFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker, ProcessorUnusablePolicy
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.audio.audio_buffer_processor import AudioBufferProcessor
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import stand_in

RECORDINGS = Path("recordings")
# In Hz, for both sides and the file. If the recorder had to resample, it would lose the last
# moments of each reply and shift the two sides against each other.
RATE = 24_000

transport_params = {
    "webrtc": lambda: TransportParams(audio_in_enabled=True, audio_out_enabled=True),
}


def save(path: Path, audio: bytes, rate: int, num_channels: int) -> None:
    """Write PCM16 to a WAV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(num_channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(audio)


async def run_bot(
    transport: BaseTransport,
    runner_args: RunnerArguments,
    *,
    api_key: str | None = None,
    base_url: str | None = None,
):
    """Hold one conversation.

    Args:
        transport: The transport to the user.
        runner_args: The runner's settings for this conversation.
        api_key: The Smallest AI key; by default that of the environment.
        base_url: Hydra's endpoint; by default that of the environment, or the public one.
    """
    llm = HydraLLMService(
        api_key=api_key,
        base_url=base_url,
        settings=HydraLLMService.Settings(
            # People have to know that they are recorded.
            system_instruction=(
                "You are a warm, concise assistant. Begin by saying that the call is recorded."
            ),
        ),
    )
    user_aggregator, assistant_aggregator = LLMContextAggregatorPair(
        LLMContext(),
        user_params=LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies()),
    )
    # After the output, so that the recording has nothing that an interruption cut off. The
    # user's audio comes here too, because the service passes it on.
    recorder = AudioBufferProcessor(num_channels=2, auto_start_recording=True)

    worker = PipelineWorker(
        Pipeline(
            [
                transport.input(),
                user_aggregator,
                llm,
                transport.output(),
                recorder,
                assistant_aggregator,
            ]
        ),
        params=PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE),
        idle_timeout_secs=runner_args.pipeline_idle_timeout_secs,
        # A key that is refused ends the call.
        processor_unusable_policy=ProcessorUnusablePolicy.END,
    )

    @recorder.event_handler("on_audio_data")
    async def on_audio_data(
        recorder: AudioBufferProcessor, audio: bytes, sample_rate: int, num_channels: int
    ):
        path = RECORDINGS / f"{datetime.now():%Y-%m-%d-%H-%M-%S}-{worker.name}.wav"
        await asyncio.to_thread(save, path, audio, sample_rate, num_channels)
        logger.info(f"Recorded {len(audio) / 4 / sample_rate:.1f} s in {path}")

    @transport.event_handler("on_client_connected")
    async def on_client_connected(transport: BaseTransport, client: Any):
        await worker.queue_frame(LLMRunFrame())  # the bot speaks first

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: BaseTransport, client: Any):
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=runner_args.handle_sigint)
    await runner.add_workers(worker)
    await runner.run()


async def bot(runner_args: RunnerArguments):
    """Serve one client; Pipecat's runner and Pipecat Cloud call this."""
    transport = await create_transport(runner_args, transport_params)
    async with stand_in() as endpoint:
        await run_bot(transport, runner_args, **endpoint)


if __name__ == "__main__":
    try:
        from pipecat.runner.run import main
    except ImportError:
        sys.exit('The runner is missing: pip install "pipecat-ai[runner,webrtc]"')

    main()
