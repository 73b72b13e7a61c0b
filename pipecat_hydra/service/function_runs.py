"""Runs the functions of the application, and settles the calls that Pipecat leaves open.

Theory of operation. Pipecat settles a call by a frame: a result when the function calls back or
raises an `Exception`, a cancellation when it is interrupted or takes too long. Everything in the
pipeline waits for that frame: Hydra, the context, a mute strategy. Pipecat pushes none in these
cases, so `FunctionRuns` does:

**The function ends in no ordinary way**: by a `CancelledError` of its own, as when a task or a
scope within it is cancelled, or by any other `BaseException`. A cancellation is Pipecat's own if
Pipecat had settled the call before it; then the frame follows.

**The function returns without a result.** Somebody else may give it: a task that the function has
started, or an RTVI client, by a frame. So the call stays open for a while. Until it is answered, an
interruption cancels it like a function that runs. A function that runs on with the conversation
(`cancel_on_interruption=False`) may take its time, for its call is answered with a placeholder.

A function is run step by step, from one `await` that waits to the next, in a context of its own.
So it is seen when a step blocks the event loop, and the tasks that the function starts know which
call they work for.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Generator
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any, Final

from loguru import logger
from pipecat.frames.frames import (
    FunctionCallCancelFrame,
    FunctionCallFromLLM,
    FunctionCallResultFrame,
)
from pipecat.services.llm_service import FunctionCallRunnerItem, LLMService
from pipecat.utils.errors import ErrorCategory

from pipecat_hydra.service.pipecat_private import (
    call_event_handler,
    cancel_functions,
    interruptible_functions,
)

__all__ = ["FunctionRuns"]

NO_RESULT: Final = "The function has given no result."

_LONGEST_STEP_SECS: Final = 0.5

_Running = Coroutine[Any, Any, None]


class FunctionRuns:
    """Runs functions, and settles each call that nobody else settles."""

    def __init__(
        self,
        service: LLMService[Any],
        *,
        no_result_timeout_secs: float | None,
        on_no_result: Callable[[str], None],
    ):
        """Start with no function.

        Args:
            service: Pushes the frames. Each one that settles a call must be shown to `settled`.
            no_result_timeout_secs: How long a call whose function has returned without a result
                waits for it, in seconds; None for ever.
            on_no_result: Told of each call that is settled without a result that may yet come.
        """
        self._service = service
        self._timeout = no_result_timeout_secs
        self._on_no_result = on_no_result
        self._open: set[str] = set()
        self._waiting: dict[str, _Waiting] = {}
        # What was warned of, so that it is told once for each function.
        self._told: set[tuple[str, str]] = set()

    def begin(self, call_id: str) -> None:
        """Take note of a call that is handed to Pipecat."""
        self._open.add(call_id)

    def settled(self, call_id: str) -> None:
        """Take note that a frame settles a call."""
        self._open.discard(call_id)
        waiting = self._waiting.pop(call_id, None)
        if waiting is not None and waiting.timer is not None:
            waiting.timer.cancel()

    def close(self) -> None:
        """Settle no call any more."""
        self._open.clear()
        for call_id in list(self._waiting):
            self.settled(call_id)

    async def run(self, item: FunctionCallRunnerItem, running: _Running) -> None:
        """Run a function, and see to it that its call is settled.

        Args:
            item: The call, as Pipecat keeps it.
            running: What runs the function.
        """
        name = item.function_name
        steps = _Steps(item, running, self, lambda secs: self._warn_of_block(name, secs))
        try:
            await steps
        except (GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except asyncio.CancelledError as error:
            if item.tool_call_id in self._open and not steps.was_settled:
                await self._fail(item, error)
            raise
        except BaseException as error:
            await self._fail(item, error)
        else:
            self._returned(item)

    def _warn_of_block(self, name: str, secs: float) -> None:
        self._warn(
            "block",
            name,
            f"the function {name!r} has blocked the event loop for {secs:.1f} s, in which nothing "
            "is heard or said. Await what takes long, or run it by asyncio.to_thread",
        )

    def _warn(self, kind: str, name: str, message: str) -> None:
        if (kind, name) not in self._told:
            self._told.add((kind, name))
            logger.warning(f"{self._service}: {message}")

    async def _fail(self, item: FunctionCallRunnerItem, error: BaseException) -> None:
        """Report that a function has failed and settle its call, as Pipecat for an `Exception`."""
        name, told = item.function_name, f"{type(error).__name__}: {error}".rstrip(": ")
        item.settled = True
        message = f"Error executing function call [{name}]: {told}"
        await self._service.push_error(message, category=ErrorCategory.APPLICATION)
        if item.tool_call_id in self._open:
            text = self._service.FUNCTION_CALL_ERROR_MESSAGE_TEMPLATE.format(function_name=name)
            await self._push_result(item, text, told)

    def _returned(self, item: FunctionCallRunnerItem) -> None:
        """Let a call wait for its result if its function has returned without one."""
        call_id, name = item.tool_call_id, item.function_name
        runs_on = not item.registry_item.cancel_on_interruption
        if call_id not in self._open or item.settled or runs_on:
            return
        timer = None
        if self._timeout is not None:
            timer = asyncio.get_running_loop().call_later(self._timeout, self._give_up, item)
        self._waiting[call_id] = _Waiting(item, timer)
        waits = "until the user speaks" if timer is None else f"{self._timeout:g} s at the most"
        self._warn(
            "return",
            name,
            f"the function {name!r} has returned without a result: it must await "
            f"params.result_callback(...). The model waits for it, {waits}",
        )

    def _give_up(self, item: FunctionCallRunnerItem) -> None:
        self._service.create_task(self._settle_without_result(item), "no result")

    async def _settle_without_result(self, item: FunctionCallRunnerItem) -> None:
        if item.tool_call_id in self._waiting:
            await self._push_result(item, NO_RESULT, "NoResult: returned without a result")
            self._on_no_result(item.tool_call_id)

    async def _push_result(self, item: FunctionCallRunnerItem, text: str, error: str) -> None:
        await self._service.broadcast_frame(
            FunctionCallResultFrame,
            function_name=item.function_name,
            tool_call_id=item.tool_call_id,
            arguments=item.arguments,
            result=text,
            run_llm=item.run_llm,
            error=error,
        )

    #
    # Interruptions
    #

    @property
    def interruptible(self) -> set[str]:
        """The calls without an answer that an interruption is to cancel."""
        return interruptible_functions(self._service) | self._waiting.keys()

    @property
    def calling(self) -> str | None:
        """The call for which the current task works; None if it does for none."""
        run = _current.get()
        return run.call_id if run is not None and run.owner is self else None

    async def cancel(self, call_ids: Collection[str]) -> None:
        """Cancel calls. Functions that run get time to clean up, one after the other."""
        cancelled: list[FunctionCallFromLLM] = []
        for call_id in call_ids:
            if (waiting := self._waiting.get(call_id)) is None:
                continue
            item = waiting.item
            await self._service.broadcast_frame(
                FunctionCallCancelFrame,
                function_name=item.function_name,
                tool_call_id=item.tool_call_id,
                run_llm=False,
            )
            self._on_no_result(call_id)
            cancelled.append(
                FunctionCallFromLLM(item.function_name, call_id, item.arguments, item.context)
            )
        if cancelled:
            await call_event_handler(self._service, "on_function_calls_cancelled", cancelled)
        await cancel_functions(self._service, call_ids)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A call whose function has returned without a result."""

    item: FunctionCallRunnerItem
    timer: asyncio.TimerHandle | None


class _Steps:
    """Runs a coroutine step by step, in a context of its own, within the current task."""

    def __init__(
        self,
        item: FunctionCallRunnerItem,
        running: _Running,
        owner: FunctionRuns,
        on_blocked: Callable[[float], None],
    ):
        """Run nothing yet.

        Args:
            item: The call that is worked for.
            running: The coroutine.
            owner: Whose function it is.
            on_blocked: Told how many seconds a step took that took too long.
        """
        self.owner = owner
        self.call_id = item.tool_call_id
        self.was_settled = False
        """Whether the call was settled before the last step began."""
        self._item = item
        self._running = running
        self._on_blocked = on_blocked
        self._context = copy_context()
        self._context.run(_current.set, self)

    def __await__(self) -> Generator[Any, Any, None]:
        """Run it to its end."""
        go_on: Callable[[Any], Any] = self._running.send
        value: Any = None
        while True:
            self.was_settled = self._item.settled
            began = time.perf_counter()
            try:
                awaited = self._context.run(go_on, value)
            except StopIteration:
                return
            finally:
                took = time.perf_counter() - began
                if took > _LONGEST_STEP_SECS:
                    self._on_blocked(took)
            try:
                value = yield awaited
                go_on = self._running.send
            except BaseException as error:
                go_on, value = self._running.throw, error


_current: ContextVar[_Steps | None] = ContextVar("hydra_function", default=None)
