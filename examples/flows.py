"""A conversation in steps with Pipecat Flows: each step has its own task and functions.

Run it, and open http://localhost:7860 to order a pizza::

    pip install "pipecat-ai[runner,webrtc]"
    export SMALLEST_API_KEY=...   # without, it talks to the embedded emulator
    python examples/flows.py

A step that keeps the role of the step before stays in the same Hydra session. A step with another
`role_message` begins a new session, because Hydra freezes instructions; the new session is told
what was said.
"""

import sys
from typing import Any, cast

from loguru import logger
from pipecat.flows import FlowManager, NodeConfig, flows_tool_options
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker, ProcessorUnusablePolicy
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import Call, EmulatorSettings, Say, Script, stand_in

# What the emulator answers: the user first says a size, and then an address.
SCRIPT = Script(
    [
        [Call("choose_size", {"size": "large"}), Say.tones(2.0, "Where does the large one go?")],
        [Call("place_order", {"address": "Main Street 1"}), Say.tones(2.0, "It is on its way.")],
    ],
    greeting=Say.tones(1.0, "Hello! Small, medium or large?"),
)

transport_params = {
    "webrtc": lambda: TransportParams(audio_in_enabled=True, audio_out_enabled=True),
}


# Hydra waits for the results of these functions, so an interruption cancels them.
@flows_tool_options(cancel_on_interruption=True)
async def choose_size(flow_manager: FlowManager, size: str):
    """Take note of the size of the pizza.

    Args:
        flow_manager: Holds the state of the conversation.
        size: Small, medium or large.
    """
    flow_manager.state["size"] = size
    return {"size": size}, delivery_node()


@flows_tool_options(cancel_on_interruption=True)
async def place_order(flow_manager: FlowManager, address: str):
    """Place the order.

    Args:
        flow_manager: Holds the state of the conversation.
        address: Where the pizza goes.
    """
    flow_manager.state["address"] = address
    logger.info(f"Ordered: {flow_manager.state['size']}, to {address}")
    return {"minutes": 30}, None


def size_node() -> NodeConfig:
    """Begin: ask for the size."""
    return {
        "name": "size",
        "role_message": "You take orders for pizza by telephone. You are warm and concise.",
        "task_messages": [
            {"role": "developer", "content": "Greet the user, and ask for the size of the pizza."}
        ],
        "functions": [choose_size],
    }


def delivery_node() -> NodeConfig:
    """Go on: ask where it goes."""
    return {
        "name": "delivery",
        "task_messages": [
            {"role": "developer", "content": "Ask where the {{ size }} pizza goes, and order it."}
        ],
        "functions": [place_order],
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
    llm = HydraLLMService(api_key=api_key, base_url=base_url)
    aggregators = LLMContextAggregatorPair(
        LLMContext(),
        user_params=LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies()),
    )
    worker = PipelineWorker(
        Pipeline(
            [
                transport.input(),
                aggregators.user(),
                llm,
                transport.output(),
                aggregators.assistant(),
            ]
        ),
        params=PipelineParams(audio_in_sample_rate=16_000),
        idle_timeout_secs=runner_args.pipeline_idle_timeout_secs,
        # A key that is refused ends the call.
        processor_unusable_policy=ProcessorUnusablePolicy.END,
    )
    flow = FlowManager(
        llm=cast("Any", llm),  # which it types as a service with any adapter, invariantly
        context_aggregator=aggregators,
        worker=worker,
        transport=transport,
    )

    @transport.event_handler("on_client_connected")
    async def on_client_connected(transport: BaseTransport, client: Any):
        await flow.initialize(size_node())  # the bot speaks first

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
