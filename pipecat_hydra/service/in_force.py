"""Knows which context and which tools are in force.

The context in force is the last one that came to the service by a frame. Before any came, it is
the context of the service's own user aggregator. The tools in force are those of the context,
else the service's own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.utils.types import NotGiven, is_given

from pipecat_hydra.service.adapter import HydraLLMAdapter, function_tool
from pipecat_hydra.service.pipecat_versions import DirectFunction, FunctionSchema, ToolsSchema
from pipecat_hydra.service.surroundings import Surroundings
from pipecat_hydra.wire.events import FunctionTool

__all__ = ["InForce", "ServiceTools", "checked_tools"]

ServiceTools = ToolsSchema | Sequence[FunctionSchema | DirectFunction]
"""The types of tools that an application may pass."""


class InForce:
    """Knows which context and which tools are in force."""

    def __init__(
        self, adapter: HydraLLMAdapter, surroundings: Surroundings, tools: ServiceTools | None
    ):
        """Start with no context seen.

        Args:
            adapter: Converts tools.
            surroundings: Knows the context of the service's own user aggregator.
            tools: The service's own tools, for pipelines without a context.
        """
        self._adapter = adapter
        self._surroundings = surroundings
        self._own_tools = _listed(tools)
        self._context: LLMContext | None = None

    @property
    def context(self) -> LLMContext | None:
        """The context in force, or None in a pipeline that has none."""
        return self._context or self._surroundings.context

    def take_context(self, context: LLMContext) -> None:
        """Put a context that came by a frame in force."""
        self._context = context

    @property
    def own_tools(self) -> ToolsSchema | list[Any] | None:
        """The service's own tools, as the application passed them."""
        return self._own_tools

    @property
    def own_schema(self) -> ToolsSchema | None:
        """The service's own tools, as a schema."""
        return _schema(self._own_tools)

    def tools(self) -> tuple[FunctionTool, ...]:
        """Return the tools in force, as Hydra takes them."""
        return self._converted(self.context, self.own_schema)

    def take_tools(self, tools: ToolsSchema | list[Any] | NotGiven) -> None:
        """Make tools that came by a frame the service's own, if there is no context.

        If there is one, its aggregator puts the tools into it, sooner or later than this.

        Raises:
            TypeError: If something among them is no tool; then nothing is changed.
        """
        if self.context is None:
            self._own_tools = _listed(tools) if is_given(tools) else None

    def tools_with(self, tools: ToolsSchema | list[Any] | NotGiven) -> tuple[FunctionTool, ...]:
        """Return the tools in force after `take_tools(tools)`, as Hydra takes them."""
        return self._converted(None, _schema(tools) if is_given(tools) else self.own_schema)

    def _converted(
        self, context: LLMContext | None, own: ToolsSchema | None
    ) -> tuple[FunctionTool, ...]:
        return self._adapter.session_tools(context, own)


def checked_tools(tools: ServiceTools | None) -> ToolsSchema | list[Any] | None:
    """Return tools that an application gives to the constructor, if Hydra can be told of all.

    Raises:
        TypeError: If something among them is no tool.
        ValueError: If Hydra cannot be told of one of them.
    """
    listed = _listed(tools)
    schema = _schema(listed)
    for one in schema.standard_tools if schema is not None else ():
        try:
            function_tool(one)
        except ValueError as error:
            raise ValueError(f"tools: function {one.name!r}: {error}") from error
    return listed


def _listed(tools: Any) -> ToolsSchema | list[Any] | None:
    """Return tools as a schema or a list, whatever they came in."""
    if tools is None or isinstance(tools, ToolsSchema):
        return tools
    kind = type(tools).__name__
    expected = "a list of functions and FunctionSchemas, or a ToolsSchema"
    if isinstance(tools, FunctionSchema) or callable(tools):
        raise TypeError(f"tools must be {expected}: put the one tool in a list")
    if isinstance(tools, str | bytes | Mapping) or not isinstance(tools, Iterable):
        raise TypeError(f"tools must be {expected}, not {kind}")
    listed: list[Any] = [*cast("Iterable[Any]", tools)]
    for n, tool in enumerate(listed):
        kind = type(tool).__name__
        if not isinstance(tool, FunctionSchema) and not callable(tool):
            hint = ": make a FunctionSchema of it" if isinstance(tool, Mapping) else ""
            raise TypeError(f"tools must be {expected}, but tools[{n}] is a {kind}{hint}")
        if not isinstance(tool, FunctionSchema):
            _check_direct(n, tool)
    return listed


def _check_direct(n: int, function: Callable[..., Any]) -> None:
    """Check that Pipecat takes a function as a tool."""
    try:
        ToolsSchema([function])
    except Exception as error:
        # Pipecat raises a bare `Exception` for a function that is not asynchronous, say.
        raise TypeError(f"tools[{n}] is not fit to be called by a model: {error}") from error


def _schema(tools: ToolsSchema | list[Any] | None) -> ToolsSchema | None:
    return ToolsSchema(tools) if isinstance(tools, list) else tools
