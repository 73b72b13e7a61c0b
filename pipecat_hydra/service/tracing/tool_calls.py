"""Records the `llm_tool_call` spans: what each function was given, and how it ended."""

from dataclasses import dataclass
from typing import Final

from pipecat.frames.frames import FunctionCallResultFrame

from pipecat_hydra.conversation.effects import ToolCall
from pipecat_hydra.service.outcomes import Settling, outcome_of
from pipecat_hydra.service.results import result_text
from pipecat_hydra.service.tracing.spans import Error, Span, Spans

# Pipecat cuts at these too.
_MAX_ARGUMENTS: Final = 1_000
_MAX_RESULT: Final = 2_000


@dataclass(slots=True)
class _Call(Span):
    # Whether it has an answer for now, so that the call outlives its session.
    held: bool = False


class ToolCallSpans:
    """Records the function calls of a service.

    Args:
        spans: Creates the spans.
    """

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._calls: dict[str, _Call] = {}

    def begin(self, response_id: str | None, call: ToolCall) -> None:
        """Record that the model calls a function.

        Args:
            response_id: The response that makes the call, if it has an id.
            call: The call.
        """
        now, parent = self._spans.now(), self._spans.parent()
        span = _Call("llm_tool_call", "execute_tool", now, parent, {**self._spans.session})
        span.local = True
        span.attributes |= {
            "gen_ai.tool.name": call.name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": call.call_id,
            "tool.function_name": call.name,
            "tool.call_id": call.call_id,
            "tool.arguments": _cut_to(_MAX_ARGUMENTS, call.arguments),
        }
        if response_id is not None:
            span.attributes["gen_ai.response.id"] = response_id
        self._calls[call.call_id] = span

    def refuse(self, call_id: str, kind: str, reason: str) -> None:
        """End a call whose function is not called.

        Args:
            call_id: The call.
            kind: The class of error.
            reason: Why, for a person.
        """
        self._finish(call_id, "refused", error=(kind, reason))

    def hold(self, call_id: str) -> None:
        """Record that a call is answered for now, while its function still works."""
        if (call := self._calls.get(call_id)) is not None and not call.held:
            call.held = True
            call.events.append(("answered_for_now", self._spans.now(), {}))

    def settle(self, frame: Settling) -> None:
        """End a call whose function returned a result, failed, timed out or was cancelled."""
        outcome = outcome_of(frame)
        if outcome is None:
            return
        call = self._calls.get(frame.tool_call_id)
        if call is not None and isinstance(frame, FunctionCallResultFrame):
            call.attributes["tool.result"] = _cut_to(_MAX_RESULT, result_text(frame.result))
        self._finish(frame.tool_call_id, outcome.status, error=outcome.error)

    def cut(self, *, held_too: bool) -> list[Span]:
        """End the open calls, because the session has ended; return them.

        Args:
            held_too: Whether calls that are answered for now end too.
        """
        cut = {i: call for i, call in self._calls.items() if held_too or not call.held}
        self._calls = {i: call for i, call in self._calls.items() if i not in cut}
        return [*cut.values()]

    def _finish(self, call_id: str, status: str, *, error: Error | None = None) -> None:
        call = self._calls.pop(call_id, None)
        if call is not None:
            call.attributes["tool.result_status"] = status
            self._spans.create(call, error)


def _cut_to(limit: int, text: str) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."
