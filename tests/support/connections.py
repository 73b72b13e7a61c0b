"""A connection to an emulator, and a listener that takes its effects."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import (
    AudioChunk,
    PipelineEffect,
)
from pipecat_hydra.emulator import HydraEmulator
from pipecat_hydra.session.connection import HydraConnection
from pipecat_hydra.session.endpoint import Endpoint
from pipecat_hydra.session.retries import RetryPolicy
from pipecat_hydra.wire.events import (
    SessionConfiguration,
)

QUICK = RetryPolicy(first_delay_secs=0.02, longest_delay_secs=0.02)


def chunk(pcm: bytes) -> AudioChunk:
    return AudioChunk(pcm, 24_000)


class Listener:
    """Takes the effects, and can be made slow or faulty."""

    def __init__(self):
        self.effects: list[PipelineEffect] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: Exception | None = None

    async def __call__(self, effect: PipelineEffect) -> None:
        await self.gate.wait()
        self.effects.append(effect)
        if self.fault is not None:
            raise self.fault

    def of(self, kind: type[Any]) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    async def until(self, kind: type[Any], count: int = 1) -> list[Any]:
        async with asyncio.timeout(10):
            while len(self.of(kind)) < count:
                await asyncio.sleep(0.005)
        return self.of(kind)


def dial(hydra: HydraEmulator, key: str | None = None) -> Callable[[], Awaitable[Endpoint]]:
    async def endpoint() -> Endpoint:
        return Endpoint(hydra.url, "hydra-v1.1", SecretStr(key or hydra.api_key))

    return endpoint


async def goes_to_rest(made: HydraConnection) -> None:
    """Wait until nobody uses the session any more; its closing has only begun by then."""
    begun = asyncio.Event()
    rest = made._runner.rest

    def noting() -> None:
        rest()
        begun.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made._runner, "rest", noting)
        await asyncio.wait_for(begun.wait(), 5)
    assert not made.is_wanted


@asynccontextmanager
async def connection(
    hydra: HydraEmulator,
    *,
    greet: bool = True,
    key: str | None = None,
    retry: RetryPolicy = QUICK,
    **conversation_arguments: Any,
) -> AsyncGenerator[tuple[HydraConnection, Conversation, Listener]]:
    conversation = Conversation(model="hydra-v1.1", **conversation_arguments)
    conversation.configure(SessionConfiguration(voice="aria", generate_initial_response=greet), 0.0)
    listener = Listener()
    made = HydraConnection(dial(hydra, key), conversation, on_effect=listener, retry=retry)
    try:
        yield made, conversation, listener
    finally:
        await made.close()
