"""Encodes events to bytes and decodes bytes to events.

`decode` turns one WebSocket message into one event and never raises: an unknown type becomes
an `UnknownEvent`, a message that is no event a `MalformedMessage`, and a field of the wrong
shape is dropped as if it had been missing, so that a `response.done` with an odd `usage` still
ends its response. What can be read although it is not as it should be is no reason to drop
anything: base64 in lines, and halves of surrogate pairs in texts.

`encode` returns the exact bytes of one client event.
"""

import base64
import json
from itertools import pairwise
from typing import Annotated, Any, Final, cast

from pydantic import Discriminator, TypeAdapter, ValidationError

from pipecat_hydra.wire.events import (
    ClientEvent,
    InputAudioAppend,
    KnownServerEvent,
    MalformedMessage,
    ServerEvent,
    SessionConfiguration,
    SessionConfigure,
    UnknownEvent,
)
from pipecat_hydra.wire.text import well_formed

__all__ = ["APPEND", "configuration_size", "decode", "encode"]

_decoder: Final[TypeAdapter[ServerEvent]] = TypeAdapter(
    Annotated[KnownServerEvent, Discriminator("type")]
)

APPEND: Final = b'{"type":"input_audio_buffer.append","audio":"%b"}'
"""An `input_audio_buffer.append` without an id, with its base64 in the place of `%b`. Appends are
nine tenths of what is sent, and this is five times faster than to serialize a model."""

_MAX_REPAIRS: Final = 8
"""How many fields of a wrong shape are dropped before the message counts as malformed."""


def decode(message: bytes | bytearray | str) -> ServerEvent:
    """Turn one WebSocket message into an event. Never raises.

    Args:
        message: A text or binary frame's content.

    Returns:
        The event; `UnknownEvent` for a type this version does not know,
        `MalformedMessage` for anything that is not a JSON object with a type.
    """
    try:
        return _decoder.validate_json(message)
    except ValidationError as error:
        return _decode_leniently(message, error)


def _decode_leniently(message: bytes | bytearray | str, error: ValidationError) -> ServerEvent:
    """Decode a message that is not valid: mend it, drop its bad fields, or say what is wrong."""
    size = len(message)
    try:
        loaded: object = json.loads(message)
    except (ValueError, RecursionError):
        return MalformedMessage(reason="not JSON", size=size)
    if not isinstance(loaded, dict):
        return MalformedMessage(reason="not a JSON object", size=size)
    data = cast("dict[str, Any]", loaded)
    dropped: list[str] = []
    if not isinstance(data.get("type"), str):
        return MalformedMessage(reason="no event type", size=size)
    for _ in range(_MAX_REPAIRS):
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        if problems[0]["type"] == "union_tag_invalid":
            event_id = data.get("event_id")
            return UnknownEvent(
                type=data["type"], event_id=event_id if isinstance(event_id, str) else None
            )
        for problem in problems:
            # The first element of a location is the discriminator's tag.
            location = problem["loc"][1:]
            # A message that is no valid JSON is mended by being written again.
            if location and not _mend(data, location):
                _drop(data, location)
                dropped.append(".".join(map(str, location)))
        try:
            event = _decoder.validate_json(well_formed(json.dumps(data, ensure_ascii=False)))
            # The event is frozen, and this is no field of the message.
            vars(event)["dropped_fields"] = tuple(dropped)
            return event
        except ValidationError as again:
            error = again
        except (ValueError, RecursionError):
            break
    return MalformedMessage(reason=f"{data['type']} with unusable fields", size=size)


def _mend(data: dict[str, Any], location: tuple[int | str, ...]) -> bool:
    """Join the lines of base64 that is at `location`; return whether there were any."""
    if len(location) != 1 or not isinstance(text := data.get(str(location[0])), str):
        return False
    joined = data[str(location[0])] = "".join(text.split())
    return joined != text


def _drop(data: Any, location: tuple[int | str, ...]) -> None:
    """Remove what is at `location`; a bad element of a list goes with the whole list."""
    if not location:
        return
    for key, following in pairwise(location):
        if isinstance(following, int) or not isinstance(data.get(key), dict):
            data.pop(key, None)
            return
        data = data[key]
    data.pop(location[-1], None)


def configuration_size(configuration: SessionConfiguration) -> int:
    """Return the size of a `session.configure` in bytes, without that of its instructions."""
    bare = configuration.model_copy(update={"instructions": ""})
    return len(encode(SessionConfigure(session=bare, event_id="evt_0000")))


def encode(event: ClientEvent) -> bytes:
    """Return the JSON of one client event, UTF-8, without fields that are None.

    Args:
        event: The event to send.

    Returns:
        The content of the text frame to send.

    Raises:
        TypeError: If the parameters of a tool are not JSON.
        ValueError: Likewise.
    """
    if isinstance(event, InputAudioAppend) and event.event_id is None:
        return APPEND % base64.b64encode(event.audio)
    data = event.model_dump(exclude_none=True)
    if isinstance(event, InputAudioAppend):
        data["audio"] = base64.b64encode(event.audio).decode()
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # Half a surrogate pair, as cut-off text may hold, is no UTF-8.
    return text.encode(errors="replace")
