"""Tool call spans: how a call ends, and what it outlives."""

from opentelemetry.trace import SpanKind
from pipecat.frames.frames import (
    FunctionCallCancelFrame,
)
from support.spans import CALLS, LOST, Spans, Story, about, parent_name, result, times

from pipecat_hydra.conversation.effects import (
    ReplyStarted,
)


def test_a_call_lasts_until_its_function_has_given_its_result(spans: Spans, story: Story):
    story.turn("turn 1")
    story.at(1, ReplyStarted("resp_1"), CALLS)
    story.turn("turn 2")
    story.secs = 2
    story.tracing.settle(result("half", final=False))
    story.tracing.hold("call_1")
    story.tracing.hold("call_1")
    # It was answered for now, so it goes on.
    story.at(3, *LOST)
    story.secs = 4
    story.tracing.settle(result("x" * 3_000))
    story.tracing.settle(result("again"))
    (tool,) = spans.of("llm_tool_call")
    assert times(tool) == (1, 4)
    assert tool.kind is SpanKind.INTERNAL
    assert parent_name(spans, tool) == "turn 1"
    assert [event.name for event in tool.events] == ["answered_for_now"]
    assert about(tool)["gen_ai.operation.name"] == "execute_tool"
    assert about(tool)["gen_ai.tool.name"] == "weather"
    assert about(tool)["gen_ai.tool.call.id"] == "call_1"
    assert about(tool)["gen_ai.response.id"] == "resp_1"
    assert len(about(tool)["tool.result"]) == 2_003


def test_a_call_that_is_cancelled_is_no_error(spans: Spans, story: Story):
    story.at(1, CALLS)
    story.tracing.settle(FunctionCallCancelFrame("weather", "call_1"))
    (tool,) = spans.of("llm_tool_call")
    assert about(tool)["tool.result_status"] == "cancelled"
    assert tool.status.is_unset
