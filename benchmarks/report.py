"""What a run tells: sections with tables, as Markdown and JSON, and plots as SVG."""

import json
import os
import platform
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.goals import Goal
from benchmarks.plots import Plot

__all__ = ["Section", "Table", "write"]


@dataclass
class Table:
    """A table.

    Parameters:
        columns: What stands at the top.
        rows: What stands below; each as long as the columns.
    """

    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)

    def markdown(self) -> str:
        """The table, as Markdown."""
        lines = [self.columns, ["---"] + ["---:"] * (len(self.columns) - 1), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


@dataclass
class Section:
    """What one row of the benchmark tells.

    Parameters:
        title: What was measured.
        text: How to read it, in a sentence or two.
        tables: The tables.
        figures: All that the tables were made of, as JSON.
        plots: The plots, by the name of their file.
        goals: What Hydra's figures are to be.
        notes: What the reader must know of this run.
    """

    title: str
    text: str
    tables: list[Table] = field(default_factory=list)
    figures: Any = None
    plots: dict[str, Plot] = field(default_factory=dict)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """The section, as Markdown."""
        notes = "\n".join(f"- {note}" for note in self.notes)
        images = "\n".join(f"![{plot.title}]({name})" for name, plot in self.plots.items())
        parts = [f"## {self.title}", self.text, *(t.markdown() for t in self.tables), notes, images]
        return "\n\n".join(part for part in parts if part)


def write(sections: list[Section], notes: list[str], command: str, folder: Path) -> str:
    """Write the report into a folder; return its Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = {
        "command": command,
        "time": time.strftime("%Y-%m-%d %H:%M"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "pipecat": version("pipecat-ai"),
        "websockets": version("websockets"),
    }
    head = ", ".join(f"{key} {value}" for key, value in machine.items())
    parts = ["# Benchmark", head, "\n".join(f"- {note}" for note in notes), _goals(sections)]
    parts += [section.markdown() for section in sections]
    text = "\n\n".join(part for part in parts if part) + "\n"
    (folder / "report.md").write_text(text)
    figures = {section.title: section.figures for section in sections}
    result = {"machine": machine, "notes": notes, "figures": figures}
    (folder / "report.json").write_text(json.dumps(result, indent=1))
    for section in sections:
        for name, plot in section.plots.items():
            (folder / name).write_text(plot.svg())
    return text


def _goals(sections: list[Section]) -> str:
    """The goals of all sections in one table."""
    rows = [goal.row() for section in sections for goal in section.goals]
    return Table(["goal", "measured", "limit", "met"], rows).markdown() if rows else ""


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
