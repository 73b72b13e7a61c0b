"""The bot that pages speak of which have none of their own: it knows the weather."""

from typing import Any

from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.services.llm_service import FunctionCallParams
from pipecat.transports.base_transport import BaseTransport
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra import HydraLLMService


async def get_weather(params: FunctionCallParams, city: str):
    """Get the weather.

    Args:
        params: Takes the result.
        city: Name of the city.
    """
    await params.result_callback({"city": city, "sky": "clear"})


async def run_bot(transport: BaseTransport):
    """Hold one conversation."""
    user, assistant = LLMContextAggregatorPair(
        LLMContext(tools=[get_weather]),
        user_params=LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies()),
    )
    llm = HydraLLMService(instructions="You are a warm, concise assistant.")
    worker = PipelineWorker(
        Pipeline([transport.input(), user, llm, transport.output(), assistant]),
        params=PipelineParams(audio_in_sample_rate=16_000),
    )

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: BaseTransport, client: Any):
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()
