"""`talk` as a gate: limits, spreads over runs, and what machines read."""

from pathlib import Path

import pytest

from pipecat_hydra.cli.talk import Limits, Report, TalkOptions
from pipecat_hydra.cli.talk.limits import Run, as_json, excesses, spreads


def run(number: int, **latencies: list[float]) -> Run:
    """A run with some latencies, and none of the other kinds."""
    every = {"answer": [], "barge_in": [], "tool_turn": [], "ttfb": [], **latencies}
    options = TalkOptions(recording=Path("in.wav"), output=Path(f"out-{number}.wav"))
    return Run(number, Report([], 10.0, 320_000, every, ["a message"]), options)


def test_what_is_longer_than_its_limit_is_named_with_its_run_and_by_how_much():
    runs = [run(1, answer=[0.5, 1.0]), run(2, answer=[0.9, 1.25], barge_in=[0.3])]
    (excess,) = excesses(runs, Limits(answer=1.0))
    assert str(excess) == "answer 2 of run 2 took 1.25 s, 0.25 s more than 1 s"


def test_a_run_without_a_latency_that_has_a_limit_does_not_pass():
    runs = [run(1, barge_in=[0.2]), run(2)]
    (excess,) = excesses(runs, Limits(barge_in=0.4))
    assert str(excess) == "no barge_in was measured in run 2: its limit says nothing"


def test_without_limits_everything_passes():
    assert excesses([run(1, answer=[100.0]), run(2)], Limits()) == []


@pytest.mark.parametrize("name", ["answer", "barge_in", "tool_turn"])
def test_each_limit_is_of_its_own_latency(name: str):
    slow = run(1, answer=[0.1], barge_in=[0.1], tool_turn=[0.1])
    slow.report.latencies[name] = [0.3]
    limits = Limits(answer=0.2, barge_in=0.2, tool_turn=0.2)
    assert [one.latency for one in excesses([slow], limits)] == [name]


def test_spreads_are_over_all_runs():
    found = spreads([run(1, answer=[1.0]), run(2, answer=[2.0, 3.0])])
    assert set(found) == {"answer"}
    assert (found["answer"].count, found["answer"].p50, found["answer"].most) == (3, 2.0, 3.0)


def test_machines_read_runs_spreads_and_what_was_exceeded():
    runs = [run(1, answer=[0.5]), run(2, answer=[1.23456])]
    told = as_json(runs, Limits(answer=1.0))
    assert told["version"] == 1
    assert not told["passed"]
    assert told["failure"] is None
    assert told["limits"] == {"answer": 1.0}
    assert told["exceeded"] == [
        {
            "run": 2,
            "latency": "answer",
            "number": 1,
            "secs": 1.235,
            "limit": 1.0,
            "over": 0.235,
        }
    ]
    assert told["latencies"]["answer"]["p95"] == pytest.approx(1.198)
    assert [one["conversation"] for one in told["runs"]] == ["out-1.wav", "out-2.wav"]
    assert told["runs"][1]["latencies"]["answer"] == [1.235]
    assert told["runs"][0]["errors"] == ["a message"]


def test_what_was_not_measured_has_no_seconds():
    (exceeded,) = as_json([run(1)], Limits(tool_turn=1.0))["exceeded"]
    assert (exceeded["number"], exceeded["secs"], exceeded["over"]) == (None, None, None)


def test_a_failure_does_not_pass():
    told = as_json([run(1, answer=[0.5])], Limits(answer=1.0), "run 2 of 2: no answer")
    assert not told["passed"]
    assert told["failure"] == "run 2 of 2: no answer"
    assert as_json([run(1, answer=[0.5])], Limits(answer=1.0))["passed"]
