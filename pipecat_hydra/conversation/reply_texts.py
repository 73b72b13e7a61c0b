"""The texts of one reply: what was told of them, whatever events bring them.

Hydra may send the text of an item as phrases, as a whole text, or both, before or after the audio,
and not every event names its item (protocol §3). Each word is told once.

Pure.
"""

from typing import Final

__all__ = ["ReplyTexts"]

_NO_SPACE_BEFORE: Final = tuple(" \t\n.,;:!?)]}%…'\u2019")


class ReplyTexts:
    """What was told of the text of each item of a reply."""

    def __init__(self) -> None:
        """Start with no text."""
        self._last = ""
        self._told: dict[str | None, str] = {}
        # The items whose whole text has come.
        self._whole: set[str | None] = set()

    def is_new_phrase(self, item_id: str | None, phrase: str) -> bool:
        """Record a phrase of an item; return whether it was not told with a whole text before."""
        key = self._key(item_id)
        if key in self._whole:
            return False
        self._told[key] = f"{self._told.get(key, '')} {phrase}"
        return True

    def rest_of(self, item_id: str | None, text: str) -> str:
        """Record the whole text of an item; return what of it was not told before."""
        key = self._key(item_id)
        told = " ".join(self._told.get(key, "").split())
        words = " ".join(text.split())
        self._whole.add(key)
        if not words.startswith(told) or (key != item_id and len(self._told) > 1):
            return ""
        self._told[key] = words
        return words[len(told) :].strip()

    def spaced(self, phrase: str) -> str:
        """Return a phrase with the space before it that phrases come without (protocol §3)."""
        if self._last and not (self._last[-1].isspace() or phrase.startswith(_NO_SPACE_BEFORE)):
            phrase = f" {phrase}"
        self._last = phrase
        return phrase

    def _key(self, item_id: str | None) -> str | None:
        """Return the item under which a text is known; not all sources name their item."""
        if None in self._told:
            return None
        if item_id is None and self._told:
            return next(reversed(self._told))
        return item_id
