"""A voice bot that asks "are you still there?", and hangs up when nobody answers.

Pipecat's user aggregator says when the user has been silent for a while. Its timer starts when the
bot has spoken, and any turn of the user stops it, also one that Hydra finds to be noise; then it
starts anew. The model is told what to say as a message, so it asks in its own words and voice. Run
it, open http://localhost:7860, and be silent::

    pip install "pipecat-ai[runner,webrtc]"
    export SMALLEST_API_KEY=...   # without, it talks to the embedded emulator
    python examples/still_there.py
"""

import sys
from typing import Any

from pipecat.frames.frames import EndFrame, LLMMessagesAppendFrame, LLMRunFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker, ProcessorUnusablePolicy
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregator,
    LLMUserAggregatorParams,
)
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import Say, Script, stand_in

SILENCE_SECS = 6.0
"""How long the user may be silent after the bot has spoken."""

QUESTION = "The user is silent. Ask in a few words whether they are still there."
FAREWELL = "The user has been silent for too long. Say goodbye in a few words: the call ends."

# Something for each reply of the emulator, whatever it is about.
SCRIPT = Script([Say.tones(2.0)], greeting=Say.tones(1.0), then="repeat")

transport_params = {
    "webrtc": lambda: TransportParams(audio_in_enabled=True, audio_out_enabled=True),
}


def asking(text: str) -> LLMMessagesAppendFrame:
    """Return what tells the model to speak about something."""
    return LLMMessagesAppendFrame([{"role": "developer", "content": text}], run_llm=True)


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
        instructions="You are a warm, concise voice assistant.",
    )
    user_aggregator, assistant_aggregator = LLMContextAggregatorPair(
        LLMContext(),
        user_params=LLMUserAggregatorParams(
            user_turn_strategies=ExternalUserTurnStrategies(), user_idle_timeout=SILENCE_SECS
        ),
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
        params=PipelineParams(audio_in_sample_rate=16_000, audio_out_sample_rate=24_000),
        idle_timeout_secs=runner_args.pipeline_idle_timeout_secs,
        processor_unusable_policy=ProcessorUnusablePolicy.END,
    )
    was_asked = False

    @user_aggregator.event_handler("on_user_turn_idle")
    async def on_user_turn_idle(aggregator: LLMUserAggregator):
        nonlocal was_asked
        if was_asked:
            # The end waits until the farewell was heard.
            await worker.queue_frames([asking(FAREWELL), EndFrame()])
        else:
            was_asked = True
            await worker.queue_frame(asking(QUESTION))

    @user_aggregator.event_handler("on_user_turn_started")
    async def on_user_turn_started(aggregator: LLMUserAggregator, strategy: Any):
        nonlocal was_asked
        was_asked = False

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
    async with stand_in(SCRIPT) as endpoint:
        await run_bot(transport, runner_args, **endpoint)


if __name__ == "__main__":
    try:
        from pipecat.runner.run import main
    except ImportError:
        sys.exit('The runner is missing: pip install "pipecat-ai[runner,webrtc]"')

    main()
