"""A voice bot that goes on with another service when the first one fails.

An `LLMSwitcher` holds both. When the first can do its job no more, since its key is refused or its
attempts to reconnect are used up, the second takes the call over and is told what was said. Run it,
and open http://localhost:7860 to talk to it::

    pip install "pipecat-ai[runner,webrtc]"
    export SMALLEST_API_KEY=... SMALLEST_BACKUP_API_KEY=...
    python examples/failover.py   # without keys: two emulators, of which the first refuses

The second is Hydra too, with another key or at another endpoint. Any realtime service of Pipecat
does. A cascade of STT, LLM and TTS does not: a user aggregator that has met a realtime service
leaves it to the service to answer, and does so for the rest of the call.
"""

import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

from loguru import logger
from pipecat.frames.frames import LLMRunFrame
from pipecat.pipeline.llm_switcher import LLMSwitcher
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.service_switcher import (
    ServiceSwitcherStrategy,
    ServiceSwitcherStrategyFailover,
)
from pipecat.pipeline.worker import PipelineParams, PipelineWorker, ProcessorUnusablePolicy
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.services.llm_service import LLMService
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra import HydraLLMService, RetryPolicy
from pipecat_hydra.protocol import DEFAULT_BASE_URL

# The caller waits meanwhile, so the first service gets less time than it would alone.
PATIENCE = RetryPolicy(attempts_per_drop=2, secs_per_drop=5.0)

transport_params = {
    "webrtc": lambda: TransportParams(audio_in_enabled=True, audio_out_enabled=True),
}


@asynccontextmanager
async def hydra() -> AsyncGenerator[dict[str, Any]]:
    """Give keys and URLs of both services: of Hydra, or of emulators if there is no key."""
    if key := os.getenv("SMALLEST_API_KEY"):
        yield {
            "api_key": key,
            "base_url": DEFAULT_BASE_URL,
            "backup_api_key": os.getenv("SMALLEST_BACKUP_API_KEY") or key,
            "backup_url": os.getenv("SMALLEST_BACKUP_URL") or DEFAULT_BASE_URL,
        }
        return
    logger.warning("SMALLEST_API_KEY is not set: talking to an emulator, after one that refuses")
    from pipecat_hydra.emulator import HydraEmulator

    async with HydraEmulator() as first, HydraEmulator() as second:
        yield {
            "api_key": "not-the-key-of-the-first",
            "base_url": first.url,
            "backup_api_key": second.api_key,
            "backup_url": second.url,
        }


async def run_bot(
    transport: BaseTransport,
    runner_args: RunnerArguments,
    *,
    api_key: str,
    base_url: str = DEFAULT_BASE_URL,
    backup_api_key: str,
    backup_url: str = DEFAULT_BASE_URL,
):
    """Hold one conversation.

    Args:
        transport: Where the user is.
        runner_args: How the runner wants it.
        api_key: The Smallest AI key of the first service.
        base_url: Its endpoint.
        backup_api_key: The key of the second.
        backup_url: Its endpoint.
    """
    instruction = "You are a warm, concise assistant."
    first = HydraLLMService(
        api_key=api_key,
        base_url=base_url,
        settings=HydraLLMService.Settings(system_instruction=instruction),
        retry=PATIENCE,
    )
    second = HydraLLMService(
        api_key=backup_api_key,
        base_url=backup_url,
        settings=HydraLLMService.Settings(
            system_instruction=instruction,
            generate_initial_response=True,  # when it takes over, the user is waiting
        ),
    )
    # Pipecat types the switcher for services with any adapter, invariantly.
    services = cast("list[LLMService[Any]]", [first, second])
    llm = LLMSwitcher(services, ServiceSwitcherStrategyFailover)
    user_aggregator, assistant_aggregator = LLMContextAggregatorPair(
        LLMContext(),
        user_params=LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies()),
    )
    worker = PipelineWorker(
        Pipeline(
            [
                transport.input(),
                user_aggregator,
                llm,
                transport.output(),
                assistant_aggregator,
            ]
        ),
        params=PipelineParams(audio_in_sample_rate=16_000),
        idle_timeout_secs=runner_args.pipeline_idle_timeout_secs,
        # Not before both have failed.
        processor_unusable_policy=ProcessorUnusablePolicy.END,
    )

    @llm.strategy.event_handler("on_service_switched")
    async def on_service_switched(strategy: ServiceSwitcherStrategy, service: FrameProcessor):
        logger.warning(f"Going on with {service}")

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
    async with hydra() as endpoint:
        await run_bot(transport, runner_args, **endpoint)


if __name__ == "__main__":
    try:
        from pipecat.runner.run import main
    except ImportError:
        sys.exit('The runner is missing: pip install "pipecat-ai[runner,webrtc]"')

    main()
