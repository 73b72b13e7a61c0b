"""How long sessions and the call last."""

import pytest

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import CallLimitNear, CallLimitReached, SessionOld
from pipecat_hydra.conversation.session_clock import SessionClock


def clock(*, session: float | None = None, call: float | None = None) -> SessionClock:
    return SessionClock(max_session_secs=session, max_call_secs=call)


def test_without_limits_nothing_is_due():
    unlimited = clock()
    unlimited.call_began(0.0)
    unlimited.opened(0.0)
    assert unlimited.deadline is None
    assert unlimited.tick(1e6) == []
    assert not unlimited.is_old
    assert not unlimited.is_expired(1e6)


def test_the_seconds_of_each_session_are_given_once_and_nothing_between_them():
    measured = clock()
    measured.opened(10.0)
    measured.created()
    measured.closed(15.0)
    measured.closed(20.0)  # once more, as after a rest
    measured.opened(100.0)
    assert measured.take_ended() == [5.0]
    measured.created()
    measured.closed(101.5)
    measured.opened(110.0)
    measured.created()
    measured.closed(112.0)
    assert measured.take_ended() == [1.5, 2.0]
    assert measured.take_ended() == []


def test_a_socket_on_which_no_session_is_created_is_no_session():
    measured = clock()
    measured.opened(10.0)
    measured.created()
    measured.closed(11.0)
    measured.take_ended()
    measured.opened(20.0)
    measured.closed(25.0)
    assert measured.take_ended() == []


@pytest.mark.parametrize(("limit", "old_after"), [(10.0, 8.0), (300.0, 240.0), (3600.0, 3540.0)])
def test_a_session_is_old_a_while_before_the_limit_and_expired_at_it(
    limit: float, old_after: float
):
    measured = clock(session=limit)
    measured.opened(100.0)
    assert measured.deadline == 100.0 + old_after
    assert measured.tick(99.9 + old_after) == []
    assert not measured.is_old
    assert measured.tick(100.0 + old_after) == [SessionOld()]
    assert measured.is_old
    assert measured.deadline is None
    assert not measured.is_expired(99.9 + limit)
    assert measured.is_expired(100.0 + limit)


def test_another_session_is_young():
    measured = clock(session=10.0)
    measured.opened(0.0)
    measured.tick(9.0)
    measured.closed(10.5)
    assert not measured.is_old
    assert not measured.is_expired(11.0)
    assert measured.deadline is None
    measured.opened(11.0)
    assert not measured.is_old
    assert not measured.is_expired(20.9)
    assert measured.tick(19.0) == [SessionOld()]


@pytest.mark.parametrize(("limit", "notice"), [(600.0, 10.0), (20.0, 10.0), (6.0, 3.0)])
def test_the_end_of_the_call_is_told_before(limit: float, notice: float):
    measured = clock(call=limit)
    assert measured.deadline is None
    measured.call_began(50.0)
    measured.call_began(55.0)
    assert measured.deadline == 50.0 + limit - notice
    assert measured.tick(50.0 + limit - notice) == [CallLimitNear(notice)]
    assert measured.deadline == 50.0 + limit
    assert measured.tick(49.9 + limit) == []
    assert measured.tick(50.0 + limit) == [CallLimitReached()]
    assert measured.deadline is None
    measured.call_began(1e6)
    assert measured.tick(1e7) == []


def test_a_clock_that_stood_still_tells_of_the_end_all_the_same():
    measured = clock(call=600.0)
    measured.call_began(0.0)
    assert measured.tick(700.0) == [CallLimitNear(0.0), CallLimitReached()]


def test_a_conversation_has_the_deadlines_of_its_clock():
    conversation = Conversation(
        model="hydra-v1.1", unused_timeout_secs=None, max_session_secs=100.0, max_call_secs=50.0
    )
    conversation.claim(0.0)
    assert conversation.deadline == 40.0
    assert conversation.tick(40.0) == [CallLimitNear(10.0)]
    assert conversation.tick(50.0) == [CallLimitReached()]
