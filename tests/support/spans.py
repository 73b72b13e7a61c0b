"""Spans that a test made, and calls told by their effects."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from pipecat.frames.frames import FunctionCallResultFrame, FunctionCallResultProperties
from pipecat.utils.tracing.tracing_context import TracingContext

from pipecat_hydra.conversation.effects import (
    Disconnected,
    FailureKind,
    Lost,
    PipelineEffect,
    ResponseFinished,
    ToolCall,
    ToolCalls,
)
from pipecat_hydra.service.tracing import Tracing

BEGUN = 1_800_000_000


class Spans(SpanProcessor):
    """The spans of one test: how many were begun, and those that have ended."""

    def __init__(self):
        self.begun = 0
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.begun += 1

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)

    def of(self, name: str) -> list[ReadableSpan]:
        found = [span for span in self.ended if span.name == name]
        return sorted(found, key=lambda span: span.start_time or 0)

    def parent(self, span: ReadableSpan) -> ReadableSpan | None:
        by_id = {s.context.span_id: s for s in self.ended if s.context}
        return by_id[span.parent.span_id] if span.parent else None

    def tree(self) -> str:
        """All spans, each under its parent, in the order that they began."""
        (root,) = [span for span in self.ended if not span.parent]
        return "\n".join(self._branch(root, root.start_time or 0, 0))

    def _branch(self, span: ReadableSpan, zero: int, depth: int) -> Iterator[str]:
        begun, ended = (((at or 0) - zero) / 1e9 for at in (span.start_time, span.end_time))
        status = "" if span.status.is_unset else f"  {span.status.status_code.name}"
        yield f"{'  ' * depth}{span.name}  {begun:.2f} to {ended:.2f} s{status}"
        for name, value in sorted((span.attributes or {}).items()):
            yield f"{'  ' * depth}  | {name} = {value!r}"
        for event in span.events:
            yield f"{'  ' * depth}  @ {(event.timestamp - zero) / 1e9:.2f} s {event.name}"
        for child in sorted(self.ended, key=lambda s: s.start_time or 0):
            if child.parent and span.context and child.parent.span_id == span.context.span_id:
                yield from self._branch(child, zero, depth + 1)


class Relay(SpanProcessor):
    """Tells the test that runs; a process can have its provider set only once."""

    spans = Spans()

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.spans.on_start(span)

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.on_end(span)


def about(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def lasted(span: ReadableSpan) -> tuple[float, float]:
    """When it began and ended, in seconds."""
    return (span.start_time or 0) / 1e9, (span.end_time or 0) / 1e9


class Story:
    """A call told by its effects, at times in seconds."""

    def __init__(self):
        self.secs = 0.0
        self.context = TracingContext()
        self.tracing = Tracing(now=lambda: round((BEGUN + self.secs) * 1e9))
        self.tracing.begin(self.context)

    def at(self, secs: float, *effects: PipelineEffect) -> None:
        self.secs = secs
        for effect in effects:
            self.tracing.see(effect)

    def turn(self, name: str | None) -> None:
        """A turn begins, or none is there any more."""
        self.context.set_turn_context(begin(name) if name else None)


def begin(name: str) -> trace.SpanContext:
    span = trace.get_tracer("test").start_span(name)
    span.end()
    return span.get_span_context()


def times(span: ReadableSpan) -> tuple[float, float]:
    begun, ended = lasted(span)
    return pytest.approx(begun - BEGUN), pytest.approx(ended - BEGUN)  # type: ignore


def parent_name(spans: Spans, span: ReadableSpan) -> str | None:
    parent = spans.parent(span)
    return parent.name if parent else None


def finished(response: str | None = "resp_1", status: str = "completed", **given: Any):
    return ResponseFinished(response, status, given.get("usage"), given.get("took"))


def result(result: Any, *, final: bool = True, error: str | None = None):
    properties = FunctionCallResultProperties(is_final=final)
    return FunctionCallResultFrame(
        "weather", "call_1", {}, result, properties=properties, error=error
    )


CALLS = ToolCalls("resp_1", (ToolCall("call_1", "weather", "{}"),))
LOST = (
    Disconnected("reset"),
    Lost(FailureKind.CONNECTIVITY, "the connection broke", configured=True),
)
