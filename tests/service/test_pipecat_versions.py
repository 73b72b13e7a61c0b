"""One module knows what differs between the supported versions of Pipecat."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from pipecat_hydra.service import pipecat_versions
from pipecat_hydra.service.pipecat_private import KNOWN_VERSIONS

ROOT = Path(__file__).parent.parent.parent
VERSIONS = Path(pipecat_versions.__file__)
# An example shows what the user of the newest Pipecat writes.
CODE = [
    path
    for folder in ("pipecat_hydra", "tests", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def _imports(path: Path) -> set[tuple[str, str]]:
    """Return the (module, name) pairs that a file imports, wherever it does so."""
    found: set[tuple[str, str]] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {(node.module or "", alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
    return found


def _of_pipecat(imports: set[tuple[str, str]]) -> set[tuple[str, str]]:
    return {pair for pair in imports if pair[0].split(".")[0] == "pipecat"}


def test_what_pipecat_moved_is_imported_in_one_module():
    moved = _of_pipecat(_imports(VERSIONS))
    modules = {module for module, _ in moved}
    assert modules > {"pipecat.adapters.base_llm_adapter", "pipecat.adapters.llm.base_llm_adapter"}
    others = {
        (str(path.relative_to(ROOT)), module, name)
        for path in CODE
        if path != VERSIONS
        for module, name in _of_pipecat(_imports(path))
        if (module, name) in moved or module.startswith("pipecat.adapters")
    }
    assert others == set()


@pytest.mark.parametrize("name", pipecat_versions.__all__)
def test_a_name_of_pipecat_is_there_in_every_version(name: str):
    assert hasattr(pipecat_versions, name)


def test_the_versions_that_are_allowed_are_those_that_are_known_to_work():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (pipecat,) = [spec for spec in project["dependencies"] if spec.startswith("pipecat-ai")]
    allowed = re.fullmatch(r"pipecat-ai>=1\.(\d+),<1\.(\d+)", pipecat)
    assert allowed is not None
    minors = range(int(allowed[1]), int(allowed[2]))
    assert tuple(f"1.{minor}" for minor in minors) == KNOWN_VERSIONS


def test_the_table_of_what_was_run_has_each_version():
    page = (ROOT / "docs" / "reference" / "compatibility.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (1\.\d+)\.\d+ \| 3\.\d+ \|", page, re.MULTILINE)
    assert set(rows) == set(KNOWN_VERSIONS)
