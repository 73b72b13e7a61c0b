"""Client events: what is parsed, and the error of each that is wrong."""

import base64
from typing import Any

import pytest

from pipecat_hydra.emulator.wire.client_events import (
    InputAudioAppend,
    ItemCreate,
    Message,
    ResponseCancel,
    SessionConfigure,
    UnknownTypeError,
    parse_event,
    parse_json,
)
from pipecat_hydra.emulator.wire.events import ProtocolError


def refused(**event: Any) -> tuple[str, str, str | None, str | None]:
    with pytest.raises(ProtocolError) as caught:
        parse_event(event)
    problem = caught.value
    return problem.code, problem.message, problem.param, problem.event_id


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000])
def test_a_frame_that_is_not_json(text: str) -> None:
    with pytest.raises(ProtocolError, match="invalid_frame: frame is not valid JSON"):
        parse_json(text)


@pytest.mark.parametrize("text", ["[]", "null", "7", '"session.configure"'])
def test_a_frame_that_is_not_an_object(text: str) -> None:
    with pytest.raises(ProtocolError, match="frame is not a JSON object"):
        parse_json(text)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (None, "event has no type"),
        (7, "event has no type"),
        (["response.create"], "event has no type"),
        ("response.begin", "unknown event type"),
    ],
)
def test_a_type_that_there_is_not(kind: Any, message: str) -> None:
    assert refused(type=kind, event_id="e1") == ("invalid_frame", message, "type", "e1")
    assert refused(type=kind, event_id=7)[3] is None


def test_only_a_type_that_is_a_name_can_be_unknown() -> None:
    with pytest.raises(UnknownTypeError):
        parse_event({"type": "response.begin"})
    with pytest.raises(ProtocolError) as caught:
        parse_event({"type": None})
    assert not isinstance(caught.value, UnknownTypeError)


def test_unknown_fields_of_a_configuration_are_reported() -> None:
    event = parse_event(
        {"type": "session.configure", "mode": 1, "session": {"voice": "aria", "speed": 2}}
    )
    assert isinstance(event, SessionConfigure)
    assert event.unknown_fields == ("mode", "session.speed")
    assert event.session.voice == "aria"


def test_unknown_fields_of_other_events_are_errors() -> None:
    code, message, param, _ = refused(type="response.cancel", reason="none")
    assert (code, message, param) == (
        "invalid_request_error",
        "unknown field",
        "response.cancel.reason",
    )
    code, _, param, _ = refused(type="session.update", session={"tools": [], "voice": "aria"})
    assert (code, param) == ("invalid_frame", "session.update.session.voice")
    code, _, param, _ = refused(type="session.update", session={"voice": "aria"})
    assert (code, param) == ("invalid_frame", "session.update.session.voice")


def test_a_field_of_a_wrong_type() -> None:
    code, message, param, event_id = refused(type="response.cancel", response_id=1, event_id="e1")
    assert (code, param, event_id) == ("invalid_request_error", "response.cancel.response_id", "e1")
    assert "valid string" in message


def test_texts_of_a_message_are_joined() -> None:
    texts = [{"type": "input_text", "text": text} for text in ("one", "two")]
    item = {"type": "message", "role": "user", "content": texts}
    event = parse_event({"type": "conversation.item.create", "item": item})
    assert isinstance(event, ItemCreate)
    assert isinstance(event.item, Message)
    assert event.item.text == "one two"
    assert refused(type="conversation.item.create", item={**item, "content": []})[0] == (
        "invalid_request_error"
    )


def test_a_response_is_cancelled_with_or_without_an_id() -> None:
    assert parse_event({"type": "response.cancel"}) == ResponseCancel(type="response.cancel")


def append(audio: str) -> InputAudioAppend:
    return InputAudioAppend(type="input_audio_buffer.append", audio=audio, event_id="e1")


def test_audio_is_decoded() -> None:
    pcm = bytes(range(160)) * 2
    assert append(base64.b64encode(pcm).decode()).pcm() == pcm


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ("!!!!", "audio is not valid base64"),
        ("é", "audio is not valid base64"),
        (base64.b64encode(bytes(321)).decode(), r"321 bytes is not a whole sample"),
        (base64.b64encode(bytes(318)).decode(), r"frame too small \(318 bytes, need 320\)"),
    ],
)
def test_audio_that_is_wrong(audio: str, message: str) -> None:
    with pytest.raises(ProtocolError, match=message) as caught:
        append(audio).pcm()
    assert caught.value.param == "audio"
    assert caught.value.event_id == "e1"
