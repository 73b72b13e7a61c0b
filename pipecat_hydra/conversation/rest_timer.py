"""When a session is closed because nobody uses it.

Theory of operation. A session costs money for as long as it is open. Two kinds of session are
closed: one that is opened ahead of time and is not configured within a while, and one that is live
and not used for long. Both have a deadline here.

Sound on the microphone, a user turn, a response and a request of the application count as use.
Silence on an open microphone does not (`open_microphone.py`), and neither does another session that
takes the place of this one: the time without use goes on in it. After a rest it begins anew.

A session that is being configured has no such deadline: the handshake has one of its own. Once the
application uses the service, each session is configured as soon as it can be, and none is closed
for not being so.

Pure: time is a parameter, in seconds of any monotonic clock.
"""

__all__ = ["RestTimer"]


class RestTimer:
    """Says when a session has not been used for so long that it is to be closed."""

    def __init__(self, *, unused_timeout_secs: float | None, idle_timeout_secs: float | None):
        """Make a timer that does not run.

        Args:
            unused_timeout_secs: How long a session is kept, in seconds, that nobody
                configures; None for ever.
            idle_timeout_secs: How long a live session is kept, in seconds, in which nobody says
                anything; None for ever.
        """
        self._unused_timeout = unused_timeout_secs
        self._idle_timeout = idle_timeout_secs
        self._deadline: float | None = None
        self._used_at: float | None = None
        self._live = False
        self._claimed = False

    @property
    def deadline(self) -> float | None:
        """When the session is to be closed unless it is used before; None for never."""
        return self._deadline

    @property
    def reason(self) -> str:
        """Why the session is closed at the deadline, for a log."""
        if self._live:
            return f"nothing was said for {self._idle_timeout} s"
        return f"the session was not used for {self._unused_timeout} s"

    def claim(self) -> None:
        """Stop the timer of an unused session for good: each session will be configured."""
        self._claimed = True
        if not self._live:
            self._deadline = None

    def opened(self, now: float) -> None:
        """Start the timer of an unused session: a socket is open, no configuration is given."""
        if self._unused_timeout is not None and not self._claimed:
            self._deadline = now + self._unused_timeout

    def configured(self) -> None:
        """Stop the timer: the session has a configuration."""
        self._deadline = None

    def live(self, now: float) -> None:
        """Go on with the timer of an idle session: the session is live."""
        self._live = True
        self.used(now if self._used_at is None else self._used_at)

    def used(self, now: float) -> None:
        """Start the timer of an idle session anew: the session is used."""
        self._used_at = now
        if self._live and self._idle_timeout is not None:
            self._deadline = now + self._idle_timeout

    def closed(self) -> None:
        """Stop the timer: the session is gone, and another one follows."""
        self._live = False
        self._deadline = None

    def rested(self) -> None:
        """Stop the timer: the session is closed because nobody uses it."""
        self.closed()
        self._used_at = None

    def is_due(self, now: float) -> bool:
        """Whether the deadline has come."""
        return self._deadline is not None and now >= self._deadline
