"""Whether to try again, and when: backoff with full jitter, within budgets.

A *drop* begins when a session is lost, or the first one cannot be opened, and ends when a
session has been configured and has lived for a while. So a server that accepts and closes,
even one that configures and closes, gets no more attempts than one that does not answer.

Each delay is drawn from the whole range between nothing and a limit that doubles with
each attempt. Bots that lose their server together then do not come back together.

Pure: time is a parameter, in seconds of any monotonic clock.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Final

from pipecat_hydra.conversation.effects import FailureKind

__all__ = ["Retries", "Retry", "RetryPolicy"]

# Room is made by calls that end, which takes longer than a server's restart.
_CAPACITY_FACTOR: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often, after which delays and for how long a lost session is tried again.

    A refused key or a rejected configuration is never tried again.

    Parameters:
        attempts_per_drop: How many attempts follow the loss of a session; 0 for none.
        secs_per_drop: How long after the loss, in seconds, an attempt may still begin.
        attempts_per_call: How many attempts follow all losses of a call together.
        first_delay_secs: The longest delay before the first attempt, in seconds. It
            doubles with each further attempt; each delay is random between 0 and that.
            Four times as long when the server is at capacity.
        longest_delay_secs: The longest random delay, in seconds. The time that a server
            asks for (`Retry-After`) is added to it.
        stable_secs: How long a session has to live, in seconds, for its loss to count
            as a new one.
    """

    attempts_per_drop: int = 8
    secs_per_drop: float = 60.0
    attempts_per_call: int = 100
    first_delay_secs: float = 0.5
    longest_delay_secs: float = 8.0
    stable_secs: float = 5.0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            TypeError: If one is no number, or a number of attempts is no whole number.
            ValueError: If one is negative, or not finite.
        """
        for name in self.__slots__:
            value = getattr(self, name)
            kind, words = (int, "whole number") if "attempts" in name else (Real, "number")
            if not isinstance(value, kind) or isinstance(value, bool):
                raise TypeError(f"{name} must be a {words}, not {value!r}")
            if not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, not {value}")
            if value < 0:
                raise ValueError(f"{name} must not be negative")


@dataclass(frozen=True, slots=True)
class Retry:
    """One attempt to come.

    Parameters:
        attempt: Which it is of this drop, counted from 1.
        delay_secs: How long to wait for it, in seconds.
    """

    attempt: int
    delay_secs: float


class Retries:
    """The attempts of one call."""

    def __init__(self, policy: RetryPolicy, *, draw: Callable[[], float] = random.random):
        """Start with all budgets whole.

        Args:
            policy: The budgets and delays.
            draw: Returns a random number in [0, 1).
        """
        self._policy = policy
        self._draw = draw
        self._attempts = 0
        self._attempts_of_call = 0
        self._dropped_at: float | None = None
        self._configured_at: float | None = None

    def configured(self, now: float) -> None:
        """Record that a session was configured."""
        self._configured_at = now

    def settle(self) -> None:
        """Refill the budget of a drop: the next failure belongs to another one.

        The budget of the whole call stays as it is.
        """
        self._attempts = 0
        self._dropped_at = self._configured_at = None

    def next(
        self, kind: FailureKind, now: float, *, retry_after_secs: float | None = None
    ) -> Retry | None:
        """Record that a session was lost, or an attempt failed; return the next attempt.

        Args:
            kind: Why.
            now: The time.
            retry_after_secs: How long the server asks to wait, in seconds.

        Returns:
            The next attempt, or None if there shall be none.
        """
        policy = self._policy
        configured_at, self._configured_at = self._configured_at, None
        if configured_at is not None and now - configured_at >= policy.stable_secs:
            self.settle()
        if self._dropped_at is None:
            self._dropped_at = now
        if kind.final:
            return None
        self._attempts += 1
        self._attempts_of_call += 1
        factor = _CAPACITY_FACTOR if kind is FailureKind.CAPACITY else 1.0
        # Beyond some power of two the limit is the longest delay in any case.
        doubled = policy.first_delay_secs * factor * 2.0 ** min(self._attempts - 1, 32)
        delay = self._draw() * min(doubled, policy.longest_delay_secs)
        delay += retry_after_secs or 0.0
        if (
            self._attempts > policy.attempts_per_drop
            or self._attempts_of_call > policy.attempts_per_call
            or now + delay - self._dropped_at > policy.secs_per_drop
        ):
            return None
        return Retry(self._attempts, delay)
