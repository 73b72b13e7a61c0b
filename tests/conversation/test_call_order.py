"""What a session has shown of the order of its calls, and how long is waited because of it."""

import math

import pytest

from pipecat_hydra.conversation.call_order import CallOrder
from pipecat_hydra.conversation.toolcalls import OpenCalls, Settled
from pipecat_hydra.wire.events import ResponseInfo


def called(calls: OpenCalls, response: str, *at: float) -> None:
    """Have a response make calls at these times, each answered at once."""
    for n, now in enumerate(at):
        calls.call(f"{response}-{n}", response, now, name="f", arguments="{}")
        calls.take_gathered(now + 0.02)
        calls.answer(f"{response}-{n}", now + 0.02, respond=True)


def asked_after(calls: OpenCalls, response: str, *at: float) -> float:
    """Return how long after the last answer the model is asked, and end the response then."""
    called(calls, response, *at)
    due = calls.deadline
    assert due is not None
    assert calls.take_settled(due - 1e-6) == []
    assert calls.take_settled(due) == [Settled(response, True, cancelled=False)]
    calls.complete(ResponseInfo(id=response, status="completed"), response, due + 0.1)
    return due - (at[-1] + 0.02)


def test_a_session_that_has_shown_nothing_is_waited_for_as_the_vendor_does():
    assert CallOrder().wait_secs(goes_on=True) == 0.2


def test_once_done_has_come_late_the_model_is_asked_in_a_moment():
    calls = OpenCalls()
    assert asked_after(calls, "r0", 0.0) == pytest.approx(0.2)
    assert asked_after(calls, "r1", 10.0) == pytest.approx(0.005)
    assert asked_after(calls, "r2", 20.0) == pytest.approx(0.005)


def test_a_session_whose_calls_come_apart_is_waited_for_twice_as_long():
    calls = OpenCalls()
    assert asked_after(calls, "r0", 0.0, 0.05) == pytest.approx(0.2)
    assert asked_after(calls, "r1", 10.0) == pytest.approx(0.1)
    assert asked_after(calls, "r2", 20.0, 20.09) == pytest.approx(0.18)


def test_a_call_that_comes_after_the_model_was_asked_is_not_risked_again():
    calls = OpenCalls()
    asked_after(calls, "r0", 0.0)
    assert asked_after(calls, "r1", 10.0) == pytest.approx(0.005)
    calls.call("late", "r1", 10.5, name="f", arguments="{}")
    calls.answer("late", 10.5, respond=True)
    calls.take_settled(20.0)
    assert asked_after(calls, "r2", 30.0) == pytest.approx(0.2)


def test_done_that_comes_first_is_waited_for_though_it_has_been_late():
    order = CallOrder()
    order.done_came(was_asked=True)
    order.done_came(was_asked=False)
    assert order.wait_secs(goes_on=True) == 3.0


def test_a_response_that_is_superseded_is_waited_for_as_if_nothing_was_shown():
    order = CallOrder()
    order.done_came(was_asked=True)
    order.call_followed(math.inf)
    assert order.wait_secs(goes_on=False) == 0.2


def test_another_session_has_shown_nothing():
    calls = OpenCalls()
    asked_after(calls, "r0", 0.0)
    calls.session_lost()
    assert asked_after(calls, "r1", 10.0) == pytest.approx(0.2)
