"""The wire vocabulary: immutable events that hold only what the protocol names."""

import pytest
from pydantic import ValidationError

from pipecat_hydra.wire import events
from pipecat_hydra.wire.events import (
    AudioDelta,
    ErrorDetail,
    FunctionTool,
    ItemCreate,
    SessionConfiguration,
    SessionUpdate,
)


def test_events_are_immutable():
    event = AudioDelta(type="response.output_audio.delta")
    with pytest.raises(ValidationError):
        event.response_id = "other"


def test_a_configuration_cannot_say_what_the_protocol_does_not_name():
    with pytest.raises(ValidationError):
        SessionConfiguration.model_validate({"instruction": "a typo loses the persona"})


def test_all_is_sorted_and_there():
    assert events.__all__ == sorted(events.__all__)
    assert all(hasattr(events, name) for name in events.__all__)


def test_what_is_shown_of_the_server_is_short_and_gives_a_terminal_no_orders():
    detail = ErrorDetail(message="\x1b[31mred\n", code="x" * 301)
    assert detail.message == r"\x1b[31mred\n"
    assert detail.code == "x" * 300 + "…"


def test_the_events_that_are_made_from_parts_hold_them():
    tool = FunctionTool(name="f", parameters={})
    assert SessionUpdate.of((tool,), event_id="e").session.tools == (tool,)
    told = ItemCreate.message("Hello", role="system").model_dump(exclude_none=True)
    content = [{"type": "input_text", "text": "Hello"}]
    assert [*told["item"]["content"]] == content
    assert told["item"]["role"] == "system"
    output = ItemCreate.tool_output("call_1", "{}").model_dump(exclude_none=True)
    item = {"type": "function_call_output", "call_id": "call_1", "output": "{}"}
    assert output["item"] == item


def test_an_event_from_elsewhere_has_dropped_nothing():
    assert AudioDelta(type="response.output_audio.delta").dropped_fields == ()
