"""What of a context Hydra is told."""

import warnings
from typing import Any

import pytest
from pipecat.processors.aggregators.llm_context import LLMContext, LLMSpecificMessage

from pipecat_hydra.service.adapter import HydraLLMAdapter
from pipecat_hydra.service.pipecat_versions import FunctionSchema, ToolsSchema
from pipecat_hydra.wire.events import FunctionTool

SCHEMA = FunctionSchema("look_up", "Looks up a word.", {"word": {"type": "string"}}, ["word"])
TOOL = FunctionTool(
    name="look_up",
    description="Looks up a word.",
    parameters={
        "type": "object",
        "properties": {"word": {"type": "string"}},
        "required": ["word"],
    },
)


def user(text: str) -> Any:
    return {"role": "user", "content": text}


async def greet(params: object, name: str):
    """Greet somebody.

    Args:
        params: Pipecat's.
        name: Whom.
    """


def test_without_a_context_the_settings_and_the_services_tools_count():
    params = HydraLLMAdapter().session_params(
        None, system_instruction="Be kind.", service_tools=ToolsSchema([SCHEMA])
    )
    assert params == {"system_instruction": "Be kind.", "tools": (TOOL,), "turns": []}


def test_nothing_gives_nothing():
    nothing = {"system_instruction": None, "tools": (), "turns": []}
    assert HydraLLMAdapter().session_params(None) == nothing
    assert HydraLLMAdapter().session_params(LLMContext())["tools"] == ()


def test_the_tools_of_a_context_win():
    params = HydraLLMAdapter().session_params(
        LLMContext(tools=ToolsSchema([SCHEMA])), service_tools=ToolsSchema([greet])
    )
    assert params["tools"] == (TOOL,)


def test_a_tool_that_is_no_json_is_left_out(warnings: list[str]):
    odd = FunctionSchema("odd", "Odd.", {"x": {"default": object()}}, [])
    assert HydraLLMAdapter().session_tools(None, ToolsSchema([odd, SCHEMA])) == (TOOL,)
    (warning,) = warnings
    assert "'odd' is not offered" in warning


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x"])
def test_a_tool_that_would_cost_the_session_its_configuration_is_left_out(
    value: Any, warnings: list[str]
):
    odd = FunctionSchema("odd", "Odd.", {"x": {"maximum": value}}, [])
    adapter = HydraLLMAdapter()
    for _ in range(2):
        assert adapter.session_tools(None, ToolsSchema([odd, SCHEMA])) == (TOOL,)
    # It is said once, though the tools are converted each time.
    (warning,) = warnings
    assert "'odd' is not offered to Hydra: its parameters are not JSON" in warning


def test_a_direct_function_becomes_a_tool():
    (tool,) = HydraLLMAdapter().session_params(None, service_tools=ToolsSchema([greet]))["tools"]
    assert tool.name == "greet"
    assert tool.description.startswith("Greet somebody.")
    assert tool.parameters["properties"]["name"]["type"] == "string"


@pytest.mark.parametrize("content", ["Be kind.", [{"type": "text", "text": "Be kind."}]])
def test_a_system_message_counts_unless_the_settings_say_otherwise(content: object):
    context = LLMContext([{"role": "system", "content": content}])  # type: ignore[list-item]
    adapter = HydraLLMAdapter()
    # Pipecat tells once in a process that the system message belongs into the settings.
    with warnings.catch_warnings(record=True):
        assert adapter.session_params(context)["system_instruction"] == "Be kind."
    params = adapter.session_params(context, system_instruction="Be brief.")
    assert params["system_instruction"] == "Be brief."


def test_what_is_added_leaves_the_system_message_of_the_context_in_force():
    context = LLMContext([{"role": "system", "content": "Be kind."}])
    adapter = HydraLLMAdapter()

    def told(context: LLMContext | None) -> str | None:
        return adapter.session_params(context, added_instruction="Wait.")["system_instruction"]

    with warnings.catch_warnings(record=True):
        assert told(context) == "Be kind.\n\nWait."
    assert told(LLMContext()) == told(None) == "Wait."


def test_messages_of_another_service_are_no_error(warnings: list[str]):
    """Pipecat's own filter reports one each time that a context is read."""
    other, own = LLMSpecificMessage("openai", {}), LLMSpecificMessage("hydra", user("own"))
    context = LLMContext([user("hello"), other, own])
    adapter = HydraLLMAdapter()
    read = adapter.entries(context)
    assert [entry.text for entry in read] == ["hello", "", "own"]
    assert [turn.text for turn in adapter.session_params(context)["turns"]] == ["hello", "own"]
    assert adapter.entries(None) == []
    assert not warnings


async def test_pipecats_own_way_to_ask_gives_the_same():
    context = LLMContext(tools=ToolsSchema([SCHEMA]))
    adapter = HydraLLMAdapter()
    assert await adapter.get_llm_invocation_params(context) == adapter.session_params(context)


def test_messages_can_be_logged():
    context = LLMContext([{"role": "user", "content": "hello"}])
    adapter = HydraLLMAdapter()
    assert adapter.get_messages_for_logging(context) == [{"role": "user", "content": "hello"}]
    assert adapter.create_llm_specific_message({"a": 1}).llm == "hydra"


def test_what_was_said_before_comes_as_turns():
    messages: Any = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
    params = HydraLLMAdapter().session_params(LLMContext(messages))
    assert [(turn.who, turn.text) for turn in params["turns"]] == [
        ("user", "hello"),
        ("assistant", "hi"),
    ]
