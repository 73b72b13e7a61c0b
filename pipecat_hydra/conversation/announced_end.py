"""When a session is given up because the server has said that it is over, or that it has failed.

Theory of operation. An `error` event does not end a session (S3): the server closes the connection
if it means an end. Three codes announce one: `session_ended`, `server_full` and `internal_error`.
If no close follows within a second, the session is given up, and another one follows. What the user
has said since the error counts as unheard.

After an `internal_error` the session may go on. It is kept if the model begins to speak after the
error, or is heard still when that second is over. If not, the user's last words, which may be what
the server fails on, are heard again by one other session, and by no more if that fails on them too.

Pure: time is a parameter, in seconds of any monotonic clock. Protocol: §3.
"""

from collections.abc import Mapping
from typing import Final

from pipecat_hydra.conversation.diagnostics import describe_error
from pipecat_hydra.conversation.effects import Effect, Fail, FailureKind
from pipecat_hydra.wire.events import ErrorDetail
from pipecat_hydra.wire.protocol import ErrorCode

__all__ = ["AnnouncedEnd"]

_GRACE_SECS: Final = 1.0
_KINDS: Final[Mapping[str | None, FailureKind]] = {
    ErrorCode.SESSION_ENDED: FailureKind.SERVER,
    ErrorCode.SERVER_FULL: FailureKind.CAPACITY,
    ErrorCode.INTERNAL: FailureKind.SERVER,
}


class AnnouncedEnd:
    """The end that the server has announced, as long as it has not closed the connection."""

    def __init__(self) -> None:
        """Start with no end announced."""
        self._error: ErrorDetail | None = None
        self._deadline: float | None = None
        self._announced_at: float | None = None
        self._failed_on: int | None = None
        self._is_repeated = False

    @property
    def deadline(self) -> float | None:
        """When the session is given up; None if no end is announced."""
        return self._deadline

    @property
    def is_repeated(self) -> bool:
        """Whether two sessions have failed on the same words of the user."""
        return self._is_repeated

    def take(self, error: ErrorDetail, now: float) -> None:
        """Record an `error` event, if it announces an end."""
        if error.code not in _KINDS or self._deadline is not None:
            return
        self._error, self._deadline = error, now + _GRACE_SECS
        self._announced_at = now

    def model_is_heard(self) -> None:
        """Keep the session after an `internal_error`: it goes on."""
        if self._error is not None and self._error.code == ErrorCode.INTERNAL:
            self._error = self._deadline = self._announced_at = None

    def disconnected(self) -> float | None:
        """Forget what was announced: the session is gone.

        Returns:
            Since when the server has heard nothing, if it has announced the end.
        """
        announced_at = self._announced_at
        self._error = self._deadline = self._announced_at = None
        return announced_at

    def tick(self, now: float, *, heard_at: float | None, words: int | None) -> list[Effect]:
        """Give the session up, if it is time.

        Args:
            now: The time.
            heard_at: When the last part of the response in flight came; None if there is none.
            words: The number of the user's turn whose words have no answer; None if all have.
        """
        error = self._error
        if error is None or self._deadline is None or now < self._deadline:
            return []
        if heard_at is not None and heard_at > self._deadline - _GRACE_SECS / 2:
            self.model_is_heard()
        if self._error is None:
            return []
        self._error = self._deadline = None
        self._is_repeated = False
        if error.code == ErrorCode.INTERNAL:
            self._is_repeated = words is not None and words == self._failed_on
            self._failed_on = words
        message = f"the session is over, and was not closed: {describe_error(error)}"
        return [Fail(_KINDS[error.code], message)]
