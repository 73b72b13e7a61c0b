"""Converts a Pipecat context to what Hydra takes: instructions, tools and earlier turns."""

import json
from typing import Any, TypedDict, cast

from loguru import logger
from pipecat.processors.aggregators.llm_context import LLMContext

from pipecat_hydra.service.briefing.entries import (
    OWN_MESSAGES,
    Entry,
    EntryReader,
    split_instructions,
)
from pipecat_hydra.service.briefing.history import Turn, turns_of
from pipecat_hydra.service.pipecat_versions import BaseLLMAdapter, FunctionSchema, ToolsSchema
from pipecat_hydra.wire.events import FunctionTool

__all__ = ["HydraInvocationParams", "HydraLLMAdapter", "function_tool"]


class HydraInvocationParams(TypedDict):
    """The parts of a context that go into `session.configure`.

    Parameters:
        system_instruction: The instructions in force, or None.
        tools: The tools in force.
        turns: The conversation so far.
    """

    system_instruction: str | None
    tools: tuple[FunctionTool, ...]
    turns: list[Turn]


class HydraLLMAdapter(BaseLLMAdapter[HydraInvocationParams]):
    """Converts Pipecat's universal context and tool schemas to Hydra's."""

    def __init__(self) -> None:
        """Start with no context read."""
        super().__init__()
        self._reader = EntryReader()
        # Functions that were found unfit, as they were reported.
        self._reported: set[str] = set()

    @property
    def id_for_llm_specific_messages(self) -> str:
        """Get the identifier of messages meant for Hydra alone."""
        return OWN_MESSAGES

    def entries(self, context: LLMContext | None) -> list[Entry]:
        """Return the messages of a context in normal form, one entry for each.

        Args:
            context: The context, or None in a pipeline that has none.
        """
        # Pipecat's own filter would log an error for each message that is for another service.
        return [] if context is None else self._reader.read(context.get_messages())

    async def get_llm_invocation_params(
        self,
        context: LLMContext,
        *,
        system_instruction: str | None = None,
        service_tools: Any = None,
        **kwargs: Any,
    ) -> HydraInvocationParams:
        """Return the parts of a context that Hydra is told; see `session_params`."""
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
        """Return the parts of a context that Hydra is told.

        Args:
            context: The context, or None in a pipeline that has none.
            system_instruction: From the service's settings; wins over a system
                message that begins the context, as in all of Pipecat.
            added_instruction: Is appended, whichever of the two wins.
            service_tools: The service's own tools; a context's tools win.

        Returns:
            The instructions and tools of the session, and the conversation so far.
        """
        _, conversation = split_instructions(self.entries(context))
        return {
            "system_instruction": self.session_instruction(
                context, system_instruction, added_instruction
            ),
            "tools": self.session_tools(context, service_tools),
            "turns": turns_of(conversation),
        }

    def session_instruction(
        self,
        context: LLMContext | None,
        system_instruction: str | None,
        added_instruction: str | None = None,
    ) -> str | None:
        """Return the instructions that are in force, or None.

        Args:
            context: The context, or None in a pipeline that has none.
            system_instruction: From the service's settings; wins over a system
                message that begins the context, as in all of Pipecat.
            added_instruction: Is appended, whichever of the two wins.
        """
        text, _ = split_instructions(self.entries(context))
        if text:
            self._warn_context_system_message()
        instruction = self._resolve_system_instruction(
            text or None, system_instruction, discard_context_system=True
        )
        return "\n\n".join(part for part in (instruction, added_instruction) if part) or None

    def session_tools(
        self, context: LLMContext | None, service_tools: Any = None
    ) -> tuple[FunctionTool, ...]:
        """Return the tools that are in force.

        Args:
            context: The context, or None in a pipeline that has none.
            service_tools: The service's own tools; a context's tools win.
        """
        tools = self._realtime_session_tools(context.tools if context else None, service_tools)
        return tuple(tool for tool in tools or () if isinstance(tool, FunctionTool))

    def to_provider_tools_format(self, tools_schema: ToolsSchema) -> list[FunctionTool]:
        """Convert tool schemas to Hydra's flat function format (protocol §2).

        Args:
            tools_schema: The schema of the tools.

        Returns:
            One `FunctionTool` for each function; Hydra has no other kind of tool. A
            function that Hydra cannot be told of is left out, with one error in the log.
        """
        tools: list[FunctionTool] = []
        for schema in tools_schema.standard_tools:
            try:
                tools.append(function_tool(schema))
            except ValueError as error:
                self._report(f"function {schema.name!r} is not offered to Hydra: {error}")
        return tools

    def _report(self, message: str) -> None:
        if message not in self._reported:
            self._reported.add(message)
            logger.error(message)

    def get_messages_for_logging(self, context: LLMContext) -> list[dict[str, Any]]:
        """Return the messages of a context in a form that is fit for logging.

        Args:
            context: The context.

        Returns:
            The messages, with binary data shortened.
        """
        messages = self.get_messages(context, truncate_large_values=True)
        return cast("list[dict[str, Any]]", messages)


def function_tool(schema: FunctionSchema) -> FunctionTool:
    """Convert the schema of one function to Hydra's flat function format (protocol §2).

    Raises:
        ValueError: If Hydra cannot be told of the function: one field of the configuration that
            is no JSON, or not what Hydra expects, would cost the whole session.
    """
    # What an application gives no type checker may have seen.
    given: Any = schema
    name, properties, required = given.name, given.properties, given.required
    if not isinstance(name, str) or not name:
        raise ValueError("its name is not a text")
    if not isinstance(properties, dict):
        raise ValueError("its properties are not a dict")
    if not isinstance(required, list):
        raise ValueError("what is required of it is not a list")
    parameters: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": required,
    }
    try:
        # NaN and Infinity are Python's own, and no JSON.
        json.dumps(parameters, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"its parameters are not JSON ({error})") from error
    return FunctionTool(name=name, description=schema.description or "", parameters=parameters)
