"""Serves an emulator to a bot that has no key, and nothing to one that has.

So a bot can be tried by whoever has no account, and is the same bot with a key.
"""

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from loguru import logger

from pipecat_hydra.emulator.model.responders import Responder
from pipecat_hydra.emulator.model.steps import Turn
from pipecat_hydra.emulator.server.emulator import HydraEmulator
from pipecat_hydra.emulator.settings import EmulatorSettings
from pipecat_hydra.wire.protocol import KEY_VARIABLE

__all__ = ["stand_in"]


@asynccontextmanager
async def stand_in(
    responder: Responder | Sequence[Turn] | Path | str = "echo",
    *,
    settings: EmulatorSettings | None = None,
) -> AsyncGenerator[dict[str, str]]:
    """Serve an emulator if the environment's `SMALLEST_API_KEY` is not set, with a warning.

    ::

        async with stand_in() as endpoint:
            llm = HydraLLMService(**endpoint)

    Args:
        responder: Decides what the model of the emulator says, as in `HydraEmulator`.
        settings: Settings of the emulator.

    Yields:
        `api_key` and `base_url` of the emulator; nothing if there is a key, since the service
        then finds both in the environment.
    """
    if os.environ.get(KEY_VARIABLE, "").strip():
        yield {}
        return
    how = "which is an echo" if responder == "echo" else "which answers in tones, by a script"
    logger.warning(f"{KEY_VARIABLE} is not set: talking to an emulator, {how}")
    async with HydraEmulator(responder, settings=settings) as emulator:
        yield {"api_key": emulator.api_key, "base_url": emulator.url}
