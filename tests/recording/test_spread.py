import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipecat_hydra.recording.spread import Spread


def test_percentiles_are_interpolated():
    spread = Spread.of([0.1 * n for n in range(11)])
    assert spread is not None
    assert (spread.count, spread.p50, spread.p90, spread.p95) == pytest.approx((11, 0.5, 0.9, 0.95))
    assert (spread.least, spread.most) == (0, 1)


def test_no_values_have_no_spread():
    assert Spread.of([]) is None


@given(st.lists(st.floats(-1, 100), min_size=1))
def test_the_percentiles_ascend(values: list[float]):
    spread = Spread.of(values)
    assert spread is not None
    ascending = [spread.least, spread.p50, spread.p90, spread.p95, spread.most]
    assert ascending == pytest.approx(sorted(ascending))
