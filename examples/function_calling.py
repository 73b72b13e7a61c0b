"""A voice bot that calls two functions: a quick one for the weather, a slow one for a restaurant.

Run it, and open http://localhost:7860 to talk to it::

    pip install "pipecat-ai[runner,webrtc]"
    export SMALLEST_API_KEY=...   # without, it talks to the embedded emulator
    python examples/function_calling.py

On the telephone: see voice_agent.py.

With Pipecat 1.13, import `tool_options` from `pipecat.adapters.schemas.direct_function`.
"""

import asyncio
import sys
from typing import Any

from loguru import logger
from pipecat.adapters.llm.schemas.direct_function import tool_options
from pipecat.frames.frames import LLMRunFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker, ProcessorUnusablePolicy
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.services.llm_service import FunctionCallParams
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import Call, EmulatorSettings, Say, Script, stand_in

SEARCH_SECS = 4.0


async def get_weather(params: FunctionCallParams, city: str):
    """Get the current weather.

    Args:
        params: Takes the result.
        city: Name of the city, for example Paris.
    """
    await params.result_callback({"city": city, "sky": "clear", "degrees_celsius": 21})


# With `cancel_on_interruption=False` the conversation goes on while the function runs: the
# model is told at once that the function runs, and later its result.
@tool_options(cancel_on_interruption=False)
async def find_restaurant(params: FunctionCallParams, city: str, cuisine: str):
    """Find a restaurant with a free table tonight. This takes some seconds.

    Args:
        params: Takes the result.
        city: Name of the city, for example Paris.
        cuisine: What to eat, for example Italian.
    """
    await asyncio.sleep(SEARCH_SECS)
    await params.result_callback({"name": "The Golden Lion", "city": city, "cuisine": cuisine})


def daily_params() -> TransportParams:
    """Configure a Daily room; needs `pipecat-ai[daily]`."""
    from pipecat.transports.daily.transport import DailyParams

    # One stream, mixed by Daily, whoever is in the room: Hydra hears one microphone.
    return DailyParams(audio_in_enabled=True, audio_out_enabled=True, audio_in_user_tracks=False)


# What the emulator answers, one entry for each answer, whatever the user says.
SCRIPT = Script(
    [
        [Call("get_weather", {"city": "Paris"}), Say.tones(2.0, "The weather is: {output}")],
        [
            Call("find_restaurant", {"city": "Paris", "cuisine": "French"}),
            Say.tones(1.0, "I am looking for one."),
        ],
        Say.tones(2.0, "Here you are: {message}"),
    ],
    then="repeat",
)

# The runner chooses one of them; only that one's dependencies are needed.
transport_params = {
    "webrtc": lambda: TransportParams(audio_in_enabled=True, audio_out_enabled=True),
    "daily": daily_params,
}


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
            system_instruction=(
                "You are a warm, concise voice assistant for travellers. Reply in one or two "
                "short sentences. Use your functions for the weather and for restaurants."
            ),
        ),
    )

    # These functions need no registering: the service finds them in the context.
    context = LLMContext(
        [{"role": "developer", "content": "Greet the user, and say what you can do."}],
        tools=[get_weather, find_restaurant],
    )
    user_aggregator, assistant_aggregator = LLMContextAggregatorPair(
        context,
        # Hydra detects turns itself. Without this the aggregator would choose the same
        # strategies, but would first load a turn detection model that is never used.
        user_params=LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies()),
    )

    pipeline = Pipeline(
        [
            transport.input(),
            user_aggregator,
            llm,
            transport.output(),
            assistant_aggregator,
        ]
    )

    worker = PipelineWorker(
        pipeline,
        params=PipelineParams(
            audio_in_sample_rate=16000,  # what Hydra takes; another rate would be resampled
            enable_metrics=True,
            enable_usage_metrics=True,
        ),
        idle_timeout_secs=runner_args.pipeline_idle_timeout_secs,
        # A key that is refused ends the call.
        processor_unusable_policy=ProcessorUnusablePolicy.END,
    )

    @transport.event_handler("on_client_connected")
    async def on_client_connected(transport: BaseTransport, client: Any):
        logger.info("Client connected")
        await worker.queue_frame(LLMRunFrame())  # the bot speaks first

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: BaseTransport, client: Any):
        logger.info("Client disconnected")
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=runner_args.handle_sigint)
    await runner.add_workers(worker)
    await runner.run()


async def bot(runner_args: RunnerArguments):
    """Serve one client; Pipecat's runner and Pipecat Cloud call this."""
    try:
        transport = await create_transport(runner_args, transport_params)
    except ImportError as error:
        logger.error(f"This call cannot be taken: {error}")
        return
    async with stand_in(SCRIPT, settings=EmulatorSettings(transcripts=True)) as endpoint:
        await run_bot(transport, runner_args, **endpoint)


if __name__ == "__main__":
    try:
        from pipecat.runner.run import main
    except ImportError:
        sys.exit('The runner is missing: pip install "pipecat-ai[runner,webrtc]"')

    main()
