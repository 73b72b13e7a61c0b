"""The messages of a Pipecat context in one normal form.

Theory of operation. A context is one list that everybody writes to: Pipecat's
aggregators, the application, clients, other services. Its messages are dicts of many
shapes, and may hold megabytes of images. `entry_of` is the only place that knows these
shapes: it makes an immutable `Entry` of a message, and all other modules work with
entries. Images, sounds and files are not looked at, because Hydra takes none (protocol §4);
an entry only says that there were some.

A context is read again with each frame that brings it. An `EntryReader` therefore keeps
the entry of each message. Messages are written to in place, though: the assistant
aggregator puts a function's result where `IN_PROGRESS` stood, and an application may
redact a text where it stands. So the reader keeps a copy of the dicts and lists of each
message, which holds the same strings, and an entry is right as long as message and copy
are equal. Python compares a string to itself by identity, so this takes no longer for
10 MB than for one byte.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, Literal, TypeAlias, cast

from pipecat.processors.aggregators import async_tool_messages
from pipecat.processors.aggregators.llm_context import LLMSpecificMessage

from pipecat_hydra.wire.events import MessageRole

__all__ = [
    "OWN_MESSAGES",
    "Call",
    "Entry",
    "EntryReader",
    "Kind",
    "Role",
    "Text",
    "entry_of",
    "one_line",
    "split_instructions",
    "text_entry",
]

Role: TypeAlias = Literal["user", "assistant", "developer", "system", "tool", ""]
"""The role of a message's author; empty for a message that Hydra is not told."""

Text: TypeAlias = tuple[MessageRole, str]
"""A text to tell a session, with the role of its author."""

OWN_MESSAGES: Final = "hydra"
"""The mark that `create_llm_specific_message` puts on messages for Hydra alone."""

_SPEAKERS: Final[Mapping[Any, Role]] = {
    role: role for role in ("user", "assistant", "developer", "system")
}

# What Pipecat's assistant aggregator writes in place of the result of a call that runs,
# or that was interrupted. A tool's own string is JSON, so it has quotation marks.
_IN_PROGRESS: Final = "IN_PROGRESS"

_ATTACHMENTS: Final = {
    "audio",
    "file",
    "file_base64",
    "file_url",
    "image",
    "image_url",
    "input_audio",
    "input_file",
    "input_image",
}

# Deeper in a message than this, nothing is written to in place.
_DEPTH: Final = 6


class Kind(Enum):
    """What a message is."""

    TEXT = auto()
    """Something that somebody said or typed; nobody can tell which from the message."""
    CALL = auto()
    """Function calls of the model, perhaps with a text before them."""
    RUNNING = auto()
    """A function call has no result yet."""
    PARTIAL = auto()
    """An intermediate result of a function call."""
    RESULT = auto()
    """The result of a function call, or that it was cancelled."""


@dataclass(frozen=True, slots=True)
class Call:
    """A function call.

    Parameters:
        call_id: Its id.
        name: The function, as far as it is known.
        arguments: Its arguments in JSON, or an empty text.
    """

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One message in normal form; two messages that say the same are equal.

    Parameters:
        role: Whose the message is.
        kind: What it is.
        text: The text without white space around it, fit to be encoded; of a result,
            the result.
        call_id: The call that a result belongs to.
        calls: The function calls that it makes.
        has_attachments: Whether it holds images, sounds or files besides.
    """

    role: Role
    kind: Kind = Kind.TEXT
    text: str = ""
    call_id: str = ""
    calls: tuple[Call, ...] = ()
    has_attachments: bool = False

    @property
    def as_told(self) -> Text:
        """The text as a session that is under way is told it."""
        if self.role == "user" or self.role == "assistant":
            return self.role, self.text
        return "system", self.text

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it for Hydra."""
        return self.kind is Kind.TEXT and not self.text


class EntryReader:
    """Reads the messages of a context, each of them once for as long as it stays the same."""

    def __init__(self) -> None:
        """Start with nothing read."""
        self._read: dict[int, _Reading] = {}

    def read(self, messages: Iterable[Any]) -> list[Entry]:
        """Return the entries of messages, one for each.

        Args:
            messages: All messages of a context, in Pipecat's universal format. Messages that
                were read before and are not among them are forgotten.
        """
        readings = [self._reading(message) for message in messages]
        # While a message is held here, no other object can have its id.
        self._read = {id(reading.message): reading for reading in readings}
        return [reading.entry for reading in readings]

    def _reading(self, message: Any) -> "_Reading":
        known = self._read.get(id(message))
        if known is not None and known.is_current:
            return known
        return _Reading(message, _copied(message), entry_of(message))


@dataclass(frozen=True, slots=True, eq=False)
class _Reading:
    """A message, a copy of it as it was when it was read, and its entry."""

    message: Any
    copy: Any
    entry: Entry

    @property
    def is_current(self) -> bool:
        return self.copy is self.message or self.copy == self.message


def entry_of(message: Any) -> Entry:
    """Make an entry of a message, whatever it is.

    Args:
        message: A message in Pipecat's universal format; or one made by
            `create_llm_specific_message`, which is read the same way if it is for Hydra.

    Returns:
        Its entry, which is empty if the message is not in that format.
    """
    if isinstance(message, LLMSpecificMessage):
        message = message.message if message.llm == OWN_MESSAGES else None
    if not isinstance(message, dict):
        return Entry("")
    fields = cast("dict[Any, Any]", message)
    role, content = fields.get("role"), fields.get("content")
    asynchronous = _asynchronous(fields)
    if asynchronous is not None:
        return asynchronous
    text = _text(content)
    if role == "tool":
        kind = Kind.RUNNING if text == _IN_PROGRESS else Kind.RESULT
        return Entry("tool", kind, text, _string(fields.get("tool_call_id")))
    if not isinstance(role, str) or role not in _SPEAKERS:
        return Entry("")
    calls = tuple(_call(call) for call in _dicts(fields.get("tool_calls")))
    return Entry(
        _SPEAKERS[role],
        Kind.CALL if calls else Kind.TEXT,
        text,
        calls=calls,
        has_attachments=any(_is_attachment(part) for part in _dicts(content)),
    )


def text_entry(role: Role, text: str) -> Entry:
    """Make the entry that a message with this text has."""
    return Entry(role, text=_clean(text))


def split_instructions(entries: Sequence[Entry]) -> tuple[str, list[Entry]]:
    """Split a context into the system message that begins it and the conversation.

    Args:
        entries: The entries of a whole context.

    Returns:
        The text of the system message, or an empty one, and all other entries.
    """
    first = next((n for n, entry in enumerate(entries) if entry.role), len(entries))
    if first == len(entries) or entries[first].role != "system":
        return "", list(entries)
    return entries[first].text, [*entries[:first], *entries[first + 1 :]]


def one_line(text: str) -> str:
    """Return a text with each run of white space as a single space."""
    return " ".join(text.split())


def _asynchronous(fields: dict[Any, Any]) -> Entry | None:
    """Return the entry of a message about a long-running function; None for other messages."""
    try:
        payload = async_tool_messages.parse_message(cast("Any", fields))
    except RecursionError:
        # The text of a message may be JSON of any depth.
        return None
    if payload is None:
        return None
    kinds = {"started": Kind.RUNNING, "intermediate": Kind.PARTIAL, "final": Kind.RESULT}
    return Entry("tool", kinds[payload.kind], _clean(payload.result or ""), payload.tool_call_id)


def _call(call: dict[Any, Any]) -> Call:
    [function] = _dicts([call.get("function")]) or [{}]
    arguments = function.get("arguments") or ""
    if not isinstance(arguments, str):
        arguments = _json(arguments)
    return Call(_string(call.get("id")), _string(function.get("name")), _clean(arguments))


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        # Keys that are no strings, or something that holds itself.
        return str(value)


def _text(content: Any) -> str:
    """The text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return _clean(content)
    texts = [_string(part.get("text")) for part in _dicts(content)]
    return _clean(" ".join(text for text in texts if text))


def _clean(text: str) -> str:
    text = text.strip()
    # Half of a surrogate pair, from a text cut in two, is nothing that UTF-8 could encode.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _is_attachment(part: dict[Any, Any]) -> bool:
    kind = part.get("type")
    return isinstance(kind, str) and kind in _ATTACHMENTS


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _dicts(value: Any) -> list[dict[Any, Any]]:
    """The dicts in a list; none if it is no list."""
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return [cast("dict[Any, Any]", item) for item in items if isinstance(item, dict)]


def _copied(value: Any, depth: int = _DEPTH) -> Any:
    """A copy of a message's dicts and lists that holds the same strings."""
    if depth == 0:
        return value
    if isinstance(value, LLMSpecificMessage):
        return LLMSpecificMessage(value.llm, _copied(value.message, depth - 1))
    if isinstance(value, dict):
        fields = cast("dict[Any, Any]", value)
        return {key: _copied(field, depth - 1) for key, field in fields.items()}
    if isinstance(value, list):
        return [_copied(item, depth - 1) for item in cast("list[Any]", value)]
    return value
