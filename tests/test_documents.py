"""What the documents in `docs/` say of the code: places, imports and tests that they name."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pipecat_hydra"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
INVARIANTS = (ROOT / "docs" / "invariants.md").read_text(encoding="utf-8")
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
FOLDERS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))

# A path in backticks, and maybe a name in it, as in `session/retries.py:Retries.next`.
_PLACE = re.compile(r"(?P<path>[\w./-]*(?:/|\.py|\.md|\.toml))(?::(?P<name>[\w.]+))?")
_BOX = re.compile(
    r'<g id="(\w+)"><rect[^>]* x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"[^>]*/>'
    r'<text class="name"[^>]*>([^<]+)</text>'
)
_ARROW = re.compile(r'<path[^>]* id="(\w+)-(\w+)" d="M(\d+) (\d+)((?:[HV]\d+)+)"/>')
_TABLE = re.compile(
    r"^### In `(\w+)/`\n\n\| what \| where \|\n\|---\|---\|\n((?:\|.*\n)+)", re.MULTILINE
)
_ROWS = [
    (table[1], row) for table in _TABLE.finditer(ARCHITECTURE) for row in table[2].splitlines()
]

Point = tuple[int, int]


@dataclass(frozen=True)
class Box:
    """A box of the picture of the architecture."""

    name: str
    left: int
    top: int
    right: int
    bottom: int

    def has_on_its_edge(self, point: Point) -> bool:
        """Whether an arrow may begin or end at a point."""
        x, y = point
        is_beside = x in (self.left, self.right) and self.top < y < self.bottom
        return is_beside or (y in (self.top, self.bottom) and self.left < x < self.right)

    def is_crossed(self, start: Point, end: Point) -> bool:
        """Whether a straight line, level or upright, has a part inside the box."""
        (left, right), (top, bottom) = (sorted(ends) for ends in zip(start, end, strict=True))
        return left < self.right and right > self.left and top < self.bottom and bottom > self.top


def _boxes(picture: str) -> dict[str, Box]:
    return {
        folder: Box(name, int(x), int(y), int(x) + int(width), int(y) + int(height))
        for folder, x, y, width, height, name in _BOX.findall(picture)
    }


def _arrows(picture: str) -> dict[tuple[str, str], list[Point]]:
    """The corners of each arrow, by the folders that it connects."""
    arrows: dict[tuple[str, str], list[Point]] = {}
    for start, end, left, top, turns in _ARROW.findall(picture):
        x, y = int(left), int(top)
        corners = [(x, y)]
        for way, to in re.findall(r"([HV])(\d+)", turns):
            x, y = (int(to), y) if way == "H" else (x, int(to))
            corners.append((x, y))
        arrows[start, end] = corners
    return arrows


BOXES = _boxes(PICTURE.read_text(encoding="utf-8"))
ARROWS = _arrows(PICTURE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("place", sorted(set(re.findall(r"`([^`\n]+)`", ARCHITECTURE))))
def test_a_place_that_the_architecture_names_is_there(place: str):
    match = _PLACE.fullmatch(place)
    if match is None:
        return  # A word of code that is no place.
    path = _find(match["path"])
    assert match["name"] is None or match["name"] in _names(path)


@pytest.mark.parametrize(("folder", "row"), _ROWS)
def test_a_row_says_where_to_change_something_with_one_place_on_each_line(folder: str, row: str):
    _, what, where, _ = (cell.strip() for cell in row.split("|"))
    lines = where.split("<br>")
    assert what
    assert all(re.fullmatch(r"`[^`]+`(: .+)?", line) for line in lines)
    assert all(len(_places(line)) == 1 for line in lines)
    assert any(place.startswith(f"{folder}/") for place in _places(where))


def test_the_architecture_has_a_paragraph_for_each_folder():
    described = re.findall(r"^\*\*`(\w+)/`\*\* ", ARCHITECTURE, re.MULTILINE)
    assert sorted(described) == FOLDERS


def test_the_arrows_of_the_architecture_are_the_imports():
    imports = {
        (_folder(path), imported)
        for path in PACKAGE.rglob("*.py")
        for imported in _imported_folders(path)
        if imported != _folder(path)
    }
    assert set(ARROWS) == imports


def test_the_architecture_draws_each_folder():
    assert sorted(BOXES) == sorted([*FOLDERS, "root"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_box_has_the_name_of_its_folder(folder: str):
    assert BOXES[folder].name == f"{folder}/"


@pytest.mark.parametrize(("start", "end"), ARROWS)
def test_an_arrow_leads_from_box_to_box_downwards_and_through_no_other(start: str, end: str):
    corners = ARROWS[start, end]
    assert BOXES[start].has_on_its_edge(corners[0])
    assert BOXES[end].has_on_its_edge(corners[-1])
    assert BOXES[start].top < BOXES[end].top
    crossed = [
        name for name, box in BOXES.items() for line in pairwise(corners) if box.is_crossed(*line)
    ]
    assert not crossed


def test_the_architecture_shows_its_picture():
    assert f"](images/{PICTURE.name})" in ARCHITECTURE


@pytest.mark.parametrize("place", re.findall(r"^- `(.+)`$", INVARIANTS, re.MULTILINE))
def test_a_test_that_guards_an_invariant_is_there(place: str):
    path, name = place.split(":")
    assert name.startswith("test_")
    assert name in {member.rpartition(".")[2] for member in _names(ROOT / path)}


def test_each_invariant_names_tests_that_guard_it():
    guaranteed = INVARIANTS.partition("## Wanted")[0]
    for invariant in re.split(r"^\*\*", guaranteed, flags=re.MULTILINE)[1:]:
        assert re.search(r"^- `tests/", invariant, re.MULTILINE), invariant


@pytest.mark.parametrize("folder", ["pipecat_hydra", "tests"])
def test_each_invariant_that_is_cited_is_written_down(folder: str):
    written = set(re.findall(r"^\*\*([A-Z]\d)\*\* ", INVARIANTS, re.MULTILINE))
    cited = set[str]()
    for path in (ROOT / folder).rglob("*.py"):
        for citation in re.findall(r"\(([ACFPST]\d(?:, [ACFPST]\d)*)\)", path.read_text("utf-8")):
            cited |= set(citation.split(", "))
    assert cited
    assert cited <= written


def _places(text: str) -> list[str]:
    return [word for word in re.findall(r"`([^`]+)`", text) if _PLACE.fullmatch(word)]


def _find(path: str) -> Path:
    """The file or folder of a path that is relative to the project or to the package."""
    found = [place for place in (ROOT / path, PACKAGE / path) if place.exists()]
    assert found, f"{path} is neither in the project nor in the package"
    return found[0]


@cache
def _names(path: Path) -> frozenset[str]:
    """The names that a module defines, and the members of its classes as `Class.member`."""
    return frozenset(_defined(ast.parse(path.read_text(encoding="utf-8")).body))


def _defined(body: list[ast.stmt], within: str = "") -> Iterator[str]:
    for node in body:
        match node:
            case ast.ClassDef():
                yield f"{within}{node.name}"
                yield from _defined(node.body, f"{within}{node.name}.")
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield f"{within}{node.name}"
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield f"{within}{name}"
            case _:
                pass


def _folder(path: Path) -> str:
    """The folder of the package that a module is in; `root` for the package itself."""
    inside = path.relative_to(PACKAGE).parts
    return inside[0] if len(inside) > 1 else "root"


def _imported_folders(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipecat_hydra"):
            _, _, inside = (node.module or "").partition(".")
            yield inside.partition(".")[0] or "root"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("pipecat_hydra"):
                    yield alias.name.partition(".")[2].partition(".")[0] or "root"
