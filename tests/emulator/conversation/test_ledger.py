"""The rows of a session's record: what they find out, and what they do not show."""

import pytest

from pipecat_hydra.emulator import (
    CallRecord,
    FaultRecord,
    HistoryEntry,
    Jitter,
    MessageRecord,
    NarrationRecord,
    OutputRecord,
    ToolOutput,
)

SECRET = "what was said"


@pytest.mark.parametrize(
    ("outputs", "accepted"),
    [
        ([], None),
        ([OutputRecord(1.0, "call_1", "late", False)], None),
        (
            [OutputRecord(1.0, "call_1", "first", True), OutputRecord(2.0, "call_1", "2nd", False)],
            "first",
        ),
    ],
)
def test_the_output_of_a_call_is_the_one_that_was_accepted(
    outputs: list[OutputRecord], accepted: str | None
) -> None:
    call = CallRecord(0.5, "resp_1", "call_1", "look", "{}", outputs)
    assert call.output == accepted


def test_calls_do_not_share_their_outputs() -> None:
    one, other = (CallRecord(0.5, "resp_1", name, "look", "{}") for name in "ab")
    one.outputs.append(OutputRecord(1.0, "a", "seen", True))
    assert other.outputs == []


def test_a_narration_settles_from_the_last_output_on() -> None:
    outputs = (ToolOutput("call_1", "look", "seen"),)
    assert NarrationRecord(3.5, 3.25, outputs, (), "resp_2").settle_secs == 0.25


def test_a_fault_is_told_by_its_kind() -> None:
    record = FaultRecord(0.0, 1, Jitter())
    assert (record.kind, record.detail) == ("jitter", "")


@pytest.mark.parametrize(
    "row",
    [
        OutputRecord(1.0, "call_1", SECRET, True),
        CallRecord(1.0, "resp_1", "call_1", "look", SECRET),
        MessageRecord(1.0, "user", SECRET),
        HistoryEntry(1.0, "user", "text", SECRET),
    ],
)
def test_a_row_that_is_logged_does_not_show_what_was_said(row: object) -> None:
    assert SECRET not in repr(row)
