"""What the server says about itself is reported, and ends nothing (S3)."""

import pytest
from support import wire
from support.driver import Driver

from pipecat_hydra.conversation.conversation import Phase
from pipecat_hydra.conversation.diagnostics import (
    report_dropped_fields,
    report_error,
    report_lost_audio,
    report_malformed,
    report_tool_timeout,
    report_unfinished,
    report_unknown,
    report_warning,
)
from pipecat_hydra.conversation.effects import (
    Report,
    Severity,
)
from pipecat_hydra.wire.codec import decode
from pipecat_hydra.wire.events import (
    ErrorDetail,
    MalformedMessage,
    ResponseInfo,
    UnknownEvent,
    WarningEvent,
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


@pytest.mark.parametrize(
    ("fields", "named"), [({"type": "kind"}, "a_code"), ({"code": None, "type": "kind"}, "kind")]
)
def test_an_error_is_named_by_its_code_or_else_its_type(
    driver: Driver, fields: dict[str, str | None], named: str
):
    error = {"code": "a_code", "message": "went wrong", **fields}
    (report,) = driver.receive(wire.event("error", error=error))
    assert isinstance(report, Report)
    assert report.message == f"Hydra reports {named}: went wrong"


def test_unknown_and_malformed_events_are_reported_and_end_nothing(driver: Driver):
    (unknown,) = driver.receive(wire.event("response.mood"))
    assert isinstance(unknown, Report)
    assert unknown.severity is Severity.INFO
    (odd,) = driver.receive(wire.event("session.updated", session=3))
    assert isinstance(odd, Report)
    assert "session" in odd.message


# Event by event


def test_a_warning_may_have_its_code_and_message_inside():
    event = WarningEvent.model_validate(
        {"type": "warning", "warning": {"code": "slow", "message": "It takes long."}}
    )
    report = report_warning(event, model="hydra-v1.1")
    assert report == Report(Severity.WARNING, "Hydra warns (slow): It takes long.", "slow")
    bare = report_warning(WarningEvent(type="warning"), model="hydra-v1.1")
    assert bare.message == "Hydra warns (None)"


def test_a_deprecated_model_is_named():
    event = WarningEvent(type="warning", code="model_deprecated")
    assert "'hydra' is deprecated" in report_warning(event, model="hydra").message


def test_an_error_says_what_and_where():
    error = ErrorDetail(code="invalid_audio", message="too small", param="audio")
    message = "Hydra reports invalid_audio: too small (at audio)"
    assert report_error(error) == Report(Severity.ERROR, message, "invalid_audio")
    assert report_error(ErrorDetail(type="odd")).message == "Hydra reports odd"
    assert report_error(ErrorDetail()).message == "Hydra reports an error"


def test_an_error_that_a_close_follows_is_a_warning():
    report = report_error(ErrorDetail(code="server_full", param="x"))
    assert report == Report(Severity.WARNING, "Hydra reports server_full", "server_full")


def test_a_tool_timeout_names_the_functions_without_an_answer():
    error = ErrorDetail(code="tool_response_timeout", message="late", param="p")
    report = report_tool_timeout(error, ["pay", "book"])
    assert report.severity is Severity.ERROR
    assert "no answer in time from pay, book" in report.message
    assert report.message.endswith("(at p)")
    assert "(at" not in report_tool_timeout(ErrorDetail(code="x"), ["pay"]).message
    assert report_tool_timeout(error, []).severity is Severity.INFO


@pytest.mark.parametrize("status", ["completed", "cancelled", None])
def test_a_response_that_ended_as_it_should_is_not_reported(status: str | None):
    assert report_unfinished(ResponseInfo(status=status)) == []


def test_a_response_that_failed_says_why():
    info = ResponseInfo.model_validate(
        {
            "status": "failed",
            "status_details": {"reason": "error", "error": {"code": "c", "message": "m"}},
        }
    )
    (report,) = report_unfinished(info)
    assert report == Report(Severity.ERROR, "Hydra's response ended failed (error: c: m)")
    (report,) = report_unfinished(ResponseInfo(status="incomplete"))
    assert report == Report(Severity.WARNING, "Hydra's response ended incomplete (no reason given)")


def test_fields_that_were_ignored_are_named():
    event = decode('{"type": "response.done", "response": {"id": "r", "usage": "none"}}')
    (report,) = report_dropped_fields(event)
    assert "response.done with fields of a wrong shape: response.usage" in report.message
    assert report_dropped_fields(decode("{}")) == []
    assert report_dropped_fields(wire.created()) == []


def test_what_is_no_event_is_reported_without_its_content():
    event = decode("my secret")
    assert isinstance(event, MalformedMessage)
    assert "9 bytes" in report_malformed(event).message
    assert "secret" not in report_malformed(event).message


def test_an_event_of_an_unknown_type_is_named_in_short():
    event = wire.event("x" * 200)
    assert isinstance(event, UnknownEvent)
    report = report_unknown(event)
    assert report.severity is Severity.INFO
    assert len(report.message) < 150


def test_lost_audio_is_told_with_its_length():
    assert report_lost_audio(0.0) == []
    (report,) = report_lost_audio(2.44)
    assert report.severity is Severity.WARNING
    assert report.message.startswith("2.4 s of what the user said are lost")
