"""Creates OpenTelemetry spans from records of what has ended, under their turn or conversation."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer
    from pipecat.utils.tracing.tracing_context import TracingContext

# The same as Pipecat's services for the vendor's other models.
_PROVIDER: Final = "smallest"
_SCOPE: Final = "pipecat_hydra"

Attributes = dict[str, str | bool | int | float]
"""Attributes of a span, by name."""
Error = tuple[str, str]
"""The error that a span ended with: its type and a description."""


@dataclass(slots=True)
class Span:
    """A record of a span. Times are in nanoseconds since the epoch.

    Parameters:
        name: Name of the span.
        operation: `gen_ai.operation.name`.
        began: When the span began.
        parent: The turn or conversation above it; None if there was none yet.
        attributes: Its attributes.
        events: Its events: name, time and attributes.
        ended: When the span ended; None while it is open.
        local: Whether it is work of this process, rather than a request to Hydra.
    """

    name: str
    operation: str
    began: int
    parent: "Context | None"
    attributes: Attributes
    events: list[tuple[str, int, Attributes]] = field(default_factory=list)
    ended: int | None = None
    local: bool = False

    def described(self) -> Attributes:
        """Return all attributes, once the span has ended."""
        return self.attributes


class Spans:
    """Knows the parent of new spans, and creates those that have ended.

    A session is dialled while the pipeline is set up, so a span may end before Pipecat has begun
    the conversation. Such spans wait until there is one.

    Args:
        now: Returns the time in nanoseconds since the epoch.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self.now = now
        """Returns the time in nanoseconds since the epoch."""
        self.session: Attributes = {}
        """Attributes that all spans of the current session have."""
        self.enabled: bool = False
        """Whether spans are created."""
        self._tracer: Tracer | None = None
        self._context: TracingContext | None = None
        # Kept here, because the last spans may end after the conversation.
        self._conversation: Context | None = None
        self._conversation_id: str | None = None
        self._waiting: list[tuple[Span, Error | None]] = []

    def begin(self, context: "TracingContext | None") -> None:
        """Create spans from now on, if OpenTelemetry is installed.

        Args:
            context: Pipecat's conversation and turns; None if Pipecat does not track them.
        """
        try:
            from opentelemetry import trace
        except ImportError:
            return
        self._tracer = trace.get_tracer(_SCOPE)
        self.enabled = True
        self._context = context

    def close(self) -> None:
        """Create the spans that wait for the conversation; create none from now on."""
        self._create_waiting()
        self._tracer = None
        self.enabled = False

    def parent(self) -> "Context | None":
        """Return the current turn, else the conversation; None if neither has begun."""
        context = self._context
        if context is None:
            return None
        conversation = context.get_conversation_context()
        if conversation is not None:
            self._conversation = conversation
            self._conversation_id = context.conversation_id
        return context.get_turn_context() or self._conversation

    def create(self, span: Span, error: Error | None = None) -> None:
        """Create a span that has ended; it ends now if it has no end yet."""
        span.ended = span.ended or self.now()
        self._waiting.append((span, error))
        if self._context is None or self.parent() is not None:
            self._create_waiting()

    def _create_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for span, error in waiting:
            self._create_now(span, error)

    def _create_now(self, span: Span, error: Error | None) -> None:
        if self._tracer is None:
            return
        from opentelemetry.trace import SpanKind, Status, StatusCode

        parent = span.parent or self.parent()
        attributes: Attributes = {
            "gen_ai.provider.name": _PROVIDER,
            "gen_ai.operation.name": span.operation,
            "service.operation": span.name,
            **span.described(),
        }
        if self._conversation_id is not None:
            attributes["gen_ai.conversation.id"] = self._conversation_id
        if error is not None:
            attributes["error.type"] = error[0]
        created = self._tracer.start_span(
            span.name,
            context=parent,
            kind=SpanKind.INTERNAL if span.local else SpanKind.CLIENT,
            attributes=attributes,
            start_time=span.began,
        )
        for name, at, about in span.events:
            created.add_event(name, about, at)
        if error is not None:
            created.set_status(Status(StatusCode.ERROR, error[1]))
        created.end(max(span.began, span.ended or 0))
