"""Bots as users write them: the examples, and what it takes to talk to one."""

import asyncio
import importlib.util
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from pipecat_hydra.emulator import EmulatedSession
from pipecat_hydra.testing import VirtualTransport

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def example(name: str) -> ModuleType:
    """Import an example, which is a file and no part of a package."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def talking(bot: Coroutine[Any, Any, None], line: VirtualTransport) -> AsyncGenerator[None]:
    """Run a bot until the user hangs up, which must end it."""
    running = asyncio.create_task(bot)
    try:
        await line.timeline.started()
        yield
        await line.hang_up()
        await asyncio.wait_for(running, 10)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(condition: Callable[[], Any], told: Callable[[], Any] = lambda: "") -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen: {told()}"
        await asyncio.sleep(0.01)


async def until_heard(line: VirtualTransport, hydra: EmulatedSession, responses: int) -> None:
    """Wait until the user has heard all of so many replies."""
    await hydra.wait_for_sent("response.output_audio.done", count=responses, within=20)
    await until(lambda: len(line.heard_pcm) >= len(hydra.sent_audio()))
    assert line.heard_pcm.rstrip(b"\0").startswith(hydra.sent_audio().rstrip(b"\0"))
