"""What the emulator logs, and what it does not."""

import logging

from pipecat_hydra.emulator.wire.logs import log_failure, websockets_logger


def test_a_failure_is_logged_with_its_traceback_and_without_values(warnings: list[str]) -> None:
    words = "".join(["what the ", "user said"])
    try:
        raise ValueError(len(words))
    except ValueError as exception:
        log_failure("It failed", exception)
    (line,) = warnings
    assert "It failed\nTraceback" in line
    assert "test_logs.py" in line
    assert "ValueError: 18" in line
    assert words not in line


def test_braces_in_what_failed_are_no_format(warnings: list[str]) -> None:
    log_failure("It {failed}", ValueError("{x}"))
    assert "It {failed}" in warnings[0]
    assert "ValueError: {x}" in warnings[0]


def test_request_lines_are_not_logged_unless_asked_for() -> None:
    assert websockets_logger.getEffectiveLevel() == logging.WARNING
