"""Draws random faults that a correct client gets through."""

import random
from collections.abc import Collection

from pipecat_hydra.emulator.faults.event_faults import (
    Binary,
    Duplicate,
    Garbage,
    Giant,
    Jitter,
    Missing,
    Reorder,
    Unknown,
)
from pipecat_hydra.emulator.faults.fault import Fault, FaultError
from pipecat_hydra.emulator.faults.kinds import (
    FAULTS,
    Drop,
    Encoding,
    Full,
    HandshakeStep,
    Hang,
    LateAudio,
    LateEnd,
    Moment,
    OddSplits,
    Rate,
    Refuse,
    SlowReader,
)
from pipecat_hydra.emulator.wire.ending import ANNOUNCED, Ending
from pipecat_hydra.wire.protocol import CLOSE_AT_CAPACITY, CLOSE_NORMAL

MAX_FAILURES_IN_A_ROW = 2
"""The most connections in a row that do not reach `session.configured`."""
DEFAULT_VIOLENCE = 0.5
"""The violence of a random plan by default."""

_MAX_ROUGH_CONNECTIONS = 8
_STATUSES = (429, 500, 502, 503, 504)
_ENDINGS: tuple[Ending, ...] = (
    "reset",
    "eof",
    CLOSE_NORMAL,
    1001,
    1011,
    1012,
    CLOSE_AT_CAPACITY,
    4000,
    *ANNOUNCED,
)
_MOMENTS: tuple[Moment, ...] = ("configured", "user_speech", "response", "tool_call")
_STEPS: tuple[HandshakeStep, ...] = ("upgrade", "created", "configured")
_RATES = (16_000, 24_000, 48_000)


def draw_faults(
    seed: int, *, violence: float = DEFAULT_VIOLENCE, kinds: Collection[str] | None = None
) -> list[Fault]:
    """Draw random faults; `FaultPlan.random` describes what is drawn.

    Args:
        seed: The same seed draws the same faults.
        violence: How many connections have faults and how often events do, from 0 to 1.
        kinds: Draw only faults of these kinds; `None` for all that a correct client gets through.

    Raises:
        FaultError: The violence or a kind is not allowed.
    """
    return _Draw(seed, violence, kinds).faults()


class _Draw:
    def __init__(self, seed: int, violence: float, kinds: Collection[str] | None) -> None:
        if not 0 <= violence <= 1:
            raise FaultError(f"random: violence cannot be {violence}")
        for kind in kinds or ():
            if kind not in FAULTS:
                raise FaultError(f"there is no fault {kind!r}; there are {', '.join(FAULTS)}")
        self._rng = random.Random(f"plan {seed}")
        self._violence = violence
        self._kinds = kinds
        self._connections = round(violence * self._rng.randint(1, _MAX_ROUGH_CONNECTIONS))

    def faults(self) -> list[Fault]:
        faults: list[Fault] = []
        failures = 0
        for number in range(1, self._connections + 1):
            if failures < MAX_FAILURES_IN_A_ROW and self._rng.random() < 0.4:
                failures += 1
                faults += self._one_of(self._failures(number))
            else:
                failures = 0
                faults += self._one_of(self._drops(number))
        nuisances = self._allowed(self._nuisances()) if self._connections else []
        return faults + [fault for fault in nuisances if self._rng.random() < 0.5]

    def _failures(self, number: int) -> list[Fault]:
        rng = self._rng
        status = rng.choice(_STATUSES)
        secs = rng.choice((None, self._secs(0.5)))
        return [
            Refuse(status, 1 if status == 429 else None, first=number, times=1),
            Full(first=number, times=1),
            Hang(rng.choice(_STEPS), secs, first=number, times=1),
            Drop(rng.choice(("reset", "eof")), "upgrade", first=number, times=1),
            Drop(rng.choice(_ENDINGS), first=number, times=1),
        ]

    def _drops(self, number: int) -> list[Fault]:
        rng = self._rng
        how, count = rng.choice(_ENDINGS), rng.randint(1, 20)
        audio = "response.output_audio.delta"
        return [
            Drop(how, rng.choice(_MOMENTS), self._secs(1.5), first=number, times=1),
            Drop(how, sent=count, of=audio, first=number, times=1),
            Drop(how, received=10 * count, first=number, times=1),
        ]

    def _nuisances(self) -> list[Fault]:
        rng = self._rng
        times = self._connections
        secs, after_secs, stall = self._secs(1.0), self._secs(3.0), self._secs(0.3)
        return [
            SlowReader(secs, after_secs, times=times),
            *([Rate(rng.choice(_RATES), times=times - 1)] if times > 1 else []),
            LateAudio(rng.randrange(50, 500), times=times),
            OddSplits(times=times),
            LateEnd(rng.randrange(20, 500), rng.random() < 0.5, times=times),
            Encoding(rng.choice(("delta", "audio")), rng.random() < 0.5, times=times),
            Duplicate(self._probability(), times=times),
            Reorder(self._probability(), times=times),
            Missing(self._probability(), times=times),
            Unknown(self._probability(), times=times),
            Garbage(self._probability(), times=times),
            Binary(self._probability(), times=times),
            Jitter(self._probability(), secs=stall, times=times),
            Giant(rng.randrange(2_000_000, 10_000_000), rng.randint(1, 50), times=times),
        ]

    def _one_of(self, faults: list[Fault]) -> list[Fault]:
        allowed = self._allowed(faults)
        return [self._rng.choice(allowed)] if allowed else []

    def _allowed(self, faults: list[Fault]) -> list[Fault]:
        return [fault for fault in faults if self._kinds is None or fault.kind in self._kinds]

    def _secs(self, most: float) -> float:
        return round(self._rng.uniform(0.02, most), 2)

    def _probability(self) -> float:
        return round(self._violence * self._rng.uniform(0.02, 0.2), 3)
