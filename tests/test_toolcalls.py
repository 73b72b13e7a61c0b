"""The calls of a session: gathered, given once, answered once, settled once."""

from hypothesis import given
from hypothesis import strategies as st

from pipecat_hydra.effects import ToolCall
from pipecat_hydra.events import ConversationItem, ResponseInfo
from pipecat_hydra.toolcalls import ToolCalls

DONE = ResponseInfo(id="r", status="completed")


def test_a_batch_is_settled_once_when_done_and_answered():
    calls = ToolCalls()
    assert not calls.unsettled
    assert calls.call("a", "r", name="f", arguments="{}") == [ToolCall("r", "a", "f", "{}")]
    assert calls.open_names == ["f"]
    assert calls.take_settled(9.0) == []
    assert calls.deadline is None
    assert calls.complete(DONE, "r") == []
    assert calls.answer("a", 1.0, respond=True)
    assert calls.take_settled(1.0) == [True]
    assert calls.take_settled(9.0) == []
    assert not calls.unsettled
    assert calls.open_names == []


def test_batches_are_settled_each_for_itself():
    calls = ToolCalls()
    calls.call("a", "r1", name="f", arguments="{}")
    calls.call("b", "r2", name="f", arguments="{}")
    calls.complete(ResponseInfo(id="r2", status="completed"), "r2")
    assert calls.answer("b", 1.0, respond=False)
    assert calls.take_settled(1.0) == [False]
    assert calls.answer("a", 1.0, respond=True)
    assert calls.deadline == 1.2
    assert calls.take_settled(1.1) == []
    assert calls.take_settled(1.2) == [True]


def test_one_answer_that_wants_a_response_is_enough():
    calls = ToolCalls()
    for call_id in "ab":
        calls.call(call_id, "r", name="f", arguments="{}")
    calls.complete(DONE, "r")
    calls.answer("a", 0.0, respond=True)
    calls.answer("b", 0.0, respond=False)
    assert calls.take_settled(0.0) == [True]


def test_a_call_that_is_still_coming_keeps_its_batch_open():
    calls = ToolCalls()
    calls.call("a", "r", name="f", arguments="{}")
    calls.announce("b", "r", name="g", fragment="[1,")
    calls.answer("a", 0.0, respond=True)
    assert calls.take_settled(9.0) == []
    calls.announce("b", "r", name=None, fragment="2]")
    assert calls.call("b", "r", name=None, arguments=None) == [ToolCall("r", "b", "g", "[1,2]")]


def test_a_call_may_be_answered_before_it_is_complete():
    calls = ToolCalls()
    calls.announce("a", "r", name="f")
    assert calls.answer("a", 0.0, respond=True)
    assert calls.call("a", "r", name="f", arguments="{}") == []


def test_a_response_that_only_reports_its_calls_at_its_end():
    item = ConversationItem(type="function_call", call_id="a", name="f", arguments="{}")
    calls = ToolCalls()
    info = ResponseInfo(id="r", status="completed", output=[item])
    assert calls.complete(info, "r") == [ToolCall("r", "a", "f", "{}")]
    assert calls.complete(info, "r") == []


def test_a_call_that_was_settled_is_not_made_again():
    calls = ToolCalls()
    calls.call("a", "r", name="f", arguments="{}")
    calls.complete(DONE, "r")
    calls.answer("a", 0.0, respond=True)
    calls.take_settled(0.0)
    assert calls.call("a", "r", name="f", arguments="{}") == []
    calls.announce("a", "r", name="f")
    assert not calls.unsettled


def test_a_cancelled_response_drops_the_calls_it_never_finished():
    calls = ToolCalls()
    calls.announce("a", "r", name="f", fragment="{")
    assert calls.complete(ResponseInfo(id="r", status="cancelled"), "r") == []
    assert not calls.unsettled


@given(st.lists(st.tuples(st.sampled_from("cda"), st.integers(0, 5), st.floats(0, 1))))
def test_each_call_is_given_and_answered_at_most_once(steps: list[tuple[str, int, float]]):
    calls, now = ToolCalls(), 0.0
    given_ids: list[str] = []
    answered: list[str] = []
    settled = 0
    for action, number, wait in steps:
        now += wait
        call_id, response = f"c{number}", f"r{number % 2}"
        if action == "c":
            made = calls.call(call_id, response, name="f", arguments="{}")
            given_ids += [call.call_id for call in made]
        elif action == "d":
            calls.complete(ResponseInfo(id=response, status="completed"), response)
        elif calls.answer(call_id, now, respond=True):
            answered.append(call_id)
        settled += len(calls.take_settled(now))
    assert len(given_ids) == len(set(given_ids))
    assert len(answered) == len(set(answered))
    assert set(answered) <= set(given_ids)
    assert settled <= len(answered)
