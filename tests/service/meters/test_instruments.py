"""For whom instruments are made, and their units and buckets."""

import sys

import pytest
from opentelemetry import metrics
from opentelemetry.metrics import NoOpMeterProvider
from support.measured import Measured

from pipecat_hydra.service.meters.instruments import Instruments, instruments_of_application


def test_there_are_none_unless_the_application_has_set_a_provider(monkeypatch: pytest.MonkeyPatch):
    # What is there as long as nobody has set one.
    assert instruments_of_application() is None
    monkeypatch.setattr(metrics, "get_meter_provider", NoOpMeterProvider)
    assert instruments_of_application() is None


def test_nothing_is_imported_for_an_application_without_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "opentelemetry.metrics")
    assert instruments_of_application() is None
    assert "opentelemetry.metrics" not in sys.modules


def test_each_run_of_a_pipeline_has_the_same_instruments(measured: Measured):
    for _ in range(2):
        made = instruments_of_application()
        assert made is not None
        made.discarded_turns.add(1)
    (metric,) = measured.metrics
    assert [point.value for point in metric.data.data_points] == [2]  # type: ignore


def test_the_buckets_of_the_application_win_over_the_advice():
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View

    reader = InMemoryMetricReader()
    views = [
        View(
            instrument_name="hydra.turn.latency",
            aggregation=ExplicitBucketHistogramAggregation((1.0, 2.0)),
        )
    ]
    provider = MeterProvider([reader], views=views, shutdown_on_exit=False)
    made = Instruments(provider.get_meter("pipecat_hydra"))
    made.turn_latency.record(0.5)
    made.first_audio.record(0.5)
    data = reader.get_metrics_data()
    assert data is not None
    bounds = {
        metric.name: list(metric.data.data_points[0].explicit_bounds)  # type: ignore
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
    }
    assert bounds["hydra.turn.latency"] == [1.0, 2.0]
    assert bounds["hydra.response.first_audio"][0] == 0.1
    provider.shutdown()
