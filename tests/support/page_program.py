"""Runs the Python blocks of a page as one program, and holds calls with the services it makes.

`support/documents.py` says how a page tells what its blocks are.
"""

import ast
import asyncio
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipecat.frames.frames import ErrorFrame
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.workers.runner import WorkerRunner
from support.bots import until, until_ended
from support.call import recording
from support.documents import Block, Page

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import Call, HydraEmulator
from pipecat_hydra.emulator.model.responders import Dialogue, Echo, Heard, ToolOutput
from pipecat_hydra.emulator.model.steps import Reply
from pipecat_hydra.testing import VirtualTransport

__all__ = ["DURING_A_CALL", "NOT_CALLED", "NOT_RUN", "CallsEachFunction", "PageProgram"]

NOT_RUN: Final = "not run: "
NOT_CALLED: Final = "no call: "
DURING_A_CALL: Final = "during a call"

# What a page may build a call from, besides the service itself.
_OF_A_CALL: Final = ("worker", "pipeline")


class CallsEachFunction:
    """A responder that calls each function of a session once, at the user's first turn."""

    def __init__(self) -> None:
        self.hydra: HydraEmulator | None = None

    def begin(self) -> Dialogue:
        """Return the dialogue of a new session."""
        return _CallsThenEchoes(self)

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The functions of the newest session."""
        assert self.hydra is not None
        return (self.hydra.sessions[-1].configuration or {}).get("tools") or []


class _CallsThenEchoes:
    def __init__(self, responder: CallsEachFunction) -> None:
        self._responder = responder
        self._echo = Echo()
        self._has_called = False

    def greet(self) -> Reply:
        return self._echo.greet()

    def is_noise(self) -> bool:
        return False

    def answer(self, heard: Heard) -> Reply:
        tools = [] if self._has_called else self._responder.tools
        self._has_called = True
        if not tools:
            return self._echo.answer(heard)
        return [
            Call(tool["name"], _sample(tool.get("parameters") or {}), f"call_{place}")
            for place, tool in enumerate(tools)
        ]

    def narrate(self, outputs: Sequence[ToolOutput]) -> Reply:
        return self._echo.narrate(outputs)

    def prompted(self, messages: Sequence[str]) -> Reply:
        return self._echo.prompted(messages)


def _sample(schema: dict[str, Any]) -> Any:
    """Make a value that a JSON schema allows."""
    if schema.get("enum"):
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: _sample(of) for name, of in schema.get("properties", {}).items()}
        case "array":
            return [_sample(schema.get("items") or {})]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return "Paris"


class _Errors(BaseObserver):
    """Keeps the errors that any processor pushes."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    async def on_push_frame(self, data: FramePushed) -> None:
        if isinstance(data.frame, ErrorFrame) and data.frame.error not in self.errors:
            self.errors.append(data.frame.error)


@dataclass
class _Running:
    """A call in progress."""

    line: VirtualTransport
    worker: PipelineWorker
    task: "asyncio.Task[None]"
    errors: _Errors


class PageProgram:
    """One page as a program."""

    def __init__(self, page: Page) -> None:
        """Prepare the program; its names are those of a bot's file without the bot."""
        self._page = page
        self.names: dict[str, Any] = {"__name__": "page", "transport": VirtualTransport()}
        self._running: _Running | None = None
        self._is_call_due = False
        self.calls = 0
        """How many calls were held."""

    async def run(self, blocks: Sequence[Block]) -> None:
        """Run blocks from top to bottom, and hold a call with each service that they make."""
        try:
            for block in blocks:
                await self._run(block)
            await self._finish_call()
        finally:
            if self._running is not None:
                await self._running.worker.cancel()
                await self._running.task

    async def _run(self, block: Block) -> None:
        code = self.compiled(block)
        if block.mark.startswith(NOT_RUN):
            return
        if "llm" in _assigned(block.code):
            await self._finish_call()
            self._is_call_due = not block.mark.startswith(NOT_CALLED)
        if block.mark == DURING_A_CALL and self._running is None:
            self._running = await self._begun()
        coroutine = eval(code, self.names)
        if inspect.iscoroutine(coroutine):
            await coroutine

    def compiled(self, block: Block) -> Any:
        """Compile a block; a traceback names the page and its lines."""
        source = "\n" * (block.line - 1) + block.code
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        return compile(source, str(self._page.path), "exec", flags=flags)

    async def _begun(self) -> _Running:
        line, llm = self.names["transport"], self.names["llm"]
        assert isinstance(llm, HydraLLMService)
        worker = self.names.get("worker")
        if worker is None:
            bare = Pipeline([line.input(), llm, line.output()])
            worker = PipelineWorker(
                self.names.get("pipeline") or bare, params=PipelineParams(), idle_timeout_secs=None
            )
        errors = _Errors()
        worker.add_observer(errors)
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        task = asyncio.create_task(runner.run())
        await line.timeline.started()
        return _Running(line, worker, task, errors)

    async def _finish_call(self) -> None:
        """Have the user say something, hear the answer and hang up, if there is a call to hold."""
        if self._is_call_due and self._running is None:
            self._running = await self._begun()
        self._is_call_due = False
        if self._running is None:
            return
        call = self._running
        said = await call.line.microphone.say(recording("question"))
        assert said.end_secs is not None
        answered = said.end_secs
        await until(lambda: call.line.heard_until_secs > answered or call.task.done())
        await until(
            lambda: call.line.timeline.secs - call.line.heard_until_secs > 1 or call.task.done()
        )
        await call.line.hang_up()
        await call.worker.cancel()
        await until_ended(call.task)
        assert call.errors.errors == [], self._page
        self._running = None
        self.calls += 1
        for name in _OF_A_CALL:
            self.names.pop(name, None)
        self.names["transport"] = VirtualTransport()


def _assigned(code: str) -> set[str]:
    """The names that a block assigns at its top level."""
    return {
        node.id
        for statement in ast.parse(code).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        for node in ast.walk(target)
        if isinstance(node, ast.Name)
    }
