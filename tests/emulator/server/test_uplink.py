"""The limit of how fast user audio may come."""

import pytest

from pipecat_hydra.emulator.server.uplink import UplinkMeter


def take(meter: UplinkMeter, *, speed: float, secs: float, start: float = 100.0) -> float | None:
    """Stream `secs` of audio in pieces of 20 ms; return after how much it was too much."""
    for piece in range(round(secs * 50)):
        if not meter.take(0.02, start + piece * 0.02 / speed):
            return piece * 0.02
    return None


def test_twice_real_time_may_last() -> None:
    assert take(UplinkMeter(2.5, 3.0), speed=2.0, secs=3_600) is None


def test_a_stalled_network_may_catch_up() -> None:
    meter = UplinkMeter(2.5, 3.0)
    assert take(meter, speed=1.0, secs=60) is None
    assert take(meter, speed=1_000, secs=2.5, start=162.5) is None
    assert take(meter, speed=1.0, secs=60, start=163.0) is None


def test_a_file_is_too_much_soon() -> None:
    assert take(UplinkMeter(2.5, 3.0), speed=1e9, secs=10) == pytest.approx(3.0, abs=0.1)
    assert take(UplinkMeter(2.5, 3.0), speed=5, secs=60) == pytest.approx(6.0, abs=0.1)
