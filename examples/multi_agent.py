"""Two agents, each with a Hydra session and a voice of its own, that hand the caller over.

The worker of the call holds the transport and a bridge to the bus. Each agent is an `LLMWorker`
with nothing but a `HydraLLMService` in its pipeline, and gets the caller's audio while it is
active. A function of an agent activates the other one. Pipecat waits until the caller has heard
all that the agent has said about the hand-over, so the two are never heard at once.

Neither agent has a context: what the next one is to know, the function tells it. Hydra's voice
activity detection finds the caller's turns, and the agent that is active interrupts by itself. Run
it, and open http://localhost:7860 to talk to it::

    pip install "pipecat-ai[runner,webrtc]"
    export SMALLEST_API_KEY=...   # without, the agents of an emulator hand over at each turn
    python examples/multi_agent.py
"""

import sys
from typing import Any

from pipecat.bus import BusBridgeProcessor
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.services.llm_service import FunctionCallParams
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.workers.llm import LLMWorker, LLMWorkerActivationArgs, tool
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import Call, Say, Script, stand_in

# The agents of the emulator hand the caller over at each turn.
SCRIPT = Script(
    [[Call("hand_over", {"note": "The caller has said something."}), Say.tones(0.8)]],
    greeting=Say.tones(1.0),
    then="repeat",
)

transport_params = {
    "webrtc": lambda: TransportParams(audio_in_enabled=True, audio_out_enabled=True),
}


def told(text: str) -> LLMWorkerActivationArgs:
    """Return what an agent is told when it is activated, to speak about it at once."""
    return LLMWorkerActivationArgs(messages=[{"role": "developer", "content": text}])


class Agent(LLMWorker):
    """An agent that can hand the caller over to its colleague, and end the call."""

    def __init__(self, name: str, *, llm: HydraLLMService, colleague: str):
        """Make one that is not active.

        Args:
            name: Its name.
            llm: Its service.
            colleague: The name of the other agent.
        """
        super().__init__(name, llm=llm, bridged=())
        self._colleague = colleague

    @tool
    async def hand_over(self, params: FunctionCallParams, note: str):
        """Hand the caller over to the colleague.

        Args:
            params: Takes the result.
            note: What the colleague should know.
        """
        await params.result_callback("Tell the caller in a few words that a colleague takes over.")
        await self.activate_worker(
            self._colleague,
            args=told(f"A colleague hands you the caller. {note} Greet the caller."),
            deactivate_self=True,
        )

    @tool
    async def hang_up(self, params: FunctionCallParams):
        """End the call when the caller has said goodbye.

        Args:
            params: Takes the result.
        """
        await params.result_callback("Say goodbye.")
        await self.end()


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

    def service(voice: str, task: str) -> HydraLLMService:
        instruction = f"You answer the telephone of a bookshop. {task} Be concise."
        settings = HydraLLMService.Settings(voice=voice, system_instruction=instruction)
        return HydraLLMService(api_key=api_key, base_url=base_url, settings=settings)

    reception = service("aria", "You are at the reception; hand over who wants to buy.")
    sales = service("leo", "You take orders; hand over who wants something else.")

    runner = WorkerRunner(handle_sigint=runner_args.handle_sigint)
    bridge = BusBridgeProcessor(bus=runner.bus, worker_name="call")
    worker = PipelineWorker(
        Pipeline([transport.input(), bridge, transport.output()]),
        name="call",
        params=PipelineParams(audio_in_sample_rate=16_000, audio_out_sample_rate=24_000),
        idle_timeout_secs=runner_args.pipeline_idle_timeout_secs,
    )

    @transport.event_handler("on_client_connected")
    async def on_client_connected(transport: BaseTransport, client: Any):
        await worker.activate_worker("reception", args=told("Greet the caller."))

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: BaseTransport, client: Any):
        await runner.cancel()

    await runner.add_workers(
        worker,
        Agent("reception", llm=reception, colleague="sales"),
        Agent("sales", llm=sales, colleague="reception"),
    )
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
