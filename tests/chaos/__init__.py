"""Whole calls that go wrong at random, and a check of everything that must hold all the same.

A seed makes a `CallPlan` (`plan.py`): what the user does, how the model behaves, which faults
the server has. `hold` (`runner.py`) holds that call in a real pipeline over a real socket, and
keeps the `Evidence` of both sides. `violations` (`checks/`) checks the evidence against the
invariants of the design, from outside: the emulator's record on one side, what the pipeline was
given and the listener heard on the other.

Calls run in virtual time (`clock.py`). So a call takes as long as its computing does, the load
of the machine changes nothing in it, and the same seed gives the same call, event by event:
what is random in it is drawn from the seed, the delays between attempts to reconnect included.

`python -m chaos --help`, run in `tests`, or `make chaos`, holds calls by the hundred in several
processes (`campaign.py`). `python -m chaos.soak` holds very many and very long ones.
"""

# Replaces the clocks of the process, so it comes before all that keeps one of them.
import support.virtual_time  # noqa: F401

# isort: split
from chaos.checks import Violation, violations
from chaos.plan import CallPlan
from chaos.runner import Evidence, hold

__all__ = ["CallPlan", "Evidence", "Violation", "hold", "violations"]
