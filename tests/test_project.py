"""What holds for all files of the project: addresses, and packages that they tell to install."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

_FOLDERS = [".ci", ".github", "benchmarks", "docs", "evals", "examples", "pipecat_hydra", "tools"]
_KINDS = {".cff", ".css", ".html", ".js", ".json", ".md", ".mdx", ".py", ".toml", ".yaml", ".yml"}
_FILES = [
    path
    for folder in (ROOT, *(ROOT / name for name in _FOLDERS))
    for path in (folder.glob("*") if folder == ROOT else folder.rglob("*"))
    if path.is_file() and (path.suffix in _KINDS or path.name in ("Makefile", "Dockerfile", "run"))
]

_ADDRESS = re.compile(r"(?:https?://)?(?:www\.)?github\.com/[\w.-]+/pipecat-hydra\b")
# An installer that is called, and what it is given, up to the end of the line.
_INSTALLER = re.compile(r"\b(?:pip3?|pipx|uv pip|uvx?) (?:install|add|run)\b(.*)")
_BY_NAME = re.compile(r"""(?:^|[\s"'`])pipecat[-_]hydra(?:\[[\w,]*\])?(?:[\s"'`<>=~!.,;)]|$)""")


@pytest.mark.parametrize(
    ("line", "is_by_name"),
    [
        ("pip install pipecat-hydra", True),
        ("`pip install 'pipecat-hydra[web]'`", True),
        ("uv add pipecat-hydra>=0.1", True),
        ("pip install -q pytest pipecat-hydra.", True),
        ("pip install /path/to/pipecat-hydra", False),
        ("pip install pipecat-ai pytest", False),
        ("the page of pipecat-hydra", False),
    ],
)
def test_what_is_installed_by_name(line: str, is_by_name: bool):
    assert _installs_by_name(line) is is_by_name


def test_nothing_tells_to_install_a_package_that_no_index_has():
    told = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in _FILES
        for line in _text(path).splitlines()
        if _installs_by_name(line)
    ]
    assert not told, "pipecat-hydra is on no index: say how to install it from a clone"


def test_the_address_of_the_project_has_one_spelling():
    address = PROJECT["urls"]["Repository"]
    spelled = {found for path in _FILES for found in _ADDRESS.findall(_text(path))}
    assert spelled == {address}


def test_all_urls_of_the_project_are_below_its_address():
    urls = PROJECT["urls"]
    assert all(url.startswith(urls["Repository"]) for url in urls.values())


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["title"] == PROJECT["name"]
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Repository"]


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md"])
def test_what_a_guide_for_contributors_links_to_is_there(name: str):
    links = re.findall(r"\]\((?!https:)([^)#]+)\)", _text(ROOT / name))
    assert all((ROOT / link).exists() for link in links)


def test_the_guide_names_make_targets_that_are_there():
    named = set(re.findall(r"(?:^|`)make ([a-z][\w-]*)", _text(ROOT / "CONTRIBUTING.md"), re.M))
    targets = re.findall(r"^([\w-]+):", _text(ROOT / "Makefile"), re.MULTILINE)
    assert named <= set(targets)


def _installs_by_name(line: str) -> bool:
    called = _INSTALLER.search(line)
    return called is not None and _BY_NAME.search(called[1]) is not None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
