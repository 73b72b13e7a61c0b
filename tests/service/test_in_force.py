"""The context and the tools that are in force, and where they come from."""

from types import SimpleNamespace
from typing import Any

import pytest
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.utils.types import NOT_GIVEN

from pipecat_hydra.service.adapter import HydraLLMAdapter
from pipecat_hydra.service.in_force import InForce
from pipecat_hydra.service.pipecat_versions import FunctionSchema, ToolsSchema


def tool(name: str) -> FunctionSchema:
    return FunctionSchema(name=name, description=name, properties={}, required=[])


def in_force(around: LLMContext | None = None, own: Any = None) -> InForce:
    surroundings: Any = SimpleNamespace(context=around)
    return InForce(HydraLLMAdapter(), surroundings, own)


def names(tools: Any) -> list[str]:
    return [one.name for one in tools]


def test_the_context_of_the_surroundings_until_one_comes_by_a_frame():
    around, came = LLMContext(), LLMContext()
    known = in_force(around)
    assert known.context is around
    known.take_context(came)
    assert known.context is came


def test_the_service_s_own_tools_are_in_force_where_there_is_no_context():
    for own in ([tool("own")], (tool("own"),), ToolsSchema([tool("own")])):
        assert names(in_force(own=own).tools()) == ["own"]


def test_the_tools_of_a_context_win():
    context = LLMContext(tools=ToolsSchema([tool("of_context")]))
    assert names(in_force(context, [tool("own")]).tools()) == ["of_context"]


def test_the_list_that_was_given_is_not_kept():
    given = [tool("own")]
    known = in_force(own=given)
    given.clear()
    assert names(known.tools()) == ["own"]


def test_tools_that_come_by_a_frame_are_the_service_s_own_without_a_context():
    known = in_force(own=[tool("own")])
    known.take_tools([tool("came")])
    assert names(known.tools()) == names(known.tools_with([tool("came")])) == ["came"]
    known.take_tools(NOT_GIVEN)
    assert known.own_tools is None
    assert names(known.tools_with(NOT_GIVEN)) == []


def test_tools_that_come_by_a_frame_are_an_aggregator_s_to_keep():
    known = in_force(LLMContext(), [tool("own")])
    known.take_tools([tool("came")])
    assert names(known.tools_with([tool("came")])) == ["came"]
    assert names(known.tools()) == ["own"]


def test_a_frame_with_something_that_is_no_tool_changes_nothing():
    known = in_force(own=[tool("own")])
    with pytest.raises(TypeError, match=r"tools\[0\] is a int"):
        known.take_tools([1])
    assert names(known.tools()) == ["own"]
