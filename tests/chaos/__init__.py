"""Whole calls that go wrong at random, and a check of everything that must hold all the same.

A seed makes a `CallPlan` (`plan.py`): what the user does, how the model behaves, which faults
the server has. `hold` (`runner.py`) holds that call at real time, in a real pipeline over a real
socket, and keeps the `Evidence` of both sides. `violations` (`checks.py`) holds the evidence
against the invariants of the design, from outside: the emulator's record on one side, what the
pipeline was given and the listener heard on the other.

`python -m chaos --help`, run in `tests`, or `make chaos`, holds calls until it is told to stop.
"""

from chaos.checks import Violation, violations
from chaos.plan import CallPlan
from chaos.runner import Evidence, hold

__all__ = ["CallPlan", "Evidence", "Violation", "hold", "violations"]
