"""The wire as the server sees it: client events checked, server events built.

Strictness follows §3 and §4 of the protocol document. Where it says that the server is
silent, unknown fields of `session.configure`, they are let pass and reported to the
caller; everywhere else a field that is not documented is an error, so that a client
which is accepted here sends nothing that nobody has seen accepted.
"""

import base64
import binascii
import json
import uuid
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE, MIN_APPEND_BYTES, ErrorCode

Event = dict[str, Any]
"""One event, as it is on the wire once decoded from JSON."""


class ProtocolError(Exception):
    """A client event that the server answers with an `error` event.

    Parameters:
        code: `error.code` on the wire.
        message: `error.message`.
        param: `error.param`, the path of the field at fault.
        event_id: `error.event_id`, the client event at fault, if it had an id.
    """

    def __init__(
        self, code: str, message: str, *, param: str | None = None, event_id: str | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.param = param
        self.event_id = event_id


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Tolerant(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


class SessionConfiguration(_Tolerant):
    """`session` of `session.configure` (§2); fields that are not known pass silently."""

    instructions: str = ""
    voice: str | None = None
    tools: list[Event] = []
    generate_initial_response: bool = False


class SessionConfigure(_Tolerant):
    """`session.configure`, sent once."""

    type: Literal["session.configure"]
    event_id: str | None = None
    session: SessionConfiguration

    @property
    def unknown_fields(self) -> tuple[str, ...]:
        """Names of the fields that the protocol does not know."""
        return (
            *(self.model_extra or {}),
            *(f"session.{name}" for name in self.session.model_extra or {}),
        )


class SessionUpdateBody(_Strict):
    """`session` of `session.update`: nothing but `tools` is honoured (§4)."""

    tools: list[Event]


class SessionUpdate(_Strict):
    """`session.update`."""

    type: Literal["session.update"]
    event_id: str | None = None
    session: SessionUpdateBody


class InputAudioAppend(_Strict):
    """`input_audio_buffer.append`; `audio` is still base64."""

    type: Literal["input_audio_buffer.append"]
    event_id: str | None = None
    audio: str

    def pcm(self) -> bytes:
        """Decode the audio.

        Raises:
            ProtocolError: It is not base64, not PCM16, or under 10 ms (§3).
        """
        try:
            pcm = base64.b64decode(self.audio, validate=True)
        except (binascii.Error, ValueError):
            raise self._invalid("audio is not valid base64") from None
        if len(pcm) % BYTES_PER_SAMPLE:
            raise self._invalid(f"audio is not PCM16 ({len(pcm)} bytes is not a whole sample)")
        if len(pcm) < MIN_APPEND_BYTES:
            raise self._invalid(
                f"audio frame too small ({len(pcm)} bytes, need {MIN_APPEND_BYTES})"
            )
        return pcm

    def _invalid(self, message: str) -> ProtocolError:
        return ProtocolError(
            ErrorCode.INVALID_AUDIO, message, param=f"{self.type}.audio", event_id=self.event_id
        )


class FunctionCallOutput(_Strict):
    """An item that answers a tool call."""

    type: Literal["function_call_output"]
    id: str | None = None
    call_id: str
    output: str


class InputText(_Strict):
    """Text content of a message item."""

    type: Literal["input_text"]
    text: str


class Message(_Strict):
    """A message item: in the schema, but unproven on the real server (§4)."""

    type: Literal["message"]
    id: str | None = None
    role: Literal["user", "assistant", "system"]
    content: Annotated[list[InputText], Field(min_length=1)]

    @property
    def text(self) -> str:
        """All text of the message."""
        return " ".join(part.text for part in self.content)


class ItemCreate(_Strict):
    """`conversation.item.create`."""

    type: Literal["conversation.item.create"]
    event_id: str | None = None
    item: Annotated[FunctionCallOutput | Message, Field(discriminator="type")]


class ResponseCreate(_Strict):
    """`response.create`; what `response` may hold is not documented."""

    type: Literal["response.create"]
    event_id: str | None = None
    response: Event | None = None


class ResponseCancel(_Strict):
    """`response.cancel`, of one response or of whichever is in flight."""

    type: Literal["response.cancel"]
    event_id: str | None = None
    response_id: str | None = None


ClientEvent = (
    SessionConfigure
    | SessionUpdate
    | InputAudioAppend
    | ItemCreate
    | ResponseCreate
    | ResponseCancel
)
"""Every event that a client may send (§4)."""

_MODELS: dict[str, type[ClientEvent]] = {
    "session.configure": SessionConfigure,
    "session.update": SessionUpdate,
    "input_audio_buffer.append": InputAudioAppend,
    "conversation.item.create": ItemCreate,
    "response.create": ResponseCreate,
    "response.cancel": ResponseCancel,
}


def parse_json(text: str) -> Event:
    """Decode one text frame into an event that has at least a `type`.

    Raises:
        ProtocolError: It is not a JSON object with a string `type`.
    """
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        raise ProtocolError(ErrorCode.INVALID_FRAME, "frame is not valid JSON") from None
    if not isinstance(event, dict):
        raise ProtocolError(ErrorCode.INVALID_FRAME, "frame is not a JSON object")
    return event  # pyright: ignore[reportUnknownVariableType]  # JSON keys are strings


def parse_event(event: Event) -> ClientEvent:
    """Check a decoded event.

    Raises:
        ProtocolError: The type is unknown, or a field is missing, wrong or not allowed.
    """
    event_id = event.get("event_id")
    event_id = event_id if isinstance(event_id, str) else None
    kind = event.get("type")
    model = _MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise ProtocolError(
            ErrorCode.INVALID_REQUEST, "unknown event type", param="type", event_id=event_id
        )
    try:
        return model.model_validate(event)
    except ValidationError as exception:
        detail = exception.errors(include_url=False, include_input=False)[0]
        strict_update = kind == "session.update" and detail["type"] == "extra_forbidden"
        raise ProtocolError(
            ErrorCode.INVALID_FRAME if strict_update else ErrorCode.INVALID_REQUEST,
            "unknown field" if detail["type"] == "extra_forbidden" else detail["msg"],
            param=".".join(str(part) for part in (kind, *detail["loc"])),
            event_id=event_id,
        ) from None


def new_id(prefix: str) -> str:
    """Make an id like those on the wire: `item_…`, `resp_…`, `call_…`, `sv_…`."""
    return f"{prefix}_{uuid.uuid4().hex[:24]}"


# Server events (§3). `event_id` is added when an event is sent.


def warning(code: str, message: str) -> Event:
    """Build a `warning`."""
    return {"type": "warning", "code": code, "message": message}


def error(problem: ProtocolError) -> Event:
    """Build an `error`."""
    client_fault = problem.code.startswith("invalid_")
    body: Event = {
        "type": "invalid_request_error" if client_fault else "server_error",
        "code": problem.code,
        "message": problem.message,
    }
    if problem.param is not None:
        body["param"] = problem.param
    if problem.event_id is not None:
        body["event_id"] = problem.event_id
    return {"type": "error", "error": body}


def item_event(stage: Literal["added", "done"], previous: str | None, item: Event) -> Event:
    """Build a `conversation.item.added` or `.done`."""
    return {"type": f"conversation.item.{stage}", "previous_item_id": previous, "item": item}


def message_item(
    item_id: str, role: Literal["user", "assistant"], status: str, text: str | None = None
) -> Event:
    """Build the item of spoken words, whose text is null unless it is known (§3)."""
    content = {"type": "input_audio" if role == "user" else "output_audio", "text": text}
    return {
        "id": item_id,
        "type": "message",
        "role": role,
        "status": status,
        "content": [content] if status != "in_progress" else [],
    }
