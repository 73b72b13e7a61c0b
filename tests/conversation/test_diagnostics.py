"""What the server says about itself is reported, and ends nothing (S3)."""

import pytest
from support import wire
from support.driver import Driver

from pipecat_hydra.conversation.conversation import Phase
from pipecat_hydra.conversation.effects import (
    Report,
    Severity,
)


@pytest.mark.parametrize(
    ("code", "severity"),
    [
        ("invalid_request_error", Severity.ERROR),
        ("invalid_frame", Severity.ERROR),
        ("invalid_audio", Severity.ERROR),
        ("internal_error", Severity.ERROR),
        ("tool_response_timeout", Severity.INFO),
        ("server_full", Severity.WARNING),
        ("session_ended", Severity.WARNING),
        ("something_new", Severity.ERROR),
    ],
)
def test_an_error_is_reported_and_ends_nothing(driver: Driver, code: str, severity: Severity):
    (report,) = driver.receive(wire.error(code, param="x"))
    assert isinstance(report, Report)
    assert (report.severity, report.code) == (severity, code)
    assert "went wrong" in report.message
    assert driver.conversation.phase is Phase.LIVE


def test_unknown_and_malformed_events_are_reported_and_end_nothing(driver: Driver):
    (unknown,) = driver.receive(wire.event("response.mood"))
    assert isinstance(unknown, Report)
    assert unknown.severity is Severity.INFO
    (odd,) = driver.receive(wire.event("session.updated", session=3))
    assert isinstance(odd, Report)
    assert "session" in odd.message
