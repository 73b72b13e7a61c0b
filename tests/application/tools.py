"""The functions of the application, each of which does something else to the call."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from chaos.model import fails, later, quick, slow
from pipecat.frames.frames import FunctionCallResultProperties
from pipecat.services.llm_service import FunctionCallParams

from application.plan import Act, Ask, Begin, Interrupt, Write

FUNCTION_SECS: Final = 2.0
"""How long a function may take, and how long a call waits for a result after its function."""


def functions(perform: Callable[[Act], Awaitable[None]], write: Callable[[], Write]) -> list[Any]:
    """Make the functions of one call.

    Args:
        perform: Has the application do something.
        write: Lays down a text that was not written yet.
    """

    async def silent(params: FunctionCallParams) -> None:
        """Give an answer that nobody is to speak about."""
        await params.result_callback(
            "noted", properties=FunctionCallResultProperties(run_llm=False)
        )

    async def returns(params: FunctionCallParams) -> None:
        """Give no answer, and be done."""

    async def never(params: FunctionCallParams) -> None:
        """Give no answer in any time."""
        await asyncio.sleep(3_600)

    async def types(params: FunctionCallParams) -> None:
        """Write a text, then give an answer."""
        await perform(write())
        await params.result_callback("typed")

    async def stops(params: FunctionCallParams) -> None:
        """Stop the bot, then give an answer."""
        await perform(Interrupt("method"))
        await params.result_callback("stopped")

    async def asks(params: FunctionCallParams) -> None:
        """Have the model speak, then give an answer."""
        await perform(Ask("method"))
        await params.result_callback("asked")

    async def resets(params: FunctionCallParams) -> None:
        """Begin the conversation anew, then give an answer."""
        await perform(Begin("reset"))
        await params.result_callback("reset")

    return [quick, slow, fails, later, silent, returns, never, types, stops, asks, resets]
