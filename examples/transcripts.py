"""A voice bot that writes a transcript of each call, as JSON and as Markdown.

Hydra gives no transcript of the user, and not every model gives one of the bot. So Pulse, Smallest
AI's speech-to-text model, listens too; Hydra still hears the user's voice.
Run it, open http://localhost:7860 to talk to it, and find the conversation in `transcripts/`::

    pip install "pipecat-ai[runner,webrtc]"
    export SMALLEST_API_KEY=...   # without, it talks to the embedded emulator
    python examples/transcripts.py
"""

import json
import os
import sys
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipecat.frames.frames import LLMRunFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker, ProcessorUnusablePolicy
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    AssistantTurnStoppedMessage,
    LLMAssistantAggregator,
    LLMContextAggregatorPair,
    LLMUserAggregator,
    LLMUserAggregatorParams,
    UserTurnMessageAddedMessage,
)
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.services.smallest.stt import SmallestSTTService
from pipecat.services.stt_service import STTService
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import EmulatorSettings, Say, Script, stand_in

TRANSCRIPTS = Path("transcripts")

# What the emulator says, which is all that is written down without a key.
SCRIPT = Script(
    [Say.tones(2.0, "I have written that down."), Say.tones(2.0, "That too.")],
    greeting=Say.tones(0.6, "Hello, what shall I write down?"),
    then="repeat",
)

transport_params = {
    "webrtc": lambda: TransportParams(audio_in_enabled=True, audio_out_enabled=True),
}


@dataclass(frozen=True)
class Line:
    """Something that was said.

    Parameters:
        role: Who said it: `"user"` or `"assistant"`.
        text: The words.
        time: When it began, in ISO 8601.
        interrupted: Whether the user has not heard all of it.
    """

    role: str
    text: str
    time: str
    interrupted: bool = False


def save(lines: list[Line], path: Path) -> None:
    """Write a transcript to two files, as JSON and as Markdown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = sorted(lines, key=lambda line: line.time)
    told = json.dumps([asdict(line) for line in ordered], indent=2, ensure_ascii=False)
    path.with_suffix(".json").write_text(told + "\n", encoding="utf-8")
    paragraphs = [
        f"**{line.role.title()}:** {line.text}{' …' if line.interrupted else ''}\n"
        for line in ordered
    ]
    path.with_suffix(".md").write_text("\n".join(paragraphs), encoding="utf-8")


def pulse() -> STTService | None:
    """Listen to the user, if there is a key."""
    key = os.getenv("SMALLEST_API_KEY")
    return SmallestSTTService(api_key=key) if key else None


async def run_bot(
    transport: BaseTransport,
    runner_args: RunnerArguments,
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    stt: STTService | None = None,
):
    """Hold one conversation.

    Args:
        transport: The transport to the user.
        runner_args: The runner's settings for this conversation.
        api_key: The Smallest AI key; by default that of the environment.
        base_url: Hydra's endpoint; by default that of the environment, or the public one.
        stt: Transcribes what the user says.
    """
    llm = HydraLLMService(
        api_key=api_key,
        base_url=base_url,
        settings=HydraLLMService.Settings(system_instruction="You are a warm, concise assistant."),
        # Pulse ends its transcript as soon as Hydra has heard the turn end.
        vad_frames=True,
    )
    user_aggregator, assistant_aggregator = LLMContextAggregatorPair(
        LLMContext(),
        # Hydra finds the user's turns; Pulse has no influence on them.
        user_params=LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies()),
    )

    worker = PipelineWorker(
        Pipeline(
            [
                transport.input(),
                *([stt] if stt is not None else []),
                user_aggregator,
                llm,
                transport.output(),
                assistant_aggregator,
            ]
        ),
        params=PipelineParams(audio_in_sample_rate=16_000),
        idle_timeout_secs=runner_args.pipeline_idle_timeout_secs,
        # A key that is refused ends the call.
        processor_unusable_policy=ProcessorUnusablePolicy.END,
    )
    lines: list[Line] = []
    path = TRANSCRIPTS / f"{datetime.now():%Y-%m-%d-%H-%M-%S}-{worker.name}"

    # Saved with each line, so that nothing is lost however the call ends.
    @user_aggregator.event_handler("on_user_turn_message_added")
    async def on_user_turn_message_added(
        aggregator: LLMUserAggregator, message: UserTurnMessageAddedMessage
    ):
        lines.append(Line("user", message.content, message.timestamp))
        save(lines, path)

    @assistant_aggregator.event_handler("on_assistant_turn_stopped")
    async def on_assistant_turn_stopped(
        aggregator: LLMAssistantAggregator, message: AssistantTurnStoppedMessage
    ):
        if message.content:
            interrupted = message.interrupted
            lines.append(Line("assistant", message.content, message.timestamp, interrupted))
            save(lines, path)

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
        await run_bot(transport, runner_args, **endpoint, stt=pulse())


if __name__ == "__main__":
    try:
        from pipecat.runner.run import main
    except ImportError:
        sys.exit('The runner is missing: pip install "pipecat-ai[runner,webrtc]"')

    main()
