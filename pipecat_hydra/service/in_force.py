"""Knows which context and which tools are in force.

The context in force is the last one that came to the service by a frame. Before any came, it is
the context of the service's own user aggregator. The tools in force are those of the context,
else the service's own.
"""

from collections.abc import Sequence
from typing import Any

from pipecat.adapters.llm.schemas.direct_function import DirectFunction
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.utils.types import NotGiven, is_given

from pipecat_hydra.service.adapter import HydraLLMAdapter
from pipecat_hydra.service.surroundings import Surroundings
from pipecat_hydra.wire.events import FunctionTool

__all__ = ["InForce", "ServiceTools"]

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
        self._own_tools = tools if tools is None or isinstance(tools, ToolsSchema) else [*tools]
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
        """
        if self.context is None:
            self._own_tools = tools if is_given(tools) else None

    def tools_with(self, tools: ToolsSchema | list[Any] | NotGiven) -> tuple[FunctionTool, ...]:
        """Return the tools in force after `take_tools(tools)`, as Hydra takes them."""
        return self._converted(None, _schema(tools) if is_given(tools) else self.own_schema)

    def _converted(
        self, context: LLMContext | None, own: ToolsSchema | None
    ) -> tuple[FunctionTool, ...]:
        return self._adapter.session_tools(context, own)


def _schema(tools: ToolsSchema | list[Any] | None) -> ToolsSchema | None:
    return ToolsSchema(tools) if isinstance(tools, list) else tools
