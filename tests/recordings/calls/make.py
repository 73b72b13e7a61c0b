"""Makes the recorded call: `PYTHONPATH=.:tests python tests/recordings/calls/make.py`.

The call has what a call can have: a function, a barge-in, noise, a change of settings, a lost
connection. It is held with the emulator in virtual time. All audio has 8 bits only, so that the
files are small.
"""

# The clocks are replaced before anything keeps one of them.
from support.virtual_time import VirtualTimeLoop

# isort: split
import asyncio
import random
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pipecat.frames.frames import LLMUpdateSettingsFrame, TTSStartedFrame
from support.call import Call as HeldCall
from support.call import call, recording

from pipecat_hydra import HydraLLMService, HydraRecorder
from pipecat_hydra.cli.talk.tools import get_weather
from pipecat_hydra.emulator import Call, EmulatorSettings, HydraEmulator, Noise, Say

HERE = Path(__file__).parent
NAME = "weather"
SEED = 17
"""Of how long the service waits before it connects again."""


def coarse(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    return samples >> 8 << 8


def say(secs: float, text: str) -> Say:
    """A note that stands for a text, at the rate at which Hydra speaks."""
    note = np.sin(2 * np.pi * 250 * np.arange(round(secs * 24_000)) / 24_000)
    return Say(((note * 8).astype(np.int16) << 10).tobytes(), 24_000, text)


SCRIPT = [
    [Call("get_weather", {"city": "Paris"}), say(0.8, "It will be sunny.")],
    [say(4.0, "That is a long story.")],
    [say(0.5, "Rome has rain.")],
    Noise(),
    [say(0.5, "I am well.")],
    [say(0.6, "As I said, sunny.")],
]
SETTINGS = HydraLLMService.Settings(
    voice="aria",
    system_instruction="You are a warm, concise voice assistant. Reply in one short sentence.",
    generate_initial_response=False,
)


async def make() -> None:
    """Hold the call, and put its recording beside this file."""
    random.seed(SEED)
    recorder = HydraRecorder(HERE)
    settings = EmulatorSettings(transcripts=True, delta_ms=100)
    async with (
        HydraEmulator(SCRIPT, settings=settings) as hydra,
        call(
            hydra,
            microphone_frame_ms=40,
            settings=SETTINGS,
            tools=[get_weather],
            recorder=recorder,
        ) as held,
    ):
        await hold(held, hydra)
    assert recorder.folder is not None
    shutil.rmtree(HERE / NAME, ignore_errors=True)
    recorder.folder.rename(HERE / NAME)


async def hold(held: HeldCall, hydra: HydraEmulator) -> None:
    """Let the user speak."""
    await speak(held, "question")
    await answered(held, 1)
    # A long reply, which the user interrupts.
    await speak(held, "hello")
    await held.until_pushed(TTSStartedFrame, 2)
    await asyncio.sleep(0.5)
    await speak(held, "interrupt")
    await answered(held, 3)
    # A cough.
    await held.transport.microphone.say(coarse(recording("hello")[1_000:5_200]))
    await asyncio.sleep(1.0)
    # Another voice takes another session.
    delta = HydraLLMService.Settings(voice="leo")
    await held.worker.queue_frame(LLMUpdateSettingsFrame(delta=delta))
    await asyncio.sleep(0.5)
    await speak(held, "hello")
    await answered(held, 4)
    # The connection is lost, and the user speaks before there is another.
    await asyncio.sleep(0.013)  # between two frames of the microphone
    await hydra.drop(1011)
    await speak(held, "hello")
    await answered(held, 5)


async def speak(held: HeldCall, name: str) -> None:
    """Say a recording."""
    await held.transport.microphone.say(coarse(recording(name)))


async def answered(held: HeldCall, replies: int) -> None:
    """Wait until so many replies were begun, and the last one was heard."""
    await held.until_pushed(TTSStartedFrame, replies)
    await held.until_quiet()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(make())
