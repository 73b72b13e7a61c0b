"""Shows each frame of a call in Whisker, Pipecat's debugger, and keeps them in a file.

Pipecat loads the files that `PIPECAT_SETUP_FILES` names before it sets a pipeline up::

    pip install pipecat-ai-whisker
    export PIPECAT_SETUP_FILES=examples/observability/debug_whisker.py
    python examples/voice_agent.py

`docs/observability.md` says how to open the page of Whisker, and the file in it. It is for one call
at a time, because a second one would need another port.
"""

import os
from typing import Any

from pipecat.pipeline.worker import PipelineWorker
from pipecat.workers.runner import WorkerRunner
from pipecat_whisker import WhiskerFile, WhiskerServer  # pyright: ignore[reportMissingImports]

# Prometheus listens on 9090, too.
PORT = int(os.getenv("WHISKER_PORT", "9090"))
FILE = os.getenv("WHISKER_FILE", "session.whisk")

sinks: list[Any] = []


async def setup_worker_runner(runner: WorkerRunner):
    """Run Whisker beside the bot, anew for each call."""
    sinks[:] = [WhiskerServer(port=PORT), WhiskerFile(FILE)]
    await runner.add_workers(*sinks)


async def setup_pipeline_worker(worker: PipelineWorker):
    """Show the frames of one pipeline."""
    for sink in sinks:
        worker.add_observer(sink.create_observer(worker))

    @worker.event_handler("on_pipeline_finished")
    async def on_pipeline_finished(worker: PipelineWorker, frame: Any):
        # The runner waits for all its workers, so the call would not end.
        for sink in sinks:
            await sink.stop()
