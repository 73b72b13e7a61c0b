"""The order in which a session tells of function calls, as far as it has shown it.

Theory of operation. Once all calls of a response are answered, the model is to be asked to go on,
once. A call that came afterwards would make it go on twice. When the response is done, no call can
come any more, but it is open when `response.done` comes: before the reply about the calls, or only
with it (protocol §6). So a response that is not known to be done is waited for:

- for 200 ms, as the vendor's clients do, while the session has shown nothing;
- until `response.done` comes, for three seconds at most, once it has come before the model was
  asked: calls of one response may come far apart;
- hardly at all, once it has come only after the model was asked; but twice as long as the calls of
  one response were ever apart in this session.

Pure: time is a parameter, in seconds of any monotonic clock.
"""

from typing import Final

__all__ = ["CallOrder"]

_SETTLE_SECS: Final = 0.2
_DONE_SECS: Final = 3.0
# Longer than events that are sent together come apart.
_MOMENT_SECS: Final = 0.005


class CallOrder:
    """What one session has shown of the order of its calls."""

    def __init__(self) -> None:
        """Start with nothing shown."""
        self._done_comes_first = False
        self._done_comes_late = False
        self._longest_gap_secs = 0.0

    def done_came(self, *, was_asked: bool) -> None:
        """Record that a response with calls is done.

        Args:
            was_asked: Whether the model was asked about the calls before.
        """
        if was_asked:
            self._done_comes_late = True
        else:
            self._done_comes_first = True

    def call_followed(self, gap_secs: float) -> None:
        """Record that a call of a response came later than the one before."""
        self._longest_gap_secs = max(self._longest_gap_secs, gap_secs)

    def wait_secs(self, *, goes_on: bool) -> float:
        """How long to wait from the last answer on, in seconds, for the response to be done.

        Args:
            goes_on: Whether the response has not been superseded.
        """
        if goes_on and self._done_comes_first:
            return _DONE_SECS
        if goes_on and self._done_comes_late:
            return min(_SETTLE_SECS, max(_MOMENT_SECS, 2 * self._longest_gap_secs))
        return _SETTLE_SECS
