"""Talk to Hydra from a terminal, with this machine's own microphone and speaker.

Wear headphones: nothing cancels the echo, and a bot that hears itself interrupts itself. The
example needs PortAudio (`apt-get install portaudio19-dev`, `brew install portaudio`)::

    pip install "pipecat-ai[local]"
    export SMALLEST_API_KEY=...   # without, it talks to the embedded emulator
    python examples/local_audio.py
"""

import asyncio
import importlib
import sys

from pipecat.frames.frames import LLMRunFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker, ProcessorUnusablePolicy
from pipecat.transports.base_transport import BaseTransport
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import stand_in

IN_RATE = 16_000  # Hz
OUT_RATE = 24_000


def local_transport() -> BaseTransport:
    """Open the default microphone and speaker.

    Raises:
        RuntimeError: There is no PyAudio, no PortAudio, or no such device.
    """
    try:
        pyaudio = importlib.import_module("pyaudio")
    except ImportError as error:
        raise RuntimeError(
            'PyAudio is missing or finds no PortAudio: pip install "pipecat-ai[local]", after '
            '"apt-get install portaudio19-dev" or "brew install portaudio"'
        ) from error
    from pipecat.transports.local.audio import LocalAudioTransport, LocalAudioTransportParams

    devices = pyaudio.PyAudio()
    try:
        for name, rate in (("input", IN_RATE), ("output", OUT_RATE)):
            try:
                devices.open(
                    rate,
                    channels=1,
                    format=pyaudio.paInt16,
                    input=name == "input",
                    output=name == "output",
                ).close()
            except OSError as error:
                raise RuntimeError(f"This machine has no audio {name} to use: {error}") from error
    finally:
        devices.terminate()
    return LocalAudioTransport(
        LocalAudioTransportParams(audio_in_enabled=True, audio_out_enabled=True)
    )


async def run_bot(
    transport: BaseTransport, *, api_key: str | None = None, base_url: str | None = None
):
    """Hold one conversation, until Ctrl-C.

    Args:
        transport: The transport to the user.
        api_key: The Smallest AI key; by default that of the environment.
        base_url: Hydra's endpoint; by default that of the environment, or the public one.
    """
    llm = HydraLLMService(
        api_key=api_key,
        base_url=base_url,
        settings=HydraLLMService.Settings(system_instruction="You are a warm, concise assistant."),
    )
    worker = PipelineWorker(
        Pipeline([transport.input(), llm, transport.output()]),
        params=PipelineParams(audio_in_sample_rate=IN_RATE, audio_out_sample_rate=OUT_RATE),
        idle_timeout_secs=None,
        processor_unusable_policy=ProcessorUnusablePolicy.END,
    )
    await worker.queue_frame(LLMRunFrame())  # the bot speaks first
    runner = WorkerRunner()
    await runner.add_workers(worker)
    await runner.run()


async def main():
    """Talk until Ctrl-C."""
    try:
        transport = local_transport()
    except RuntimeError as error:
        sys.exit(str(error))
    async with stand_in() as endpoint:
        await run_bot(transport, **endpoint)


if __name__ == "__main__":
    asyncio.run(main())
