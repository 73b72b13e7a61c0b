"""What the pages repeat of the code is what the code says now."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from support.documents import DOCS, ROOT, page

from pipecat_hydra.conversation.effects import FailureKind
from pipecat_hydra.service import connection_events
from pipecat_hydra.service.dispatcher import EVENTS


def tool(name: str) -> ModuleType:
    """Import a tool of the documents, which is in no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = tool("generate")


@pytest.mark.parametrize("path", GENERATE.pages(), ids=lambda path: path.name)
def test_the_generated_parts_of_a_page_are_not_stale(path: Path):
    text = path.read_text(encoding="utf-8")
    assert GENERATE.generated(text) == text, "`make docs` writes it anew"


def test_each_part_that_is_generated_is_on_one_page():
    text = "".join(path.read_text(encoding="utf-8") for path in GENERATE.pages())
    for name in GENERATE.PARTS:
        assert text.count(f"<!-- generated: {name} -->") == 1, name


def test_each_event_has_a_row_with_its_arguments():
    rows = re.findall(
        r"^\| `(on_\w+)` \|", page(DOCS / "reference" / "events.md").text, re.MULTILINE
    )
    assert sorted(rows) == sorted(EVENTS)


def errors_of_a_call() -> list[list[str]]:
    """The rows of the table of errors during a call, each as its cells."""
    text = page(DOCS / "reference" / "errors.md").text.partition("## Errors during a call")[2]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return rows[1:]


def categories_in(cell: str) -> set[str]:
    return set(re.findall(r"`([A-Z_]+)`", cell))


def test_each_category_of_a_lost_session_has_a_row_that_says_whether_it_is_final():
    rows = {(*categories_in(row[1]), row[2]) for row in errors_of_a_call() if row[2] != "no"}
    final = {True: "yes", False: "when the attempts are used up"}
    assert rows == {
        (connection_events._CATEGORIES[kind].name, final[kind.final]) for kind in FailureKind
    }


def test_the_categories_of_error_events_are_those_of_the_code():
    [cell] = [row[1] for row in errors_of_a_call() if "`error` event" in row[0]]
    told = {code: name for name, code in re.findall(r"`([A-Z]+)` for `(\w+)`", cell)}
    assert told == {
        code: category.name for code, category in connection_events._REPORT_CATEGORIES.items()
    }


def test_the_script_of_the_demo_is_the_one_that_the_page_shows():
    shown = page(DOCS / "reference" / "scripts.md").blocks("yaml")[-1].code
    demo = (ROOT / "examples" / "demo.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(shown) == yaml.safe_load(demo)
