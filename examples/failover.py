"""A voice bot that falls back to speech-to-text, LLM and text-to-speech when Hydra fails.

When Hydra's key is refused, or the attempts to reconnect are used up, a cascade of OpenAI's
services takes over the call. The cascade knows what the bot has said if Hydra sends transcripts,
and what the user has said only if an STT service stands in front of both. Run it, and open
http://localhost:7860 to talk to it::

    pip install "pipecat-ai[runner,webrtc]"
    export SMALLEST_API_KEY=... OPENAI_API_KEY=...
    python examples/failover.py   # without: an emulator that refuses, and stand-ins after it

A fallback to another realtime service, such as Hydra with another key, needs none of this: use
`LLMSwitcher([hydra, other], ServiceSwitcherStrategyFailover)` in the place of the service.
"""

import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMMessagesAppendFrame,
    LLMRunFrame,
    LLMTextFrame,
    ManuallySwitchServiceFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.service_switcher import ServiceSwitcher, ServiceSwitcherStrategyManual
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMAssistantAggregator,
    LLMContextAggregatorPair,
    LLMUserAggregator,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.openai.stt import OpenAISTTService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.services.settings import STTSettings, TTSSettings
from pipecat.services.stt_service import SegmentedSTTService
from pipecat.services.tts_service import TTSService
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.utils.time import time_now_iso8601
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra import HydraLLMService, RetryPolicy

INSTRUCTION = "You are a warm, concise voice assistant. Reply in one or two short sentences."

# The caller waits during the attempts, so Hydra gets less time for them than it would alone.
PATIENCE = RetryPolicy(attempts_per_drop=2, secs_per_drop=5.0)

transport_params = {
    "webrtc": lambda: TransportParams(audio_in_enabled=True, audio_out_enabled=True),
}


@asynccontextmanager
async def hydra() -> AsyncGenerator[dict[str, Any]]:
    """Return Hydra's key and URL and the cascade, or stand-ins for them if there are no keys."""
    if os.getenv("SMALLEST_API_KEY"):
        openai_key = os.getenv("OPENAI_API_KEY")
        if not openai_key:
            raise ValueError("the cascade needs an OPENAI_API_KEY")
        cascade = (
            OpenAISTTService(api_key=openai_key),
            OpenAILLMService(
                api_key=openai_key,
                settings=OpenAILLMService.Settings(system_instruction=INSTRUCTION),
            ),
            OpenAITTSService(api_key=openai_key),
        )
        yield {"cascade": cascade}
        return
    logger.warning(
        "SMALLEST_API_KEY is not set: talking to an emulator, which refuses, and then "
        "to stand-ins, which answer in tones"
    )
    from pipecat_hydra.emulator import HydraEmulator

    async with HydraEmulator() as emulator:
        yield {
            "api_key": "not-the-key-of-the-emulator",
            "base_url": emulator.url,
            "cascade": (StandInSTT(), StandInLLM(), StandInTTS()),
        }


async def run_bot(
    transport: BaseTransport,
    runner_args: RunnerArguments,
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    cascade: tuple[FrameProcessor, FrameProcessor, FrameProcessor],
):
    """Hold one conversation.

    Args:
        transport: The transport to the user.
        runner_args: The runner's settings for this conversation.
        api_key: The Smallest AI key; by default that of the environment.
        base_url: Hydra's endpoint; by default that of the environment, or the public one.
        cascade: Speech-to-text, LLM and text-to-speech, which answer after Hydra.
    """
    llm = HydraLLMService(
        api_key=api_key,
        base_url=base_url,
        settings=HydraLLMService.Settings(system_instruction=INSTRUCTION),
        retry=PATIENCE,
    )
    stt, text_llm, tts = cascade
    # Both use one context. But a user aggregator that has met a realtime service leaves the
    # answers to that service for the rest of the call, so the cascade has an aggregator of its own.
    context = LLMContext()
    user_of_hydra, assistant_aggregator = LLMContextAggregatorPair(
        context,
        user_params=LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies()),
        realtime_service_mode=True,
    )
    user_of_cascade = LLMUserAggregator(
        context, params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
    )
    first = Pipeline([user_of_hydra, llm])
    second = Pipeline([stt, user_of_cascade, text_llm, tts])

    # With `ProcessorUnusablePolicy.CONTINUE`, the default, Hydra's failure does not end the call.
    worker = PipelineWorker(
        Pipeline(
            [
                transport.input(),
                ServiceSwitcher([first, second], ServiceSwitcherStrategyManual),
                transport.output(),
                assistant_aggregator,
            ]
        ),
        params=PipelineParams(audio_in_sample_rate=16_000, audio_out_sample_rate=24_000),
        idle_timeout_secs=runner_args.pipeline_idle_timeout_secs,
    )

    is_connected = has_spoken = False

    @assistant_aggregator.event_handler("on_assistant_turn_started")
    async def on_assistant_turn_started(aggregator: LLMAssistantAggregator):
        nonlocal has_spoken
        has_spoken = True

    @llm.event_handler("on_given_up")
    async def on_given_up(service: HydraLLMService, reason: str):
        logger.warning("Going on with the cascade")
        note = (
            "You take over a call that has been going on, and have not heard what the user said. "
            "Do not greet. Apologise in a few words, and ask the user to say it again."
            if has_spoken
            else "Greet the user."
        )
        await worker.queue_frames(
            [
                ManuallySwitchServiceFrame(service=second),
                # A key may be refused before there is anybody to greet.
                LLMMessagesAppendFrame(
                    [{"role": "developer", "content": note}], run_llm=is_connected
                ),
            ]
        )

    @transport.event_handler("on_client_connected")
    async def on_client_connected(transport: BaseTransport, client: Any):
        nonlocal is_connected
        is_connected = True
        await worker.queue_frame(LLMRunFrame())  # the bot speaks first

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: BaseTransport, client: Any):
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=runner_args.handle_sigint)
    await runner.add_workers(worker)
    await runner.run()


class StandInSTT(SegmentedSTTService):
    """Detects that something is said, but not what."""

    def __init__(self):
        """Make one."""
        super().__init__(settings=STTSettings(model=None, language=None), ttfs_p99_latency=0.1)

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame]:
        """Transcribe a segment.

        Args:
            audio: A WAV file.

        Yields:
            Its transcript.
        """
        yield TranscriptionFrame("Something.", "", time_now_iso8601())


class StandInLLM(FrameProcessor):
    """Gives the same answer to everything."""

    async def process_frame(self, frame: Frame, direction: FrameDirection):
        """Answer a context, and pass on all other frames.

        Args:
            frame: The frame.
            direction: Its direction.
        """
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        await self.push_frame(LLMFullResponseStartFrame())
        await self.push_frame(LLMTextFrame("I am only standing in."))
        await self.push_frame(LLMFullResponseEndFrame())


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


async def bot(runner_args: RunnerArguments):
    """Serve one client; Pipecat's runner and Pipecat Cloud call this."""
    transport = await create_transport(runner_args, transport_params)
    try:
        async with hydra() as given:
            await run_bot(transport, runner_args, **given)
    except ValueError as error:
        logger.error(f"This call cannot be taken: {error}")


if __name__ == "__main__":
    try:
        from pipecat.runner.run import main
    except ImportError:
        sys.exit('The runner is missing: pip install "pipecat-ai[runner,webrtc]"')

    if os.getenv("SMALLEST_API_KEY") and not os.getenv("OPENAI_API_KEY"):
        sys.exit("The cascade that takes over needs a key, too: set OPENAI_API_KEY")
    main()
