"""Turn after turn: what a session costs, and how soon a reply and an interruption get through.

The first question to any service, in both kinds of worker and at each number of sessions. The same
cells tell how much memory a session takes, and, with one session, how long a first delta stays in
the service itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Final

from benchmarks.bench import BARE, NAMES, Bench, Job, Outcome
from benchmarks.cells import EXTRAS, LEAN, Cell, Shape
from benchmarks.report import Section
from benchmarks.rows.reply_figures import Figures, Key, Measured, ratios_to
from benchmarks.rows.reply_report import goals, memory, plots, table

__all__ = ["job", "measure"]

_RATES: Final = {"openai": 24_000, "xai": 24_000, "inworld": 24_000}
"""Of the microphone: what the peer sends, so that it need not resample."""

_ONCE: Final = (*BARE, "xai", "inworld")
"""Measured in one round of a quick run: no ratio needs them."""

_START_SECS: Final = 0.05
"""How much longer the warm-up is for each session: they all start at once."""


def job(bench: Bench, key: Key, *, past_turns: int = 0) -> Job:
    """The cell of turns after turns."""
    options = bench.options
    shape = Shape(
        LEAN if key.lean else EXTRAS,
        microphone_rate=_RATES.get(key.peer, 16_000),
        past_turns=past_turns,
    )
    cell = Cell(
        key.peer,
        key.sessions,
        # One session has few replies in which to show itself.
        secs=options.secs * (2 if key.sessions == 1 else 1),
        warm_up_secs=options.warm_up_secs + _START_SECS * key.sessions,
        shapes=[shape],
        watch=key.sessions == 1,
    )
    return Job.of(cell, "turns")


async def measure(bench: Bench) -> Section:
    """Measure all peers at all numbers of sessions, until the ratios are settled."""
    keys = [
        Key(peer, lean, sessions)
        for sessions in bench.options.sessions
        for lean in (False, True)
        for peer in _peers(bench, lean=lean, sessions=sessions)
    ]
    rival = "before" if bench.options.against is not None else "openai"
    once = () if bench.options.full else [key for key in keys if key.peer in _ONCE]
    outcomes = await bench.measure(
        {key: job(bench, key) for key in keys},
        settled=lambda found: _settled(_read(found), rival),
        once=once,
    )
    measured = {key: figures for key, figures in _read(outcomes).items() if figures}
    section = Section(
        "Turns and replies",
        "Medians of the rounds; times are p50 / p99 of all rounds together, in ms. The last column "
        f"is Hydra's figure as a part of that of {NAMES[rival]}.",
        [table(bench, measured, rival, lean=lean) for lean in (False, True)],
        _as_json(measured),
        plots(bench, measured),
    )
    section.tables.append(memory(bench, measured))
    section.goals = goals(bench, measured)
    lost = {key: sum(figures.missed for figures in each) for key, each in measured.items()}
    section.notes += [
        f"{NAMES[key.peer]}, {key.worker}, {key.sessions} sessions: {count} interruptions "
        "never came, or after the next one was due"
        for key, count in lost.items()
        if count
    ]
    return section


def _peers(bench: Bench, *, lean: bool, sessions: int) -> list[str]:
    """A bare client has no worker; a quick run asks xAI and Inworld only once."""
    peers = [peer for peer in bench.peers if not (lean and peer in BARE)]
    if bench.options.full:
        return peers
    once = sessions == max(bench.options.sessions) and not lean
    return [peer for peer in peers if once or peer not in ("xai", "inworld")]


def _read(outcomes: Mapping[Key, Sequence[Outcome]]) -> dict[Key, list[Figures]]:
    return {key: [Figures.of(outcome) for outcome in each] for key, each in outcomes.items()}


def _settled(measured: Measured, rival: str) -> set[Key]:
    """All cells of a worker and a number of sessions, if Hydra's ratios to a rival are settled."""
    settled: set[Key] = set()
    for key in measured:
        ratios = ratios_to(measured, rival, lean=key.lean, sessions=key.sessions)
        if all(found is None or found.is_settled for found in ratios.values()):
            settled.add(key)
    return settled


def _as_json(measured: Measured) -> list[dict[str, object]]:
    return [
        {**key._asdict(), "rounds": [asdict(figures) for figures in each]}
        for key, each in measured.items()
    ]
