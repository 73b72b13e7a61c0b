"""Random plans: what they draw, and what they never draw."""

from itertools import pairwise

import pytest
from emulator.caller import DELTA
from hypothesis import given
from hypothesis import strategies as st

from pipecat_hydra.emulator import (
    Drop,
    Fault,
    FaultError,
    FaultPlan,
    Full,
    Hang,
    Missing,
    Refuse,
    RejectVoice,
    SlowReader,
)
from pipecat_hydra.emulator.faults.event_faults import OPTIONAL_FIELDS
from pipecat_hydra.emulator.faults.kinds import FAULTS
from pipecat_hydra.emulator.faults.random_faults import MAX_FAILURES_IN_A_ROW


@given(st.integers(), st.floats(0, 1), st.none() | st.sets(st.sampled_from(sorted(FAULTS))))
def test_a_random_plan_can_be_got_through(
    seed: int, violence: float, allowed: set[str] | None
) -> None:
    plan = FaultPlan.random(seed, violence=violence, kinds=allowed)
    assert plan == FaultPlan.random(seed, violence=violence, kinds=allowed)
    options = str(plan).split(" ")
    assert FaultPlan.parse(options[1:-2:2], seed=seed) == plan
    assert not plan.connection(9).faults
    failures = 0
    for number in range(1, 9):
        faults = plan.connection(number).faults
        for fault in faults:
            assert fault.times is not None
            assert not isinstance(fault, RejectVoice)
            if isinstance(fault, Refuse):
                assert fault.status == 429 or fault.status >= 500
            if isinstance(fault, SlowReader):
                assert fault.secs is not None
            if isinstance(fault, Missing):
                assert fault.fields == OPTIONAL_FIELDS
            if allowed is not None:
                assert fault.kind in allowed
        failures = failures + 1 if any(map(fails, faults)) else 0
        assert failures <= MAX_FAILURES_IN_A_ROW


def fails(fault: Fault) -> bool:
    """Whether a connection may not get to `session.configured`."""
    if isinstance(fault, Drop):
        return fault.during in ("upgrade", "session") and fault.of != DELTA and not fault.received
    return isinstance(fault, Refuse | Full | Hang)


def test_random_plans_differ_and_cover_everything() -> None:
    plans = [FaultPlan.random(seed, violence=1) for seed in range(200)]
    assert len({plan.faults for plan in plans}) > 150
    kinds = {fault.kind for plan in plans for fault in plan.faults}
    assert kinds == set(FAULTS) - {"reject_voice", "reject_configuration"}
    mild, wild = (
        sum(len(FaultPlan.random(seed, violence=violence).faults) for seed in range(100))
        for violence in (0.2, 1.0)
    )
    assert mild < wild
    assert FaultPlan.random(0, violence=0).faults == ()
    assert all(a != b for a, b in pairwise(plan.seed for plan in plans))


def test_a_random_plan_is_a_fault_on_the_command_line() -> None:
    plan = FaultPlan.parse(["full:times=1", "random:violence=1"], seed=5)
    assert plan.faults == (Full(times=1), *FaultPlan.random(5, violence=1).faults)
    assert FaultPlan.parse(["random"], seed=5) == FaultPlan.random(5)


def test_a_random_plan_of_unknown_kinds() -> None:
    with pytest.raises(FaultError, match="there is no fault 'explode'"):
        FaultPlan.random(0, kinds=["explode"])
