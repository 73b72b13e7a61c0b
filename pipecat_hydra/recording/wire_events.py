"""Takes the audio out of a wire event, and redacts its texts.

Most events are audio, so they get a short way: whoever has sent or decoded the event gives its
samples beside the message, the base64 text is cut out of the message, and the rest is kept as it
is, letter by letter.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

from loguru import logger

__all__ = [
    "Redact",
    "RedactedKind",
    "Redaction",
    "WireEvent",
    "read_event",
    "to_json",
    "without_audio",
]

RedactedKind: TypeAlias = Literal["user_text", "bot_text", "instructions", "arguments", "result"]
"""What a value is that a redaction is asked about."""

Redact: TypeAlias = Callable[[RedactedKind, Any], Any]
"""Returns what is kept in the place of a value. The recorder's own thread calls it."""

_AUDIO_FIELDS: Final = {
    "input_audio_buffer.append": ("audio",),
    "response.output_audio.delta": ("delta", "audio"),
}
# Half of all events are of this shape, which the service writes.
_APPEND_OPENS: Final = b'{"type":"input_audio_buffer.append","audio":"'
_APPEND_CLOSES: Final = b'"}'
_APPEND: Final = _APPEND_OPENS + _APPEND_CLOSES
_AUDIO_OPENS: Final = re.compile(rb'"(?:delta|audio)"\s*:\s*"')
_KIND_OF_ROLE: Final[dict[Any, RedactedKind]] = {
    "user": "user_text",
    "assistant": "bot_text",
    "system": "instructions",
    "developer": "instructions",
}
_KIND_OF_FIELD: Final[dict[str, RedactedKind]] = {
    "instructions": "instructions",
    "system_instruction": "instructions",
    "arguments": "arguments",
    "output": "result",
    "result": "result",
}
_TEXT_FIELDS: Final = ("text", "transcript", "delta")
_KIND_OF_TYPE: Final[dict[str, RedactedKind]] = {
    "response.function_call_arguments.delta": "arguments",
    "user_words": "user_text",
}


class WireEvent(NamedTuple):
    """An event as it is kept.

    Parameters:
        text: JSON of the event on one line, UTF-8; its audio is an empty text.
        data: The event.
        audio: PCM16 that was in it.
    """

    text: bytes
    data: dict[str, Any]
    audio: bytes


class Redaction:
    """Asks the application what is kept of a text, and keeps nothing where that fails."""

    def __init__(self, redact: Redact):
        """Wrap what the application has given.

        Args:
            redact: Called for each value.
        """
        self._redact = redact
        self._has_warned = False

    def apply(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return an event, or the fields of another record, with its texts redacted."""
        kind = str(data.get("type", ""))
        is_of_user = kind.startswith(("conversation.item.input", "input_"))
        return self._walked(
            data, _KIND_OF_TYPE.get(kind, "user_text" if is_of_user else "bot_text")
        )

    def _walked(self, value: Any, text: RedactedKind) -> Any:
        if isinstance(value, list):
            return [self._walked(each, text) for each in cast("list[Any]", value)]
        if not isinstance(value, dict):
            return value
        data = cast("dict[str, Any]", value)
        text = _KIND_OF_ROLE.get(data.get("role"), text)
        return {name: self._kept(name, each, text) for name, each in data.items()}

    def _kept(self, name: str, value: Any, text: RedactedKind) -> Any:
        if name in _TEXT_FIELDS and isinstance(value, str):
            return self._asked(text, value)
        kind = _KIND_OF_FIELD.get(name)
        # `output` is a result in a function's answer, and a list of items in a response.
        if kind is None or (name == "output" and not isinstance(value, str)):
            return self._walked(value, text)
        return value if value is None else self._asked(kind, value)

    def _asked(self, kind: RedactedKind, value: Any) -> Any:
        try:
            return self._redact(kind, value)
        except Exception as error:
            if not self._has_warned:
                self._has_warned = True
                logger.error(
                    f"the redaction of a recording failed, and what it was to redact is left out: "
                    f"{type(error).__name__}"
                )
            return "[redaction failed]"


def without_audio(message: bytes, audio: bytes) -> bytes | None:
    """Cut the base64 text of some audio out of an event.

    Args:
        message: A JSON object, as it was sent or received.
        audio: What its base64 text says.

    Returns:
        The rest of it; None if the text is not found where it is expected.
    """
    coded = 4 * ((len(audio) + 2) // 3)
    if (
        len(message) == len(_APPEND) + coded
        and message.startswith(_APPEND_OPENS)
        and message.find(b'"', len(_APPEND_OPENS)) == len(message) - len(_APPEND_CLOSES)
        and message.endswith(_APPEND_CLOSES)
    ):
        return _APPEND
    opens = _AUDIO_OPENS.search(message)
    if opens is None:
        return None
    begin = opens.end()
    end = message.find(b'"', begin)
    if end - begin != coded:
        return None
    rest = message[:begin] + message[end:]
    return None if b"\n" in rest else rest


def read_event(message: bytes, redaction: Redaction | None) -> WireEvent | None:
    """Read a message of the wire.

    Args:
        message: As it was sent or received.
        redaction: Applied to its texts; None for none.

    Returns:
        The event; None if the message is no JSON object.
    """
    try:
        loaded: object = json.loads(message, parse_constant=str)
    except (ValueError, RecursionError):
        return None
    if not isinstance(loaded, dict):
        return None
    data = cast("dict[str, Any]", loaded)
    pcm = _take_audio(data)
    kept = data if redaction is None else redaction.apply(data)
    return WireEvent(to_json(kept), data, pcm)


def to_json(data: Any) -> bytes:
    """Write what can be written as JSON, on one line; what cannot, as text."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=str)
    # Half a surrogate pair, as cut-off text may hold, is no UTF-8.
    return text.encode(errors="replace")


def _take_audio(data: dict[str, Any]) -> bytes:
    """Take the audio out of an event."""
    for name in _AUDIO_FIELDS.get(str(data.get("type")), ()):
        if isinstance(text := data.get(name), str):
            try:
                audio = base64.b64decode("".join(text.split()))
            except (binascii.Error, ValueError):
                return b""
            data[name] = ""
            return audio
    return b""
