"""The files of `examples/observability/`: the dashboard asks for metrics that there are."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from opentelemetry.metrics import NoOpMeter
from support.bots import EXAMPLES

from pipecat_hydra.service.meters.instruments import Instruments

FOLDER = EXAMPLES / "observability"
DOCUMENT = EXAMPLES.parent / "docs" / "observability.md"

_UNITS: Final = {"s": "_seconds", "By": "_bytes"}


class Names(NoOpMeter):
    """Keeps what instruments are made, and their names as the Prometheus exporter writes them."""

    def __init__(self):
        super().__init__("names")
        self.made: set[str] = set()
        self.series: set[str] = set()

    def _make(self, name: str, unit: str, *ends: str) -> None:
        self.made.add(name)
        whole = name.replace(".", "_") + _UNITS.get(unit, "")
        self.series |= {whole + end for end in ends}

    def create_counter(self, name: str, unit: str = "", description: str = "") -> Any:
        self._make(name, unit, "_total")

    def create_up_down_counter(self, name: str, unit: str = "", description: str = "") -> Any:
        self._make(name, unit, "")

    def create_histogram(
        self, name: str, unit: str = "", description: str = "", **advice: Any
    ) -> Any:
        assert advice["explicit_bucket_boundaries_advisory"]
        self._make(name, unit, "_bucket", "_count", "_sum")


@pytest.fixture
def names() -> Names:
    names = Names()
    Instruments(names)
    return names


def dashboard() -> dict[str, Any]:
    return json.loads((FOLDER / "grafana-dashboard.json").read_text(encoding="utf-8"))


def queries() -> list[str]:
    targets = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    variables = [
        one["definition"] for one in dashboard()["templating"]["list"] if "model" in one["name"]
    ]
    return targets + variables


def asked() -> set[str]:
    """The names of the series that the dashboard asks for."""
    return {
        name for query in queries() for name in re.findall(r"\b(?:hydra|gen_ai_client)_\w+", query)
    }


def test_the_dashboard_asks_only_for_metrics_that_are_exported(names: Names):
    assert asked() <= names.series


def test_the_dashboard_shows_each_metric(names: Names):
    shown = {re.sub(r"_(?:bucket|count|sum)$", "", name) for name in asked()}
    exported = {re.sub(r"_(?:bucket|count|sum)$", "", name) for name in names.series}
    assert shown == exported


def test_each_query_is_for_the_models_that_are_chosen():
    chosen = 'gen_ai_request_model=~"$model"'
    assert all(chosen in query for query in queries() if not query.startswith("label_values"))


def test_the_panels_of_the_dashboard_lie_side_by_side():
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(ids) == len(set(ids))
    for panel in dashboard()["panels"]:
        x, y, w, h = (panel["gridPos"][side] for side in "xywh")
        cells = {(column, row) for column in range(x, x + w) for row in range(y, y + h)}
        assert x + w <= 24
        assert not taken & cells
        taken |= cells


def test_prometheus_reads_where_the_metrics_are_exported():
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    ((target,),) = [one["targets"] for one in job["static_configs"]]
    exporting = (FOLDER / "export_metrics.py").read_text()
    port = re.search(r'"OTEL_EXPORTER_PROMETHEUS_PORT", "(\d+)"', exporting)
    assert port is not None
    assert target == f"localhost:{port[1]}"


def test_the_document_describes_each_metric_and_no_other(names: Names):
    rows = re.findall(
        r"^\| `((?:hydra|gen_ai\.client)\.[\w.]+)` \|", DOCUMENT.read_text("utf-8"), re.M
    )
    assert sorted(rows) == sorted(names.made)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*")), ids=lambda path: path.name)
def test_the_document_names_each_file(path: Path):
    assert f"examples/observability/{path.name}" in DOCUMENT.read_text("utf-8")
