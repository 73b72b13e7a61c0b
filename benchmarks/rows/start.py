"""How soon a session is ready, and how soon the model is heard, on networks that take their time.

The difference between two networks, by that between their round trips, is how many round trips a
service takes. Connecting takes two of them: TCP and the upgrade; TLS would add one or two.
"""

import statistics
from dataclasses import replace

from benchmarks.bench import NAMES, Bench, Job, Outcome
from benchmarks.cells import LEAN, Cell, Shape
from benchmarks.report import Section, Table

__all__ = ["measure"]

_ONE_WAY_SECS = [0.0, 0.025, 0.05]
_EACH = 5
_STAGGER_SECS = 0.1
_SECS = 2.0


async def measure(bench: Bench) -> Section:
    """Measure starts: asked by the application, and by the user's speaking first."""
    peers = bench.services()
    jobs: dict[tuple[str, str], Job] = {}
    for peer in peers:
        shape = Shape(LEAN)
        cell = Cell(
            peer,
            _EACH * len(_ONE_WAY_SECS),
            _SECS,
            warm_up_secs=0.0,
            shapes=[shape],
            stagger_secs=_STAGGER_SECS,
            forget=False,
        )
        bare = replace(cell, shapes=[replace(shape, bare=True, run=False, speaks=True)])
        jobs[peer, "asked"] = Job.of(cell, "start", one_way_secs=_ONE_WAY_SECS)
        jobs[peer, "user"] = Job.of(bare, "user first", one_way_secs=_ONE_WAY_SECS)
    outcomes = await bench.measure(jobs, rounds=1)
    table = Table(["ms, with one way of", *(NAMES[peer] for peer in peers)])
    figures: dict[str, dict[str, list[float | None]]] = {}
    for title, how, reader in (
        ("bare pipeline, user first: start → configured", "user", _configured),
        ("`LLMRunFrame` at the start: start → configured", "asked", _configured),
        ("`LLMRunFrame` at the start: start → first audio", "asked", _heard),
    ):
        found = {peer: _by_network(outcomes[peer, how], reader) for peer in peers}
        figures[title] = found
        for number, secs in enumerate(_ONE_WAY_SECS):
            row = [_number(found[peer][number]) for peer in peers]
            table.rows.append([f"{title}, {1000 * secs:.0f} ms", *row])
        trips = [_round_trips(found[peer]) for peer in peers]
        table.rows.append(["round trips", *(_number(trip, digits=1) for trip in trips)])
    text = (
        f"Medians of {_EACH} sessions each. A session is configured when the server's word for it "
        "arrives."
    )
    return Section("Start", text, [table], figures)


def _configured(outcome: Outcome, session: int) -> float | None:
    configured = outcome.noted[session].configured if session in outcome.noted else 0.0
    return configured - outcome.held.started[session] if configured else None


def _heard(outcome: Outcome, session: int) -> float | None:
    heard = outcome.held.first_deltas[session]
    return heard[0][1] - outcome.held.started[session] if heard else None


def _by_network(outcomes, reader) -> list[float | None]:
    """The median for each network, in ms."""
    medians: list[float | None] = []
    for number in range(len(_ONE_WAY_SECS)):
        sessions = range(number, _EACH * len(_ONE_WAY_SECS), len(_ONE_WAY_SECS))
        secs = [reader(outcome, session) for outcome in outcomes for session in sessions]
        known = [1000 * each for each in secs if each is not None]
        medians.append(statistics.median(known) if known else None)
    return medians


def _round_trips(medians: list[float | None]) -> float | None:
    near, far = medians[0], medians[-1]
    if near is None or far is None:
        return None
    return (far - near) / (2000 * _ONE_WAY_SECS[-1])


def _number(value: float | None, *, digits: int = 0) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
