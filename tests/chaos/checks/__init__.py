"""Checks the evidence of a call against the invariants of the design.

Each check knows one invariant, and which part of it a fault makes uncheckable. There are three
reasons:

- What the server sent just before it lost the connection may never have come: a reset throws away
  what the client has not read. Then only an upper limit of what the client knew is certain.
- An event without its ids or roles (`Missing`) cannot be understood by anybody: a turn whose end
  does not say whose it is stays undecided.
- A server that does not read (`SlowReader`) gets what was sent in a burst, and some of it not at
  all when the connection is lost meanwhile.

Times are those of the virtual clock: no machine is too slow for a call, so that limits of time
hold as they are written.

A check is a function that takes the `Facts` (`facts.py`) and tells of each violation in a text. The
checks stand in one file for each part of a call: `user_audio.py`, `replies.py`, `turns.py`,
`tools.py`, `session.py`. The table below says which invariant each is about.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chaos.checks import replies, session, tools, turns, user_audio
from chaos.checks.facts import Facts
from chaos.runner import Evidence

_Check = tuple[str, Callable[[Facts], Iterator[str]]]

_CHECKS: list[_Check] = [
    ("A1", user_audio.nothing_before_configured),
    ("A4", replies.whole_samples_at_one_rate),
    ("A4", replies.replies_are_whole),
    ("A5", replies.nothing_after_an_interruption),
    ("A6", replies.brackets_match),
    ("T2", turns.every_turn_ends),
    ("F2", tools.one_request_each),
    ("S2", session.as_the_policy_says),
    ("S3", session.server_has_no_complaint),
    ("S4", session.no_key_in_logs),
    ("S5", session.nothing_is_left),
    ("A1", user_audio.not_too_fast),
    ("A1", user_audio.every_word_arrives),
    ("A3", user_audio.nothing_within_words),
    ("A3", user_audio.silence_keeps_it_alive),
    ("A4", replies.listener_hears_it),
    ("T1", turns.one_interruption_each),
    ("T3", replies.nothing_is_said_twice),
    ("T4", turns.interruptions_cancel),
    ("F1", tools.every_call_is_answered),
    ("S2", session.one_error_for_each_loss),
    ("S3", session.no_event_ends_it),
    ("S5", session.it_ends_in_time),
    ("liveness", session.nobody_waits_in_vain),
]

CHECKS = frozenset(check.__name__ for _, check in _CHECKS)
"""The names of all checks."""


@dataclass(frozen=True)
class Violation:
    """Something that must not be.

    Parameters:
        seed: Of the call.
        invariant: Its name in the design.
        check: The name of the check that tells.
        text: The evidence.
    """

    seed: int
    invariant: str
    check: str
    text: str

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.invariant} ({self.check}): {self.text}"


def violations(evidence: Evidence) -> list[Violation]:
    """Check all invariants; none is violated in a call that went as it should."""
    facts = Facts(evidence)
    return [
        Violation(evidence.plan.seed, invariant, check.__name__, text)
        for invariant, check in _CHECKS
        for text in check(facts)
    ]
