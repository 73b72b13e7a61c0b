"""What a question and an answer are, and what a question reads: the logs of its scenes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pipecat_hydra.cli.check.log import Entry, SessionLog

__all__ = [
    "Answer",
    "Logs",
    "NotSeenError",
    "Question",
    "Sure",
    "Verdict",
    "as_assumed",
    "judged",
    "not_lost",
    "otherwise",
]

Verdict: TypeAlias = Literal["as assumed", "otherwise", "not seen"]
"""How what was seen compares with what this version of the package assumes."""

Sure: TypeAlias = Literal["sure", "likely", "-"]
"""How sure an answer is: an event of the server says so, or it is concluded from what did not
come or from how a model behaved once. Nothing is to be said if nothing was seen."""

_MOST_EVIDENCE: Final = 5


class NotSeenError(Exception):
    """A question cannot be answered from the logs; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found out.

    Parameters:
        verdict: How it compares with what is assumed.
        text: The answer in words.
        evidence: What it is concluded from, one line for each event.
        sure: How sure it is.
    """

    verdict: Verdict
    text: str
    evidence: tuple[str, ...] = ()
    sure: Sure = "-"


class Logs:
    """The logs of the scenes that were held."""

    def __init__(
        self, logs: Mapping[str, Sequence[SessionLog]], failures: Mapping[str, str] | None = None
    ):
        """Wrap the logs.

        Args:
            logs: The logs of each scene.
            failures: Why scenes failed.
        """
        self._logs = logs
        self._failures = failures or {}

    def all(self, scene: str) -> Sequence[SessionLog]:
        """Return the logs of the sessions of a scene.

        Raises:
            NotSeenError: The scene failed before there was one.
        """
        logs = self._logs.get(scene, ())
        if not logs:
            raise NotSeenError(self._failures.get(scene) or "it was not asked")
        return logs

    def attempt(self, scene: str) -> SessionLog:
        """Return the log of the first attempt of a scene, which may not have led to a session."""
        return self.all(scene)[0]

    def one(self, scene: str) -> SessionLog:
        """Return the log of the last session of a scene, which was configured.

        Raises:
            NotSeenError: It was not.
        """
        log = self.all(scene)[-1]
        if log.failure:
            raise NotSeenError(log.failure)
        if log.first("session.configured") is None:
            why = log.errors[0] if log.errors else log.close or "session.configured did not come"
            raise NotSeenError(f"the session was not configured: {why}")
        return log


@dataclass(frozen=True, slots=True)
class Question:
    """Something that the protocol document leaves open.

    Parameters:
        id: What it is called on the command line.
        text: The question in words.
        section: The section of the protocol document.
        assumes: What this version of the package assumes.
        scenes: What is done with the server to ask it.
        judge: Answers it from the logs; raises `NotSeenError` if they do not say.
    """

    id: str
    text: str
    section: str
    assumes: str
    scenes: tuple[str, ...]
    judge: Callable[[Logs], Answer]

    def answer(self, logs: Logs) -> Answer:
        """Answer the question; never raises, whatever the server has sent."""
        try:
            return self.judge(logs)
        except NotSeenError as error:
            return Answer("not seen", str(error))
        except Exception as error:
            # The shape of what a server sends is anybody's guess.
            return Answer("not seen", f"what came cannot be judged ({type(error).__name__})")


def as_assumed(text: str, *evidence: Entry | str | None, sure: Sure = "sure") -> Answer:
    """Return an answer that is what this version assumes."""
    return Answer("as assumed", text, _lines(evidence), sure)


def otherwise(text: str, *evidence: Entry | str | None, sure: Sure = "sure") -> Answer:
    """Return an answer that is not what this version assumes."""
    return Answer("otherwise", text, _lines(evidence), sure)


def judged(
    is_as_assumed: bool, yes: str, no: str, *evidence: Entry | str | None, sure: Sure = "sure"
) -> Answer:
    """Return one of two answers: the one that is assumed, or the other."""
    return (as_assumed if is_as_assumed else otherwise)(
        yes if is_as_assumed else no, *evidence, sure=sure
    )


def not_lost(log: SessionLog) -> None:
    """Let a question conclude something from what did not come.

    Raises:
        NotSeenError: The connection was lost, so that nothing can have come any more.
    """
    if log.closed_at is not None:
        raise NotSeenError(f"the connection ended: {log.close}")


def _lines(evidence: Iterable[Entry | str | None]) -> tuple[str, ...]:
    lines = [str(one) for one in evidence if one is not None and str(one)]
    more = len(lines) - _MOST_EVIDENCE
    return (*lines[:_MOST_EVIDENCE], *([f"and {more} more"] if more > 0 else []))
