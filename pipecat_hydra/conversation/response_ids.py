"""The ids of the responses of a session that are over.

Theory of operation. A response that is over is retired: nothing with its id passes any more (A5).
The server may say the same thing twice, so an announcement or an end of a response with a retired
id is a repetition. There is one exception. A response that was announced and then ended is not
announced again, so an announcement with its id is that of another response: some servers use an
id again.

Pure.
"""

from collections import deque
from typing import Final

__all__ = ["ResponseIds"]

_REMEMBERED_IDS: Final = 256


class ResponseIds:
    """Remembers which ids belong to responses that are over."""

    def __init__(self) -> None:
        """Start with no response over."""
        self._retired: deque[str] = deque(maxlen=_REMEMBERED_IDS)
        self._ended: deque[str] = deque(maxlen=_REMEMBERED_IDS)
        self._may_come_again: deque[str] = deque(maxlen=_REMEMBERED_IDS)

    def is_retired(self, response_id: str | None) -> bool:
        """Whether nothing with this id passes."""
        return response_id in self._retired

    def is_repeated(self, response_id: str) -> bool:
        """Whether an announcement of a response is a repetition, or comes after its end."""
        return response_id in self._retired and response_id not in self._may_come_again

    def retire(self, response_id: str | None) -> None:
        """Let nothing with this id pass any more."""
        if response_id is not None:
            self._retired.append(response_id)

    def end(self, response_id: str | None, *, announced: bool) -> bool:
        """Record that the server has ended a response; return whether it had not before.

        Args:
            response_id: The response.
            announced: Whether the response was announced before.
        """
        if response_id is None:
            return True
        if response_id in self._ended:
            return False
        self._ended.append(response_id)
        if announced:
            self._may_come_again.append(response_id)
        return True

    def use_again(self, response_id: str | None) -> None:
        """Forget that a response with this id is over: another one has begun."""
        if response_id is None or response_id not in self._retired:
            return
        for ids in (self._retired, self._ended, self._may_come_again):
            while response_id in ids:
                ids.remove(response_id)

    def clear(self) -> None:
        """Forget all ids: they mean nothing beyond their session."""
        self._retired.clear()
        self._ended.clear()
        self._may_come_again.clear()
