"""The rules between function calls, responses and owed replies."""

from typing import Any

import pytest

from pipecat_hydra.conversation.call_rules import CallRules
from pipecat_hydra.conversation.effects import ToolArguments, ToolCall, ToolCalls
from pipecat_hydra.conversation.event_ids import EventIds
from pipecat_hydra.conversation.owed_replies import OwedReplies
from pipecat_hydra.conversation.responses import Responses
from pipecat_hydra.conversation.toolcalls import OpenCalls
from pipecat_hydra.conversation.user_turns import UserTurns
from pipecat_hydra.wire.events import (
    ConversationItem,
    FunctionCallArgumentsDelta,
    FunctionCallArgumentsDone,
    ResponseInfo,
)


class Rooms:
    """The rooms that function calls concern, joined by the rules."""

    def __init__(self) -> None:
        self.turns = UserTurns(longest_turn_secs=60.0)
        self.responses = Responses(event_ids=EventIds(), resume_after_noise=True)
        self.owed = OwedReplies(EventIds())
        self.calls = OpenCalls()
        self.rules = CallRules(
            turns=self.turns, responses=self.responses, owed=self.owed, calls=self.calls
        )

    def begin(self, response: str | None) -> None:
        self.responses.replace(response, 0.0, asked_at=None, sample_rate=24_000, over_user=False)

    def write(self, fragment: str, now: float, response: str | None = None) -> list[object]:
        event = FunctionCallArgumentsDelta(
            type="response.function_call_arguments.delta",
            call_id="c",
            response_id=response,
            delta=fragment,
        )
        return [*self.rules.handlers[FunctionCallArgumentsDelta](event, now)]

    def call(self, response: str | None = None) -> None:
        event = FunctionCallArgumentsDone(
            type="response.function_call_arguments.done",
            call_id="c",
            response_id=response,
            name="f",
            arguments="{}",
        )
        assert self.rules.handlers[FunctionCallArgumentsDone](event, 0.0) == []

    def answer(self, *, respond: bool = False, cancelled: bool = False) -> None:
        assert self.calls.answer("c", 0.0, respond=respond, cancelled=cancelled)
        self.rules.want_replies(9.0)


@pytest.fixture
def rooms() -> Rooms:
    return Rooms()


def test_a_call_that_names_no_response_belongs_to_the_current_one(rooms: Rooms):
    rooms.begin("r1")
    rooms.call()
    assert rooms.rules.take_gathered(9.0) == [ToolCalls("r1", (ToolCall("c", "f", "{}"),))]


def test_a_response_without_an_id_gets_that_of_its_call(rooms: Rooms):
    rooms.begin(None)
    rooms.call("r1")
    assert rooms.responses.current_id == "r1"


def test_a_response_whose_arguments_come_has_not_stalled(rooms: Rooms):
    rooms.begin("r1")
    assert rooms.write("{", 5.0) == [ToolArguments("c", "", "{")]
    assert rooms.responses.deadline == 17.0


def test_an_item_announces_a_call_of_the_current_response(rooms: Rooms):
    rooms.begin("r1")
    rooms.rules.named("c", "f")
    assert rooms.calls.unsettled
    assert rooms.write("{", 0.0) == [ToolArguments("c", "f", "{")]


def test_an_item_without_a_current_response_gives_only_a_name(rooms: Rooms):
    rooms.rules.named("c", "f")
    assert not rooms.calls.unsettled
    rooms.begin("r1")
    assert rooms.write("{", 0.0) == [ToolArguments("c", "f", "{")]


def test_calls_of_a_cancelled_response_do_not_count(rooms: Rooms):
    rooms.begin("r1")
    rooms.calls.complete(ResponseInfo(id="r1", status="cancelled"), "r1", 0.0)
    assert rooms.write("{", 0.0, "r1") == []
    rooms.call("r1")
    assert not rooms.calls.unsettled


@pytest.mark.parametrize("respond", [True, False])
def test_a_settled_batch_wants_a_reply_if_a_function_asks_for_one(rooms: Rooms, respond: bool):
    rooms.call("r1")
    rooms.answer(respond=respond)
    assert rooms.owed.waiting is respond


@pytest.mark.parametrize("how", ["noise", "real"])
def test_a_reply_about_a_cancelled_call_is_wanted_if_the_turn_was_noise(rooms: Rooms, how: str):
    rooms.call("r1")
    rooms.turns.start("item", 0.0)
    rooms.answer(cancelled=True)
    assert not rooms.owed.waiting
    if how == "noise":
        rooms.owed.turn_was_noise(0.0)
    else:
        rooms.owed.turn_is_real()
    assert rooms.owed.waiting is (how == "noise")


def test_a_reply_about_a_call_that_noise_has_cancelled_is_wanted_at_once(rooms: Rooms):
    rooms.call("r1")
    rooms.turns.start("item", 0.0)
    rooms.turns.stop(discarded=True)
    rooms.turns.discard()
    rooms.answer(cancelled=True)
    assert rooms.owed.waiting


def item(**fields: Any) -> ConversationItem:
    return ConversationItem.model_validate(
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", **fields}
    )


@pytest.mark.parametrize("status", ["completed", None])
def test_an_item_that_is_done_may_be_all_there_is_of_a_call(rooms: Rooms, status: str | None):
    rooms.begin("r1")
    rooms.rules.item_is_done(item(status=status), 0.0)
    assert rooms.rules.take_gathered(9.0) == [ToolCalls("r1", (ToolCall("c", "f", "{}"),))]
    # What tells of it again makes no other call.
    rooms.call("r1")
    rooms.rules.item_is_done(item(), 0.0)
    assert rooms.rules.take_gathered(9.0) == []


def test_an_item_without_arguments_completes_nothing(rooms: Rooms):
    rooms.begin("r1")
    rooms.rules.item_is_done(item(arguments=None), 0.0)
    assert rooms.rules.take_gathered(0.5) == []
    assert rooms.write("{}", 1.0) == [ToolArguments("c", "f", "{}")]
    rooms.rules.item_is_done(item(arguments=""), 1.0)
    assert rooms.rules.take_gathered(9.0) == [ToolCalls("r1", (ToolCall("c", "f", "{}"),))]


@pytest.mark.parametrize("status", ["incomplete", "in_progress"])
def test_an_item_that_is_not_complete_calls_nothing(rooms: Rooms, status: str):
    rooms.begin("r1")
    rooms.rules.item_is_done(item(status=status), 0.0)
    rooms.rules.item_is_done(item(call_id=None), 0.0)
    assert rooms.rules.take_gathered(9.0) == []
    assert not rooms.calls.unsettled


def test_an_item_of_nobody_knows_calls_nothing(rooms: Rooms):
    """It may be late, of a response that was cancelled."""
    rooms.rules.item_is_done(item(), 0.0)
    assert rooms.rules.take_gathered(9.0) == []
