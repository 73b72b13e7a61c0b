"""Counts the rounds of function calls that the model makes with nothing said.

A *round* is the calls of one response. A model may call again as soon as it is told the results,
and so for ever, while the user hears nothing. The count begins anew when the model says something
or the user does.
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["Round", "ToolRounds"]

LOOP_ROUNDS: Final = 5
"""How many rounds with nothing said are a loop."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round of calls.

    Parameters:
        number: Which it is since anything was said, counted from 1.
        is_loop: Whether it shows a loop, of which nothing was told yet.
        is_allowed: Whether its calls may be made.
        may_speak: Whether the model is to be asked to go on about them.
    """

    number: int
    is_loop: bool
    is_allowed: bool
    may_speak: bool


class ToolRounds:
    """Counts the rounds since anything was said."""

    def __init__(self, limit: int | None):
        """Start with nothing called.

        Args:
            limit: How many rounds may be made in a row; None for any number.
        """
        self._limit = limit
        self._loop_at = LOOP_ROUNDS if limit is None else min(LOOP_ROUNDS, limit + 1)
        self._rounds = 0

    def begin(self) -> Round:
        """Count a round, and say what is to become of it."""
        self._rounds += 1
        beyond = 0 if self._limit is None else max(0, self._rounds - self._limit)
        return Round(
            self._rounds,
            is_loop=self._rounds == self._loop_at,
            is_allowed=not beyond,
            # A model that calls on when it is asked to speak is asked no more.
            may_speak=beyond <= 1,
        )

    def said(self) -> None:
        """Begin anew: something was said."""
        self._rounds = 0
