"""Parses client events and checks them against the protocol document.

Strictness follows §3 and §4 of the document. The real server ignores unknown fields of
`session.configure`; they are accepted here too, and reported to the caller. Any other field is an
error unless the real server is known to accept it. So a client that is accepted here sends only
what the real server is known to accept.
"""

import base64
import binascii
import json
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipecat_hydra.emulator.wire.events import Event, ProtocolError
from pipecat_hydra.wire.protocol import BYTES_PER_SAMPLE, MIN_APPEND_BYTES, ErrorCode


class _Strict(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Tolerant(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow", strict=True, frozen=True)


class SessionConfiguration(_Tolerant):
    """`session` of `session.configure` (§2); unknown fields are accepted.

    Clients also send the formats and rates that `session.configured` echoes. Another format is an
    error (§3).
    """

    instructions: str = ""
    voice: str | None = None
    tools: list[Event] = []
    generate_initial_response: bool = False
    input_audio_format: Literal["pcm16"] = "pcm16"
    input_audio_sample_rate: int | None = None
    output_audio_format: Literal["pcm16"] = "pcm16"
    output_audio_sample_rate: Annotated[int, Field(ge=8_000, le=48_000)] | None = None


class SessionConfigure(_Tolerant):
    """`session.configure`; only the first one of a session counts."""

    type: Literal["session.configure"]
    event_id: str | None = None
    session: SessionConfiguration

    @property
    def unknown_fields(self) -> tuple[str, ...]:
        """Names of the fields that are not in the protocol document."""
        return (
            *(self.model_extra or {}),
            *(f"session.{name}" for name in self.session.model_extra or {}),
        )


class SessionUpdateBody(_Strict):
    """`session` of `session.update`; only `tools` may be updated (§4)."""

    tools: list[Event]


class SessionUpdate(_Strict):
    """`session.update`."""

    type: Literal["session.update"]
    event_id: str | None = None
    session: SessionUpdateBody


class InputAudioAppend(_Strict):
    """`input_audio_buffer.append`; `audio` is base64."""

    type: Literal["input_audio_buffer.append"]
    event_id: str | None = None
    audio: str

    def pcm(self) -> bytes:
        """Decode the audio to mono PCM16 LE at 16 kHz.

        Raises:
            ProtocolError: The audio is not base64, not PCM16, or shorter than 10 ms (§3).
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
            ErrorCode.INVALID_AUDIO, message, param="audio", event_id=self.event_id
        )


class FunctionCallOutput(_Strict):
    """A `function_call_output` item, which answers a tool call; the role is optional (§4)."""

    type: Literal["function_call_output"]
    id: str | None = None
    role: Literal["user"] | None = None
    call_id: str
    output: str


class InputText(_Strict):
    """One text of a `message` item."""

    type: Literal["input_text"]
    text: str


class Message(_Strict):
    """A `message` item. Its effect on the real server is not known (§4)."""

    type: Literal["message"]
    id: str | None = None
    role: Literal["user", "assistant", "system"]
    content: Annotated[list[InputText], Field(min_length=1)]

    @property
    def text(self) -> str:
        """All texts of the message, joined by spaces."""
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
    """`response.cancel`, of one response or, without an id, of the one in flight."""

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
    """Decode a text frame into an event, whose fields are not yet checked.

    Raises:
        ProtocolError: The frame is not a JSON object.
    """
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        raise ProtocolError(ErrorCode.INVALID_FRAME, "frame is not valid JSON") from None
    if not isinstance(event, dict):
        raise ProtocolError(ErrorCode.INVALID_FRAME, "frame is not a JSON object")
    return event  # pyright: ignore[reportUnknownVariableType]  # JSON keys are strings


class UnknownTypeError(ProtocolError):
    """The type of an event is unknown. Whether the server tells is open (§3)."""


def parse_event(event: Event) -> ClientEvent:
    """Check the fields of a decoded event, and return the model of its type.

    Raises:
        UnknownTypeError: The type is unknown.
        ProtocolError: The type is missing, or another field is missing, wrong or not allowed.
    """
    event_id = event.get("event_id")
    event_id = event_id if isinstance(event_id, str) else None
    kind = event.get("type")
    if not isinstance(kind, str):
        raise ProtocolError(
            ErrorCode.INVALID_FRAME, "event has no type", param="type", event_id=event_id
        )
    if (model := _MODELS.get(kind)) is None:
        raise UnknownTypeError(
            ErrorCode.INVALID_FRAME, "unknown event type", param="type", event_id=event_id
        )
    try:
        return model.model_validate(event)
    except ValidationError as exception:
        details = exception.errors(include_url=False, include_input=False)
        unknown = [detail for detail in details if detail["type"] == "extra_forbidden"]
        # In an update an unknown field has a code of its own, whatever else is wrong (§3).
        strict = kind == "session.update" and bool(unknown)
        detail = unknown[0] if strict else details[0]
        raise ProtocolError(
            ErrorCode.INVALID_FRAME if strict else ErrorCode.INVALID_REQUEST,
            "unknown field" if detail in unknown else detail["msg"],
            param=".".join(str(part) for part in (kind, *detail["loc"])),
            event_id=event_id,
        ) from None
