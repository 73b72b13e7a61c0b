"""Shows a call in Tail, Pipecat's dashboard for terminals, with nothing changed in the bot.

Pipecat loads the files that `PIPECAT_SETUP_FILES` names before it sets a pipeline up::

    pip install pipecat-ai-tail
    export PIPECAT_SETUP_FILES=examples/observability/debug_tail.py
    python examples/voice_agent.py

`docs/observability.md` says how to open the dashboard in another terminal.
"""

from pipecat.pipeline.worker import PipelineWorker
from pipecat.workers.runner import WorkerRunner
from pipecat_tail.observer import TailObserver  # pyright: ignore[reportMissingImports]


async def setup_worker_runner(runner: WorkerRunner):
    """Leave the runner as it is; Pipecat warns about a file without this function."""


async def setup_pipeline_worker(worker: PipelineWorker):
    """Show one call. Tail shows one at a time, since all would have the same port."""
    worker.add_observer(TailObserver())
