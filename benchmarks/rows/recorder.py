"""What it costs to record a call: the same turns with and without a recorder, side by side."""

import statistics

from benchmarks.bench import Bench, Job
from benchmarks.cells import EXTRAS, LEAN, Cell, Shape
from benchmarks.figures import percentile, ratio
from benchmarks.report import Section, Table
from benchmarks.rows.reply_figures import Figures

__all__ = ["measure"]


async def measure(bench: Bench) -> Section:
    """Measure the largest number of sessions up to ten in both workers, each way in turns."""
    sessions = min(10, max(bench.options.sessions))
    jobs = {
        (lean, recorded): Job.of(
            Cell(
                "hydra",
                sessions,
                secs=bench.options.secs,
                warm_up_secs=bench.options.warm_up_secs + 0.05 * sessions,
                shapes=[Shape(LEAN if lean else EXTRAS, noise=True)],
                recorded=recorded,
            ),
            "turns",
        )
        for lean in (False, True)
        for recorded in (False, True)
    }
    outcomes = await bench.measure(jobs)
    figures = {key: [Figures.of(outcome) for outcome in each] for key, each in outcomes.items()}
    table = Table(["", "default worker", "", "lean worker", ""])
    table.rows.append(["", *("not recorded", "recorded") * 2])
    keys = [(lean, recorded) for lean in (False, True) for recorded in (False, True)]
    cpu = {key: [one.cpu for one in figures[key]] for key in keys}
    medians = [f"{statistics.median(cpu[key]):.3f}" if cpu[key] else "-" for key in keys]
    table.rows.append(["CPU s a session-minute", *medians])
    ratios = [str(ratio(cpu[lean, True], cpu[lean, False])) for lean in (False, True)]
    table.rows.append(["CPU, ratio", "", ratios[0], "", ratios[1]])
    own = [
        [outcome.held.recorder_cpu / outcome.held.cpu for outcome in outcomes[lean, True]]
        for lean in (False, True)
    ]
    parts = [f"{statistics.median(each):.1%}" if each else "-" for each in own]
    table.rows.append(["of which the recorder's threads", "", parts[0], "", parts[1]])
    for name, percent in (("median", 50), ("99th percentile", 99)):
        times = [[ms for one in figures[key] for ms in one.first] for key in keys]
        table.rows.append(
            [f"first delta → output, ms, {name}"]
            + [f"{percentile(each, percent):.2f}" if each else "-" for each in times]
        )
    sizes = [
        outcome.held.recorded_bytes / sessions / 2**20
        for lean in (False, True)
        for outcome in outcomes[lean, True]
    ]
    text = (
        f"{sessions} sessions in a process, with noise at the microphone, which is as dear to "
        f"compress as speech. A call took {statistics.median(sizes):.2f} MiB."
        if sizes
        else "Nothing was measured."
    )
    told = {
        f"{'lean' if lean else 'default'} {'recorded' if recorded else 'bare'}": cpu[lean, recorded]
        for lean, recorded in keys
    }
    return Section("What recording costs", text, [table], told)
