"""What Hydra is told of function calls."""

import asyncio
from typing import Any

import pytest
from pipecat.frames.frames import (
    FunctionCallCancelFrame,
    FunctionCallResultFrame,
    FunctionCallResultProperties,
)

from pipecat_hydra.service.functions import (
    BAD_ARGUMENTS,
    CANCELLED,
    GRACE_SECS,
    LIMIT_BYTES,
    RUNNING,
    TIMED_OUT,
    TOO_MANY_ROUNDS,
    FunctionAnswers,
    parse_arguments,
)


class Hydra:
    """Takes what is told."""

    def __init__(self):
        self.answered: list[tuple[str, str, bool, bool]] = []
        self.told: list[tuple[str, bool]] = []
        self.answers = FunctionAnswers(
            "service",
            answer=lambda *args: self.answered.append(args),
            tell=lambda *args: self.told.append(args),
        )


@pytest.fixture
def hydra() -> Hydra:
    return Hydra()


def result(
    value: Any, *, run_llm: bool | None = None, **properties: Any
) -> FunctionCallResultFrame:
    return FunctionCallResultFrame(
        function_name="f",
        tool_call_id="c",
        arguments={},
        result=value,
        run_llm=run_llm,
        properties=FunctionCallResultProperties(**properties) if properties else None,
    )


def cancel(*, run_llm: bool = False) -> FunctionCallCancelFrame:
    return FunctionCallCancelFrame(function_name="f", tool_call_id="c", run_llm=run_llm)


@pytest.mark.parametrize(
    ("value", "text"), [(None, "COMPLETED"), (0, "0"), ({(1, 2): {3}}, '{"(1, 2)": [3]}')]
)
def test_a_result_of_any_kind_is_told(hydra: Hydra, value: Any, text: str):
    hydra.answers.on_result(result(value))
    assert hydra.answered == [("c", text, True, False)]


@pytest.mark.parametrize(
    ("arguments", "parsed"),
    [
        ("", {}),
        ("{}", {}),
        ('{"a": 1}', {"a": 1}),
        ("{", None),
        ("[1]", None),
        ("null", None),
        ("[" * 100_000, None),
        (r'{"a": "\u00e9 \ud83d\ude00"}', {"a": "é 😀"}),
        # Nothing that a framework writes as UTF-8 may hold half a surrogate pair.
        (r'{"a\ud83d": ["\ude00"]}', {"a\ufffd": ["\ufffd"]}),
    ],
)
def test_arguments_are_a_json_object_or_nothing(arguments: str, parsed: Any):
    assert parse_arguments(arguments) == parsed


def test_arguments_that_are_none_are_refused(hydra: Hydra):
    hydra.answers.refuse_arguments("c", "f")
    assert hydra.answered == [("c", BAD_ARGUMENTS, True, False)]


@pytest.mark.parametrize("run_llm", [True, False])
def test_whether_to_speak_about_it_is_honoured(hydra: Hydra, run_llm: bool):
    hydra.answers.on_result(result(1, run_llm=run_llm))
    assert hydra.answered == [("c", "1", run_llm, False)]


def test_the_properties_of_a_result_win(hydra: Hydra):
    frame = result(1)
    frame.run_llm = True
    frame.properties = FunctionCallResultProperties(run_llm=False)
    hydra.answers.on_result(frame)
    assert hydra.answered == [("c", "1", False, False)]


def test_a_cancelled_call_is_answered(hydra: Hydra):
    hydra.answers.on_cancel(cancel())
    hydra.answers.on_cancel(cancel(run_llm=True))
    assert hydra.answered == [("c", CANCELLED, False, True), ("c", TIMED_OUT, True, False)]


async def running(hydra: Hydra) -> None:
    """A call runs on, and was answered for now."""
    hydra.answers.begin_running("c")
    while not hydra.answered:
        await asyncio.sleep(0.01)


async def test_a_running_call_that_is_quick_is_answered_by_its_result(hydra: Hydra):
    hydra.answers.begin_running("c")
    hydra.answers.on_result(result("quick"))
    await asyncio.sleep(GRACE_SECS + 0.1)
    assert hydra.answered == [("c", '"quick"', True, False)]
    assert hydra.told == []


async def test_a_running_call_that_is_cancelled_at_once_is_answered_so(hydra: Hydra):
    hydra.answers.begin_running("c")
    hydra.answers.on_cancel(cancel(run_llm=True))
    assert hydra.answered == [("c", TIMED_OUT, True, False)]


async def test_nothing_is_answered_after_the_end(hydra: Hydra):
    hydra.answers.begin_running("c")
    hydra.answers.close()
    await asyncio.sleep(GRACE_SECS + 0.1)
    assert hydra.answered == []


async def test_a_running_call_is_answered_soon_and_told_later(hydra: Hydra):
    await running(hydra)
    assert hydra.answered == [("c", RUNNING, True, False)]
    hydra.answers.on_result(result("half"))
    assert len(hydra.answered) == 1
    ((text, respond),) = hydra.told
    assert '"half"' in text
    assert respond


async def test_intermediate_results_are_told_and_the_last_ends_it(hydra: Hydra):
    hydra.answers.begin_running("c")
    hydra.answers.on_result(result("half", is_final=False))
    assert hydra.answered == [("c", RUNNING, True, False)]
    hydra.answers.on_result(result("whole"))
    assert "intermediate" in hydra.told[0][0]
    assert "intermediate" not in hydra.told[1][0]
    # What comes after the end is an answer like any other, which the session ignores.
    hydra.answers.on_result(result("again"))
    assert len(hydra.told) == 2


def test_an_intermediate_result_of_a_call_that_waits_is_no_answer(hydra: Hydra):
    hydra.answers.on_result(result("half", is_final=False))
    assert hydra.answered == []
    assert hydra.told == []


async def test_a_running_call_that_is_cancelled_is_told(hydra: Hydra):
    await running(hydra)
    hydra.answers.on_cancel(cancel())
    ((text, respond),) = hydra.told
    assert CANCELLED in text
    assert not respond


def test_a_result_that_is_too_large_is_not_sent(hydra: Hydra):
    hydra.answers.on_result(result("x" * LIMIT_BYTES))
    ((_, text, respond, _),) = hydra.answered
    assert "too large" in text
    assert str(LIMIT_BYTES + 2) in text
    assert respond
    hydra.answers.on_result(result("x" * (LIMIT_BYTES - 2)))
    assert len(hydra.answered[1][1]) == LIMIT_BYTES


@pytest.mark.parametrize("respond", [True, False])
def test_a_call_of_a_round_too_many_is_refused(hydra: Hydra, respond: bool):
    hydra.answers.refuse_round("c", respond=respond)
    assert hydra.answered == [("c", TOO_MANY_ROUNDS, respond, False)]


def test_a_result_after_a_call_was_answered_without_one_is_told_once(hydra: Hydra):
    hydra.answers.on_result(result("none yet"))
    hydra.answers.expect_late_result("c")
    hydra.answers.on_result(result("late", run_llm=False))
    ((text, respond),) = hydra.told
    assert '"late"' in text
    assert not respond
    hydra.answers.on_result(result("again"))
    assert len(hydra.told) == 1
