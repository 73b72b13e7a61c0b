"""Builds server events (§3), without the `event_id` that each gets when it is sent."""

from typing import Literal

from pipecat_hydra.emulator.wire.events import Event, ProtocolError


def warning(code: str, message: str) -> Event:
    """Build a `warning` event."""
    return {"type": "warning", "code": code, "message": message}


def error(problem: ProtocolError) -> Event:
    """Build an `error` event."""
    client_fault = problem.code.startswith("invalid_")
    body: Event = {
        "type": "invalid_request_error" if client_fault else "server_error",
        "code": problem.code,
        "message": problem.message,
    }
    if problem.param is not None:
        body["param"] = problem.param
    if problem.event_id is not None:
        body["event_id"] = problem.event_id
    return {"type": "error", "error": body}


def item_event(stage: Literal["added", "done"], previous: str | None, item: Event) -> Event:
    """Build a `conversation.item.added` or `conversation.item.done` event."""
    return {"type": f"conversation.item.{stage}", "previous_item_id": previous, "item": item}


def message_item(
    item_id: str, role: Literal["user", "assistant"], status: str, text: str | None = None
) -> Event:
    """Build the item of spoken words; its text is null unless it is known (§3)."""
    content = {"type": "input_audio" if role == "user" else "output_audio", "text": text}
    return {
        "id": item_id,
        "type": "message",
        "role": role,
        "status": status,
        "content": [content] if status != "in_progress" else [],
    }
