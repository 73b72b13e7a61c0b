"""How long sessions and the whole call last, and when that is too long.

Theory of operation. A session is billed by the minute, and a server may close one that lasts for
very long. Three things are measured here:

**The seconds of each session** that the server has created, from the socket's opening to its end.
A rest does not count, nor does a socket on which the server creates no session.

**The age of a session.** From a while before the limit on it, a session is *old*: it is to be
replaced at the next turn boundary, where nobody hears it. The while is a fifth of the limit, at
most a minute; that is long enough for a boundary to come. If none comes, the session is *expired*
at the limit, and replaced wherever the conversation is, as if it were lost.

**The length of the call**, from the first use of the service on, through losses and rests. The
application is told some seconds before the limit, so that the bot can say goodbye.

Pure: time is a parameter, in seconds of any monotonic clock.
"""

from typing import Final

from pipecat_hydra.conversation.deadlines import earliest
from pipecat_hydra.conversation.effects import CallLimitNear, CallLimitReached, Effect, SessionOld

__all__ = ["SessionClock"]

_LONGEST_LEAD_SECS: Final = 60.0
_LEAD: Final = 0.2
_LONGEST_NOTICE_SECS: Final = 10.0
_NOTICE: Final = 0.5


class SessionClock:
    """Measures sessions and the call, and says when they have lasted long enough."""

    def __init__(self, *, max_session_secs: float | None, max_call_secs: float | None):
        """Start with no session and no call.

        Args:
            max_session_secs: How long a session may be open, in seconds; None for ever.
            max_call_secs: How long the call may last, in seconds; None for ever.
        """
        self._max_session = max_session_secs
        self._max_call = max_call_secs
        # The seconds of the sessions that were closed and not taken yet.
        self._ended: list[float] = []
        self._opened_at: float | None = None
        self._is_created = False
        self._expires_at: float | None = None
        self._is_old = False
        # When something is due that `tick` has not done.
        self._old_at: float | None = None
        self._near_at: float | None = None
        self._ends_at: float | None = None
        self._call_began = False

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do next, or None."""
        return earliest(self._old_at, self._near_at, self._ends_at)

    @property
    def is_old(self) -> bool:
        """Whether the session is to be replaced at the next turn boundary."""
        return self._is_old

    def is_expired(self, now: float) -> bool:
        """Whether the session has reached the limit, and waits for no turn boundary any more."""
        return self._expires_at is not None and now >= self._expires_at

    def opened(self, now: float) -> None:
        """Start the clock of a session: a socket is open."""
        self._opened_at = now
        if self._max_session is not None:
            self._expires_at = now + self._max_session
            self._old_at = self._expires_at - min(_LONGEST_LEAD_SECS, _LEAD * self._max_session)

    def created(self) -> None:
        """Record that the server has created the session."""
        self._is_created = True

    def closed(self, now: float) -> None:
        """Stop the clock of the session, if one is open."""
        if self._opened_at is not None and self._is_created:
            self._ended.append(now - self._opened_at)
        self._opened_at = self._expires_at = self._old_at = None
        self._is_created = self._is_old = False

    def take_ended(self) -> list[float]:
        """Take how long each session was open that was closed since this was last asked."""
        taken, self._ended = self._ended, []
        return taken

    def call_began(self, now: float) -> None:
        """Start the clock of the call, unless it runs: the service is used."""
        if self._call_began:
            return
        self._call_began = True
        if self._max_call is not None:
            self._ends_at = now + self._max_call
            self._near_at = self._ends_at - min(_LONGEST_NOTICE_SECS, _NOTICE * self._max_call)

    def tick(self, now: float) -> list[Effect]:
        """Do what is due at `now`."""
        effects: list[Effect] = []
        if self._old_at is not None and now >= self._old_at:
            self._old_at, self._is_old = None, True
            effects.append(SessionOld())
        if self._ends_at is None:
            return effects
        if self._near_at is not None and now >= self._near_at:
            self._near_at = None
            effects.append(CallLimitNear(max(0.0, self._ends_at - now)))
        if now >= self._ends_at:
            self._ends_at = None
            effects.append(CallLimitReached())
        return effects
