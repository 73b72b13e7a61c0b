"""Settings of the emulator: which values are refused."""

from typing import Any

import pytest

from pipecat_hydra.emulator import EmulatorSettings


@pytest.mark.parametrize(
    "name",
    [
        "delivery_speed",
        "delta_ms",
        "arguments_delta_chars",
        "idle_timeout_secs",
        "uplink_speed",
        "gap_ends_turn_secs",
    ],
)
def test_a_rate_must_be_greater_than_0(name: str) -> None:
    given: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be greater than 0"):
        EmulatorSettings(**given)
