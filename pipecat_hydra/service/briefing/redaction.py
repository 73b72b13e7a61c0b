"""Tells a text that an application has redacted from one that it has edited.

Theory of operation. Nothing in a context says that a text was redacted. So a text counts as
another one redacted if it has no word that the other has not, apart from the masks that stand
for words that were taken out.
"""

import re
from collections import Counter
from typing import Final

__all__ = ["is_redacted"]

# What stands for words that were taken out: "[redacted]", "<card number>", "****", "XXXX",
# "PERSON_1", or a word that says so.
_MASK: Final = re.compile(
    r"[\[<{(][^\])}>]*[\])}>]"
    r"|[^\w\s]+"
    r"|\b[A-Z]+_[A-Z0-9_]+\b"
    r"|\b(?i:x+|(?:redact|remov|mask|censor|delet|omitt|anonymi[sz])ed|hidden)\b"
)


def is_redacted(old: str, new: str) -> bool:
    """Return whether a text is another one with words taken out, or something in their place.

    A text that says anything else that is new is an edited one, and new.
    """
    return _words(_MASK.sub(" ", new)) <= _words(old)


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.casefold()))
