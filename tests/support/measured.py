"""What was measured by OpenTelemetry metrics in a test."""

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric

Point = tuple[dict[str, Any], Any]
"""The attributes of a series, without those that all have, and its data."""

COMMON = {"gen_ai.provider.name": "smallest", "gen_ai.request.model": "hydra-v1.1"}


class Measured:
    """The metrics of one test."""

    def __init__(self):
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider(metric_readers=[self.reader], shutdown_on_exit=False)

    @property
    def metrics(self) -> list[Metric]:
        data = self.reader.get_metrics_data()
        resources = data.resource_metrics if data is not None else []
        scopes = [scope for resource in resources for scope in resource.scope_metrics]
        assert {scope.scope.name for scope in scopes} <= {"pipecat_hydra"}
        return [metric for scope in scopes for metric in scope.metrics]

    def points(self, name: str) -> list[Point]:
        """The series of a metric; all have the common attributes."""
        found = [metric for metric in self.metrics if metric.name == name]
        points: list[Point] = []
        for metric in found:
            for point in metric.data.data_points:
                attributes = dict(point.attributes or {})
                assert attributes.items() >= COMMON.items()
                rest = {key: value for key, value in attributes.items() if key not in COMMON}
                points.append((rest, point))
        return points

    def counts(self, name: str) -> dict[str, float]:
        """The values of a counter that are not 0, each by what its attributes say."""
        values = {_label(about): point.value for about, point in self.points(name)}
        return {label: value for label, value in values.items() if value}

    def sums(self, name: str) -> dict[str, tuple[int, float]]:
        """How often a histogram was recorded to, and the sum, by what its attributes say."""
        return {_label(about): (point.count, point.sum) for about, point in self.points(name)}


def _label(about: dict[str, Any]) -> str:
    return " ".join(str(about[key]) for key in sorted(about))
