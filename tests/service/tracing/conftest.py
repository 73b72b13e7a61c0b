"""Fixtures of the tests of tracing."""

from collections.abc import Generator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from support.spans import Relay, Spans, Story, begin


@pytest.fixture(scope="session")
def relay() -> Relay:
    relay, provider = Relay(), TracerProvider()
    provider.add_span_processor(relay)
    trace.set_tracer_provider(provider)
    return relay


@pytest.fixture
def spans(relay: Relay) -> Spans:
    relay.spans = Spans()
    return relay.spans


@pytest.fixture
def story(spans: Spans) -> Generator[Story]:
    story = Story()
    story.context.set_conversation_context(begin("conversation"), "call-1")
    yield story
    story.tracing.close()
    assert spans.begun == len(spans.ended)
