"""How long the beginning of a sound takes from the microphone to the server.

Two sessions for each rate of the microphone, in one process. The delay is that of the pipeline, of
resampling to the rate of the service, and of gathering frames into one message.
"""

from benchmarks.bench import NAMES, Bench, Job, Outcome
from benchmarks.cells import LEAN, Cell, Shape
from benchmarks.figures import ms
from benchmarks.report import Section, Table

__all__ = ["measure"]

_RATES = (8_000, 16_000, 24_000, 48_000)
_LATEST_SECS = 0.19
"""The next click comes after 0.2 s."""


async def measure(bench: Bench) -> Section:
    """Measure the delay of clicks."""
    peers = bench.services()
    options = bench.options
    shapes = [Shape(LEAN, microphone_rate=rate, clicks=True) for rate in _RATES]
    secs = 2 * options.secs
    cell = {"shapes": shapes, "warm_up_secs": options.warm_up_secs + 0.5}
    jobs = {peer: Job.of(Cell(peer, 2 * len(_RATES), secs, **cell), "listen") for peer in peers}
    outcomes = await bench.measure(jobs, rounds=1)
    figures = {
        peer: {rate: _delays(each[0], number) for number, rate in enumerate(_RATES)}
        for peer, each in outcomes.items()
        if each
    }
    table = Table(["microphone at", *(NAMES[peer] for peer in figures)])
    for rate in _RATES:
        row = [ms(delays[rate]) for delays in figures.values()]
        table.rows.append([f"{rate // 1000} kHz", *row])
    text = (
        "From a frame of 20 ms with a click to the append with its beginning, p50 / p99 in ms. "
        "Hydra takes 16 kHz, OpenAI 24 kHz, xAI and Inworld what the pipeline has."
    )
    return Section("Microphone → append", text, [table], figures)


def _delays(outcome: Outcome, number: int) -> list[float]:
    """The delays of the clicks of all sessions with one rate."""
    delays: list[float] = []
    for session in range(number, len(outcome.held.clicks), len(_RATES)):
        heard = outcome.noted[session].clicks
        for clicked in outcome.held.clicks[session]:
            came = next((at for at in heard if clicked < at < clicked + _LATEST_SECS), None)
            if clicked > outcome.held.began and came is not None:
                delays.append(1000 * (came - clicked))
    return delays
