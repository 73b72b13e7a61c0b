"""Exports the metrics of any Pipecat bot to Prometheus, with nothing changed in the bot.

Pipecat loads the files that `PIPECAT_SETUP_FILES` names before it sets a pipeline up::

    pip install opentelemetry-sdk opentelemetry-exporter-prometheus
    export PIPECAT_SETUP_FILES=examples/observability/export_metrics.py
    python examples/voice_agent.py
    prometheus --config.file=examples/observability/prometheus.yml

The metrics are at http://localhost:9464/metrics. `docs/observability.md` says what they mean.
"""

import os

from opentelemetry.exporter.prometheus import (  # pyright: ignore[reportMissingImports]
    PrometheusMetricReader,
)
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from pipecat.pipeline.worker import PipelineWorker
from pipecat.workers.runner import WorkerRunner
from prometheus_client import start_http_server  # pyright: ignore[reportMissingImports]

# The variables of OpenTelemetry's specification. A Prometheus on another machine needs 0.0.0.0.
HOST = os.getenv("OTEL_EXPORTER_PROMETHEUS_HOST", "localhost")
PORT = int(os.getenv("OTEL_EXPORTER_PROMETHEUS_PORT", "9464"))

# Once for each process: Pipecat loads the file once.
set_meter_provider(MeterProvider(metric_readers=[PrometheusMetricReader()]))
start_http_server(PORT, HOST)


async def setup_worker_runner(runner: WorkerRunner):
    """Leave the runner as it is; Pipecat warns about a file without this function."""


async def setup_pipeline_worker(worker: PipelineWorker):
    """Leave the worker as it is; Pipecat warns about a file without this function."""
