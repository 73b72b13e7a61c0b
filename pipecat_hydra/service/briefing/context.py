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

from pipecat_hydra.service.briefing.history import IN_PROGRESS
from pipecat_hydra.wire.events import MessageRole

__all__ = ["ContextReader", "NewText", "key_of", "text_of", "waits_for_answer"]

_MAX_SPOKEN: Final = 64


@dataclass(frozen=True, slots=True)
class NewText:
    """What a context holds that is new.

    Parameters:
        typed: Typed messages, each with whose it is, oldest first.
        spoken: Whether there is also something the user has said aloud.
        results: Function calls whose results, or intermediate results, are new too.
    """

    typed: tuple[tuple[MessageRole, str], ...]
    spoken: bool
    results: frozenset[str] = frozenset()


class ContextReader:
    """Remembers which messages of a context Hydra knows."""

    def __init__(self) -> None:
        """Start with a context of which nothing is known."""
        self._known: Counter[str] = Counter()
        # What Hydra was told and the context does not hold yet.
        self._awaited: Counter[str] = Counter()
        # What of that no interruption keeps from getting there.
        self._lasting: Counter[str] = Counter()
        self._spoken: deque[str] = deque(maxlen=_MAX_SPOKEN)

    def hear(self, text: str) -> None:
        """Take note that the next message with this text was spoken."""
        self._spoken.append(text)

    def told(self, messages: Sequence[Any], *, lasting: bool = False) -> None:
        """Take note that Hydra was told these messages, which the context will hold.

        Args:
            messages: The messages, in Pipecat's universal format.
            lasting: Whether they get there though the pipeline is interrupted.
        """
        keys = [*map(key_of, messages)]
        self._awaited.update(keys)
        if lasting:
            self._lasting.update(keys)

    def awaits(self, message: Any) -> bool:
        """Whether Hydra was told a message like this that the context does not hold yet."""
        return self._awaited[key_of(message)] > 0

    def settle(self, messages: Sequence[Any]) -> None:
        """Await only what lasts: what else was told and is not in the context never will be.

        Args:
            messages: All messages of the context, in Pipecat's universal format.
        """
        if not self._awaited:
            return
        present = Counter(map(key_of, messages))
        for key, awaited in self._awaited.items():
            arrived = max(0, min(awaited, present[key] - self._known[key]))
            self._known[key] += arrived
            self._awaited[key] -= arrived
        self._awaited &= self._lasting
        self._lasting = Counter(self._awaited)

    def take(self, messages: Sequence[Any]) -> NewText:
        """Give what is new in a context, and take note that Hydra knows all of it.

        Args:
            messages: All messages of the context, in Pipecat's universal format.
        """
        present: Counter[str] = Counter()
        typed: list[tuple[MessageRole, str]] = []
        results: set[str] = set()
        spoken = False
        for entry in messages:
            key = key_of(entry)
            present[key] += 1
            if present[key] <= self._known[key] or not isinstance(entry, dict):
                continue
            if self._awaited[key]:
                self._awaited[key] -= 1
                continue
            message = cast("dict[str, Any]", entry)
            role, text = message.get("role"), text_of(message)
            asynchronous = async_tool_messages.parse_message(cast("Any", message))
            if asynchronous is not None:
                if asynchronous.kind != "started":
                    results.add(asynchronous.tool_call_id)
                continue
            if role == "tool" and text != IN_PROGRESS:
                results.add(str(message.get("tool_call_id")))
            if role not in ("user", "developer", "system") or not text:
                continue
            if role == "user" and text in self._spoken:
                self._spoken.remove(text)
                spoken = True
            else:
                typed.append(("user" if role == "user" else "system", text))
        self._known = present
        self._awaited = +self._awaited
        self._lasting &= self._awaited
        return NewText(tuple(typed), spoken, frozenset(results))


def text_of(message: dict[str, Any]) -> str:
    """The text of a message, whose content is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content.strip()
    if not isinstance(content, list):
        return ""
    parts = [cast("dict[str, Any]", p) for p in cast("list[Any]", content) if isinstance(p, dict)]
    return " ".join(str(p.get("text", "")) for p in parts if p.get("type") == "text").strip()


def waits_for_answer(messages: Sequence[Any]) -> bool:
    """Whether the user has the last word."""
    last = messages[-1] if messages else None
    return isinstance(last, dict) and cast("dict[str, Any]", last).get("role") == "user"


def key_of(message: Any) -> str:
    """What two messages that say the same have in common."""
    return json.dumps(message, sort_keys=True, ensure_ascii=False, default=repr)
