"""Response spans: when each begins and ends, and what it holds."""

import pytest
from opentelemetry.trace import StatusCode
from support.spans import Spans, Story, about, finished, parent_name, times

from pipecat_hydra.conversation.effects import (
    AudioChunk,
    ReplyEnded,
    ReplyStarted,
    TextChunk,
    ToolArguments,
    UserStarted,
    UserStopped,
    VoiceStarted,
)
from pipecat_hydra.wire.events import Usage

SECOND = AudioChunk(bytes(48_000), 24_000)


def test_a_response_lasts_from_when_it_was_asked_for_until_it_is_done(spans: Spans, story: Story):
    story.turn("turn 1")
    story.at(1, UserStopped(discarded=False))
    story.at(2, ReplyStarted("resp_1"))
    story.turn("turn 2")
    story.at(3, VoiceStarted("resp_1", 2.25), SECOND, TextChunk("Well,"), TextChunk(" yes"))
    story.turn(None)
    usage = Usage(input_tokens=7, output_tokens=0)
    story.at(4, SECOND, ReplyEnded("resp_1", False), finished(usage=usage, took=3.25))
    (response,) = spans.of("llm_response")
    assert times(response) == (0.75, 4)
    assert parent_name(spans, response) == "turn 1"
    assert about(response) == {
        "gen_ai.provider.name": "smallest",
        "gen_ai.operation.name": "chat",
        "gen_ai.output.type": "speech",
        "gen_ai.conversation.id": "call-1",
        "gen_ai.response.id": "resp_1",
        "gen_ai.response.time_to_first_chunk": 2.25,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 0,
        "service.operation": "llm_response",
        "metrics.ttfb": 2.25,
        "response.id": "resp_1",
        "response.status": "completed",
        "output": "Well, yes",
        "hydra.audio.seconds": 2.0,
        "hydra.interrupted": False,
    }


def test_a_response_without_a_word_begins_when_it_was_asked_for_too(spans: Spans, story: Story):
    story.at(2, ReplyStarted("resp_1"), ToolArguments("call_1", "weather", "{"))
    story.at(3, ReplyEnded("resp_1", False), finished(took=2.5))
    story.at(4, UserStopped(discarded=False))
    story.at(5, ReplyStarted("resp_2"), ReplyEnded("resp_2", True))
    story.at(6, finished("resp_2", "cancelled"))
    first, second = spans.of("llm_response")
    assert times(first) == (0.5, 3)
    assert times(second) == (4, 5)


def test_an_interrupted_response_ends_when_it_is_interrupted(spans: Spans, story: Story):
    story.at(1, ReplyStarted("resp_1"), VoiceStarted("resp_1", None), SECOND)
    story.at(2, UserStarted(), ReplyEnded("resp_1", True))
    story.at(3, UserStopped(False), finished(status="cancelled", usage=Usage(output_tokens=3)))
    (response,) = spans.of("llm_response")
    assert times(response) == (1, 2)
    assert about(response)["hydra.interrupted"] is True
    assert about(response)["gen_ai.usage.output_tokens"] == 3


@pytest.mark.parametrize("generated", [False, True])
def test_noise_does_not_end_a_response(spans: Spans, story: Story, generated: bool):
    story.at(1, ReplyStarted("resp_1"), VoiceStarted("resp_1", None), SECOND)
    story.at(2, UserStarted(), ReplyEnded("resp_1", True))
    story.at(3, *([finished()] if generated else []))
    assert not spans.of("llm_response")
    story.at(4, UserStopped(True), ReplyStarted("resp_1", resumed=True), SECOND)
    story.at(5, ReplyEnded("resp_1", False), *([] if generated else [finished()]))
    (response,) = spans.of("llm_response")
    assert times(response) == (1, 3 if generated else 5)
    assert about(response)["hydra.interrupted"] is False
    assert about(response)["hydra.resumed"] is True
    # What is said again of a response that is over is none.
    story.at(6, ReplyStarted(None, resumed=True), SECOND, ReplyEnded(None, False))
    story.tracing.close()
    assert len(spans.of("llm_response")) == 1


def test_a_response_that_was_done_when_it_was_interrupted_ends_with_the_next(
    spans: Spans, story: Story
):
    story.at(1, ReplyStarted("resp_1"))
    story.at(2, UserStarted(), ReplyEnded("resp_1", True))
    story.at(3, finished())
    story.at(4, UserStopped(False))
    story.at(5, ReplyStarted("resp_2"))
    (response,) = spans.of("llm_response")
    assert times(response) == (1, 2)
    assert about(response)["hydra.interrupted"] is True


def test_a_response_that_is_done_after_the_next_has_begun(spans: Spans, story: Story):
    story.at(1, ReplyStarted("resp_1"))
    story.at(2, ReplyEnded("resp_1", False), ReplyStarted("resp_2"))
    story.at(3, finished("resp_1"))
    story.at(4, ReplyEnded("resp_2", False), finished("resp_2"))
    assert [times(span) for span in spans.of("llm_response")] == [(1, 3), (2, 4)]


def test_a_response_that_is_announced_without_its_id(spans: Spans, story: Story):
    story.at(1, ReplyStarted(None))
    story.at(2, ReplyEnded("resp_1", False), finished("resp_1"))
    story.at(3, ReplyStarted("resp_2"))
    story.at(4, ReplyEnded("resp_2", False), finished(None))
    assert [about(s)["response.id"] for s in spans.of("llm_response")] == ["resp_1", "resp_2"]


def test_a_response_that_is_cancelled_before_it_begins(spans: Spans, story: Story):
    story.at(1, UserStopped(discarded=False))
    story.at(2, finished(status="cancelled"))
    (response,) = spans.of("llm_response")
    assert times(response) == (1, 2)
    assert about(response)["hydra.interrupted"] is True


def test_a_response_that_failed(spans: Spans, story: Story):
    story.at(1, ReplyStarted("resp_1"), ReplyEnded("resp_1", False), finished(status="failed"))
    (response,) = spans.of("llm_response")
    assert response.status.status_code is StatusCode.ERROR
    assert about(response)["error.type"] == "failed"


def test_responses_that_are_never_done_do_not_pile_up(spans: Spans, story: Story):
    for n in range(200):
        story.at(n, ReplyStarted(f"resp_{n}"), ReplyEnded(f"resp_{n}", True))
    assert len(spans.of("llm_response")) > 100
