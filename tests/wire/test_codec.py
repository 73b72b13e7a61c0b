"""Events and bytes: decoding tolerates everything, encoding says only what is known."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipecat_hydra.wire import events
from pipecat_hydra.wire.codec import configuration_size, decode, encode
from pipecat_hydra.wire.events import (
    AudioDelta,
    ErrorEvent,
    FunctionCallArgumentsDone,
    FunctionTool,
    InputAudioAppend,
    ItemCreate,
    ItemDone,
    MalformedMessage,
    ResponseCancel,
    ResponseCreate,
    ResponseDone,
    SessionConfiguration,
    SessionConfigure,
    SessionConfigured,
    SessionUpdate,
    SpeechStarted,
    UnknownEvent,
    Usage,
    WarningEvent,
)

SERVER_TYPES = [
    "warning",
    "session.created",
    "session.configured",
    "session.updated",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "conversation.item.added",
    "conversation.item.done",
    "response.created",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.delta",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.done",
    "error",
]

FIELDS = [
    "event_id",
    "session_id",
    "session",
    "item",
    "item_id",
    "response",
    "response_id",
    "delta",
    "call_id",
    "name",
    "arguments",
    "error",
    "code",
    "message",
    "audio_start_ms",
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*FIELDS, "id", "status", "usage", "output", "content", "text"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def decoded(**fields: object) -> events.ServerEvent:
    return decode(json.dumps(fields))


@pytest.mark.parametrize("type_", SERVER_TYPES)
def test_every_type_of_the_protocol_is_known_with_all_fields_missing(type_: str):
    event = decoded(type=type_)
    assert not isinstance(event, UnknownEvent | MalformedMessage)
    assert event.type == type_
    assert event.event_id is None
    assert event.dropped_fields == ()


def test_audio_is_decoded_from_bytes_and_from_text():
    pcm = bytes(range(256)) * 3 + b"\x01"
    message = json.dumps(
        {
            "type": "response.output_audio.delta",
            "event_id": "sv_1",
            "response_id": "resp_1",
            "item_id": "item_1",
            "delta": base64.b64encode(pcm).decode(),
        }
    )
    for event in (decode(message), decode(message.encode())):
        assert isinstance(event, AudioDelta)
        assert event.delta == pcm
        assert (event.response_id, event.item_id, event.event_id) == ("resp_1", "item_1", "sv_1")


def test_nested_fields_are_read():
    event = decoded(
        type="response.done",
        response={
            "id": "resp_1",
            "status": "failed",
            "status_details": {"error": {"code": "x"}},
            "output": [{"id": "item_1", "type": "function_call", "call_id": "call_1"}],
            "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        },
    )
    assert isinstance(event, ResponseDone)
    assert event.response is not None
    assert event.response.usage == Usage(input_tokens=1, output_tokens=2, total_tokens=3)
    assert event.response.status_details is not None
    assert event.response.status_details.error is not None
    assert event.response.status_details.error.code == "x"
    assert event.response.output is not None
    assert event.response.output[0].call_id == "call_1"


def test_unknown_fields_are_ignored():
    event = decoded(type="session.configured", session={"voice": "aria", "new": [1]}, other=1)
    assert isinstance(event, SessionConfigured)
    assert event.session is not None
    assert event.session.voice == "aria"
    assert event.dropped_fields == ()


def test_an_unknown_type_says_so_and_keeps_its_id():
    assert decoded(type="response.mood", event_id="sv_9", mood="good") == UnknownEvent(
        type="response.mood", event_id="sv_9"
    )
    assert decoded(type="response.mood", event_id=9) == UnknownEvent(type="response.mood")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"3", "not a JSON object"),
        (b"{}", "no event type"),
        (b'{"type": 3}', "no event type"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_event_says_so(message: bytes, reason: str):
    assert decode(message) == MalformedMessage(reason=reason, size=len(message))


def test_a_field_of_a_wrong_shape_is_dropped_and_the_rest_kept():
    event = decoded(
        type="response.done",
        event_id="sv_1",
        response={
            "id": "resp_1",
            "status": "completed",
            "usage": {"input_tokens": "many", "output_tokens": 3},
            "output": [17, {"id": "item_1"}],
        },
    )
    assert isinstance(event, ResponseDone)
    assert event.response is not None
    assert event.response.id == "resp_1"
    assert event.response.usage == Usage(output_tokens=3)
    assert event.response.output is None
    assert set(event.dropped_fields) == {"response.usage.input_tokens", "response.output.0"}


def test_unusable_audio_leaves_an_event_that_says_so():
    event = decoded(type="response.output_audio.delta", response_id="resp_1", delta="@@@")
    assert isinstance(event, AudioDelta)
    assert event.delta == b""
    assert event.response_id == "resp_1"
    assert event.dropped_fields == ("delta",)


def test_a_warning_and_an_error_are_read_in_either_shape():
    flat = decoded(type="warning", code="model_deprecated", message="soon")
    nested = decoded(type="warning", warning={"code": "model_deprecated"})
    assert isinstance(flat, WarningEvent)
    assert flat.code == "model_deprecated"
    assert isinstance(nested, WarningEvent)
    assert nested.warning is not None
    assert nested.warning.code == "model_deprecated"
    error = decoded(type="error", error={"code": "invalid_audio", "event_id": "evt_1"})
    assert isinstance(error, ErrorEvent)
    assert error.error is not None
    assert error.error.event_id == "evt_1"


@given(st.binary(max_size=200))
def test_decoding_arbitrary_bytes_never_fails(message: bytes):
    assert decode(message) is not None


@given(st.text(max_size=200))
def test_decoding_arbitrary_text_never_fails(message: str):
    assert decode(message) is not None


@given(st.sampled_from(SERVER_TYPES), st.dictionaries(st.sampled_from(FIELDS), json_values))
def test_a_known_type_is_known_whatever_its_fields_hold(type_: str, fields: dict[str, object]):
    event = decode(json.dumps({**fields, "type": type_}))
    # Even what cannot be repaired says what it was.
    assert isinstance(event, MalformedMessage) or event.type == type_


@given(st.binary(min_size=0, max_size=4_000))
def test_audio_survives_the_wire(pcm: bytes):
    sent = json.loads(encode(InputAudioAppend(audio=pcm)))
    assert sent == {
        "type": "input_audio_buffer.append",
        "audio": base64.b64encode(pcm).decode(),
    }
    event = decoded(type="response.output_audio.delta", delta=sent["audio"])
    assert isinstance(event, AudioDelta)
    assert event.delta == pcm


def test_an_append_with_an_id_is_the_same_event():
    sent = json.loads(encode(InputAudioAppend(audio=b"\x00\x01", event_id="evt_1")))
    assert sent == {
        "type": "input_audio_buffer.append",
        "event_id": "evt_1",
        "audio": "AAE=",
    }


def test_client_events_are_encoded_without_what_is_not_said():
    tool = FunctionTool(name="f", description="does", parameters={"type": "object"})
    cases: list[tuple[events.ClientEvent, dict[str, object]]] = [
        (
            SessionConfigure(session=SessionConfiguration(voice="aria", tools=(tool,))),
            {
                "type": "session.configure",
                "session": {
                    "voice": "aria",
                    "tools": [
                        {
                            "type": "function",
                            "name": "f",
                            "description": "does",
                            "parameters": {"type": "object"},
                        }
                    ],
                },
            },
        ),
        (
            SessionUpdate.of((), event_id="evt_2"),
            {"type": "session.update", "event_id": "evt_2", "session": {"tools": []}},
        ),
        (
            ItemCreate.tool_output("call_1", "null"),
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": "call_1", "output": "null"},
            },
        ),
        (
            ItemCreate.message("hello"),
            {
                "type": "conversation.item.create",
                "item": {
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": "hello"}],
                },
            },
        ),
        (ResponseCreate(), {"type": "response.create"}),
        (ResponseCancel(response_id="r"), {"type": "response.cancel", "response_id": "r"}),
    ]
    for event, expected in cases:
        assert json.loads(encode(event)) == expected


def test_text_is_sent_as_utf8():
    message = encode(SessionConfigure(session=SessionConfiguration(instructions="naïve 日本")))
    assert "naïve 日本".encode() in message


def test_the_other_events_keep_their_fields():
    started = decoded(type="input_audio_buffer.speech_started", audio_start_ms=20, item_id="i")
    assert isinstance(started, SpeechStarted)
    assert (started.audio_start_ms, started.item_id) == (20, "i")
    call = decoded(
        type="response.function_call_arguments.done", call_id="c", name="f", arguments="{}"
    )
    assert isinstance(call, FunctionCallArgumentsDone)
    assert (call.call_id, call.name, call.arguments) == ("c", "f", "{}")
    done = decoded(type="conversation.item.done", item={"role": "user", "status": "incomplete"})
    assert isinstance(done, ItemDone)
    assert done.item is not None
    assert done.item.status == "incomplete"


def test_half_a_surrogate_pair_does_no_harm():
    assert b"caf?" in encode(ItemCreate.message("caf\ud83d"))


def test_a_message_whose_every_repair_shows_another_bad_field_says_so(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("pipecat_hydra.wire.codec._MAX_REPAIRS", 0)
    event = decoded(type="response.done", response=7)
    assert event == MalformedMessage(reason="response.done with unusable fields", size=40)


def test_a_bad_element_goes_with_its_list_and_a_bad_field_alone():
    event = decoded(
        type="response.done",
        response={"id": "r", "output": [{"id": "i"}, 7], "usage": {"input_tokens": "many"}},
    )
    assert isinstance(event, ResponseDone)
    assert event.response is not None
    assert event.response.id == "r"
    assert event.response.output is None
    assert event.response.usage == Usage()
    assert set(event.dropped_fields) == {"response.output.1", "response.usage.input_tokens"}


def test_the_size_of_a_configuration_does_not_count_its_instructions():
    short = SessionConfiguration(instructions="x", voice="aria")
    long = SessionConfiguration(instructions="x" * 1_000, voice="aria")
    assert configuration_size(short) == configuration_size(long)
    with_tool = SessionConfiguration(tools=(FunctionTool(name="f", parameters={}),), voice="aria")
    assert configuration_size(with_tool) > configuration_size(short)


@pytest.mark.parametrize(
    ("type_", "field"),
    [
        ("response.output_audio_transcript.delta", "delta"),
        ("response.function_call_arguments.delta", "delta"),
        ("response.function_call_arguments.done", "arguments"),
    ],
)
def test_half_a_surrogate_pair_from_the_server_costs_nothing_but_itself(type_: str, field: str):
    message = f'{{"type": "{type_}", "call_id": "c", "response_id": "r", "{field}": "a\\ud83db"}}'
    event = decode(message)
    assert not isinstance(event, MalformedMessage)
    assert event.type == type_
    assert event.dropped_fields == ()
    assert getattr(event, field) == "a\ufffdb"


def test_half_a_surrogate_pair_may_be_anywhere():
    event = decode(b'{"type": "error", "event_id": "\\ud800", "\\udc00": ["\\ud800"]}')
    assert isinstance(event, ErrorEvent)
    assert event.event_id == "\ufffd"


@pytest.mark.parametrize("line", ["\n", "\r\n", " ", "\t"])
def test_base64_may_come_in_lines(line: str):
    pcm = bytes(range(200))
    text = base64.b64encode(pcm).decode()
    lines = "".join(text[n : n + 76] + line for n in range(0, len(text), 76))
    event = decoded(type="response.output_audio.delta", response_id="r", delta=lines)
    assert isinstance(event, AudioDelta)
    assert event.delta == pcm
    assert event.dropped_fields == ()


def test_what_is_no_base64_in_lines_either_is_dropped():
    event = decoded(type="response.output_audio.delta", delta="!! !")
    assert isinstance(event, AudioDelta)
    assert event.delta == b""
    assert event.dropped_fields == ("delta",)


def test_reply_audio_may_come_under_the_name_that_user_audio_has():
    event = decoded(type="response.output_audio.delta", response_id="r", audio="AQI=")
    assert isinstance(event, AudioDelta)
    assert event.delta == b"\x01\x02"
    bad = decoded(type="response.output_audio.delta", response_id="r", audio=7)
    assert isinstance(bad, AudioDelta)
    assert bad.delta == b""
