"""Runs the bot of a test, whatever its shape, on the transport of a call.

A bot is what an application has: a function that takes a transport and runs its pipeline until the
end, a function that returns the pipeline or a list of its processors, or the function `bot` that
Pipecat's runner calls. The last one makes its transport by `create_transport`, which gives it the
transport of the call.
"""

import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from pipecat.frames.frames import EndFrame
from pipecat.pipeline.base_pipeline import BasePipeline
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.runner.types import RunnerArguments
from pipecat.workers.runner import WorkerRunner

from pipecat_hydra.testing.virtual_transport import VirtualTransport
from pipecat_hydra.wire.protocol import INPUT_SAMPLE_RATE

__all__ = ["Bot", "CallRunnerArguments", "SetAttribute", "run"]

Bot = Callable[..., Any]
"""A function of a transport, of a transport and runner arguments, or of runner arguments."""

SetAttribute = Callable[[object, str, object], None]
"""Sets an attribute until the end of the test, as `MonkeyPatch.setattr` does."""

_RUNNER_UTILITIES: Final = "pipecat.runner.utils"
_FACTORY: Final = "create_transport"
_NAMES_OF_RUNNER_ARGUMENTS: Final = ("args", "runner_args", "runner_arguments")


class CallRunnerArguments(RunnerArguments):
    """What Pipecat's runner gives to a bot, for a call of a test."""

    def __init__(self, transport: VirtualTransport, body: Any) -> None:
        """Create the arguments.

        Args:
            transport: What `create_transport` makes of them.
            body: What a request to start the bot would carry.
        """
        super().__init__(body={} if body is None else body)
        self.transport = transport


async def run(
    bot: Bot, transport: VirtualTransport, *, body: Any, set_attribute: SetAttribute
) -> None:
    """Run a bot until its pipeline has ended.

    Args:
        bot: The bot.
        transport: The transport of the call.
        body: The body of its runner arguments.
        set_attribute: Sets an attribute until the end of the test.

    Raises:
        TypeError: The bot cannot be called, or returns no pipeline.
    """
    if not callable(bot):
        raise TypeError(
            f"bot={bot!r} is no function: give a function of the transport, such as "
            "bot=lambda transport: [transport.input(), llm, transport.output()]"
        )
    arguments = CallRunnerArguments(transport, body)
    made = bot(**_arguments_of(bot, transport, arguments, set_attribute))
    if isinstance(made, Awaitable):
        made = await made
    if made is not None:
        await _run_pipeline(made, transport)


def _arguments_of(
    bot: Bot,
    transport: VirtualTransport,
    arguments: CallRunnerArguments,
    set_attribute: SetAttribute,
) -> dict[str, Any]:
    """Return what to call the bot with, by the names of its parameters."""
    given: dict[str, Any] = {}
    for name, parameter in inspect.signature(bot).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if _takes_runner_arguments(parameter):
            given[name] = arguments
        elif parameter.default is not parameter.empty:
            continue
        elif transport not in given.values():
            given[name] = transport
        else:
            raise TypeError(
                f"the bot has a parameter {name!r}, which the call cannot fill: give a function of "
                f"the transport, such as bot=lambda transport: my_bot(transport, {name}=...)"
            )
    if not given:
        raise TypeError("the bot takes neither a transport nor runner arguments")
    if transport not in given.values():
        _have_factory_return_transport(set_attribute)
    return given


def _takes_runner_arguments(parameter: inspect.Parameter) -> bool:
    kind: Any = parameter.annotation
    if kind is parameter.empty:  # which is a type, too
        return parameter.name in _NAMES_OF_RUNNER_ARGUMENTS
    if isinstance(kind, type):
        return issubclass(kind, RunnerArguments)
    return isinstance(kind, str) and "RunnerArguments" in kind


def _have_factory_return_transport(set_attribute: SetAttribute) -> None:
    """Have `create_transport` return the transport of a call, in each module that imported it."""
    utilities = sys.modules.get(_RUNNER_UTILITIES)
    if utilities is None:
        return
    original = getattr(utilities, _FACTORY)

    async def create_transport(runner_args: Any, transport_params: dict[str, Any]) -> Any:
        if isinstance(runner_args, CallRunnerArguments):
            return runner_args.transport
        return await original(runner_args, transport_params)

    for module in list(sys.modules.values()):
        # Not `getattr`, which would have lazy modules import what they offer.
        if getattr(module, "__dict__", {}).get(_FACTORY) is original:
            set_attribute(module, _FACTORY, create_transport)


async def _run_pipeline(made: Any, transport: VirtualTransport) -> None:
    """Run what a bot returned, until the user hangs up or it ends by itself."""
    worker = _worker(made)

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(_transport: Any, _client: Any) -> None:
        await worker.queue_frame(EndFrame())

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


def _worker(made: Any) -> PipelineWorker:
    if isinstance(made, PipelineWorker):
        return made
    if isinstance(made, Iterable):
        processors = list(made)
        if processors and all(isinstance(one, FrameProcessor) for one in processors):
            made = Pipeline(processors)
    if not isinstance(made, BasePipeline):
        raise TypeError(
            f"the bot returned {made!r}: let it run its pipeline and return nothing, or return a "
            "PipelineWorker, a Pipeline or a list of processors"
        )
    return PipelineWorker(
        made,
        params=PipelineParams(
            audio_in_sample_rate=INPUT_SAMPLE_RATE,
            enable_metrics=True,
            enable_usage_metrics=True,
        ),
        idle_timeout_secs=None,
    )
