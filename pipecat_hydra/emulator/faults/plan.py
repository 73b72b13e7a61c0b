"""A fault plan: the faults of an emulator, and the seed of all their random choices."""

import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from pipecat_hydra.emulator.faults.fault import Fault, FaultError
from pipecat_hydra.emulator.faults.parsing import parse_fault
from pipecat_hydra.emulator.faults.random_faults import (
    DEFAULT_VIOLENCE,
    draw_faults,
)

# Stands for many faults, and so is no kind of its own.
_RANDOM = "random"

F = TypeVar("F", bound=Fault)


@dataclass(frozen=True, slots=True)
class ConnectionFaults:
    """The faults of one connection.

    Parameters:
        number: The connection's number, from 1.
        faults: The faults.
        rng: Makes all random choices of the connection.
    """

    number: int
    faults: tuple[Fault, ...]
    rng: random.Random

    def of(self, kind: type[F]) -> Iterator[F]:
        """Iterate over the faults of one class."""
        return (fault for fault in self.faults if isinstance(fault, kind))


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """The faults of an emulator, and the seed of their random choices.

    The same seed and the same events give the same choices. Each connection has a random
    generator of its own, which makes the choices in the order of the connection's events.

    Parameters:
        faults: The faults, any number and in any combination.
        seed: Seed of the random choices.
    """

    faults: tuple[Fault, ...] = ()
    seed: int = 0

    @classmethod
    def of(cls, faults: "FaultPlan | Sequence[Fault]") -> "FaultPlan":
        """Make a plan of a sequence of faults; return a plan as it is."""
        return faults if isinstance(faults, FaultPlan) else cls(tuple(faults))

    @classmethod
    def parse(cls, texts: Iterable[str], *, seed: int = 0) -> Self:
        """Parse a plan from the options of a command line.

        Args:
            texts: Faults in the form of `parse_fault`. `random` or `random:violence=0.8`
                stands for the faults of `FaultPlan.random` with this seed.
            seed: Seed of the random choices.

        Raises:
            FaultError: A text cannot be parsed.
        """
        faults: list[Fault] = []
        for text in texts:
            kind, _, rest = text.strip().partition(":")
            if kind == _RANDOM:
                faults += cls.random(seed, violence=_violence(rest)).faults
            else:
                faults.append(parse_fault(text, others=(_RANDOM,)))
        return cls(tuple(faults), seed)

    @classmethod
    def random(
        cls, seed: int, *, violence: float = DEFAULT_VIOLENCE, kinds: Collection[str] | None = None
    ) -> Self:
        """Compose a random plan that a correct client gets through.

        Only the first connections have faults, at most eight of them. At most
        `MAX_FAILURES_IN_A_ROW` connections in a row do not reach `session.configured`. The plan
        never rejects a key, a voice or a configuration, never removes a field that a client needs,
        and never ends a session without the client noticing. A hang may last until the client
        gives up, so the client needs a time limit for each step of the handshake.

        Args:
            seed: The same seed gives the same plan.
            violence: How many connections have faults and how often events do, from 0 (no
                faults) to 1.
            kinds: Draw only faults of these kinds; `None` for all that a correct client gets
                through.

        Raises:
            FaultError: The violence or a kind is not allowed.
        """
        return cls(tuple(draw_faults(seed, violence=violence, kinds=kinds)), seed)

    def __str__(self) -> str:
        """Write the plan as options of `pipecat-hydra emulator`."""
        return " ".join(
            [*(f"--fault {fault}" for fault in self.faults), f"--fault-seed {self.seed}"]
        )

    def connection(self, number: int) -> ConnectionFaults:
        """Return the faults of one connection.

        Args:
            number: The connection's number, from 1.
        """
        held = tuple(fault for fault in self.faults if fault.holds(number))
        return ConnectionFaults(number, held, random.Random(f"{self.seed}/{number}"))


def _violence(options: str) -> float:
    name, _, value = options.partition("=")
    try:
        if name in ("", "violence"):
            return float(value) if name else DEFAULT_VIOLENCE
    except ValueError:
        pass
    raise FaultError(f"{_RANDOM}: no option {options!r}; there is violence, from 0 to 1")
