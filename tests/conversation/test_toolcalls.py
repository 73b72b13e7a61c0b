"""The calls of a session: gathered, given once, answered once, settled once."""

from hypothesis import given
from hypothesis import strategies as st

from pipecat_hydra.conversation.effects import ToolCall
from pipecat_hydra.conversation.toolcalls import OpenCalls, Settled
from pipecat_hydra.wire.events import ConversationItem, ResponseInfo

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
    assert calls.announce("b", "r", name="g", fragment="[1,") == "g"
    assert made(calls, 9.0) == []
    calls.answer("a", 0.0, respond=True)
    assert calls.take_settled(9.0) == []
    assert calls.announce("b", "r", name=None, fragment="2]") == "g"
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
    assert calls.announce("a", "r", name=None) == "f"
    for number in range(1_000):
        calls.name(f"b{number}", "g")
    assert calls.announce("b999", "r", name=None) == ""


def test_arguments_beyond_all_measure_are_cut_and_so_no_json():
    calls = OpenCalls()
    for fragment in ['{"a": "', *["x" * 100_000] * 12, '"}']:
        calls.announce("a", "r", name="f", fragment=fragment)
    calls.call("a", "r", 0.0, name=None, arguments=None)
    (call,) = made(calls, 9.0)
    assert 800_000 < len(call.arguments) <= 1_000_000
    assert not call.arguments.endswith("}")


def test_calls_that_are_abandoned_are_forgotten():
    calls = OpenCalls()
    begin(calls, "a", "b")
    calls.announce("c", "r", name="f")
    calls.answer("a", 0.0, respond=True)
    assert calls.abandon() == ["b"]
    assert not calls.unsettled
    assert not calls.answer("b", 0.0, respond=True)
    begin(calls, "b")
    assert made(calls, 9.0) == []


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
