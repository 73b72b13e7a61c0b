"""What of a context Hydra has not been told.

A context is one list that everybody writes to: typed text, what the user was heard to
say, what the bot said, tools and their results. Hydra knows the spoken part without
being told, and tool results are posted as such. What remains is typed text.
"""

import json
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from pipecat.processors.aggregators import async_tool_messages

from pipecat_hydra.events import MessageRole

__all__ = ["ContextReader", "NewText", "key_of", "text_of"]

_MAX_SPOKEN: Final = 64


@dataclass(frozen=True, slots=True)
class NewText:
    """What a context holds that is new.

    Parameters:
        typed: Typed messages, each with whose it is, oldest first.
        spoken: Whether there is also something the user has said aloud.
    """

    typed: tuple[tuple[MessageRole, str], ...]
    spoken: bool


class ContextReader:
    """Remembers which messages of a context Hydra knows."""

    def __init__(self) -> None:
        """Start with a context of which nothing is known."""
        self._known: Counter[str] = Counter()
        self._spoken: deque[str] = deque(maxlen=_MAX_SPOKEN)

    def hear(self, text: str) -> None:
        """Take note that the next message with this text was spoken."""
        self._spoken.append(text)

    def told(self, messages: Sequence[Any]) -> None:
        """Take note that Hydra was told these messages, besides those it knows."""
        self._known.update(map(key_of, messages))

    def take(self, messages: Sequence[Any]) -> NewText:
        """Give what is new in a context, and take note that Hydra knows all of it.

        Args:
            messages: All messages of the context, in Pipecat's universal format.
        """
        present: Counter[str] = Counter()
        typed: list[tuple[MessageRole, str]] = []
        spoken = False
        for entry in messages:
            key = key_of(entry)
            present[key] += 1
            if present[key] <= self._known[key] or not isinstance(entry, dict):
                continue
            message = cast("dict[str, Any]", entry)
            role, text = message.get("role"), text_of(message)
            if role not in ("user", "developer", "system") or not text:
                continue
            if async_tool_messages.parse_message(cast("Any", message)) is not None:
                continue
            if role == "user" and text in self._spoken:
                self._spoken.remove(text)
                spoken = True
            else:
                typed.append(("user" if role == "user" else "system", text))
        self._known = present
        return NewText(tuple(typed), spoken)


def text_of(message: dict[str, Any]) -> str:
    """The text of a message, whose content is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content.strip()
    if not isinstance(content, list):
        return ""
    parts = [cast("dict[str, Any]", p) for p in cast("list[Any]", content) if isinstance(p, dict)]
    return " ".join(str(p.get("text", "")) for p in parts if p.get("type") == "text").strip()


def key_of(message: Any) -> str:
    """What two messages that say the same have in common."""
    return json.dumps(message, sort_keys=True, ensure_ascii=False, default=repr)
