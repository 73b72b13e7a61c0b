"""A voice bot on Hydra; `openai_before.py` is the same bot on OpenAI Realtime."""

import os
from typing import Any

from loguru import logger
from pipecat.frames.frames import LLMRunFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
    UserTurnMessageAddedMessage,
)
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.services.llm_service import FunctionCallParams
from pipecat.services.smallest.stt import SmallestSTTService
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra import HydraLLMService

INSTRUCTION = "You are a warm, concise voice assistant. Use your function for the weather."

transport_params = {
    "webrtc": lambda: TransportParams(audio_in_enabled=True, audio_out_enabled=True),
}


async def get_weather(params: FunctionCallParams, city: str):
    """Get the weather.

    Args:
        params: Takes the result.
        city: Name of the city.
    """
    await params.result_callback({"city": city, "sky": "clear"})


def build(transport: BaseTransport) -> PipelineWorker:
    """Build the pipeline of one call.

    Args:
        transport: The transport to the user.

    Returns:
        The worker that runs the pipeline.
    """
    llm = HydraLLMService(
        settings=HydraLLMService.Settings(
            model="hydra-v1.1",
            voice="aria",
            system_instruction=INSTRUCTION,
        ),
        vad_frames=True,  # Pulse ends its transcript when Hydra has heard the turn end
    )
    stt = SmallestSTTService(api_key=os.environ["SMALLEST_API_KEY"])  # for the user's words
    user_aggregator, assistant_aggregator = LLMContextAggregatorPair(
        LLMContext([{"role": "developer", "content": "Greet the user."}], tools=[get_weather]),
        user_params=LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies()),
    )
    worker = PipelineWorker(
        Pipeline(
            [
                transport.input(),
                stt,
                user_aggregator,
                llm,
                transport.output(),
                assistant_aggregator,
            ]
        ),
        params=PipelineParams(audio_in_sample_rate=16_000, audio_out_sample_rate=24_000),
    )

    @user_aggregator.event_handler("on_user_turn_message_added")
    async def on_user_turn_message_added(aggregator: Any, message: UserTurnMessageAddedMessage):
        logger.info(f"User: {message.content}")

    @transport.event_handler("on_client_connected")
    async def on_client_connected(transport: BaseTransport, client: Any):
        await worker.queue_frame(LLMRunFrame())  # the bot speaks first

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: BaseTransport, client: Any):
        await worker.cancel()

    return worker


async def bot(runner_args: RunnerArguments):
    """Serve one client; Pipecat's runner calls this."""
    worker = build(await create_transport(runner_args, transport_params))
    runner = WorkerRunner(handle_sigint=runner_args.handle_sigint)
    await runner.add_workers(worker)
    await runner.run()


if __name__ == "__main__":
    from pipecat.runner.run import main

    main()
