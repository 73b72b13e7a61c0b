"""A Pipecat context as Hydra takes it: instructions, tools and what was said before."""

import json
from typing import Any, TypedDict, cast

from loguru import logger
from pipecat.adapters.llm.base_llm_adapter import BaseLLMAdapter
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.processors.aggregators.llm_context import LLMContext

from pipecat_hydra.service.briefing.context import text_of
from pipecat_hydra.service.briefing.history import Turn, turns_of
from pipecat_hydra.wire.events import FunctionTool

__all__ = ["HydraInvocationParams", "HydraLLMAdapter"]


class HydraInvocationParams(TypedDict):
    """What of a context goes into `session.configure`.

    Parameters:
        system_instruction: The instructions in force, or None.
        tools: The tools in force.
        turns: What was said before.
    """

    system_instruction: str | None
    tools: tuple[FunctionTool, ...]
    turns: list[Turn]


class HydraLLMAdapter(BaseLLMAdapter):
    """Converts Pipecat's universal context and tool schemas to Hydra's."""

    @property
    def id_for_llm_specific_messages(self) -> str:
        """Get the identifier of messages meant for Hydra alone."""
        return "hydra"

    async def get_llm_invocation_params(
        self,
        context: LLMContext,
        *,
        system_instruction: str | None = None,
        service_tools: Any = None,
        **kwargs: Any,
    ) -> HydraInvocationParams:
        """Get what of a context Hydra is told; see `session_params`."""
        return self.session_params(
            context, system_instruction=system_instruction, service_tools=service_tools
        )

    def session_params(
        self,
        context: LLMContext | None,
        *,
        system_instruction: str | None = None,
        added_instruction: str | None = None,
        service_tools: Any = None,
    ) -> HydraInvocationParams:
        """Get what of a context Hydra is told.

        Args:
            context: The context, or None in a pipeline that has none.
            system_instruction: From the service's settings; wins over a system
                message that begins the context, as in all of Pipecat.
            added_instruction: What is said besides, whichever of the two wins.
            service_tools: The service's own tools; a context's tools win.

        Returns:
            The instructions and tools of the session, and what was said before.
        """
        messages: list[Any] = []
        if context is not None:
            messages = [m for m in self.get_messages(context) if isinstance(m, dict)]
        from_context = None
        if messages and messages[0].get("role") == "system":
            self._warn_context_system_message()
            from_context = text_of(messages[0]) or None
        instruction = self._resolve_system_instruction(
            from_context, system_instruction, discard_context_system=True
        )
        tools = self._realtime_session_tools(context.tools if context else None, service_tools)
        parts = [part for part in (instruction, added_instruction) if part]
        return {
            "system_instruction": "\n\n".join(parts) or None,
            "tools": tuple(tool for tool in tools or () if isinstance(tool, FunctionTool)),
            "turns": turns_of(messages),
        }

    def to_provider_tools_format(self, tools_schema: ToolsSchema) -> list[FunctionTool]:
        """Convert tool schemas to Hydra's flat function format (protocol §2).

        Args:
            tools_schema: The schema of the tools.

        Returns:
            One `FunctionTool` for each function; Hydra has no other kind of tool. A
            function whose parameters are no JSON is left out, with an error in the log.
        """
        tools = [_function_tool(schema) for schema in tools_schema.standard_tools]
        return [tool for tool in tools if _is_json(tool)]

    def get_messages_for_logging(self, context: LLMContext) -> list[dict[str, Any]]:
        """Get the messages of a context in a form that is fit for logging.

        Args:
            context: The context.

        Returns:
            The messages, with binary data shortened.
        """
        messages = self.get_messages(context, truncate_large_values=True)
        return cast("list[dict[str, Any]]", messages)


def _function_tool(schema: FunctionSchema) -> FunctionTool:
    return FunctionTool(
        name=schema.name,
        description=schema.description,
        parameters={
            "type": "object",
            "properties": schema.properties,
            "required": schema.required,
        },
    )


def _is_json(tool: FunctionTool) -> bool:
    try:
        json.dumps(tool.parameters)
    except (TypeError, ValueError, RecursionError) as error:
        logger.error(f"function {tool.name!r} is not offered to Hydra: its parameters are {error}")
        return False
    return True
