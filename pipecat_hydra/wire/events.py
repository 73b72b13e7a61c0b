"""The wire vocabulary: every client and server event as an immutable typed model.

A table, in the order of the protocol: server events first, then client events. How events
become bytes, and bytes events, is in `codec.py`.

Apart from its type, any field of any server event may be missing; it then reads as its
default. The server accepts unknown fields of `session.configure` silently and ignores them, so
client events can hold only fields that the protocol names.

Protocol: §3 (server events), §4 (client events).
"""

import json
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)

__all__ = [
    "AudioDelta",
    "AudioDone",
    "ClientEvent",
    "ConversationItem",
    "ErrorDetail",
    "ErrorEvent",
    "FunctionCallArgumentsDelta",
    "FunctionCallArgumentsDone",
    "FunctionTool",
    "InputAudioAppend",
    "ItemAdded",
    "ItemContent",
    "ItemCreate",
    "ItemDone",
    "KnownServerEvent",
    "MalformedMessage",
    "MessageRole",
    "ResponseCancel",
    "ResponseCreate",
    "ResponseCreated",
    "ResponseDone",
    "ResponseInfo",
    "ServerEvent",
    "SessionConfiguration",
    "SessionConfigure",
    "SessionConfigured",
    "SessionCreated",
    "SessionInfo",
    "SessionUpdate",
    "SessionUpdated",
    "SpeechStarted",
    "SpeechStopped",
    "StatusDetails",
    "TranscriptDelta",
    "TranscriptDone",
    "UnknownEvent",
    "Usage",
    "WarningEvent",
]


class _Received(BaseModel):
    """Something the server sent: immutable, unknown fields ignored."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="ignore", val_json_bytes="base64"
    )


class _Sent(BaseModel):
    """Something we send: immutable, unknown fields refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


#
# Server events
#


class _ServerEvent(_Received):
    event_id: str | None = None
    # Of the class, because nearly no event has any: pydantic would make a private attribute anew
    # for each event. An event that has some, `decode` gives its own.
    dropped_fields: ClassVar[tuple[str, ...]] = ()
    """Paths of the fields that `decode` left out because their shape was wrong."""


_MAX_SHOWN_CHARS: Final = 300


def _shown(text: str) -> str:
    """Make a text fit to be logged: one line of limited length, without control characters."""
    if len(text) > _MAX_SHOWN_CHARS:
        text = f"{text[:_MAX_SHOWN_CHARS]}…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


_Shown: TypeAlias = Annotated[str, AfterValidator(_shown)]


def _written(value: Any) -> Any:
    """Write JSON that came as itself as the text that it is elsewhere."""
    return value if value is None or isinstance(value, str) else json.dumps(value)


_JsonText: TypeAlias = Annotated[str, BeforeValidator(_written)]


class SessionInfo(_Received):
    """The session as the server echoes it.

    Parameters:
        instructions: The persona in force.
        voice: The voice in force.
        tools: The tools in force, as sent.
        output_audio_sample_rate: Rate of reply audio in Hz.
    """

    instructions: str | None = None
    voice: _Shown | None = None
    tools: list[dict[str, Any]] | None = None
    output_audio_sample_rate: int | None = None


class ItemContent(_Received):
    """One part of a conversation item.

    Parameters:
        type: `input_audio`, `input_text`, `output_audio` or `output_text`.
        text: The text, or the transcript of audio where the server gives one.
        transcript: The transcript of audio, likewise.
    """

    type: str | None = None
    text: str | None = None
    transcript: str | None = None


class ConversationItem(_Received):
    """An item of the conversation as the server reports it; every field may be missing.

    Parameters:
        id: The item's id.
        type: `message`, `function_call` or `function_call_output`.
        role: `user`, `assistant` or `system`.
        status: `in_progress`, `completed` or `incomplete` (a user item that is
            `incomplete` is a discarded turn).
        content: The parts of a message.
        call_id: Id of the call, for `function_call` and `function_call_output`.
        name: Name of the function called.
        arguments: Arguments of the call, JSON text; an object is taken for its text.
        output: Result of the call, as sent.
    """

    id: str | None = None
    type: str | None = None
    role: str | None = None
    status: str | None = None
    content: list[ItemContent] | None = None
    call_id: str | None = None
    name: _Shown | None = None
    arguments: _JsonText | None = None
    output: str | None = None

    @property
    def words(self) -> str:
        """What was said aloud in it, as far as the server gives a transcript."""
        spoken = (part for part in self.content or () if part.type != "input_text")
        return " ".join(words for part in spoken if (words := part.text or part.transcript))


class Usage(_Received):
    """Tokens that one response took.

    Parameters:
        input_tokens: Tokens read.
        output_tokens: Tokens generated.
        total_tokens: Both together.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None


class ErrorDetail(_Received):
    """What went wrong.

    Parameters:
        type: Class of error.
        code: One of `pipecat_hydra.wire.protocol.ErrorCode`, or another.
        message: For a person.
        param: The field at fault.
        event_id: Id of the client event at fault.
    """

    type: _Shown | None = None
    code: _Shown | None = None
    message: _Shown | None = None
    param: _Shown | None = None
    event_id: str | None = None


class StatusDetails(_Received):
    """Why a response ended as it did.

    Parameters:
        reason: `interrupted`, `client_cancelled`, `max_output_tokens` or `content_filter`.
        type: Class of the ending.
        error: For status `failed`.
    """

    reason: _Shown | None = None
    type: _Shown | None = None
    error: ErrorDetail | None = None


class ResponseInfo(_Received):
    """A response as `response.created` and `response.done` report it.

    Parameters:
        id: The response's id.
        status: `in_progress`, `completed`, `cancelled`, `incomplete` or `failed`.
        status_details: Why it ended.
        output: The items it made.
        usage: The tokens it took.
    """

    id: str | None = None
    status: _Shown | None = None
    status_details: StatusDetails | None = None
    output: list[ConversationItem] | None = None
    usage: Usage | None = None


class WarningEvent(_ServerEvent):
    """`warning`: something to log. Its shape is unknown, so both likely ones are read."""

    type: Literal["warning"]
    code: _Shown | None = None
    message: _Shown | None = None
    warning: ErrorDetail | None = None


class SessionCreated(_ServerEvent):
    """`session.created`: the server is ready to be configured."""

    type: Literal["session.created"]
    session_id: _Shown | None = None


class SessionConfigured(_ServerEvent):
    """`session.configured`: audio may flow from now on."""

    type: Literal["session.configured"]
    session: SessionInfo | None = None


class SessionUpdated(_ServerEvent):
    """`session.updated`: the fields of a `session.update` that were applied."""

    type: Literal["session.updated"]
    session: SessionInfo | None = None


class SpeechStarted(_ServerEvent):
    """`input_audio_buffer.speech_started`: the server hears the user begin to speak."""

    type: Literal["input_audio_buffer.speech_started"]
    audio_start_ms: float | None = None
    item_id: str | None = None


class SpeechStopped(_ServerEvent):
    """`input_audio_buffer.speech_stopped`: the user has stopped."""

    type: Literal["input_audio_buffer.speech_stopped"]
    audio_end_ms: float | None = None
    item_id: str | None = None


class ItemAdded(_ServerEvent):
    """`conversation.item.added`: an item was begun."""

    type: Literal["conversation.item.added"]
    previous_item_id: str | None = None
    item: ConversationItem | None = None


class ItemDone(_ServerEvent):
    """`conversation.item.done`: an item is complete, or was discarded."""

    type: Literal["conversation.item.done"]
    previous_item_id: str | None = None
    item: ConversationItem | None = None


class ResponseCreated(_ServerEvent):
    """`response.created`: the model begins to answer."""

    type: Literal["response.created"]
    response: ResponseInfo | None = None


class _ResponsePart(_ServerEvent):
    response_id: str | None = None


class AudioDelta(_ResponsePart):
    """`response.output_audio.delta`: reply audio, PCM16 LE mono, split at any byte.

    The audio may also come as `audio`, as in the client's events.
    """

    type: Literal["response.output_audio.delta"]
    item_id: str | None = None
    delta: bytes = Field(default=b"", validation_alias=AliasChoices("delta", "audio"))


class AudioDone(_ResponsePart):
    """`response.output_audio.done`: an item's audio is complete. May never come."""

    type: Literal["response.output_audio.done"]
    item_id: str | None = None


class TranscriptDelta(_ResponsePart):
    """`response.output_audio_transcript.delta`: what the assistant says, phrase by phrase."""

    type: Literal["response.output_audio_transcript.delta"]
    item_id: str | None = None
    delta: str = ""


class TranscriptDone(_ResponsePart):
    """`response.output_audio_transcript.done`: all that the assistant said in an item.

    Undocumented, like the deltas. The text may come as `text`.
    """

    type: Literal["response.output_audio_transcript.done"]
    item_id: str | None = None
    transcript: str = Field(default="", validation_alias=AliasChoices("transcript", "text"))


class FunctionCallArgumentsDelta(_ResponsePart):
    """`response.function_call_arguments.delta`: a fragment of JSON, split anywhere."""

    type: Literal["response.function_call_arguments.delta"]
    call_id: str | None = None
    name: _Shown | None = None
    delta: str = ""


class FunctionCallArgumentsDone(_ResponsePart):
    """`response.function_call_arguments.done`: the call is complete.

    An object as arguments is taken for its text.
    """

    type: Literal["response.function_call_arguments.done"]
    call_id: str | None = None
    name: _Shown | None = None
    arguments: _JsonText | None = None


class ResponseDone(_ServerEvent):
    """`response.done`: generation has ended; playback goes on for seconds."""

    type: Literal["response.done"]
    response: ResponseInfo | None = None


class ErrorEvent(_ServerEvent):
    """`error`: a diagnostic. The session lives on unless a close follows."""

    type: Literal["error"]
    error: ErrorDetail | None = None


class UnknownEvent(_ServerEvent):
    """An event of a type that this version does not know."""

    type: str


class MalformedMessage(BaseModel):
    """A message that is no event.

    Parameters:
        reason: What is wrong with it, without its content.
        size: Its size in bytes.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True)

    reason: str
    size: int


KnownServerEvent: TypeAlias = (
    WarningEvent
    | SessionCreated
    | SessionConfigured
    | SessionUpdated
    | SpeechStarted
    | SpeechStopped
    | ItemAdded
    | ItemDone
    | ResponseCreated
    | AudioDelta
    | AudioDone
    | TranscriptDelta
    | TranscriptDone
    | FunctionCallArgumentsDelta
    | FunctionCallArgumentsDone
    | ResponseDone
    | ErrorEvent
)
"""An event of a type that this version knows; `type` tells which."""

ServerEvent: TypeAlias = KnownServerEvent | UnknownEvent | MalformedMessage
"""Whatever `decode` may return."""


#
# Client events
#


class FunctionTool(_Sent):
    """A tool the model may call (protocol §2, `tools`).

    Parameters:
        type: Always `function`.
        name: The function's name.
        description: What it does, for the model.
        parameters: JSON schema of its arguments.
    """

    type: Literal["function"] = "function"
    name: str
    description: str = ""
    parameters: dict[str, Any]


class SessionConfiguration(_Sent):
    """What `session.configure` may say; a field that is None is not sent.

    Parameters:
        instructions: The persona. Frozen for the session.
        voice: The voice. Frozen for the session.
        tools: The tools the model may call.
        generate_initial_response: Whether the model speaks first.
    """

    instructions: str | None = None
    voice: str | None = None
    tools: tuple[FunctionTool, ...] | None = None
    generate_initial_response: bool | None = None


class _ClientEvent(_Sent):
    event_id: str | None = None


class SessionConfigure(_ClientEvent):
    """`session.configure`: once per session, before any audio."""

    type: Literal["session.configure"] = "session.configure"
    session: SessionConfiguration


class _ToolUpdate(_Sent):
    tools: tuple[FunctionTool, ...]


class SessionUpdate(_ClientEvent):
    """`session.update`: other tools; nothing else can be changed."""

    type: Literal["session.update"] = "session.update"
    session: _ToolUpdate

    @classmethod
    def of(cls, tools: tuple[FunctionTool, ...], *, event_id: str | None = None) -> "SessionUpdate":
        """Make the update that puts `tools` in force."""
        return cls(session=_ToolUpdate(tools=tools), event_id=event_id)


class InputAudioAppend(_ClientEvent):
    """`input_audio_buffer.append`: user audio, PCM16 LE mono at 16 kHz."""

    type: Literal["input_audio_buffer.append"] = "input_audio_buffer.append"
    audio: bytes


MessageRole = Literal["user", "assistant", "system"]
"""The role of the author of a text message."""


class _InputText(_Sent):
    type: Literal["input_text"] = "input_text"
    text: str


class _Message(_Sent):
    type: Literal["message"] = "message"
    role: MessageRole
    content: tuple[_InputText, ...]


class _FunctionCallOutput(_Sent):
    type: Literal["function_call_output"] = "function_call_output"
    call_id: str
    output: str


class ItemCreate(_ClientEvent):
    """`conversation.item.create`: the result of a call, or a message."""

    type: Literal["conversation.item.create"] = "conversation.item.create"
    item: _FunctionCallOutput | _Message

    @classmethod
    def tool_output(cls, call_id: str, output: str, *, event_id: str | None = None) -> "ItemCreate":
        """Make the item that answers the call `call_id`."""
        return cls(item=_FunctionCallOutput(call_id=call_id, output=output), event_id=event_id)

    @classmethod
    def message(
        cls,
        text: str,
        *,
        role: MessageRole = "user",
        event_id: str | None = None,
    ) -> "ItemCreate":
        """Make a text message. That the server honours it is unproven (protocol §4)."""
        return cls(item=_Message(role=role, content=(_InputText(text=text),)), event_id=event_id)


class ResponseCreate(_ClientEvent):
    """`response.create`: ask the model to speak."""

    type: Literal["response.create"] = "response.create"


class ResponseCancel(_ClientEvent):
    """`response.cancel`: stop a response; nothing happens when it is not in flight."""

    type: Literal["response.cancel"] = "response.cancel"
    response_id: str | None = None


ClientEvent: TypeAlias = (
    SessionConfigure
    | SessionUpdate
    | InputAudioAppend
    | ItemCreate
    | ResponseCreate
    | ResponseCancel
)
"""Whatever `encode` takes."""
