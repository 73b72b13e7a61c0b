"""The names of Pipecat that are in different modules, or missing, in the supported versions.

Pipecat 1.14 moved the adapters and the schemas of tools from `pipecat.adapters` to
`pipecat.adapters.llm`, and warns of each import from the old modules. The rest of the package
imports the names listed here from this module, whatever the version of Pipecat.
"""

try:
    from pipecat.adapters.llm.base_llm_adapter import BaseLLMAdapter
    from pipecat.adapters.llm.schemas.direct_function import DirectFunction, tool_options
    from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
    from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
except ModuleNotFoundError:  # before 1.14
    from pipecat.adapters.base_llm_adapter import BaseLLMAdapter
    from pipecat.adapters.schemas.direct_function import DirectFunction, tool_options
    from pipecat.adapters.schemas.function_schema import FunctionSchema
    from pipecat.adapters.schemas.tools_schema import ToolsSchema

__all__ = [
    "BaseLLMAdapter",
    "DirectFunction",
    "FunctionSchema",
    "ToolsSchema",
    "tool_options",
]
