"""Whole calls in which the application does anything at any time, and a check of what must hold.

A seed makes a `Plan` (`plan.py`): a user who speaks and makes noises, and an application that
acts meanwhile: it types, edits the context, sets functions, voices and instructions, interrupts,
asks, flushes, ends, and uses the service again. `hold` (`runner.py`) holds the call in a real
pipeline with the emulator, which has no faults: those are `chaos`'s. `violations` (`checks.py`)
compares what the application did with what Hydra was told and what the pipeline was given; what
holds of any call, `chaos` checks.

Calls run in virtual time, and the same seed gives the same call, event by event.
`python -m application --help`, run in `tests`, or `make random`, holds them by the hundred.
"""

# Replaces the clocks of the process, so it comes before all that keeps one of them.
import support.virtual_time  # noqa: F401

# isort: split
from application.checks import violations
from application.plan import Plan
from application.runner import hold

__all__ = ["Plan", "hold", "violations"]
