"""Fixtures of the tests of metrics."""

from collections.abc import Generator

import pytest
from opentelemetry import metrics
from support.measured import Measured


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Generator[Measured]:
    """The application has set a `MeterProvider`; a process can set one only once."""
    measured = Measured()
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: measured.provider)
    yield measured
    measured.provider.shutdown()
