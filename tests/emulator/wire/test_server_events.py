"""Server events: errors, and the items of spoken words."""

from pipecat_hydra.emulator.wire.events import ProtocolError, new_id
from pipecat_hydra.emulator.wire.server_events import error, item_event, message_item, warning


def test_an_error_names_the_event_and_the_field_if_there_are_any() -> None:
    assert error(ProtocolError("server_full", "later")) == {
        "type": "error",
        "error": {"type": "server_error", "code": "server_full", "message": "later"},
    }
    assert error(ProtocolError("invalid_audio", "odd", param="audio", event_id="e1"))["error"] == {
        "type": "invalid_request_error",
        "code": "invalid_audio",
        "message": "odd",
        "param": "audio",
        "event_id": "e1",
    }


def test_a_warning() -> None:
    assert warning("old", "soon gone") == {"type": "warning", "code": "old", "message": "soon gone"}


def test_an_item_has_content_once_it_is_over() -> None:
    assert message_item("item_1", "user", "in_progress")["content"] == []
    (heard,) = message_item("item_1", "user", "incomplete")["content"]
    assert heard == {"type": "input_audio", "text": None}
    (said,) = message_item("item_2", "assistant", "completed", "Hello.")["content"]
    assert said == {"type": "output_audio", "text": "Hello."}
    item = message_item("item_2", "assistant", "completed")
    assert item_event("done", "item_1", item) == {
        "type": "conversation.item.done",
        "previous_item_id": "item_1",
        "item": item,
    }


def test_ids_differ() -> None:
    assert new_id("resp").startswith("resp_")
    assert new_id("resp") != new_id("resp")
