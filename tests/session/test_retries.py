"""Whether and when a lost session is tried again (S2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.session.retries import Retries, Retry, RetryPolicy

RETRIED = [
    FailureKind.CAPACITY,
    FailureKind.CONNECTIVITY,
    FailureKind.TIMEOUT,
    FailureKind.SERVER,
    FailureKind.ENDED,
]


def longest(policy: RetryPolicy) -> Retries:
    """Attempts whose delays are as long as they may be."""
    return Retries(policy, draw=lambda: 1.0)


def test_delays_double_up_to_a_limit_and_attempts_end():
    retries = longest(RetryPolicy(attempts_per_drop=6, first_delay_secs=0.5, longest_delay_secs=4))
    delays = [retries.next(FailureKind.CONNECTIVITY, 0.0) for _ in range(7)]
    assert delays == [
        Retry(1, 0.5),
        Retry(2, 1.0),
        Retry(3, 2.0),
        Retry(4, 4.0),
        Retry(5, 4.0),
        Retry(6, 4.0),
        None,
    ]


def test_a_server_at_capacity_is_given_more_time():
    retries = longest(RetryPolicy())
    retry = retries.next(FailureKind.CAPACITY, 0.0)
    assert retry == Retry(1, 2.0)


def test_delays_are_drawn_from_the_whole_range():
    drawn = iter([0.0, 0.25, 0.999])
    retries = Retries(RetryPolicy(first_delay_secs=1.0), draw=lambda: next(drawn))
    delays = [retries.next(FailureKind.SERVER, 0.0) for _ in range(3)]
    assert [retry.delay_secs for retry in delays if retry] == [0.0, 0.5, pytest.approx(3.996)]


@pytest.mark.parametrize("kind", [FailureKind.AUTHENTICATION, FailureKind.CONFIGURATION])
def test_what_is_of_no_use_is_not_tried(kind: FailureKind):
    assert longest(RetryPolicy()).next(kind, 0.0) is None


@pytest.mark.parametrize("kind", RETRIED)
def test_all_else_is_tried_again(kind: FailureKind):
    assert longest(RetryPolicy()).next(kind, 0.0) is not None


def test_a_policy_of_no_attempts_makes_none():
    assert longest(RetryPolicy(attempts_per_drop=0)).next(FailureKind.SERVER, 0.0) is None


def test_no_attempt_begins_after_the_time_that_a_drop_is_worth():
    policy = RetryPolicy(secs_per_drop=10.0, first_delay_secs=4.0, longest_delay_secs=4.0)
    retries = longest(policy)
    assert retries.next(FailureKind.TIMEOUT, 100.0) == Retry(1, 4.0)
    assert retries.next(FailureKind.TIMEOUT, 106.0) == Retry(2, 4.0)
    assert retries.next(FailureKind.TIMEOUT, 106.1) is None


def test_the_server_may_ask_for_more_time_within_the_budget():
    retries = Retries(RetryPolicy(secs_per_drop=30.0), draw=lambda: 0.0)
    retry = retries.next(FailureKind.CAPACITY, 0.0, retry_after_secs=20.0)
    assert retry == Retry(1, 20.0)
    assert retries.next(FailureKind.CAPACITY, 20.0, retry_after_secs=20.0) is None


def test_a_session_that_lived_for_a_while_begins_anew():
    retries = longest(RetryPolicy(stable_secs=5.0))
    for _ in range(3):
        retries.next(FailureKind.CONNECTIVITY, 0.0)
    retries.configured(1.0)
    assert retries.next(FailureKind.CONNECTIVITY, 6.0) == Retry(1, 0.5)


def test_a_server_that_configures_and_closes_gets_no_more_attempts():
    retries = longest(RetryPolicy(attempts_per_drop=3, stable_secs=5.0))
    now, attempts = 0.0, 0
    while retries.next(FailureKind.ENDED, now) is not None:
        attempts += 1
        retries.configured(now + 0.1)
        now += 1.0
    assert attempts == 3


def test_all_losses_of_a_call_together_have_a_budget():
    retries = longest(RetryPolicy(attempts_per_call=5))
    now, attempts = 0.0, 0
    while retries.next(FailureKind.CONNECTIVITY, now) is not None:
        attempts += 1
        retries.configured(now)
        now += 100.0
    assert attempts == 5
    retries.settle()
    assert retries.next(FailureKind.CONNECTIVITY, now) is None


@pytest.mark.parametrize("name", RetryPolicy.__slots__)
def test_a_negative_number_is_refused(name: str):
    with pytest.raises(ValueError, match=name):
        RetryPolicy(**{name: -1})


@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 30.0),
            st.sampled_from([*RETRIED, None]),
            st.none() | st.floats(0.0, 100.0),
        ),
        max_size=300,
    ),
    st.randoms(use_true_random=False),
)
def test_whatever_happens_the_budgets_hold(
    steps: list[tuple[float, FailureKind | None, float]], rnd
):
    policy = RetryPolicy(attempts_per_drop=4, secs_per_drop=20.0, attempts_per_call=20)
    retries = Retries(policy, draw=rnd.random)
    now, attempts = 0.0, 0
    for wait, kind, retry_after in steps:
        now += wait
        if kind is None:
            retries.configured(now)
            continue
        retry = retries.next(kind, now, retry_after_secs=retry_after)
        if retry is None:
            continue
        attempts += 1
        assert 1 <= retry.attempt <= 4
        assert 0.0 <= retry.delay_secs - (retry_after or 0.0) <= policy.longest_delay_secs
        assert retry.delay_secs <= policy.secs_per_drop
    assert attempts <= 20
