"""The OpenTelemetry instruments: names, units and buckets of the metrics.

Buckets are an advice to the SDK, which a view of the application overrides. They are dense where a
person tells the values apart: around half a second for an answer, around a tenth for silence after
a barge-in.
"""

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter, Histogram, Meter, UpDownCounter

__all__ = ["Instruments", "instruments_of_application"]

_SCOPE: Final = "pipecat_hydra"

_API: Final = "opentelemetry.metrics"

# In seconds.
_CALLS: Final = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
_ANSWERS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
_SILENCES: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)
_FUNCTIONS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# Those that the conventions for generative AI ask for.
_TOKENS: Final = tuple(4**power for power in range(14))


class Instruments:
    """The instruments of one meter; OpenTelemetry gives the same ones to each call."""

    def __init__(self, meter: "Meter"):
        """Make the instruments.

        Args:
            meter: Makes them.
        """
        self.session_duration: Histogram = meter.create_histogram(
            "hydra.session.duration",
            unit="s",
            description="How long a session with Hydra was open, which is what Hydra bills.",
            explicit_bucket_boundaries_advisory=_CALLS,
        )
        self.active_sessions: UpDownCounter = meter.create_up_down_counter(
            "hydra.session.active", unit="{session}", description="Sessions that are open."
        )
        self.first_audio: Histogram = meter.create_histogram(
            "hydra.response.first_audio",
            unit="s",
            description="From asking for a response to its first audio.",
            explicit_bucket_boundaries_advisory=_ANSWERS,
        )
        self.turn_latency: Histogram = meter.create_histogram(
            "hydra.turn.latency",
            unit="s",
            description="From the end of the user's speech until the bot is heard.",
            explicit_bucket_boundaries_advisory=_ANSWERS,
        )
        self.barge_in_silence: Histogram = meter.create_histogram(
            "hydra.barge_in.silence",
            unit="s",
            description="From Hydra's word that the user speaks over the bot to its silence.",
            explicit_bucket_boundaries_advisory=_SILENCES,
        )
        self.tool_duration: Histogram = meter.create_histogram(
            "hydra.tool.duration",
            unit="s",
            description="From the call of a function to its result, failure or cancellation.",
            explicit_bucket_boundaries_advisory=_FUNCTIONS,
        )
        self.reconnects: Counter = meter.create_counter(
            "hydra.reconnects",
            unit="{session}",
            description="Sessions that were had again, after one was lost or refused.",
        )
        self.given_up: Counter = meter.create_counter(
            "hydra.given_up",
            unit="{call}",
            description="Times that there was no session, and no further attempt.",
        )
        self.capacity_waits: Counter = meter.create_counter(
            "hydra.capacity.waits",
            unit="{wait}",
            description="Waits for a place, or for another attempt, because Hydra is full.",
        )
        self.discarded_turns: Counter = meter.create_counter(
            "hydra.discarded_turns",
            unit="{turn}",
            description="Turns of the user that were noise.",
        )
        self.network_io: Counter = meter.create_counter(
            "hydra.network.io",
            unit="By",
            description="Bytes of the messages sent to Hydra and received from it.",
        )
        self.tokens: Histogram = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )


def instruments_of_application() -> Instruments | None:
    """Make the instruments, if the application has set a `MeterProvider`."""
    # An application that has set one has imported it.
    metrics = sys.modules.get(_API)
    if metrics is None:
        return None
    provider = metrics.get_meter_provider()
    # Those of the API itself measure nothing.
    if type(provider).__module__.startswith(_API):
        return None
    return Instruments(provider.get_meter(_SCOPE))
