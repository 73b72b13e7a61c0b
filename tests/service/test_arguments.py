"""Arguments of the constructor are checked where they are given."""

import pytest

from pipecat_hydra.service.arguments import check_positive


def test_time_limits_that_are_greater_than_0_or_none_at_all():
    check_positive(open_timeout_secs=0.1, idle_timeout_secs=None)


@pytest.mark.parametrize("secs", [0, -1.0])
def test_one_that_is_not_is_told_by_its_name(secs: float):
    with pytest.raises(ValueError, match=f"idle_timeout_secs must be greater than 0, not {secs}"):
        check_positive(open_timeout_secs=1.0, idle_timeout_secs=secs)
