"""A voice bot whose callers may press keys: a menu, and an order number that ends with #.

The first key interrupts the bot. The keys together reach Hydra as a text of the user, "DTMF: 123#",
and are answered like speech. `DTMFAggregator` says when they are complete, and puts them into the
context as well; without it the keys reach Hydra just so. Run it with a telephone number, and the
provider's own keys in the environment, or open http://localhost:7860 with an RTVI client that has
a keypad::

    pip install "pipecat-ai[runner,webrtc,websocket]"
    export SMALLEST_API_KEY=...   # without, it talks to the embedded emulator
    python examples/keypad.py -t twilio -x example.ngrok.io
"""

import sys
from typing import Any

from pipecat.frames.frames import LLMRunFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker, ProcessorUnusablePolicy
from pipecat.processors.aggregators.dtmf_aggregator import DTMFAggregator
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

INSTRUCTIONS = (
    "You answer the telephone of a shop. Be concise. Callers may speak, or press keys, which you "
    "get as a text that begins with DTMF. Greet them and offer: 1 for the opening hours, from nine "
    "to five; or the number of an order and then the hash key, to hear where it is."
)

# What the emulator answers, whatever the caller says or presses.
SCRIPT = Script(
    [
        Say.tones(2.0, "We are open from nine to five."),
        [Call("get_order", {"number": "123"}), Say.tones(2.0, "Your order: {output}")],
    ],
    greeting=Say.tones(4.0, "Hello! Press 1 for the opening hours, or enter your order number."),
    then="repeat",
)


def telephone_params() -> TransportParams:
    """Configure a telephone call; needs `pipecat-ai[websocket]`."""
    from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams

    return FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=True)


transport_params = {
    "webrtc": lambda: TransportParams(audio_in_enabled=True, audio_out_enabled=True),
    "twilio": telephone_params,
    "telnyx": telephone_params,
    "plivo": telephone_params,
}


async def get_order(params: FunctionCallParams, number: str):
    """Find out where an order is.

    Args:
        params: Takes the result.
        number: The number of the order, digits only.
    """
    await params.result_callback({"number": number, "status": "arrives tomorrow"})


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
    llm = HydraLLMService(api_key=api_key, base_url=base_url, instructions=INSTRUCTIONS)
    user_aggregator, assistant_aggregator = LLMContextAggregatorPair(
        LLMContext(tools=[get_order]),
        user_params=LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies()),
    )
    worker = PipelineWorker(
        Pipeline(
            [
                transport.input(),
                # Before the user aggregator, which writes the keys down.
                DTMFAggregator(timeout=2.0),
                user_aggregator,
                llm,
                transport.output(),
                assistant_aggregator,
            ]
        ),
        # A telephone has 8 kHz in both directions, which Pipecat's serializers resample.
        params=PipelineParams(audio_in_sample_rate=16_000, audio_out_sample_rate=24_000),
        idle_timeout_secs=runner_args.pipeline_idle_timeout_secs,
        processor_unusable_policy=ProcessorUnusablePolicy.END,
    )

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
    async with stand_in(SCRIPT, settings=EmulatorSettings(transcripts=True)) as endpoint:
        await run_bot(transport, runner_args, **endpoint)


if __name__ == "__main__":
    try:
        from pipecat.runner.run import main
    except ImportError:
        sys.exit('The runner is missing: pip install "pipecat-ai[runner,webrtc]"')

    main()
