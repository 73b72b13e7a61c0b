"""The table of faults: for which connections each holds."""

from pipecat_hydra.emulator import (
    Fault,
    Full,
)


def test_connections_are_chosen_by_number() -> None:
    def holders(fault: Fault) -> list[int]:
        return [number for number in range(1, 8) if fault.holds(number)]

    assert holders(Full()) == [1, 2, 3, 4, 5, 6, 7]
    assert holders(Full(times=2)) == [1, 2]
    assert holders(Full(first=6)) == [6, 7]
    assert holders(Full(first=3, times=2)) == [3, 4]
