"""Spans: the parent that each has, and those that end before or after the conversation."""

from support.spans import Spans, Story, about, begin, finished, parent_name, times

from pipecat_hydra.conversation.effects import (
    FailureKind,
    GivenUp,
    Ready,
    ReplyEnded,
    ReplyStarted,
)
from pipecat_hydra.service.tracing import Tracing
from pipecat_hydra.wire.events import SessionInfo

READY = Ready(SessionInfo(voice="aria"), 24_000)


def test_a_session_dialled_before_the_conversation_hangs_under_it(spans: Spans):
    story = Story()
    story.tracing.connecting("hydra-v1.1")
    story.context.set_conversation_context(begin("conversation"), "call-1")
    story.at(1, READY)
    assert parent_name(spans, spans.of("llm_setup")[0]) == "conversation"
    story.tracing.close()


def test_a_setup_that_is_over_before_the_conversation_waits_for_it(spans: Spans):
    story = Story()
    story.tracing.connecting("hydra-v1.1")
    story.at(1, GivenUp(FailureKind.AUTHENTICATION, "refused"))
    assert not spans.of("llm_setup")
    story.context.set_conversation_context(begin("conversation"), "call-1")
    story.at(2)
    story.tracing.close()
    (setup,) = spans.of("llm_setup")
    assert times(setup) == (0, 1)
    assert parent_name(spans, setup) == "conversation"


def test_without_turn_tracking_spans_hang_under_nothing(spans: Spans):
    tracing = Tracing()
    tracing.begin(None)
    tracing.see(ReplyStarted("resp_1"))
    tracing.see(finished("resp_1"))
    tracing.close()
    assert spans.of("llm_response")[0].parent is None


def test_spans_that_end_after_the_conversation_hang_under_it(spans: Spans, story: Story):
    story.at(1, ReplyStarted("resp_1"))
    story.context.set_conversation_context(None)
    story.at(2, ReplyEnded("resp_1", False), finished(), ReplyStarted("resp_2"))
    story.tracing.close()
    assert [parent_name(spans, s) for s in spans.of("llm_response")] == ["conversation"] * 2
    assert about(spans.of("llm_response")[1])["hydra.ended_by"] == "the pipeline has ended"
    assert not story.tracing.enabled
