"""Traces a service: passes what happens in it on to the spans of each kind."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pipecat_hydra.conversation.effects import (
    Connected,
    Disconnected,
    GivenUp,
    Lost,
    PipelineEffect,
    Rested,
    Retrying,
    ToolCalls,
)
from pipecat_hydra.service.harmless import harmless
from pipecat_hydra.service.outcomes import Settling
from pipecat_hydra.service.tracing.responses import ResponseSpans
from pipecat_hydra.service.tracing.setups import SetupSpans
from pipecat_hydra.service.tracing.spans import Error, Span, Spans
from pipecat_hydra.service.tracing.tool_calls import ToolCallSpans
from pipecat_hydra.wire.events import SessionConfiguration

if TYPE_CHECKING:
    from pipecat.utils.tracing.tracing_context import TracingContext

_ENDED: Final = "the pipeline has ended"


class Tracing:
    """Makes the spans of one service. After `begin`, `close` must be called.

    Spans that were open when a session ended are kept until the next effect tells whether the
    session was lost, which is an error, or was closed on purpose.
    """

    def __init__(self, *, now: Callable[[], int] = time.time_ns) -> None:
        """Create a tracing that does nothing until `begin`.

        Args:
            now: Returns the time in nanoseconds since the epoch.
        """
        self.enabled: bool = False
        """Whether spans are made."""
        self._spans = Spans(now)
        self._setups = SetupSpans(self._spans)
        self._responses = ResponseSpans(self._spans)
        self._calls = ToolCallSpans(self._spans)
        self._cut: list[Span] = []

    def begin(self, context: "TracingContext | None") -> None:
        """Trace from now on, if OpenTelemetry is installed.

        Args:
            context: Pipecat's conversation and turns; None if Pipecat does not track them.
        """
        self._spans.begin(context)
        self.enabled = self._spans.enabled

    @harmless
    def close(self) -> None:
        """End all spans, and trace nothing any more. Idempotent."""
        self._cut_short(_ENDED, held_too=True)
        self._finish_cut()
        self._setups.finish(reason=_ENDED)
        self._spans.close()
        self.enabled = False

    #
    # What the service does
    #

    @harmless
    def connecting(self, model: str) -> None:
        """Record an attempt to connect.

        Args:
            model: The model asked for.
        """
        self._setups.connecting(model)

    @harmless
    def configuring(self, configuration: SessionConfiguration, instruction: str | None) -> None:
        """Record that a session is sent its configuration.

        Args:
            configuration: The configuration.
            instruction: The application's part of the instructions.
        """
        self._setups.configuring(configuration, instruction)

    @harmless
    def refuse(self, call_id: str, kind: str, reason: str) -> None:
        """Record that a function is not called, and why."""
        self._calls.refuse(call_id, kind, reason)

    @harmless
    def hold(self, call_id: str) -> None:
        """Record that a call is answered for now, while its function still works."""
        self._calls.hold(call_id)

    @harmless
    def settle(self, frame: Settling) -> None:
        """Record that a function returned a result, failed, timed out or was cancelled."""
        self._calls.settle(frame)

    #
    # What the pipeline is told
    #

    @harmless
    def see(self, effect: PipelineEffect) -> None:
        """Record an effect; all effects must be passed, in their order."""
        match effect:
            case Disconnected(reason):
                self._cut_short(reason)
            case Lost(kind, message) | GivenUp(kind, message):
                self._finish_cut((kind.value, message))
            case Connected() | Retrying() | Rested():
                self._finish_cut()
            case ToolCalls(response_id, calls):
                for call in calls:
                    self._calls.begin(response_id, call)
            case _:
                pass
        self._setups.see(effect)
        self._responses.see(effect)

    def _cut_short(self, reason: str, *, held_too: bool = False) -> None:
        """End the spans that are open, because their session has ended."""
        cut = self._responses.cut() + self._calls.cut(held_too=held_too)
        for span in cut:
            span.attributes["hydra.ended_by"] = reason
            span.ended = span.ended or self._spans.now()
        self._cut += cut

    def _finish_cut(self, error: Error | None = None) -> None:
        """Create the spans that ended with their session, once it is known whether by an error."""
        cut, self._cut = self._cut, []
        for span in cut:
            self._spans.create(span, error)
