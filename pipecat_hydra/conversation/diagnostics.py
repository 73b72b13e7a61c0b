"""Reports on what goes wrong in a session: what the server says about itself, and lost audio.

Pure functions to the `Report` that tells a developer, mostly from an event: a warning, an error, an
event of no known shape. None of these events ends the session (S3). A report never holds what
users say.
"""

from collections.abc import Sequence

from pipecat_hydra.conversation.effects import Report, Severity
from pipecat_hydra.wire.events import (
    ErrorDetail,
    MalformedMessage,
    ResponseInfo,
    ServerEvent,
    UnknownEvent,
    WarningEvent,
)
from pipecat_hydra.wire.protocol import MODEL_DEPRECATED, ErrorCode

__all__ = [
    "describe_error",
    "report_call_without_id",
    "report_dropped_fields",
    "report_error",
    "report_lost_audio",
    "report_malformed",
    "report_tool_timeout",
    "report_unfinished",
    "report_unknown",
    "report_warning",
]


def report_warning(event: WarningEvent, *, model: str) -> Report:
    """Report a `warning` event; the one about a deprecated model names the model."""
    nested = event.warning or ErrorDetail()
    code = event.code or nested.code
    message = event.message or nested.message or ""
    if code == MODEL_DEPRECATED:
        message = f"model {model!r} is deprecated. {message}"
    return Report(Severity.WARNING, f"Hydra warns ({code}): {message}".rstrip(": "), code)


def describe_error(error: ErrorDetail) -> str:
    """Describe an `error` event in one line."""
    description = f"Hydra reports {error.code or error.type or 'an error'}: {error.message or ''}"
    return description.rstrip(": ")


def report_error(error: ErrorDetail) -> Report:
    """Report an `error` event that concerns no function call."""
    message = describe_error(error)
    if error.code in (ErrorCode.SERVER_FULL, ErrorCode.SESSION_ENDED):
        # A close follows, and is what gets reported; should none follow, this tells.
        return Report(Severity.WARNING, message, error.code)
    if error.param:
        message = f"{message} (at {error.param})"
    return Report(Severity.ERROR, message, error.code)


def report_tool_timeout(error: ErrorDetail, unanswered: Sequence[str]) -> Report:
    """Report that Hydra waited too long for the results of functions.

    Args:
        error: What Hydra says.
        unanswered: The names of the functions whose result is missing. With none, all were
            answered, and the application wanted nothing said about it.
    """
    message = describe_error(error)
    if not unanswered:
        return Report(Severity.INFO, message, error.code)
    names = ", ".join(unanswered)
    message = f"{message} (no answer in time from {names}; the turn is abandoned)"
    if error.param:
        message = f"{message} (at {error.param})"
    return Report(Severity.ERROR, message, error.code)


def report_call_without_id() -> Report:
    """Report a function call that has no id."""
    message = "Hydra sent a function call without an id, which cannot be answered"
    return Report(Severity.WARNING, message)


def report_unknown(event: UnknownEvent) -> Report:
    """Report an event of a type that this version does not know."""
    return Report(Severity.INFO, f"Hydra sent an event of unknown type {event.type[:80]!r}")


def report_malformed(event: MalformedMessage) -> Report:
    """Report a message that is no event."""
    message = f"Hydra sent a message that is no event ({event.reason}, {event.size} bytes)"
    return Report(Severity.WARNING, message)


def report_lost_audio(secs: float) -> list[Report]:
    """Report user audio that came faster than it may be sent and was too much to keep, if any."""
    if not secs:
        return []
    message = (
        f"{secs:.1f} s of what the user said are lost: so much audio came at once that "
        "preroll_secs could not keep it. Something has blocked the event loop, or the transport "
        "sends in bursts"
    )
    return [Report(Severity.WARNING, message)]


def report_dropped_fields(event: ServerEvent) -> list[Report]:
    """Report the fields of an event that were ignored because of their shape, if any were."""
    if isinstance(event, MalformedMessage) or not event.dropped_fields:
        return []
    names = ", ".join(event.dropped_fields)
    message = f"Hydra sent {event.type} with fields of a wrong shape: {names}"
    return [Report(Severity.WARNING, message)]


def report_unfinished(info: ResponseInfo) -> list[Report]:
    """Report a response that did not come to its end by itself, with the reason given."""
    if info.status not in ("failed", "incomplete"):
        return []
    details = info.status_details
    error = details.error if details is not None else None
    reasons = (
        details.reason if details else None,
        error.code if error else None,
        error.message if error else None,
    )
    reason = ": ".join(part for part in reasons if part) or "no reason given"
    severity = Severity.ERROR if info.status == "failed" else Severity.WARNING
    return [Report(severity, f"Hydra's response ended {info.status} ({reason})")]
