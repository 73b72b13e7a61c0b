"""Rounds of function calls with nothing said are counted, and limited if asked for."""

import pytest

from pipecat_hydra.service.tool_rounds import Round, ToolRounds


def test_a_loop_is_told_once_until_something_is_said():
    rounds = ToolRounds(None)
    assert [rounds.begin().is_loop for _ in range(12)] == [n == 4 for n in range(12)]
    rounds.said()
    assert [rounds.begin().is_loop for _ in range(5)] == [False] * 4 + [True]
    assert rounds.begin() == Round(6, is_loop=False, is_allowed=True, may_speak=True)


@pytest.mark.parametrize("limit", [1, 2, 5, 9])
def test_beyond_the_limit_nothing_is_called_and_the_model_asked_once(limit: int):
    rounds = ToolRounds(limit)
    told = [rounds.begin() for _ in range(limit + 3)]
    assert [one.is_allowed for one in told] == [True] * limit + [False] * 3
    assert [one.may_speak for one in told] == [True] * (limit + 1) + [False] * 2
    assert [one.number for one in told if one.is_loop] == [min(5, limit + 1)]
    rounds.said()
    assert rounds.begin().is_allowed
