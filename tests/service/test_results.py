"""Results of any type are written as JSON, part by part."""

import dataclasses
import datetime
import enum
import json
from collections import deque
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from pipecat_hydra.service.results import as_json, result_text

DAY = datetime.date(2026, 11, 30)
HUGE = 10**5000
UNWRITABLE = "a value of type Unwritable that cannot be written"


class Unwritable:
    """Cannot even be written as text."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


class Table(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    seats: set[int]
    booked: datetime.date
    price: float = float("nan")
    extra: Any = None


@dataclasses.dataclass
class Order:
    dish: str
    size: int = HUGE


class Course(enum.Enum):
    MAIN = "main"


class Secretive(dict[str, int]):
    """Does not let its items be seen."""

    def items(self) -> Any:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        return "secret"


LOOP: list[Any] = []
LOOP.append(LOOP)


CASES: list[tuple[Any, str | None]] = [
    (None, "COMPLETED"),
    (0, "0"),
    (False, "false"),
    ("", '""'),
    ([], "[]"),
    ({}, "{}"),
    ("blue", '"blue"'),
    ({"sky": "bläu"}, '{"sky": "bläu"}'),
    ({"when": ValueError("x")}, '{"when": "x"}'),
    ({(1, 2): 3}, '{"(1, 2)": 3}'),
    ({1: {2}}, '{"1": [2]}'),
    ((1, deque([2])), "[1, [2]]"),
    (DAY, '"2026-11-30"'),
    (datetime.timedelta(days=3), '"P3D"'),
    (Decimal("1.10"), '"1.10"'),
    (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
    (Course.MAIN, '"main"'),
    (b"\xff", "\"b'\\\\xff'\""),
    (HUGE, '"an integer of about 5000 digits"'),
    ([10**100], f"[{10**100}]"),
    (float("nan"), '"NaN"'),
    ([float("inf"), -float("inf"), 1.5], '["Infinity", "-Infinity", 1.5]'),
    (Unwritable(), f'"{UNWRITABLE}"'),
    ({"a": Unwritable(), "b": 1}, f'{{"a": "{UNWRITABLE}", "b": 1}}'),
    ({Unwritable(): 1}, f'{{"{UNWRITABLE}": 1}}'),
    (Secretive(a=1), '"secret"'),
    (
        Table(seats={4}, booked=DAY, extra=Unwritable()),
        f'{{"seats": [4], "booked": "2026-11-30", "price": "NaN", "extra": "{UNWRITABLE}"}}',
    ),
    (
        [Order("soup"), {"rest": Order("fish", 1)}],
        '[{"dish": "soup", "size": "an integer of about 5000 digits"}, '
        '{"rest": {"dish": "fish", "size": 1}}]',
    ),
    (LOOP, '["..."]'),
    ({"loop": LOOP, "twice": [[DAY]] * 2}, None),
]


# Pytest itself could not write some of the values.
@pytest.mark.parametrize(("value", "text"), CASES, ids=[str(n) for n in range(len(CASES))])
def test_a_result_of_any_type_is_written(value: Any, text: str | None):
    written = result_text(value)
    assert text is None or written == text
    if value is not None:
        assert result_text(as_json(value)) == written
        assert json.loads(written) == as_json(value) or "1" in written


def test_what_is_json_is_left_alone():
    value = {"a": [1, 2.5, None, {"b": "c"}]}
    assert as_json(value) is value


def test_a_result_of_any_depth_is_written():
    deep: Any = {1}
    for _ in range(5_000):
        deep = [deep]
    assert "..." in result_text(deep)


def test_a_result_that_is_twice_in_another_is_written_twice():
    assert result_text([[{3}]] * 2) == "[[[3]], [[3]]]"


@given(
    st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(),
            st.binary(),
            st.dates(),
            st.decimals(),
            st.builds(Unwritable),
            st.integers(5_000, 9_000).map(lambda digits: 10**digits),
        ),
        lambda inner: st.one_of(
            st.lists(inner),
            st.tuples(inner, inner),
            st.dictionaries(st.one_of(st.text(), st.integers(), st.dates()), inner),
            st.sets(st.integers()),
        ),
    )
)
def test_every_result_is_json(value: Any):
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    if value is not None:
        json.loads(result_text(value), parse_constant=refuse)
    json.dumps(as_json(value), allow_nan=False)
