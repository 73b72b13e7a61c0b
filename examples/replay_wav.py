"""A regression test for a bot: plays a recording to it, and records the conversation.

It tests the whole bot at real time, with its pipeline, turns and functions, and without a device, a
browser or a second person. It is a program that writes what both have said, the user on the left
and the bot on the right::

    export SMALLEST_API_KEY=...   # without, it talks to the embedded emulator
    python examples/replay_wav.py question.wav conversation.wav

and a test, which needs no key and no network (in a clone, with what `make test` installs)::

    pytest examples/replay_wav.py
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pipecat.frames.frames import LLMRunFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker, ProcessorUnusablePolicy
from pipecat.transports.base_transport import BaseTransport
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import stand_in
from pipecat_hydra.testing import VirtualTransport

QUESTION = Path(__file__).parent / "recordings" / "barge_in.wav"
QUIET_SECS = 2.0  # the bot has finished when it has said nothing for so long
LIMIT_SECS = 30.0  # for the greeting, and for the whole answer


# This is the bot. Import yours instead: any function that takes a transport can be tested.
async def run_bot(
    transport: BaseTransport, *, api_key: str | None = None, base_url: str | None = None
):
    """Hold one conversation.

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
        params=PipelineParams(audio_in_sample_rate=16_000),
        processor_unusable_policy=ProcessorUnusablePolicy.CANCEL,
    )

    @transport.event_handler("on_client_connected")
    async def on_client_connected(transport: BaseTransport, client: Any):
        await worker.queue_frame(LLMRunFrame())  # the bot speaks first

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: BaseTransport, client: Any):
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


async def replay(recording: Path, **endpoint: Any) -> VirtualTransport:
    """Hold a conversation with a recording, which starts when the bot has greeted.

    Args:
        recording: What the user says; a file of any format, rate and channel count.
        **endpoint: Key and URL of the service.

    Returns:
        The transport, which has what was said and heard, and when.

    Raises:
        RuntimeError: The bot ended before the conversation did, or did not answer.
        soundfile.LibsndfileError: The file cannot be read or is not audio.
    """
    line = VirtualTransport.from_file(recording)
    line.microphone.paused = True
    running = asyncio.create_task(run_bot(line, **endpoint))
    talking = asyncio.create_task(talk(line))
    try:
        await asyncio.wait({running, talking}, return_when=asyncio.FIRST_COMPLETED)
        if not talking.done():
            raise RuntimeError("The bot has ended before the conversation had")
        await talking
        await asyncio.wait_for(running, LIMIT_SECS)
    finally:
        running.cancel()
        talking.cancel()
        await asyncio.gather(running, talking, return_exceptions=True)
    return line


async def talk(line: VirtualTransport) -> None:
    """Be the user: wait for the greeting, say the recording, hear the answer, hang up."""
    await line.timeline.started()
    await said_all(line)
    line.microphone.paused = False
    await line.microphone.done()
    await said_all(line)
    await line.hang_up()


async def said_all(line: VirtualTransport) -> None:
    """Wait until the bot has said something, and then nothing for a while."""
    since = line.timeline.secs
    while line.heard_until_secs < since or line.timeline.secs < line.heard_until_secs + QUIET_SECS:
        if line.timeline.secs > since + LIMIT_SECS:
            raise RuntimeError(f"The bot says nothing, or does not stop, for {LIMIT_SECS:.0f} s")
        await line.timeline.sleep_until(line.timeline.secs + 0.05)


def pauses(line: VirtualTransport) -> list[float]:
    """Measure how long the user waited for each answer, in seconds."""
    speaking = [audio.start_secs for audio in line.heard]
    return [
        min((at - end for at in speaking if at >= end), default=float("inf"))
        for end in utterance_ends(line)
    ]


def utterance_ends(line: VirtualTransport) -> list[float]:
    """Find where the user stopped for at least a second, in seconds."""
    rate = line.microphone.sample_rate
    loud = np.flatnonzero(np.abs(line.user_samples().astype(np.int32)) > 500)
    gaps = np.flatnonzero(np.diff(loud) > rate)
    return [float(loud[at]) / rate for at in (*gaps, -1)] if len(loud) else []


def test_the_bot_answers_soon_and_can_be_interrupted():
    """The bot answers within a limit, and a barge-in cuts its reply off."""
    from pipecat_hydra.emulator import HydraEmulator, Say, Script

    async def hold() -> VirtualTransport:
        script = Script([Say.tones(4.0), Say.tones(1.0)], greeting=Say.tones(0.5))
        async with HydraEmulator(script) as emulator:
            line = await replay(QUESTION, api_key=emulator.api_key, base_url=emulator.url)
            assert emulator.sessions[0].errors == []
            return line

    line = asyncio.run(hold())
    # 0.6 s of silence end a turn in the emulator.
    assert all(pause < 1.5 for pause in pauses(line)), pauses(line)
    # The first answer is cut off: it takes four seconds, and two and a half were left.
    assert len(line.bot_samples().nonzero()[0]) / line.heard[0].sample_rate < 0.5 + 3.5 + 1.0


async def main() -> None:
    """Replay the recording that the command line names."""
    if len(sys.argv) != 3 or not sys.argv[2].endswith(".wav"):
        sys.exit("usage: replay_wav.py RECORDING CONVERSATION.wav")
    recording, conversation = (Path(name) for name in sys.argv[1:])
    async with stand_in() as endpoint:
        try:
            line = await replay(recording, **endpoint)
            line.save_stereo(conversation)
        except RuntimeError as error:  # what soundfile raises is one, too
            sys.exit(str(error))
    told = ", ".join(f"{pause:.2f} s" for pause in pauses(line))
    print(f"{conversation}: user left, bot right; answered after {told}")


if __name__ == "__main__":
    asyncio.run(main())
