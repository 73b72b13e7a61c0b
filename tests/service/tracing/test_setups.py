"""Setup spans: the attempts to get a session, its configuration, and the end."""

from typing import Any

from opentelemetry.trace import SpanKind
from support.spans import Spans, Story, about, times

from pipecat_hydra.conversation.effects import (
    Connected,
    FailureKind,
    GivenUp,
    Lost,
    Ready,
    Rested,
    Retrying,
    SessionStarted,
)
from pipecat_hydra.wire.events import FunctionTool, SessionConfiguration, SessionInfo

READY = Ready(SessionInfo(voice="aria"), 24_000)


def configure(story: Story, secs: float, **fields: Any) -> None:
    story.secs = secs
    story.tracing.configuring(SessionConfiguration(**fields), "Be brief.")


def test_a_setup_spans_all_its_attempts(spans: Spans, story: Story):
    story.secs = 1
    story.tracing.connecting("hydra-v1.1")
    refused = (FailureKind.CAPACITY, "Hydra is full")
    story.at(2, Lost(*refused, configured=False), Retrying(1, 0.5, *refused))
    story.tracing.connecting("hydra-v1.1")
    story.at(3, Connected(), SessionStarted("sess_1"))
    configure(story, 4, voice="aria", instructions="Be brief. The user said: hi.")
    story.at(5, READY)
    (setup,) = spans.of("llm_setup")
    assert times(setup) == (1, 5)
    assert setup.kind is SpanKind.CLIENT
    assert setup.status.is_unset
    assert [event.name for event in setup.events] == [
        "retry",
        "connected",
        "session.created",
        "session.configure",
    ]
    assert about(setup) == {
        "gen_ai.provider.name": "smallest",
        "gen_ai.operation.name": "llm_setup",
        "service.operation": "llm_setup",
        "gen_ai.request.model": "hydra-v1.1",
        "gen_ai.conversation.id": "call-1",
        "gen_ai.system_instructions": "Be brief.",
        "voice_id": "aria",
        "tools.count": 0,
        "tools.available": False,
        "hydra.attempts": 2,
        "hydra.generate_initial_response": False,
        "hydra.instructions.bytes": 28,
        "hydra.lost_by": "Hydra is full",
        "hydra.output_sample_rate": 24_000,
        "hydra.reconnect": False,
        "hydra.session.id": "sess_1",
        "hydra.session.number": 1,
    }


def test_a_setup_that_comes_to_nothing(spans: Spans, story: Story):
    story.tracing.connecting("hydra-v1.1")
    story.at(1, GivenUp(FailureKind.AUTHENTICATION, "refused"))
    story.tracing.connecting("hydra-v1.1")
    story.at(2, Rested("not reached", failed=True))
    story.tracing.connecting("hydra-v1.1")
    story.at(3, Connected(), SessionStarted(None), Rested("not used", failed=False))
    given_up, failed, unused = spans.of("llm_setup")
    assert given_up.status.description == "refused"
    assert about(failed)["error.type"] == "_OTHER"
    assert unused.status.is_unset
    assert about(unused)["hydra.ended_by"] == "not used"


def test_a_session_that_is_lost_is_set_up_again(spans: Spans, story: Story):
    story.tracing.connecting("hydra-v1.1")
    story.at(1, READY)
    story.at(5, Lost(FailureKind.CONNECTIVITY, "the connection broke", configured=True))
    story.tracing.connecting("hydra-v1.1")
    story.at(7, Ready(SessionInfo(), 24_000, lost_secs=2.0))
    first, second = spans.of("llm_setup")
    assert "hydra.lost_secs" not in about(first)
    assert times(second) == (5, 7)
    told = about(second)
    assert told["hydra.reconnect"] is True
    assert told["hydra.lost_by"] == "the connection broke"
    assert told["hydra.lost_secs"] == 2.0
    assert told["hydra.session.number"] == 2
    assert told["hydra.attempts"] == 1
    assert "voice_id" not in told


def test_a_setup_names_its_tools_and_the_voice_that_hydra_gives(spans: Spans, story: Story):
    story.tracing.connecting("hydra-v1.1")
    tools = tuple(FunctionTool(name=name, parameters={}) for name in ("look", "listen"))
    configure(story, 1, voice="zoe", tools=tools, generate_initial_response=True)
    story.at(2, READY)
    told = about(spans.of("llm_setup")[0])
    assert told["tools.names"] == "look,listen"
    assert (told["tools.count"], told["tools.available"]) == (2, True)
    assert told["hydra.generate_initial_response"] is True
    assert told["voice_id"] == "aria"


def test_long_instructions_are_cut_and_none_are_left_out(spans: Spans, story: Story):
    for instruction in ("x" * 501, None):
        story.tracing.connecting("hydra-v1.1")
        story.tracing.configuring(SessionConfiguration(), instruction)
        story.at(2, READY)
    cut, none = map(about, spans.of("llm_setup"))
    assert cut["gen_ai.system_instructions"] == "x" * 500
    assert "gen_ai.system_instructions" not in none


def test_what_comes_outside_a_setup_makes_none(spans: Spans, story: Story):
    story.at(1, Connected(), READY, GivenUp(FailureKind.SERVER, "too late"))
    assert spans.of("llm_setup") == []
