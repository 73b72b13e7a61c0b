"""What must hold on the real Hydra as on the emulator; on the real one when there is a key.

`make test` runs these on the emulator and, with `SMALLEST_API_KEY=...`, `make test-realtime` on the
real one; `pytest -m live` runs the latter alone.
They look only at what the pipeline sees and the listener hears.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from pipecat.frames.frames import (
    ErrorFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    TTSAudioRawFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from support.call import SHAPES, Server, Shape, call, emulator

from pipecat_hydra.wire.protocol import DEFAULT_BASE_URL

KEY = os.environ.get("SMALLEST_API_KEY")


@dataclass
class Real:
    """The service that the key is for."""

    url: str = os.environ.get("HYDRA_URL", DEFAULT_BASE_URL)
    api_key: str = KEY or ""


@asynccontextmanager
async def server(kind: str) -> AsyncGenerator[Server]:
    if kind == "real":
        yield Real()
        return
    async with emulator() as hydra:
        yield hydra


servers = pytest.mark.parametrize(
    "kind",
    [
        "emulator",
        *([pytest.param("real", marks=[pytest.mark.live, pytest.mark.realtime])] if KEY else []),
    ],
)
shapes = pytest.mark.parametrize("shape", SHAPES)


@servers
@shapes
async def test_it_greets_answers_and_can_be_interrupted(kind: str, shape: Shape):
    async with server(kind) as hydra, call(hydra, shape) as talk:
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame)
        await talk.until_quiet()
        greeted = len(talk.transport.heard_pcm)
        assert greeted

        await talk.say("question")
        await talk.until_pushed(UserStoppedSpeakingFrame)
        await talk.until(lambda: len(talk.transport.heard_pcm) > greeted + 24_000)
        interruptions = len(talk.frames.of(InterruptionFrame))

        await talk.say("interrupt")
        await talk.until_pushed(InterruptionFrame, interruptions + 1)
        replies = len(talk.frames.of(TTSAudioRawFrame))
        await talk.until(lambda: len(talk.frames.of(TTSAudioRawFrame)) > replies)
        await talk.until_quiet()

        assert not talk.frames.of(ErrorFrame, direction=FrameDirection.UPSTREAM)
        samples = np.frombuffer(talk.transport.heard_pcm, np.int16).astype(float)
        assert np.sqrt(np.mean(samples**2)) > 100
