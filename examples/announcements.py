"""A voice bot with announcements that are spoken as they stand, by a text-to-speech service.

"This call is recorded" has to be said word for word, and Hydra has no verbatim speech. So a
text-to-speech service stands before Hydra. It takes the `TTSSpeakFrame`s and nothing else, because
all that Hydra says comes behind it; Hydra hears nothing of them. Run it, and open
http://localhost:7860 to talk to it::

    pip install "pipecat-ai[runner,webrtc]"
    export SMALLEST_API_KEY=...   # for Hydra, and Lightning, which announces; else: tones
    python examples/announcements.py

Without such a service the model is asked to say the words, perhaps not as they stand; see
`fixed_phrases` of `HydraLLMService`.
"""

import os
import sys
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np
from pipecat.frames.frames import Frame, LLMRunFrame, TTSAudioRawFrame, TTSSpeakFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker, ProcessorUnusablePolicy
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.services.settings import TTSSettings
from pipecat.services.smallest.tts import SmallestTTSService
from pipecat.services.tts_service import TTSService
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import stand_in

ANNOUNCEMENT = "This call is recorded."

transport_params = {
    "webrtc": lambda: TransportParams(audio_in_enabled=True, audio_out_enabled=True),
}


class StandInTTS(TTSService):
    """Speaks every text as a tone."""

    def __init__(self):
        """Make one."""
        settings = TTSSettings(model=None, voice=None, language=None)
        super().__init__(settings=settings, push_start_frame=True, push_stop_frames=True)

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame]:
        """Say a text.

        Args:
            text: The text.
            context_id: What it is a part of.

        Yields:
            Audio of 60 ms for each character.
        """
        times = np.arange(int(len(text) * 0.06 * self.sample_rate)) / self.sample_rate
        pcm = (4000 * np.sin(2 * np.pi * 330 * times)).astype("<i2").tobytes()
        yield TTSAudioRawFrame(pcm, self.sample_rate, 1, context_id=context_id)


def announcer() -> TTSService:
    """Return what speaks the announcements: Lightning, or tones if there is no key."""
    key = os.getenv("SMALLEST_API_KEY")
    return SmallestTTSService(api_key=key) if key else StandInTTS()


def announcement() -> TTSSpeakFrame:
    """Return an announcement that the caller hears to its end, whoever speaks meanwhile."""
    frame = TTSSpeakFrame(ANNOUNCEMENT)
    frame.interruptible = False
    return frame


async def run_bot(
    transport: BaseTransport,
    runner_args: RunnerArguments,
    *,
    tts: TTSService,
    api_key: str | None = None,
    base_url: str | None = None,
):
    """Hold one conversation.

    Args:
        transport: The transport to the user.
        runner_args: The runner's settings for this conversation.
        tts: Speaks the announcements.
        api_key: The Smallest AI key; by default that of the environment.
        base_url: Hydra's endpoint; by default that of the environment, or the public one.
    """
    llm = HydraLLMService(
        api_key=api_key,
        base_url=base_url,
        instructions="You are a warm, concise voice assistant.",
    )
    user_aggregator, assistant_aggregator = LLMContextAggregatorPair(
        LLMContext(),
        user_params=LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies()),
    )
    worker = PipelineWorker(
        Pipeline(
            [
                transport.input(),
                user_aggregator,
                tts,
                llm,
                transport.output(),
                assistant_aggregator,
            ]
        ),
        params=PipelineParams(audio_in_sample_rate=16_000, audio_out_sample_rate=24_000),
        idle_timeout_secs=runner_args.pipeline_idle_timeout_secs,
        processor_unusable_policy=ProcessorUnusablePolicy.END,
    )

    @transport.event_handler("on_client_connected")
    async def on_client_connected(transport: BaseTransport, client: Any):
        # The greeting waits behind the announcement.
        await worker.queue_frames([announcement(), LLMRunFrame()])

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
        await run_bot(transport, runner_args, tts=announcer(), **endpoint)


if __name__ == "__main__":
    try:
        from pipecat.runner.run import main
    except ImportError:
        sys.exit('The runner is missing: pip install "pipecat-ai[runner,webrtc]"')

    main()
