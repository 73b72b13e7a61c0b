"""The benchmark runs, for moments only, and its arithmetic is right."""

import asyncio
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.figures import percentile, ratio
from benchmarks.marks import click, is_loud, marked, marked_times
from benchmarks.plots import Plot
from benchmarks.rows import ROWS

ROOT = Path(__file__).parent.parent

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and pins processes")


async def run(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run the benchmark with cells of a moment; return its report."""
    moments = ["--secs", "1.5", "--warm-up", "0.3", "--rounds", "1", "--minutes", "0"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks", *moments, "--impatient", "--out", str(folder)),
        *arguments,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 0
    report = json.loads((folder / "report.json").read_text())
    assert not [note for note in report["notes"] if note.startswith("failed")]
    return report["figures"]


def replies_were_measured(cells: list[dict[str, Any]]) -> bool:
    return len(cells) == 4 and all(
        measured["cpu"] > 0 and measured["first"] and measured["interruptions"]
        for cell in cells
        for measured in cell["rounds"]
    )


def was_asked_once(turns_of_peers: dict[str, dict[str, list[list[float]]]]) -> bool:
    turns = turns_of_peers["hydra"].values()
    return all(turns) and all(turn[2] == 1 for each in turns for turn in each)


IS_MEASURED: dict[str, Callable[[Any], bool]] = {
    "replies": replies_were_measured,
    "tools": was_asked_once,
    "calls": lambda figures: all(calls > 0 for calls in figures["hydra"].values()),
    "late-audio": lambda figures: len(figures["hydra"]) > 0,
    "microphone": lambda figures: all(figures["hydra"].values()),
    "start": lambda figures: all(None not in found["hydra"] for found in figures.values()),
    "context": lambda figures: all(figures.values()),
    "imports": lambda figures: all(figures.values()),
    "recorder": lambda figures: all(all(cpu) for cpu in figures.values()),
    "switches": lambda figures: all(all(cpu) for cpu in figures.values()),
    "capacity": lambda figures: len(figures) == 2,
    "hour": lambda figures: all(memory > 0 for memory in figures["hydra"]),
}


@on_linux
@pytest.mark.realtime
@pytest.mark.parametrize("row", ROWS)
async def test_each_row_measures_the_service(row: str, tmp_path: Path):
    figures = await run(tmp_path, "--peers", "hydra", "--sessions", "1", "2", "--rows", row)
    (measured,) = figures.values()
    assert IS_MEASURED[row](measured)
    for plot in tmp_path.glob("*.svg"):
        ElementTree.parse(plot)


@on_linux
@pytest.mark.realtime
async def test_late_audio_is_seen_where_a_service_lets_it_through(tmp_path: Path):
    figures = await run(tmp_path, "--peers", "openai", "--rows", "late-audio")
    assert min(figures["Audio that comes late"]["openai"]) > 0.5


@on_linux
@pytest.mark.realtime
async def test_each_peer_is_measured(tmp_path: Path):
    figures = await run(tmp_path, "--sessions", "2", "--rows", "replies", "--against", str(ROOT),
                        "--peers", "bare json", "bare one-pass", "null", "null + audio",
                        "openai", "xai", "inworld", "hydra", "before")  # fmt: skip
    cells = figures["Turns and replies"]
    assert len({cell["peer"] for cell in cells}) == 9
    for cell in cells:
        (measured,) = cell["rounds"]
        assert measured["cpu"] > 0
        assert bool(measured["first"]) == (cell["peer"] != "null")


def test_the_spread_of_a_ratio_is_that_of_its_rounds():
    equal = ratio([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert equal is not None
    assert equal.value == 2.0
    assert equal.is_settled
    spread = ratio([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    assert spread is not None
    assert not spread.is_settled
    few = ratio([1.0, 1.0], [1.0, 1.0])
    assert few is not None
    assert math.isinf(few.spread)
    assert ratio([1.0], [0.0]) is None


def test_a_percentile_of_little_is_what_there_is():
    assert math.isnan(percentile([], 99))
    assert percentile([3.0], 99) == 3.0
    assert percentile([float(n) for n in range(101)], 99) == 99.0


def test_marks_are_found_in_joined_audio():
    assert marked_times(marked(1.5, 640) + bytes(640) + marked(2.5, 640)) == [1.5, 2.5]


def test_a_click_is_heard_and_silence_is_not():
    assert is_loud(click(8_000, 0.02))
    assert not is_loud(bytes(320))


def test_a_plot_has_a_line_for_each_peer():
    plot = Plot("Costs", "s", {"ours": [(1, 0.5), (10, 2.0)], "theirs": [(1, 1.0)]}, limit=1.0)
    drawn = ElementTree.fromstring(plot.svg())
    assert len(drawn.findall("{http://www.w3.org/2000/svg}polyline")) == 2
