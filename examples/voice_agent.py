"""The bot to copy: one voice agent for the browser, for rooms and for the telephone.

Run it, and open http://localhost:7860 to talk to it::

    pip install "pipecat-ai[runner,webrtc]"
    export SMALLEST_API_KEY=...   # without, it talks to the embedded emulator
    python examples/voice_agent.py

On a telephone number, with the provider's own keys in the environment::

    python examples/voice_agent.py -t twilio -x example.ngrok.io
"""

import os
import sys
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
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.services.llm_service import FunctionCallParams
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra import Capacity, HydraLLMService, RedisCapacity
from pipecat_hydra.emulator import Call, EmulatorSettings, Say, Script, stand_in

if os.getenv("HYDRA_KEY_REQUIRED") and not os.getenv("SMALLEST_API_KEY"):
    # Where it is deployed (see deploy/), no caller shall talk to an emulator by mistake.
    sys.exit("SMALLEST_API_KEY is not set")

# What the emulator answers, one entry for each turn of the user, whatever is said.
SCRIPT = Script(
    [
        Say.tones(2.0, "I am well, thank you."),
        [Call("get_weather", {"city": "Paris"}), Say.tones(6.0, "In Paris: {output}")],
        [Call("get_weather", {"city": "Rome"}), Say.tones(2.0, "In Rome: {output}")],
    ],
    greeting=Say.tones(1.0, "Hello! I know the weather."),
    then="repeat",
)

TELEPHONES = ("twilio", "telnyx", "plivo", "exotel")


async def get_weather(params: FunctionCallParams, city: str):
    """Get the weather forecast for tomorrow.

    Args:
        params: Takes the result.
        city: Name of the city, without its country.
    """
    await params.result_callback({"city": city, "sky": "clear", "degrees_celsius": 21})


def daily_params() -> TransportParams:
    """Configure a Daily room; needs `pipecat-ai[daily]`."""
    from pipecat.transports.daily.transport import DailyParams

    # One stream, mixed by Daily, whoever is in the room: Hydra hears one microphone.
    return DailyParams(audio_in_enabled=True, audio_out_enabled=True, audio_in_user_tracks=False)


def livekit_params() -> TransportParams:
    """Configure a LiveKit room; needs `pipecat-ai[livekit]`."""
    from pipecat.transports.livekit.transport import LiveKitParams

    return LiveKitParams(audio_in_enabled=True, audio_out_enabled=True)


def telephone_params() -> TransportParams:
    """Configure a telephone call; needs `pipecat-ai[websocket]`."""
    from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams

    return FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=True)


def websocket_params() -> TransportParams:
    """Configure a client of your own, over a plain WebSocket."""
    from pipecat.serializers.protobuf import ProtobufFrameSerializer
    from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams

    return FastAPIWebsocketParams(
        audio_in_enabled=True, audio_out_enabled=True, serializer=ProtobufFrameSerializer()
    )


def eval_params() -> TransportParams:
    """Configure a session of `pipecat eval`; see evals/."""
    from pipecat.evals.transport import EvalTransportParams

    return EvalTransportParams(audio_in_enabled=True, audio_out_enabled=True)


# The runner chooses one of them; only that one's dependencies are needed.
transport_params = {
    "webrtc": lambda: TransportParams(audio_in_enabled=True, audio_out_enabled=True),
    "daily": daily_params,
    "livekit": livekit_params,
    "websocket": websocket_params,
    "eval": eval_params,
    **dict.fromkeys(TELEPHONES, telephone_params),
}


def sample_rates(runner_args: RunnerArguments) -> tuple[int, int]:
    """Tell the rates in Hz of the user's audio and the bot's.

    Hydra takes 16 kHz and gives 24 kHz, but a telephone has 8 kHz. With 8 kHz in the pipeline
    too, the service resamples, which adds less delay than resampling in the telephone's
    serializer (see benchmarks/microphone_delay.py).
    """
    if getattr(runner_args, "transport_type", None) in TELEPHONES:
        return 8_000, 8_000
    return 16_000, 24_000


def capacity() -> Capacity | None:
    """Share a cap on sessions with other processes, if REDIS_URL names a Redis server."""
    url = os.getenv("REDIS_URL")
    return RedisCapacity(url, limit=int(os.environ["HYDRA_SESSIONS"])) if url else None


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
        capacity=capacity(),
        settings=HydraLLMService.Settings(
            system_instruction=(
                "You are a warm, concise voice assistant. Reply in one or two short sentences. "
                "Use your function for the weather."
            ),
        ),
    )

    # These functions need no registering: the service finds them in the context.
    context = LLMContext(
        [{"role": "developer", "content": "Greet the user, and say what you can do."}],
        tools=[get_weather],
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

    in_rate, out_rate = sample_rates(runner_args)
    # RTVI clients are told of turns, replies and function calls with no further code.
    worker = PipelineWorker(
        pipeline,
        params=PipelineParams(
            audio_in_sample_rate=in_rate,
            audio_out_sample_rate=out_rate,
            enable_metrics=True,
            enable_usage_metrics=True,
        ),
        idle_timeout_secs=runner_args.pipeline_idle_timeout_secs,
        # A key that is refused ends the call, because there is no call without Hydra.
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
    except (ImportError, ValueError) as error:
        # A package that is not installed, or a key of the telephone provider that is not set.
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
