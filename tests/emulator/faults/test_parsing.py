"""The text form of faults: what is read, what is written, what is refused."""

import pytest
from emulator.caller import DELTA

from pipecat_hydra.emulator import (
    Drop,
    Fault,
    FaultError,
    FaultPlan,
    Full,
    Giant,
    Hang,
    Missing,
    Rate,
    Refuse,
    SlowReader,
    parse_fault,
)
from pipecat_hydra.emulator.faults.kinds import FAULTS


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("full", Full()),
        ("refuse:status=429,retry_after=2", Refuse(429, 2)),
        ("hang:at=created,secs=0.5,times=2", Hang("created", 0.5, times=2)),
        ("drop:sent=3,how=reset,times=2", Drop("reset", sent=3, times=2)),
        ("drop:how=1011,during=response,secs=1.5", Drop(1011, "response", 1.5)),
        (f"drop:how=eof,received=2,of={DELTA}", Drop("eof", received=2, of=DELTA)),
        ("slow_reader:after_secs=1", SlowReader(after_secs=1.0)),
        ("rate:hz=48000,first=3", Rate(48_000, first=3)),
        (
            "missing:probability=1,fields=item_id+item.role",
            Missing(1, fields=("item_id", "item.role")),
        ),
        (" giant: size = 10 , sent=1 ", Giant(10, 1)),
    ],
)
def test_faults_are_read(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault
    assert parse_fault(str(fault)) == fault


@pytest.mark.parametrize("kind", FAULTS)
def test_every_fault_has_defaults_and_is_written_as_it_is_read(kind: str) -> None:
    fault = parse_fault(kind)
    assert (fault.kind, str(fault)) == (kind, kind)
    assert str(parse_fault(f"{kind}:first=3,times=2")) == f"{kind}:first=3,times=2"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "there is no fault ''; there are refuse, full"),
        ("explode", "there is no fault 'explode'"),
        ("drop:hows=1", "drop: no option 'hows=1'; there are first, times, how"),
        ("drop:how", "drop: no option 'how'"),
        ("drop:how=boom", "drop: how=boom: Input should be 'reset', 'eof', .*; or: .* integer"),
        ("drop:how=1005", "drop: how cannot be 1005"),
        ("drop:how=70000", "drop: how cannot be 70000"),
        ("drop:during=lunch", "drop: during=lunch: Input should be 'upgrade', 'session'"),
        ("drop:sent=1,during=response", "an event is not counted during a moment"),
        ("drop:sent=1,received=1", "sent and received exclude each other"),
        ("drop:of=error", "of needs sent or received"),
        ("drop:how=1011,during=upgrade", "no close frame before the upgrade"),
        ("drop:sent=0", "sent cannot be 0"),
        ("full:times=0", "full: times cannot be 0"),
        ("full:first=0", "full: first cannot be 0"),
        ("full:times=many", "full: times=many: Input should be a valid integer"),
        ("refuse:status=200", "status cannot be 200"),
        ("refuse:status=599", "status cannot be 599"),
        ("hang:secs=-1", "secs cannot be -1"),
        ("hang:secs=nan", "secs cannot be nan"),
        ("duplicate:probability=1.1", "probability cannot be 1.1"),
        ("missing:fields=type", "fields cannot be type"),
        ("random:seed=1", "random: no option 'seed=1'"),
        ("random:violence=x", "random: no option 'violence=x'"),
        ("random:violence=2", "violence cannot be 2"),
    ],
)
def test_faults_that_cannot_be(text: str, problem: str) -> None:
    with pytest.raises(FaultError, match=problem):
        FaultPlan.parse([text])
