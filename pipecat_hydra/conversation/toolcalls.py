"""The function calls of a session that the model waits for.

Theory of operation. Each function call is answered exactly once, on the session that made it
(F1). `OpenCalls` gathers each call's name and arguments from whichever events bring them, says
when the calls of a response are to be made, and takes the one answer of each.

The calls of one response are a batch, and the model is asked to go on once for each batch (F2).
A batch is settled when all its calls are answered: at once if the response is known to be done,
else 200 ms after the last answer.

Missing parts of a call may come until a second after its response is over: done, superseded or
given up. The call is then made with what has come of its arguments. A call of which only the name
has come does not count (P1).

Calls of a cancelled response do not count. A call becomes an orphan when its session is lost, or
when Hydra has waited too long for its answer. The id of an orphan means nothing to the server any
more, so its answer goes in as text.

Pure: time is a parameter, in seconds of any monotonic clock. Protocol: §6.
"""

import json
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from pipecat_hydra.conversation.effects import ToolCall, ToolCalls
from pipecat_hydra.wire.events import ResponseInfo

__all__ = ["OpenCalls", "Settled"]

_SETTLE_SECS: Final = 0.2
_GATHER_SECS: Final = 0.02
# How long the arguments of a call may come after its response is done (protocol §6).
_LATE_ARGUMENTS_SECS: Final = 1.0
_REMEMBERED_CALLS: Final = 256
# More than any model calls at a time, and more than it writes: bounds for a server gone wild.
_MAX_OPEN_CALLS: Final = 256
_MAX_ARGUMENT_CHARS: Final = 1_000_000


@dataclass(slots=True)
class _Call:
    name: str = ""
    fragments: list[str] = field(default_factory=list[str])
    size: int = 0
    complete: bool = False
    answered: bool = False

    @property
    def gathered(self) -> str:
        return "".join(self.fragments)


@dataclass(slots=True)
class _Batch:
    calls: dict[str, _Call] = field(default_factory=dict[str, _Call])
    ready: list[ToolCall] = field(default_factory=list[ToolCall])
    ready_at: float = 0.0
    done: bool = False
    # Until when missing parts of its calls may come; None while the response goes on.
    complete_by: float | None = None
    respond: bool = False
    cancelled: bool = False
    answered_at: float = 0.0

    @property
    def answered(self) -> bool:
        return all(call.answered for call in self.calls.values())

    @property
    def unanswered(self) -> dict[str, str]:
        """The calls that are complete and have no answer, id to name."""
        return {i: c.name for i, c in self.calls.items() if c.complete and not c.answered}

    @property
    def awaited(self) -> bool:
        """Whether a call was handed out to be made, and has no answer."""
        return bool(self.unanswered.keys() - {call.call_id for call in self.ready})

    @property
    def gathered_at(self) -> float | None:
        """When the calls may be made together; None if that is not known yet."""
        if not all(call.complete for call in self.calls.values()):
            return self.complete_by
        if not self.ready:
            return None
        return self.ready_at if self.done else self.ready_at + _GATHER_SECS

    def make(self, call_id: str, arguments: str, now: float) -> None:
        """Add a complete call to those that are to be made."""
        call = self.calls[call_id]
        call.complete = True
        self.ready.append(ToolCall(call_id, call.name, arguments))
        self.ready_at = now


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
        self._batches: dict[str | None, _Batch] = {}
        # Names of calls that are known only from their items.
        self._names: dict[str, str] = {}
        # Calls already dealt with: the server may repeat itself, we may not.
        self._settled: deque[str] = deque(maxlen=_REMEMBERED_CALLS)
        # Calls whose turn or session is gone: the server does not know their ids any more.
        self._orphans: deque[str] = deque(maxlen=_REMEMBERED_CALLS)
        # Cancelled responses. Their calls do not count, however late they come.
        self._cancelled: deque[str] = deque(maxlen=_REMEMBERED_CALLS)

    @property
    def unsettled(self) -> bool:
        """Whether any call is open, or any batch not settled."""
        return bool(self._batches)

    @property
    def awaited(self) -> bool:
        """Whether a call was handed out to be made, and has no answer."""
        return any(batch.awaited for batch in self._batches.values())

    @property
    def may_run(self) -> bool:
        """Whether a function may be running, also for an orphan."""
        return self.awaited or bool(self._orphans)

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
        settled = [b.answered_at + _SETTLE_SECS for b in batches if b.answered]
        gathered = [at for at in (b.gathered_at for b in batches) if at is not None]
        return min(settled + gathered, default=None)

    def name(self, call_id: str, name: str) -> None:
        """Record the name of a call that may never come."""
        if len(self._names) < _REMEMBERED_CALLS:
            self._names[call_id] = name

    def announce(
        self, call_id: str, response_id: str | None, *, name: str | None, fragment: str = ""
    ) -> str:
        """Record a call whose arguments are still coming; return its name so far."""
        call = self._find(call_id, response_id)
        if call is None or call.complete:
            return name or ""
        call.name = name or call.name
        call.size += len(fragment)
        if fragment and call.size <= _MAX_ARGUMENT_CHARS:
            # Longer arguments are cut, so they are not JSON any more.
            call.fragments.append(fragment)
        return call.name

    def session_lost(self) -> None:
        """Forget all calls; those that are complete and not answered become orphans."""
        for batch in self._batches.values():
            self._orphans.extend(batch.unanswered)
        # Ids mean nothing beyond their session.
        self._batches.clear()
        self._names.clear()
        self._settled.clear()
        self._cancelled.clear()

    def abandon_oldest(self) -> dict[str, str]:
        """Make orphans of the oldest batch that waits for answers; return them, id to name."""
        for response_id, batch in self._batches.items():
            unanswered = batch.unanswered
            if unanswered:
                del self._batches[response_id]
                self._settled.extend(batch.calls)
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
    ) -> None:
        """Record a complete call."""
        call = self._find(call_id, response_id)
        if call is None or call.complete:
            return
        call.name = name or call.name
        batch = next(b for b in self._batches.values() if call_id in b.calls)
        batch.make(call_id, call.gathered if arguments is None else arguments, now)

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
        if batch is None:
            return
        for call_id, call in list(batch.calls.items()):
            if call.complete:
                continue
            if unfinished:
                # The model never finished this call, so it does not count.
                del batch.calls[call_id]
                self._settled.append(call_id)
            elif _is_object(call.gathered):
                batch.make(call_id, call.gathered, now)
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
                    batch.make(call_id, call.gathered, now)
                else:
                    # Only its name has come, so the function is not run.
                    del batch.calls[call_id]
            if batch.ready:
                gathered.append(ToolCalls(response_id, tuple(batch.ready)))
                batch.ready.clear()
            if not batch.calls:
                del self._batches[response_id]
        return gathered

    def answer(self, call_id: str, now: float, *, respond: bool, cancelled: bool = False) -> bool:
        """Record an answer. Return whether it is the first one, which is to be sent."""
        for batch in self._batches.values():
            call = batch.calls.get(call_id)
            if call is None:
                continue
            if call.answered:
                return False
            call.answered = call.complete = True
            batch.respond = batch.respond or respond
            batch.cancelled = batch.cancelled or cancelled
            batch.answered_at = now
            return True
        return False

    def take_settled(self, now: float) -> list[Settled]:
        """Remove the batches that are settled by `now`, and return them."""
        settled: list[Settled] = []
        for response_id, batch in list(self._batches.items()):
            if not batch.answered:
                continue
            if batch.done or now >= batch.answered_at + _SETTLE_SECS:
                settled.append(Settled(response_id, batch.respond, batch.cancelled))
                self._settled.extend(batch.calls)
                del self._batches[response_id]
        return settled

    def _find(self, call_id: str, response_id: str | None) -> _Call | None:
        """Find the call, or begin it; None if it has been dealt with."""
        if call_id in self._settled:
            return None
        for batch in self._batches.values():
            if call_id in batch.calls:
                return batch.calls[call_id]
        if sum(len(batch.calls) for batch in self._batches.values()) >= _MAX_OPEN_CALLS:
            return None
        # An orphan with the same id is another call: each session has ids of its own.
        self.take_orphan(call_id)
        call = _Call(self._names.pop(call_id, ""))
        return self._batches.setdefault(response_id, _Batch()).calls.setdefault(call_id, call)


def _is_object(text: str) -> bool:
    """Whether a text is a whole JSON object, as arguments are."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
