"""The calls of a session: gathered, given once, answered once, settled once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import wire
from support.driver import PCM, Driver, calls, creates, kinds, outputs, sent

from pipecat_hydra.conversation.effects import (
    ReplyEnded,
    ReplyStarted,
    Report,
    ResponseFinished,
    ToolArguments,
    ToolCall,
    ToolCalls,
)
from pipecat_hydra.conversation.toolcalls import OpenCalls, Settled
from pipecat_hydra.wire.codec import encode
from pipecat_hydra.wire.events import ConversationItem, ResponseCreate, ResponseInfo

DONE = ResponseInfo(id="r", status="completed")


def begin(calls: OpenCalls, *call_ids: str, response: str = "r") -> None:
    for call_id in call_ids:
        calls.call(call_id, response, 0.0, name="f", arguments="{}")


def made(calls: OpenCalls, now: float) -> list[ToolCall]:
    return [call for batch in calls.take_gathered(now) for call in batch.calls]


def test_a_batch_is_made_and_settled_once_when_done_and_answered():
    calls = OpenCalls()
    assert not calls.unsettled
    begin(calls, "a")
    assert calls.take_settled(9.0) == []
    calls.complete(DONE, "r", 0.0)
    assert made(calls, 0.0) == [ToolCall("a", "f", "{}")]
    assert made(calls, 9.0) == []
    assert calls.deadline is None
    assert calls.answer("a", 1.0, respond=True)
    assert calls.take_settled(1.0) == [Settled("r", True, cancelled=False)]
    assert calls.take_settled(9.0) == []
    assert not calls.unsettled
    assert calls.abandon_oldest() == {}


def test_the_oldest_calls_that_wait_are_abandoned_and_no_others():
    calls = OpenCalls()
    begin(calls, "answered", response="r0")
    assert calls.answer("answered", 0.0, respond=True)
    begin(calls, "a", "b", response="r1")
    begin(calls, "c", response="r2")
    assert calls.answer("a", 0.0, respond=True)
    assert calls.abandon_oldest() == {"b": "f"}
    assert not calls.answer("b", 1.0, respond=True)
    assert calls.abandon_oldest() == {"c": "f"}
    assert calls.abandon_oldest() == {}
    assert [settled.response_id for settled in calls.take_settled(9.0)] == ["r0"]


def test_calls_of_one_response_are_made_together():
    calls = OpenCalls()
    begin(calls, "a", "b")
    begin(calls, "c", response="r2")
    assert calls.deadline == 0.02
    assert calls.take_gathered(0.01) == []
    first, second = calls.take_gathered(0.02)
    assert [call.call_id for call in first.calls] == ["a", "b"]
    assert [call.call_id for call in second.calls] == ["c"]


def test_batches_are_settled_each_for_itself():
    calls = OpenCalls()
    begin(calls, "a", response="r1")
    begin(calls, "b", response="r2")
    calls.complete(ResponseInfo(id="r2", status="completed"), "r2", 0.0)
    calls.take_gathered(1.0)
    assert calls.answer("b", 1.0, respond=False)
    assert calls.take_settled(1.0) == [Settled("r2", False, cancelled=False)]
    assert calls.answer("a", 1.0, respond=True)
    assert calls.deadline == 1.2
    assert calls.take_settled(1.1) == []
    assert calls.take_settled(1.2) == [Settled("r1", True, cancelled=False)]


def test_one_answer_that_wants_a_response_is_enough():
    calls = OpenCalls()
    begin(calls, "a", "b")
    calls.complete(DONE, "r", 0.0)
    calls.answer("a", 0.0, respond=True)
    calls.answer("b", 0.0, respond=False)
    assert calls.take_settled(0.0) == [Settled("r", True, cancelled=False)]


def test_a_call_that_is_still_coming_keeps_its_batch_open():
    calls = OpenCalls()
    begin(calls, "a")
    assert calls.announce("b", "r", name="g", fragment="[1,") == ("b", "g")
    assert made(calls, 9.0) == []
    calls.answer("a", 0.0, respond=True)
    assert calls.take_settled(9.0) == []
    assert calls.announce("b", "r", name=None, fragment="2]") == ("b", "g")
    calls.call("b", "r", 9.0, name=None, arguments=None)
    assert made(calls, 9.1)[1] == ToolCall("b", "g", "[1,2]")


def test_a_call_may_be_answered_before_it_is_complete():
    calls = OpenCalls()
    calls.announce("a", "r", name="f")
    assert calls.answer("a", 0.0, respond=True)
    begin(calls, "a")
    assert made(calls, 9.0) == []


def test_a_response_that_only_reports_its_calls_at_its_end():
    item = ConversationItem(type="function_call", call_id="a", name="f", arguments="{}")
    calls = OpenCalls()
    info = ResponseInfo(id="r", status="completed", output=[item])
    calls.complete(info, "r", 0.0)
    assert made(calls, 0.0) == [ToolCall("a", "f", "{}")]
    calls.complete(info, "r", 0.0)
    assert made(calls, 9.0) == []


def test_what_a_response_reports_at_its_end_besides_calls_is_no_call():
    output = [
        ConversationItem(type="message", id="m"),
        ConversationItem(type="function_call_output", call_id="a"),
        ConversationItem(type="function_call", name="f"),
    ]
    calls = OpenCalls()
    calls.complete(ResponseInfo(id="r", status="completed", output=output), "r", 0.0)
    assert not calls.unsettled


def test_the_calls_that_a_cancelled_response_reports_are_none():
    item = ConversationItem(type="function_call", call_id="a", name="f", arguments="{}")
    calls = OpenCalls()
    calls.complete(ResponseInfo(id="r", status="cancelled", output=[item]), "r", 0.0)
    assert not calls.unsettled


def test_a_call_that_was_settled_is_not_made_again():
    calls = OpenCalls()
    begin(calls, "a")
    calls.complete(DONE, "r", 0.0)
    made(calls, 0.0)
    calls.answer("a", 0.0, respond=True)
    calls.take_settled(0.0)
    begin(calls, "a")
    calls.announce("a", "r", name="f")
    assert not calls.unsettled
    assert made(calls, 9.0) == []


def test_a_call_that_only_items_told_of_is_made_once_whichever_response_they_seemed_to_be_of():
    calls = OpenCalls()
    calls.announce("a", "before", name="f", sure=False)
    calls.call("a", "r", 0.0, name="f", arguments="{}", sure=False)
    (call,) = made(calls, 0.1)
    calls.answer(call.call_id, 0.1, respond=True)
    assert calls.take_settled(4.0)
    output = ConversationItem(type="function_call", call_id="a", name="f", arguments="{}")
    calls.complete(ResponseInfo(id="r", status="completed", output=[output]), "r", 4.0)
    assert made(calls, 5.0) == []
    # From now on it is known whose it was, so a later response may use the id again.
    calls.call("a", "later", 6.0, name="f", arguments="{}")
    assert [call.call_id for call in made(calls, 7.0)] == ["a_2"]


def test_a_cancelled_response_drops_the_calls_it_never_finished():
    calls = OpenCalls()
    calls.announce("a", "r", name="f", fragment="{")
    calls.complete(ResponseInfo(id="r", status="cancelled"), "r", 0.0)
    assert not calls.unsettled


def test_arguments_that_come_after_the_response_is_done_are_waited_for():
    calls = OpenCalls()
    begin(calls, "a")
    calls.announce("b", "r", name="g", fragment='{"amount":')
    calls.announce("c", "r", name="h")
    calls.complete(DONE, "r", 5.0)
    assert made(calls, 5.9) == []
    calls.call("b", "r", 5.9, name=None, arguments='{"amount": 5}')
    assert made(calls, 5.9) == []
    calls.call("c", "r", 5.95, name=None, arguments="")
    assert made(calls, 5.95) == [
        ToolCall("a", "f", "{}"),
        ToolCall("b", "g", '{"amount": 5}'),
        ToolCall("c", "h", ""),
    ]


def test_a_call_without_arguments_is_not_made_and_holds_nothing_up():
    calls = OpenCalls()
    calls.announce("a", "r", name="f")
    calls.announce("b", "r2", name="f", fragment='{"amount":')
    calls.complete(DONE, "r", 5.0)
    calls.complete(ResponseInfo(id="r2", status="completed"), "r2", 5.0)
    assert calls.deadline == 6.0
    assert made(calls, 6.0) == [ToolCall("b", "f", '{"amount":')]
    assert calls.answer("b", 6.0, respond=True)
    assert calls.take_settled(6.0) == [Settled("r2", True, cancelled=False)]
    assert not calls.unsettled
    assert calls.deadline is None


def test_a_name_alone_is_no_call():
    calls = OpenCalls()
    calls.name("a", "f")
    assert not calls.unsettled
    assert calls.announce("a", "r", name=None) == ("a", "f")
    for number in range(1_000):
        calls.name(f"b{number}", "g")
    assert calls.announce("b999", "r", name=None) == ("b999", "")


def test_arguments_beyond_all_measure_are_cut_and_so_no_json():
    calls = OpenCalls()
    for fragment in ['{"a": "', *["x" * 100_000] * 12, '"}']:
        calls.announce("a", "r", name="f", fragment=fragment)
    calls.call("a", "r", 0.0, name=None, arguments=None)
    (call,) = made(calls, 9.0)
    assert 800_000 < len(call.arguments) <= 1_000_000
    assert not call.arguments.endswith("}")


def test_the_calls_of_a_lost_session_are_forgotten_and_their_answers_go_in_as_text():
    calls = OpenCalls()
    begin(calls, "a", "b")
    calls.announce("c", "r", name="f")
    calls.answer("a", 0.0, respond=True)
    calls.session_lost()
    assert not calls.unsettled
    assert calls.deadline is None
    assert not calls.answer("b", 0.0, respond=True)
    assert [call for call in "abc" if calls.take_orphan(call)] == ["b"]
    assert not calls.take_orphan("b")
    assert made(calls, 9.0) == []


def test_the_calls_of_a_session_are_its_own_whatever_their_ids():
    calls = OpenCalls()
    begin(calls, "a")
    assert [call.call_id for call in made(calls, 9.0)] == ["a"]
    calls.name("b", "of the session before")
    calls.session_lost()
    begin(calls, "a", "b")
    assert [(call.call_id, call.name) for call in made(calls, 9.0)] == [("a_2", "f"), ("b", "f")]
    # What the function of the session before gives is no answer to the call of this one.
    assert not calls.answer("a", 9.0, respond=True)
    assert calls.take_orphan("a")
    assert calls.answer("a_2", 9.0, respond=True) == "a"


@pytest.mark.parametrize("arguments", [{"city": "Paris"}, '{"city": "Paris"}'])
@pytest.mark.parametrize("where", ["done", "item"])
def test_arguments_may_come_as_an_object(driver: Driver, arguments: Any, where: str):
    driver.receive(wire.response_created())
    if where == "done":
        last = wire.event(
            "response.function_call_arguments.done",
            response_id="resp_1",
            call_id="call_1",
            name="f",
            arguments=arguments,
        )
        effects = driver.receive(last, wire.done())
    else:
        item = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": arguments}
        effects = driver.receive(wire.done(output=[item]))
    assert calls(effects) == [ToolCall("call_1", "f", '{"city": "Paris"}')]
    assert not [effect for effect in effects if isinstance(effect, Report)]


def test_a_later_response_may_call_by_the_same_id():
    calls = OpenCalls()
    begin(calls, "a")
    calls.complete(DONE, "r", 0.0)
    assert [call.call_id for call in made(calls, 0.0)] == ["a"]
    assert calls.answer("a", 0.0, respond=True) == "a"
    calls.take_settled(0.0)
    assert calls.announce("a", "r2", name="g", fragment="{") == ("a_2", "g")
    calls.call("a", "r2", 1.0, name=None, arguments="{}")
    assert made(calls, 9.0) == [ToolCall("a_2", "g", "{}")]
    # The first response repeats itself; the second is not meant.
    begin(calls, "a")
    assert made(calls, 9.0) == []
    assert calls.answer("a_2", 9.0, respond=True) == "a"


def test_a_later_response_may_call_by_the_id_of_a_call_that_is_open():
    calls = OpenCalls()
    begin(calls, "a")
    begin(calls, "a", response="r2")
    assert [call.call_id for call in made(calls, 9.0)] == ["a", "a_2"]
    assert calls.answer("a_2", 9.0, respond=True) == "a"
    assert calls.answer("a_2", 9.0, respond=True) is None
    assert calls.answer("a", 9.0, respond=True) == "a"
    assert [settled.response_id for settled in calls.take_settled(10.0)] == ["r", "r2"]


def test_an_event_that_does_not_say_its_response_repeats_a_call_that_was_dealt_with():
    calls = OpenCalls()
    begin(calls, "a")
    calls.complete(DONE, "r", 0.0)
    made(calls, 0.0)
    calls.answer("a", 0.0, respond=True)
    calls.take_settled(0.0)
    calls.call("a", "r2", 1.0, name="f", arguments="{}", sure=False)
    assert calls.announce("a", "r2", name="f", sure=False) == ("a", "f")
    assert not calls.unsettled
    assert made(calls, 9.0) == []


def test_a_call_of_which_an_item_has_told_is_that_of_the_response_that_says_so():
    calls = OpenCalls()
    calls.announce("a", "r", name="f", sure=False)
    begin(calls, "a", response="r2")
    assert [call.call_id for call in made(calls, 9.0)] == ["a"]
    assert calls.answer("a", 9.0, respond=True) == "a"


def test_nothing_waits_for_a_call_after_a_later_turn_is_answered():
    calls = OpenCalls()
    calls.turn_started()
    begin(calls, "a")
    calls.complete(DONE, "r", 0.0)
    made(calls, 0.0)
    calls.turn_is_answered()
    assert calls.unsettled
    assert calls.awaited
    calls.turn_started()
    assert calls.unsettled
    calls.turn_is_answered()
    assert not calls.unsettled
    assert not calls.awaited
    assert calls.may_run
    # Its answer is sent, and spoken about.
    assert calls.answer("a", 1.0, respond=True) == "a"
    assert calls.owed
    assert calls.take_settled(1.0) == [Settled("r", True, cancelled=False)]
    assert not calls.may_run


@given(st.lists(st.tuples(st.sampled_from("cdat"), st.integers(0, 5), st.floats(0, 1))))
def test_each_call_is_given_and_answered_at_most_once(steps: list[tuple[str, int, float]]):
    calls, now = OpenCalls(), 0.0
    given_ids: list[str] = []
    answered: list[str] = []
    settled = 0
    for action, number, wait in steps:
        now += wait
        call_id, response = f"c{number}", f"r{number % 2}"
        if action == "c":
            calls.call(call_id, response, now, name="f", arguments="{}")
        elif action == "d":
            calls.complete(ResponseInfo(id=response, status="completed"), response, now)
        elif action == "t":
            given_ids += [call.call_id for call in made(calls, now)]
        elif call_id in given_ids and calls.answer(call_id, now, respond=True):
            answered.append(call_id)
        settled += len(calls.take_settled(now))
    assert len(given_ids) == len(set(given_ids))
    assert len(answered) == len(set(answered))
    assert settled <= len(answered)


# In a conversation


def test_a_tool_only_response_has_no_voice(driver: Driver):
    effects = driver.receive(wire.response_created(), wire.call(), wire.done())
    assert kinds(effects) == [ReplyStarted, ReplyEnded, ResponseFinished, ToolCalls]


@pytest.mark.parametrize("late", ["delta", "done", "both"])
def test_a_call_of_a_cancelled_response_is_none_however_late_it_comes(driver: Driver, late: str):
    driver.receive(wire.response_created("r1"), wire.call_delta('{"a', "c1", "pay", "r1"))
    driver.interrupted()
    driver.receive(wire.done("r1", "cancelled"))
    events = [
        wire.call_delta('": 1}', "c1", None, "r1"),
        # Some servers leave out what they may; and another call may come, too.
        wire.call_delta("{}", "c1", None, None),
        wire.call_delta("{}", "c2", "pay", "r1"),
    ]
    if late != "delta":
        events += [wire.call("c1", "pay", '{"a": 1}', "r1"), wire.call("c2", "pay", "{}", "r1")]
    if late == "done":
        del events[:3]
    effects = driver.receive(*events)
    driver.now = 1.0
    effects += driver.conversation.tick(1.0)
    assert [e for e in effects if isinstance(e, ToolCalls)] == []
    assert driver.conversation.at_turn_boundary
    assert creates(driver.conversation.send_message("Hello?", 1.0)) == 1


@pytest.mark.parametrize("status", ["failed", "incomplete"])
def test_a_call_that_a_response_did_not_finish_is_not_made(driver: Driver, status: str):
    item = {"type": "function_call", "call_id": "c1", "name": "hang_up"}
    effects = driver.receive(
        wire.response_created(),
        wire.event("conversation.item.added", item=item),
        wire.done(status=status),
    )
    assert [e for e in effects if isinstance(e, ToolCalls)] == []
    assert driver.conversation.at_turn_boundary


def test_a_response_that_is_announced_without_its_id_and_only_calls_is_asked_about(driver: Driver):
    effects = driver.receive(
        wire.event("response.created", response={}), wire.call("c1", response="r1"), wire.done("r1")
    )
    assert kinds(effects).count(ReplyStarted) == kinds(effects).count(ReplyEnded) == 1
    assert creates(driver.conversation.answer_call("c1", "{}", 0.0)) == 1


def test_a_tool_that_noise_cancelled_is_spoken_about(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"), wire.done())
    driver.receive(wire.started("noise"))
    driver.interrupted()
    effects = driver.conversation.answer_call("c1", "cancelled", 0.0, respond=False, cancelled=True)
    assert creates(effects) == 0
    effects = driver.receive(wire.stopped("noise"), wire.user_item("incomplete", "noise"))
    assert creates(effects) == 1


def test_a_tool_that_a_barge_in_cancelled_is_not(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"), wire.done())
    driver.receive(wire.started())
    driver.interrupted()
    driver.conversation.answer_call("c1", "cancelled", 0.0, respond=False, cancelled=True)
    effects = driver.receive(
        wire.stopped(), wire.user_item("completed"), wire.response_created("r2"), wire.done("r2")
    )
    assert creates(effects) == 0


def test_a_call_is_gathered_from_whatever_events_bring_it(driver: Driver):
    effects = driver.receive(
        wire.response_created(),
        wire.call_delta('{"city": "Par', name="get_weather"),
        wire.call_delta('is"}'),
        wire.call(name=None, arguments=None),
    )
    assert effects[1:] == [
        ToolArguments("call_1", "get_weather", '{"city": "Par'),
        ToolArguments("call_1", "get_weather", 'is"}'),
    ]
    effects = driver.receive(wire.done())
    assert calls(effects) == [ToolCall("call_1", "get_weather", '{"city": "Paris"}')]
    assert calls(driver.receive(wire.call())) == []


def test_the_calls_of_a_response_come_together_when_it_is_done(driver: Driver):
    driver.receive(wire.response_created(), wire.call("a"), wire.call("b"))
    (made,) = [e for e in driver.receive(wire.done()) if isinstance(e, ToolCalls)]
    assert [call.call_id for call in made.calls] == ["a", "b"]
    assert made.response_id == "resp_1"


def test_calls_are_made_without_done_when_no_other_comes(driver: Driver):
    effects = driver.receive(wire.response_created(), wire.call("a"), wire.call("b"))
    assert calls(effects) == []
    assert driver.conversation.deadline == pytest.approx(0.02)
    assert len(calls(driver.conversation.tick(0.02))) == 2
    assert calls(driver.receive(wire.done())) == []


def test_calls_wait_for_one_that_is_still_coming(driver: Driver):
    driver.receive(wire.response_created(), wire.call("a"), wire.call_delta("{", "b", "f"))
    assert calls(driver.conversation.tick(1.0)) == []
    driver.now = 1.0
    driver.receive(wire.call("b", arguments="{}"))
    assert [c.call_id for c in calls(driver.conversation.tick(1.1))] == ["a", "b"]


def test_a_call_named_only_by_its_item(driver: Driver):
    item = {"type": "function_call", "call_id": "call_1", "name": "f"}
    effects = driver.receive(
        wire.response_created(),
        wire.event("conversation.item.added", item=item),
        wire.call(name=None, arguments="{}"),
        wire.done(),
    )
    assert calls(effects) == [ToolCall("call_1", "f", "{}")]


@pytest.mark.parametrize("name", ["f", None])
def test_a_call_named_only_by_an_item_that_came_before_its_response(
    driver: Driver, name: str | None
):
    item = {"type": "function_call", "call_id": "call_1", "name": name}
    effects = driver.receive(
        wire.event("conversation.item.added", item=item),
        wire.response_created(),
        wire.call(name=None, arguments="{}"),
        wire.done(),
    )
    assert calls(effects) == [ToolCall("call_1", name or "", "{}")]


def test_a_call_that_does_not_name_its_response_is_of_the_one_in_flight(driver: Driver):
    events = [wire.call_delta("{}", name="f", response=None), wire.call(response=None)]
    effects = driver.receive(wire.response_created(), *events, wire.done())
    (made,) = [e for e in effects if isinstance(e, ToolCalls)]
    assert made.response_id == "resp_1"
    assert creates(driver.conversation.answer_call("call_1", "{}", 0.0)) == 1


def test_an_item_that_comes_after_its_response_was_cancelled_is_no_call(driver: Driver):
    item = {"type": "function_call", "call_id": "call_1", "name": "f"}
    driver.receive(wire.response_created(), wire.done(status="cancelled"))
    driver.receive(wire.event("conversation.item.added", item=item))
    assert calls(driver.conversation.tick(9.0)) == []
    assert driver.conversation.at_turn_boundary


def test_a_response_that_is_done_before_the_arguments_have_come(driver: Driver):
    item = {"type": "function_call", "call_id": "call_1", "name": "pay"}
    effects = driver.receive(
        wire.response_created(), wire.event("conversation.item.added", item=item), wire.done()
    )
    assert calls(effects) == []
    driver.now = 0.3
    effects = driver.receive(wire.call(name=None, arguments='{"amount": 5}'))
    assert calls(effects) == [ToolCall("call_1", "pay", '{"amount": 5}')]
    assert creates(driver.conversation.answer_call("call_1", "paid", 0.3)) == 1


def test_a_call_whose_last_event_never_came_is_made_when_the_response_is_done(driver: Driver):
    effects = driver.receive(wire.response_created(), wire.call_delta("{}", name="f"), wire.done())
    assert calls(effects) == [ToolCall("call_1", "f", "{}")]
    output = [{"type": "function_call", "call_id": "c2", "name": "g", "arguments": "[]"}]
    effects = driver.receive(wire.response_created("r2"), wire.done("r2", output=output))
    assert calls(effects) == [ToolCall("c2", "g", "[]")]


def test_a_call_cut_off_by_a_barge_in_is_no_call(driver: Driver):
    driver.receive(wire.response_created(), wire.call_delta('{"ci', name="f"))
    effects = driver.receive(wire.started(), wire.done(status="cancelled", reason="interrupted"))
    assert calls(effects) == []


def test_each_call_is_answered_once_and_the_model_asked_once(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"), wire.call("c2"), wire.done())
    first = driver.conversation.answer_call("c1", "1", 0.0)
    assert (outputs(first), creates(first)) == (["c1"], 0)
    assert driver.conversation.answer_call("c1", "again", 0.0) == []
    second = driver.conversation.answer_call("c2", "2", 0.0)
    assert (outputs(second), creates(second)) == (["c2"], 1)
    assert driver.conversation.answer_call("c2", "again", 0.0) == []
    assert driver.conversation.answer_call("unknown", "?", 0.0) == []
    assert creates(driver.conversation.tick(9.0)) == 0


def test_the_model_is_asked_200_ms_after_the_last_answer_if_done_never_comes(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"))
    assert creates(driver.conversation.answer_call("c1", "1", 1.0)) == 0
    assert creates(driver.conversation.tick(1.19)) == 0
    assert driver.conversation.deadline is not None
    assert driver.conversation.deadline <= 1.2
    assert creates(driver.conversation.tick(1.2)) == 1
    assert creates(driver.conversation.tick(1.5)) == 0
    assert creates(driver.receive(wire.done())) == 0


def test_what_waits_for_the_calling_response_does_not_keep_it_waiting(driver: Driver):
    """It may be done only when its narration has begun, so typed text comes after that."""
    driver.receive(wire.response_created(), wire.call())
    driver.conversation.tick(0.05)
    driver.conversation.answer_call("call_1", "{}", 0.05)
    assert ResponseCreate not in map(type, sent(driver.conversation.send_message("Hi.", 0.1)))
    (create,) = (e for e in sent(driver.conversation.tick(0.3)) if isinstance(e, ResponseCreate))
    assert create
    effects = driver.receive(wire.done(), wire.response_created("r2"), wire.audio(PCM, "r2"))
    assert ResponseCreate not in map(type, sent(effects))
    assert ResponseCreate in map(type, sent(driver.receive(wire.done("r2"))))


def test_what_is_typed_while_a_function_runs_is_answered_after_it(driver: Driver):
    """Until then Hydra would take the request for one to speak of the function."""
    driver.receive(wire.response_created(), wire.call(), wire.done())
    assert ResponseCreate not in map(type, sent(driver.conversation.send_message("Hi.", 0.1)))
    answered = sent(driver.conversation.answer_call("call_1", "{}", 0.2))
    assert list(map(type, answered)).count(ResponseCreate) == 1
    driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"))
    assert ResponseCreate in map(type, sent(driver.receive(wire.done("r2"))))


def test_the_model_is_asked_at_once_when_done_comes_last(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"))
    driver.conversation.answer_call("c1", "1", 0.0)
    assert creates(driver.receive(wire.done())) == 1


def test_the_model_is_not_asked_when_no_answer_wants_it(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"), wire.done())
    effects = driver.conversation.answer_call("c1", "1", 0.0, respond=False)
    assert (outputs(effects), creates(effects)) == (["c1"], 0)


def test_a_call_means_nothing_to_another_session(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"))
    driver.conversation.disconnected(0.0)
    driver.live()
    effects = driver.conversation.answer_call("c1", "21 degrees", 0.0)
    assert outputs(effects) == []
    message, request = sent(effects)
    assert "21 degrees" in encode(message).decode()
    assert isinstance(request, ResponseCreate)
    assert driver.conversation.answer_call("c1", "again", 0.0) == []


def test_a_call_without_an_id_is_reported(driver: Driver):
    (report,) = driver.receive(wire.event("response.function_call_arguments.done", name="f"))
    assert isinstance(report, Report)


def test_a_tool_timeout_names_the_tool(driver: Driver):
    driver.receive(wire.response_created(), wire.call(name="get_weather"))
    (report,) = driver.receive(wire.error("tool_response_timeout"))
    assert isinstance(report, Report)
    assert "get_weather" in report.message


def test_a_tool_timeout_spares_the_calls_of_another_response(driver: Driver):
    driver.receive(wire.response_created("r1"), wire.call("c1", response="r1"), wire.done("r1"))
    driver.receive(wire.response_created("r2"), wire.call_delta('{"ci', "c2", "f", "r2"))
    driver.receive(wire.error("tool_response_timeout"))
    effects = driver.receive(wire.call("c2", "f", '{"city": "Rome"}', "r2"), wire.done("r2"))
    (calls,) = [e for e in effects if isinstance(e, ToolCalls)]
    assert [call.call_id for call in calls.calls] == ["c2"]
    assert len(outputs(driver.conversation.answer_call("c2", "done", 0.0))) == 1


def test_a_result_after_its_turn_was_abandoned_goes_in_as_text(driver: Driver):
    driver.receive(wire.response_created(), wire.call("c1"), wire.done())
    driver.receive(wire.error("tool_response_timeout"))
    assert not driver.conversation.reply_pending
    effects = driver.conversation.answer_call("c1", "21 degrees", 0.0)
    assert outputs(effects) == []
    assert "21 degrees" in encode(sent(effects)[0]).decode()
    assert creates(effects) == 1


@pytest.mark.parametrize("how", ["after done", "superseded", "unnamed"])
def test_a_call_that_never_completes_is_given_up_a_second_after_its_response(
    driver: Driver, how: str
):
    response = None if how == "unnamed" else "r1"
    if how == "after done":
        driver.receive(wire.response_created("r1"), wire.done("r1"))
    elif how == "superseded":
        driver.receive(wire.response_created("r1"))
    driver.receive(wire.call_delta("", "c1", "f", response))
    if how == "superseded":
        driver.receive(wire.response_created("r2"), wire.audio(b"12", "r2"), wire.done("r2"))
    assert not driver.conversation.at_turn_boundary
    assert driver.conversation.deadline is not None
    assert driver.conversation.tick(1.0) == []
    assert driver.conversation.at_turn_boundary


def test_a_call_of_a_response_that_goes_on_may_take_its_time():
    calls = OpenCalls()
    calls.announce("c1", "r", name="f", fragment="{")
    calls.bound({"r"}, 0.0)
    assert calls.deadline is None
    calls.bound({"r2"}, 5.0)
    calls.bound({"r2"}, 5.5)
    assert calls.deadline == 6.0


def test_once_done_is_known_to_come_first_a_batch_waits_for_it():
    """Calls of one response may come far apart: one narration (protocol §6)."""
    calls = OpenCalls()
    begin(calls, "a", response="r1")
    calls.complete(ResponseInfo(id="r1", status="completed"), "r1", 0.0)
    calls.take_gathered(0.0)
    calls.answer("a", 0.0, respond=True)
    assert calls.take_settled(0.0) == [Settled("r1", True, cancelled=False)]
    begin(calls, "b", response="r2")
    calls.take_gathered(1.0)
    calls.answer("b", 1.0, respond=True)
    assert calls.take_settled(1.9) == []
    begin(calls, "c", response="r2")
    calls.take_gathered(3.0)
    calls.answer("c", 3.0, respond=True)
    calls.complete(ResponseInfo(id="r2", status="completed"), "r2", 3.5)
    assert calls.take_settled(3.5) == [Settled("r2", True, cancelled=False)]


def test_a_batch_waits_for_done_only_as_long_as_its_response_may_go_on():
    calls = OpenCalls()
    begin(calls, "a", response="r1")
    calls.complete(ResponseInfo(id="r1", status="completed"), "r1", 0.0)
    calls.take_gathered(0.0)
    calls.answer("a", 0.0, respond=False)
    calls.take_settled(0.0)
    for response, over in (("r2", False), ("r3", True)):
        begin(calls, response, response=response)
        calls.take_gathered(1.0)
        calls.answer(response, 1.0, respond=True)
        calls.bound(() if over else (response,), 1.0)
        settled_at = 1.2 if over else 4.0
        assert calls.deadline == settled_at
        assert calls.take_settled(settled_at - 0.01) == []
        assert calls.take_settled(settled_at) == [Settled(response, True, cancelled=False)]
    # Another session may keep another order.
    calls.session_lost()
    begin(calls, "d", response="r4")
    calls.take_gathered(1.0)
    calls.answer("d", 1.0, respond=True)
    assert calls.deadline == 1.2


def test_a_response_with_an_id_that_is_used_again_has_calls_of_its_own():
    calls = OpenCalls()
    for _ in range(2):
        begin(calls, "a", response="r1")
        (made,) = calls.take_gathered(1.0)
        calls.answer(made.calls[0].call_id, 1.0, respond=False)
        calls.take_settled(2.0)
        begin(calls, "a", response="r1")
        assert calls.take_gathered(3.0) == []
        calls.response_began("r1")
    calls.complete(ResponseInfo(id="r1", status="cancelled"), "r1", 3.0)
    assert calls.is_void("r1")
    calls.response_began("r1")
    assert not calls.is_void("r1")
