"""How long sessions were open, as Pipecat metrics: Hydra bills a session by the minute."""

from typing import Any

from pipecat.frames.frames import MetricsFrame
from pipecat.metrics.metrics import MetricsData
from pipecat.services.llm_service import LLMService

__all__ = ["HydraSessionMetricsData", "push_session_metrics"]


class HydraSessionMetricsData(MetricsData):
    """How long a session with Hydra was open, for the accounting of its cost.

    It comes in a `MetricsFrame` at the end of each session: when it is closed, lost, replaced by
    another or laid to rest. The sum over a call is what the call has taken. A service gives it if
    the pipeline has `enable_usage_metrics`.

    Parameters:
        value: How long the session was open, in seconds.
    """

    value: float


async def push_session_metrics(service: LLMService[Any], model: str, secs: float) -> None:
    """Push how long a session was open that has ended, if the pipeline wants usage metrics.

    Args:
        service: The service that had the session.
        model: The model that was asked for.
        secs: How long the session was open, in seconds.
    """
    if service.can_generate_metrics() and service.usage_metrics_enabled:
        data = HydraSessionMetricsData(processor=service.name, model=model, value=secs)
        await service.push_frame(MetricsFrame(data=[data]))
