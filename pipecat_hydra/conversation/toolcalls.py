"""The function calls of a session that the model waits for.

Theory of operation. Each function call is answered exactly once, on the session that made it
(F1). `OpenCalls` gathers each call's name and arguments from whichever events bring them, says
when the calls of a response are to be made, and takes the one answer of each.

The calls of one response are a batch, and the model is asked to go on once for each batch (F2).
A batch is settled when all its calls are answered: at once if the response is known to be done,
else after a wait, which depends on what the session has shown (`call_order.py`).

Missing parts of a call may come until a second after its response is over: done, superseded or
given up. The call is then made with what has come of its arguments. A call of which only the name
has come does not count (P1).

Calls of a cancelled response do not count. A call becomes an orphan when its session is lost, or
when Hydra has waited too long for its answer. The id of an orphan means nothing to the server any
more, so its answer goes in as text.

An id names a call only within its response: a later response, or another session, may use it
again. So each call is handed out under an id that no other call of the conversation has: the
server's own, or that with a number. The same id again from the same response is the same call. An
event that does not say its response, with an id that was dealt with, is a repetition.

A turn of the user that is answered while older calls are open overtakes them. They are answered
as ever, and the model goes on about them, but nothing waits for them.

Pure: time is a parameter, in seconds of any monotonic clock. Protocol: §6.
"""

import json
import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from pipecat_hydra.conversation.call_batch import Batch, Call
from pipecat_hydra.conversation.call_order import CallOrder
from pipecat_hydra.conversation.effects import ToolCalls
from pipecat_hydra.wire.events import ResponseInfo

__all__ = ["OpenCalls", "Settled"]

# How long the arguments of a call may come after its response is done (protocol §6).
_LATE_ARGUMENTS_SECS: Final = 1.0
_REMEMBERED_CALLS: Final = 256
# More than any model calls at a time, and more than it writes: bounds for a server gone wild.
_MAX_OPEN_CALLS: Final = 256
_MAX_ARGUMENT_CHARS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Settled:
    """A batch of calls that are all answered.

    Parameters:
        response_id: The response that called.
        respond: Whether the model shall be asked to go on.
        cancelled: Whether an interruption cancelled any of them.
    """

    response_id: str | None
    respond: bool
    cancelled: bool


class OpenCalls:
    """The open calls of a session, in batches, and the orphans of earlier turns and sessions."""

    def __init__(self) -> None:
        """Start with no calls."""
        self._batches: dict[str | None, Batch] = {}
        self._newest: Batch | None = None
        # Names of calls that are known only from their items, by the server's ids.
        self._names: dict[str, str] = {}
        # Calls already dealt with, each with its response, by the server's ids: the server may
        # repeat itself, we may not.
        self._settled: deque[tuple[str | None, str]] = deque(maxlen=_REMEMBERED_CALLS)
        self._order = CallOrder()
        # The ids handed out.
        self._given: deque[str] = deque(maxlen=_REMEMBERED_CALLS)
        # Calls whose turn or session is gone, by the ids handed out.
        self._orphans: deque[str] = deque(maxlen=_REMEMBERED_CALLS)
        # How many turns the user has begun, and how many of them are answered or past.
        self._turns = self._turns_answered = 0
        # Cancelled responses. Their calls do not count, however late they come.
        self._cancelled: deque[str] = deque(maxlen=_REMEMBERED_CALLS)

    @property
    def unsettled(self) -> bool:
        """Whether a call is open or a batch not settled, and the model waits for it."""
        return any(not self._is_overtaken(batch) for batch in self._batches.values())

    @property
    def awaited(self) -> bool:
        """Whether a call was handed out to be made, has no answer, and is waited for."""
        batches = self._batches.values()
        return any(batch.awaited and not self._is_overtaken(batch) for batch in batches)

    @property
    def may_run(self) -> bool:
        """Whether a function may be running, also for an orphan."""
        return bool(self._orphans) or any(batch.awaited for batch in self._batches.values())

    @property
    def owed(self) -> bool:
        """Whether a batch is answered, and the model is still to be asked to go on about it."""
        return any(batch.answered and batch.respond for batch in self._batches.values())

    @property
    def deadline(self) -> float | None:
        """When `take_gathered` or `take_settled` returns something next; None for never."""
        if not self._batches:
            return None
        batches = self._batches.values()
        settled = [self._settled_at(batch) for batch in batches if batch.answered]
        gathered = [at for at in (b.gathered_at for b in batches) if at is not None]
        return min(settled + gathered, default=None)

    def _settled_at(self, batch: Batch) -> float:
        """When an answered batch is settled, if its response is not done before."""
        goes_on = batch is self._newest and batch.complete_by is None
        return batch.answered_at + self._order.wait_secs(goes_on=goes_on)

    def response_began(self, response_id: str | None) -> None:
        """Forget the calls of an earlier response that had the same id."""
        if response_id is None:
            return
        self._settled = deque(
            (call for call in self._settled if call[0] != response_id), _REMEMBERED_CALLS
        )
        if response_id in self._cancelled:
            self._cancelled.remove(response_id)

    def name(self, call_id: str, name: str) -> None:
        """Record the name of a call that may never come."""
        if len(self._names) < _REMEMBERED_CALLS:
            self._names[call_id] = name

    def announce(
        self,
        call_id: str,
        response_id: str | None,
        *,
        name: str | None,
        fragment: str = "",
        sure: bool = True,
    ) -> tuple[str, str]:
        """Record a call whose arguments are still coming.

        Args:
            call_id: The call, as the server names it.
            response_id: Its response.
            name: The function, if the event names it.
            fragment: What comes of the arguments.
            sure: Whether the event itself names the response.

        Returns:
            The id under which the call is handed out, and its name so far.
        """
        call = self._find(call_id, response_id, sure=sure)
        if call is None:
            return call_id, name or ""
        if call.complete:
            return call.call_id, name or ""
        call.name = name or call.name
        call.size += len(fragment)
        if fragment and call.size <= _MAX_ARGUMENT_CHARS:
            # Longer arguments are cut, so they are not JSON any more.
            call.fragments.append(fragment)
        return call.call_id, call.name

    def turn_started(self) -> None:
        """The user begins to speak."""
        self._turns += 1

    def turn_is_answered(self) -> None:
        """Wait for no call that was made before the user's last turn, which is answered."""
        self._turns_answered = self._turns

    def _is_overtaken(self, batch: Batch) -> bool:
        return batch.turns_before < self._turns_answered

    def session_lost(self) -> None:
        """Forget all calls; those that are complete and not answered become orphans."""
        for batch in self._batches.values():
            self._orphans.extend(batch.unanswered)
        # Ids mean nothing beyond their session.
        self._batches.clear()
        self._names.clear()
        self._settled.clear()
        self._cancelled.clear()
        self._order = CallOrder()

    def abandon_oldest(self) -> dict[str, str]:
        """Make orphans of the oldest batch that waits for answers; return them, id to name."""
        for response_id, batch in self._batches.items():
            unanswered = batch.unanswered
            if unanswered:
                self._put_away(response_id)
                self._orphans.extend(unanswered)
                return unanswered
        return {}

    def take_orphan(self, call_id: str) -> bool:
        """Remove a call from the orphans. Return whether it was one."""
        if call_id not in self._orphans:
            return False
        self._orphans.remove(call_id)
        return True

    def is_void(self, response_id: str | None) -> bool:
        """Whether the calls of a response do not count, because it was cancelled."""
        return response_id is not None and response_id in self._cancelled

    def call(
        self,
        call_id: str,
        response_id: str | None,
        now: float,
        *,
        name: str | None,
        arguments: str | None,
        sure: bool = True,
    ) -> None:
        """Record a complete call.

        Args:
            call_id: The call, as the server names it.
            response_id: Its response.
            now: The time.
            name: The function, if the event names it.
            arguments: All the arguments; None if they are what has come of them.
            sure: Whether the event itself names the response.
        """
        call = self._find(call_id, response_id, sure=sure)
        if call is None or call.complete:
            return
        call.name = name or call.name
        batch = next(b for b in self._batches.values() if b.calls.get(call_id) is call)
        if any(other.complete for other in batch.calls.values()):
            self._order.call_followed(now - batch.ready_at)
        batch.make(call, call.gathered if arguments is None else arguments, now)

    def complete(self, info: ResponseInfo, response_id: str | None, now: float) -> None:
        """Record that a response is done, and complete the calls that got no last event.

        Args:
            info: The response as `response.done` reports it.
            response_id: Its id.
            now: The time.
        """
        cancelled = info.status == "cancelled"
        if cancelled and response_id is not None:
            self._cancelled.append(response_id)
        unfinished = info.status in ("cancelled", "failed", "incomplete")
        for item in info.output or ():
            if item.type == "function_call" and item.call_id and not cancelled:
                self.call(item.call_id, response_id, now, name=item.name, arguments=item.arguments)
        batch = self._batches.get(response_id)
        is_completed = info.status == "completed"
        if batch is None:
            if is_completed and self._was_settled(response_id):
                self._order.done_came(was_asked=True)
            return
        for call_id, call in list(batch.calls.items()):
            if call.complete:
                continue
            if unfinished:
                # The model never finished this call, so it does not count.
                del batch.calls[call_id]
                self._settled.append((response_id, call_id))
            elif _is_object(call.gathered):
                batch.make(call, call.gathered, now)
        if is_completed:
            self._order.done_came(was_asked=False)
        batch.done, batch.complete_by = True, now + _LATE_ARGUMENTS_SECS
        if not batch.calls:
            del self._batches[response_id]

    def bound(self, living: Collection[str | None], now: float) -> None:
        """Set the time by which the calls of responses that are over have to be complete.

        Args:
            living: The responses that are not over.
            now: The time.
        """
        for response_id, batch in self._batches.items():
            if batch.complete_by is None and response_id not in living:
                batch.complete_by = now + _LATE_ARGUMENTS_SECS

    def take_gathered(self, now: float) -> list[ToolCalls]:
        """Remove and return the calls that are to be made by `now`, by response.

        They are made when the response is done, or when no other has come for 20 ms: whether
        `response.done` comes before the outputs, or even before the arguments, is not certain
        (protocol §6).
        """
        gathered: list[ToolCalls] = []
        for response_id, batch in list(self._batches.items()):
            at = batch.gathered_at
            if at is None or now < at:
                continue
            for call_id, call in list(batch.calls.items()):
                if call.complete:
                    continue
                if call.fragments:
                    # The arguments are not JSON, and are answered as such.
                    batch.make(call, call.gathered, now)
                else:
                    # Only its name has come, so the function is not run.
                    del batch.calls[call_id]
            if batch.ready:
                gathered.append(ToolCalls(response_id, tuple(batch.ready)))
                batch.ready.clear()
            if not batch.calls:
                del self._batches[response_id]
        return gathered

    def answer(
        self, call_id: str, now: float, *, respond: bool, cancelled: bool = False
    ) -> str | None:
        """Record an answer.

        Args:
            call_id: The call, as it was handed out.
            now: The time.
            respond: Whether the model shall be asked to go on.
            cancelled: Whether an interruption cancelled the call.

        Returns:
            The server's id of the call, if this is its first answer, and so to be sent.
        """
        for batch in self._batches.values():
            for server_id, call in batch.calls.items():
                if call.call_id != call_id:
                    continue
                if call.answered:
                    return None
                call.answered = call.complete = True
                batch.respond = batch.respond or respond
                batch.cancelled = batch.cancelled or cancelled
                batch.answered_at = now
                return server_id
        return None

    def take_settled(self, now: float) -> list[Settled]:
        """Remove the batches that are settled by `now`, and return them."""
        settled: list[Settled] = []
        for response_id, batch in list(self._batches.items()):
            if not batch.answered:
                continue
            if batch.done or now >= self._settled_at(batch):
                settled.append(Settled(response_id, batch.respond, batch.cancelled))
                self._put_away(response_id)
        return settled

    def _put_away(self, response_id: str | None) -> None:
        """Remove a batch whose calls are dealt with."""
        batch = self._batches.pop(response_id)
        for call_id, call in batch.calls.items():
            self._settled.append((response_id if call.is_response_sure else None, call_id))

    def _find(self, call_id: str, response_id: str | None, *, sure: bool) -> Call | None:
        """Find the call of a response, or begin it; None if it has been dealt with."""
        for n, (of, settled) in enumerate(self._settled):
            if settled == call_id and (not sure or of in (response_id, None)):
                if sure:
                    # A later response may use the id again.
                    self._settled[n] = (response_id, call_id)
                return None
        for of, batch in self._batches.items():
            call = batch.calls.get(call_id)
            if call is None:
                continue
            # What nothing but an item has told of may be the call of another response.
            is_used_again = call.is_response_sure and (call.complete or call.fragments)
            if of in (response_id, None) or not (sure and is_used_again):
                call.is_response_sure = call.is_response_sure or sure
                return call
        if sum(len(batch.calls) for batch in self._batches.values()) >= _MAX_OPEN_CALLS:
            return None
        call = Call(self._give_id(call_id), self._names.pop(call_id, ""))
        if response_id not in self._batches:
            if self._was_settled(response_id):
                # The model was asked about the calls of the response too early.
                self._order.call_followed(math.inf)
            self._newest = self._batches[response_id] = Batch(turns_before=self._turns)
        call.is_response_sure = sure
        batch = self._batches[response_id]
        return batch.calls.setdefault(call_id, call)

    def _was_settled(self, response_id: str | None) -> bool:
        """Whether a response has made calls that are dealt with."""
        return response_id is not None and any(of == response_id for of, _ in self._settled)

    def _give_id(self, call_id: str) -> str:
        """Return the id under which a call is handed out: one that no other call has."""
        given = call_id
        number = 1
        while given in self._given:
            number += 1
            given = f"{call_id}_{number}"
        self._given.append(given)
        return given


def _is_object(text: str) -> bool:
    """Whether a text is a whole JSON object, as arguments are."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
