"""Decides when a session is opened, opened again and given up: a state machine.

An *attempt* is one coroutine: it connects, serves the session until that ends, and returns
why it ended. At most one attempt runs at a time. What comes after it depends on the state
alone. `SessionRunner` is the one place that changes the state:

| state    | meaning                                                      | attempt          |
|----------|--------------------------------------------------------------|------------------|
| IDLE     | nobody uses a session, and there is none                     | none             |
| SPARE    | a session that nobody uses yet                               | running          |
| IN_USE   | somebody uses the session                                    | running or due   |
| LOST     | somebody uses it, but it was lost, as the pipeline was told  | running or due   |
| RESTING  | nobody uses the session any more; it is being closed         | running          |
| RECALLED | it is being closed, but somebody uses a session again        | running          |
| GIVEN_UP | no session could be opened; `renew` allows another try       | none             |
| CLOSED   | ended for good                                               | none, or ending  |

`prewarm` leads from IDLE to SPARE; `open` from IDLE or SPARE to IN_USE, and from RESTING
to RECALLED. `rest` leads from each state with an attempt to RESTING. `ready`, a configured
session, leads from LOST back to IN_USE. When an attempt ends:

- If the owner has stopped it: after `replace` another begins at once, in the same state; after
  `close` none does.
- RESTING leads to IDLE; from RECALLED another attempt begins at once, IN_USE. Both tell
  `Rested`.
- SPARE leads to IDLE and tells `Rested`: a session that nobody uses is not tried again.
- IN_USE and LOST lead to LOST: the next attempt is due after the delay of `Retries`, which
  `Retrying` tells. `Lost` is told on the way from IN_USE, and so once for each loss.
- If trying again is of no use, or the budget of `Retries` is spent, any other state leads to
  GIVEN_UP and tells `GivenUp`.

An attempt that dies (supervision.py) is an attempt that ended: the server is said to have
failed, and the same rules apply. A due attempt is a timer and no task, so nothing is left to
die while the runner waits.

While an attempt runs or is due, the call keeps its place under a cap on sessions (capacity.py);
`on_over` tells when none does any more.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from pipecat_hydra.conversation.effects import (
    FailureKind,
    GivenUp,
    Lost,
    PipelineEffect,
    Rested,
    Retrying,
)
from pipecat_hydra.session.retries import Retries
from pipecat_hydra.session.supervision import Supervised

__all__ = ["Ending", "SessionRunner", "State"]


class State(Enum):
    """What session there is, and whether somebody uses it: see the module's docstring."""

    IDLE = auto()
    SPARE = auto()
    IN_USE = auto()
    LOST = auto()
    RESTING = auto()
    RECALLED = auto()
    GIVEN_UP = auto()
    CLOSED = auto()


_WANTED: Final = (State.IN_USE, State.LOST, State.RECALLED)


@dataclass(frozen=True, slots=True)
class Ending:
    """Why an attempt ended.

    Parameters:
        kind: Why.
        message: The same, for a person. Never holds the key or the URL's query.
        created: Whether the server had opened a session.
        retry_after_secs: How long the server asks to wait, in seconds.
        is_final: Whether trying again is of no use, whatever the kind.
    """

    kind: FailureKind
    message: str
    created: bool = False
    retry_after_secs: float | None = None
    is_final: bool = False


class SessionRunner:
    """Opens sessions, one at a time. After `prewarm`, `open` or `replace` you must `close` it."""

    def __init__(
        self,
        attempt: Callable[[], Coroutine[Any, Any, Ending]],
        *,
        retries: Retries,
        tell: Callable[[PipelineEffect], None],
        on_over: Callable[[], None] = lambda: None,
    ):
        """Make a runner that is IDLE.

        Args:
            attempt: Makes one attempt, from connecting to the end of the session. It is
                cancelled to stop it.
            retries: When to try again.
            tell: Called with each effect for the pipeline.
            on_over: Called when an attempt has ended by itself, and none runs or is due.
        """
        self._make_attempt = attempt
        self._retries = retries
        self._tell = tell
        self._on_over = on_over
        self._state = State.IDLE
        self._attempt: Supervised[Ending] | None = None
        # Whether the session of this attempt was configured.
        self._was_ready = False
        self._next: asyncio.TimerHandle | None = None

    @property
    def state(self) -> State:
        """The state; only the methods of the runner change it."""
        return self._state

    @property
    def is_open(self) -> bool:
        """Whether an attempt runs or is due."""
        return self._attempt is not None or self._next is not None

    @property
    def is_wanted(self) -> bool:
        """Whether somebody uses the session, so that a loss of it matters."""
        return self._state in _WANTED

    @property
    def is_in_use(self) -> bool:
        """Whether somebody uses the session, and an attempt to have it runs or is due."""
        has_attempt = self._attempt is not None or self._next is not None
        return has_attempt and self._state in _WANTED

    @property
    def stop_reason(self) -> str | None:
        """Why the owner has stopped the attempt that runs; None if it has not."""
        if self._attempt is None or not self._attempt.is_stopped:
            return None
        return "the pipeline has ended" if self._state is State.CLOSED else "replaced by another"

    def prewarm(self) -> None:
        """Open a session that nobody uses yet."""
        if self._state is State.IDLE:
            self._begin_anew(State.SPARE)

    def open(self) -> None:
        """Use a session from now on, unless it was given up."""
        match self._state:
            case State.IDLE:
                self._begin_anew(State.IN_USE)
            case State.SPARE:
                self._state = State.IN_USE
            case State.RESTING:
                self._state = State.RECALLED
            case _:
                pass

    def renew(self) -> None:
        """Allow another try after the session was given up."""
        if self._state is State.GIVEN_UP:
            self._state = State.IDLE

    def ready(self) -> None:
        """Record that the session is configured."""
        self._was_ready = True
        self._retries.configured(_now())
        if self._state is State.LOST:
            self._state = State.IN_USE

    def rest(self) -> None:
        """Record that nobody uses the session any more, and that it is being closed."""
        if self._attempt is not None and self._state is not State.CLOSED:
            self._state = State.RESTING

    async def replace(self) -> None:
        """Exchange the session for another; return once the old one is closed.

        The new session follows even if the caller is cancelled meanwhile. Does nothing while a
        session goes to rest, because the next use opens another one anyway.
        """
        if self._state in (State.RESTING, State.RECALLED, State.CLOSED):
            return
        if self._attempt is not None:
            self._attempt.stop()
            await self._attempt.wait()
        elif self.is_wanted:
            self._begin()
        else:
            self._begin_anew(State.SPARE)

    async def close(self) -> None:
        """End the session, for good. Idempotent; if cancelled, the session ends all the same."""
        self._state = State.CLOSED
        self._cancel_next()
        if self._attempt is not None:
            self._attempt.stop()
            await self._attempt.wait()

    def _begin_anew(self, state: State) -> None:
        self._state = state
        self._retries.settle()
        self._begin()

    def _begin(self) -> None:
        """Begin the next attempt now."""
        self._cancel_next()
        self._was_ready = False
        self._attempt = Supervised(
            self._make_attempt(), name="hydra-connection", on_end=self._on_end
        )

    def _cancel_next(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _on_end(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is None or self._state is State.CLOSED:
            return
        if attempt.is_stopped:
            self._begin()
            return
        died = Ending(FailureKind.SERVER, f"the session with Hydra failed ({attempt.death})")
        self._after(attempt.result or died)
        if not self.is_open:
            self._on_over()

    def _after(self, ending: Ending) -> None:
        """Tell how an attempt ended by itself, and move to the state that follows."""
        match self._state:
            case State.RESTING:
                self._state = State.IDLE
                self._tell(Rested(ending.message, failed=False))
            case State.RECALLED:
                self._state = State.IN_USE
                self._tell(Rested(ending.message, failed=False))
                self._begin()
            case State.SPARE if not ending.kind.final:
                self._state = State.IDLE
                failed = not (ending.created and ending.kind is FailureKind.ENDED)
                self._tell(Rested(ending.message, failed=failed))
            case _:
                self._try_again(ending)

    def _try_again(self, ending: Ending) -> None:
        kind, message = ending.kind, ending.message
        retry = self._retries.next(kind, _now(), retry_after_secs=ending.retry_after_secs)
        if retry is None or ending.is_final:
            self._state = State.GIVEN_UP
            self._tell(GivenUp(kind, message))
            return
        # A session's first use and its idle close may cross, which is nobody's fault.
        crossed = ending.created and not self._was_ready and kind is FailureKind.ENDED
        if self._state is State.IN_USE and not crossed:
            self._state = State.LOST
            self._tell(Lost(kind, message, self._was_ready))
        self._tell(Retrying(retry.attempt, retry.delay_secs, kind, message))
        self._next = asyncio.get_running_loop().call_later(retry.delay_secs, self._begin)


def _now() -> float:
    return asyncio.get_running_loop().time()
