"""Server events for tests, made as the server makes them: as JSON, then decoded."""

import base64
import json
from typing import Any

from pipecat_hydra.wire.codec import decode
from pipecat_hydra.wire.events import ServerEvent


def event(type_: str, **fields: Any) -> ServerEvent:
    """Decode an event of this type; a field that is None is left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    return decode(json.dumps({"type": type_, "event_id": "sv_0", **given}))


def created() -> ServerEvent:
    return event("session.created", session_id="sess_1")


def configured(rate: int | None = 24_000, **session: Any) -> ServerEvent:
    if rate is not None:
        session["output_audio_sample_rate"] = rate
    return event("session.configured", session=session)


def started(item: str | None = "item_1") -> ServerEvent:
    return event("input_audio_buffer.speech_started", audio_start_ms=0, item_id=item)


def stopped(item: str | None = "item_1") -> ServerEvent:
    return event("input_audio_buffer.speech_stopped", audio_end_ms=0, item_id=item)


def user_item(status: str, item: str | None = "item_1") -> ServerEvent:
    body = {"type": "message", "role": "user", "status": status}
    if item is not None:
        body["id"] = item
    return event("conversation.item.done", item=body)


def response_created(response: str | None = "resp_1") -> ServerEvent:
    return event("response.created", response={"id": response, "status": "in_progress"})


def audio(pcm: bytes, response: str | None = "resp_1") -> ServerEvent:
    delta = base64.b64encode(pcm).decode()
    return event("response.output_audio.delta", response_id=response, delta=delta)


def audio_done(response: str | None = "resp_1") -> ServerEvent:
    return event("response.output_audio.done", response_id=response)


def transcript(text: str, response: str | None = "resp_1") -> ServerEvent:
    return event("response.output_audio_transcript.delta", response_id=response, delta=text)


def done(
    response: str | None = "resp_1",
    status: str = "completed",
    reason: str | None = None,
    **fields: Any,
) -> ServerEvent:
    body: dict[str, Any] = {"id": response, "status": status, **fields}
    if reason is not None:
        body["status_details"] = {"reason": reason}
    return event("response.done", response=body)


def call(
    call_id: str = "call_1",
    name: str | None = "get_weather",
    arguments: str | None = "{}",
    response: str | None = "resp_1",
) -> ServerEvent:
    return event(
        "response.function_call_arguments.done",
        response_id=response,
        call_id=call_id,
        name=name,
        arguments=arguments,
    )


def call_delta(
    delta: str,
    call_id: str = "call_1",
    name: str | None = None,
    response: str | None = "resp_1",
) -> ServerEvent:
    return event(
        "response.function_call_arguments.delta",
        response_id=response,
        call_id=call_id,
        name=name,
        delta=delta,
    )


def error(code: str, **fields: Any) -> ServerEvent:
    return event("error", error={"code": code, "message": "went wrong", **fields})
