"""The rules between function calls, responses and owed replies.

Theory of operation. `OpenCalls` knows the calls; this module knows what else they depend on:

**A call belongs to a response.** Its events name the response, or belong to the current one. An
item does not name its response: while none is current, nothing but the name is taken from it. An
item that is done may be all that the server says of a call. Calls of a cancelled response do not
count. While arguments come, the response has not stalled.

**A settled batch of calls wants a reply**, unless no function asks for one. If an interruption
cancelled a call, the reply is withheld until the user's turn is decided. If the turn was noise, the
reply is wanted after all (T3, F2).

`turn_taking.py` has the rules about everything else, and says when a reply is asked for.

Pure: time is a parameter, in seconds of any monotonic clock. Protocol: §6.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from pipecat_hydra.conversation.diagnostics import report_call_without_id
from pipecat_hydra.conversation.effects import Effect, ToolArguments, ToolCalls
from pipecat_hydra.conversation.owed_replies import OwedReplies
from pipecat_hydra.conversation.responses import Responses
from pipecat_hydra.conversation.toolcalls import OpenCalls
from pipecat_hydra.conversation.user_turns import UserTurns
from pipecat_hydra.wire.events import (
    ConversationItem,
    FunctionCallArgumentsDelta,
    FunctionCallArgumentsDone,
)

__all__ = ["CallRules", "EventHandlers"]

EventHandlers: TypeAlias = dict[type[Any], Callable[[Any, float], list[Effect]]]
"""The handler of each type of server event: takes the event and the time, returns effects."""


class CallRules:
    """Takes the events of function calls, and wants replies about calls that are answered."""

    def __init__(
        self, *, turns: UserTurns, responses: Responses, owed: OwedReplies, calls: OpenCalls
    ):
        """Join the rooms that function calls concern.

        Args:
            turns: Know whether the last turn may be noise, or was.
            responses: Know the current response.
            owed: Told which replies are wanted or withheld.
            calls: The function calls.
        """
        self._turns = turns
        self._responses = responses
        self._owed = owed
        self._calls = calls
        self.handlers: Final[EventHandlers] = {
            FunctionCallArgumentsDelta: self._on_arguments_delta,
            FunctionCallArgumentsDone: self._on_arguments_done,
        }
        """The handlers of the events that this object takes."""

    def named(self, call_id: str, name: str | None) -> None:
        """Record a call that an item announces, and its name."""
        if self._responses.is_any:
            self._calls.announce(call_id, self._responses.current_id, name=name, sure=False)
        else:
            # An item does not name its response. It may be late, of a cancelled response.
            self._calls.name(call_id, name or "")

    def item_is_done(self, item: ConversationItem, now: float) -> None:
        """Record a complete call, if its item is done and has its arguments."""
        if not item.call_id or item.status not in (None, "completed"):
            return
        self.named(item.call_id, item.name)
        if item.arguments is not None and self._responses.is_any:
            self._calls.call(
                item.call_id,
                self._responses.current_id,
                now,
                name=item.name,
                arguments=item.arguments or None,
                sure=False,
            )

    def _on_arguments_delta(self, event: FunctionCallArgumentsDelta, now: float) -> list[Effect]:
        if event.call_id is None or self._calls.is_void(event.response_id):
            return []
        self._responses.line.adopt(event.response_id)
        self._responses.progressed(now)
        call_id, name = self._calls.announce(
            event.call_id,
            event.response_id or self._responses.current_id,
            name=event.name,
            fragment=event.delta,
            sure=event.response_id is not None,
        )
        return [ToolArguments(call_id, name, event.delta)]

    def _on_arguments_done(self, event: FunctionCallArgumentsDone, now: float) -> list[Effect]:
        if event.call_id is None:
            return [report_call_without_id()]
        if not self._calls.is_void(event.response_id):
            self._responses.line.adopt(event.response_id)
            self._responses.progressed(now)
            self._calls.call(
                event.call_id,
                event.response_id or self._responses.current_id,
                now,
                name=event.name,
                arguments=event.arguments,
                sure=event.response_id is not None,
            )
        return []

    def take_gathered(self, now: float) -> list[ToolCalls]:
        """Take the calls that are to be made by now; set a bound to calls of past responses."""
        self._calls.bound(self._responses.living, now)
        return self._calls.take_gathered(now)

    def want_replies(self, now: float) -> None:
        """Want a reply about each batch of calls that is settled, or withhold it."""
        for settled in self._calls.take_settled(now):
            if settled.respond:
                self._owed.want_about_calls(settled.response_id)
            elif settled.cancelled and self._turns.may_be_noise:
                self._owed.withhold_about_calls(settled.response_id)
            elif settled.cancelled and self._turns.was_noise:
                self._owed.want_about_calls(settled.response_id)
            elif not settled.cancelled:
                self._responses.calls_are_settled(settled.response_id, now)
