"""What is installed, and what CHANGELOG says of it."""

import ast
import importlib
import importlib.metadata
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pipecat_hydra

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pipecat_hydra"
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(pipecat_hydra.__path__, "pipecat_hydra.")
)
PUBLIC = ["pipecat_hydra", "pipecat_hydra.emulator", "pipecat_hydra.testing"]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_sorted_and_exist(name: str):
    module = importlib.import_module(name)
    assert module.__all__ == sorted(set(module.__all__))
    for public in module.__all__:
        assert hasattr(module, public), public


@pytest.mark.parametrize("name", ["pipecat_hydra", *MODULES])
def test_each_module_says_what_it_is(name: str):
    assert importlib.import_module(name).__doc__


def test_the_version_is_the_newest_of_the_changelog():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)
    assert importlib.metadata.version("pipecat-hydra") == versions[0]


def test_what_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # aiortc is Pipecat's own affair, and tzdata Python's.
    extras = project["optional-dependencies"]
    specs = [*project["dependencies"], *extras["web"], *extras["redis"]]
    declared = {_distribution(spec) for spec in specs} - {"aiortc", "tzdata"}
    distributions = importlib.metadata.packages_distributions()
    imported = {name for path in PACKAGE.rglob("*.py") for name in _imports(path)}
    # Pipecat's extra `tracing` brings OpenTelemetry; without it, it is not imported. The plugin
    # is imported by pytest alone.
    others = {"pipecat_hydra", "opentelemetry", "pytest", "pytest_asyncio"}
    imported -= sys.stdlib_module_names | others
    needed = {_distribution(distributions[name][0]) for name in imported}
    assert needed == declared


def test_the_service_brings_in_only_what_it_needs():
    unwanted = ["pipecat_hydra.emulator", "pipecat_hydra.cli.talk", "pipecat_hydra.cli.main"]
    unwanted += ["pipecat_hydra.testing", "typer", "rich", "yaml"]
    # It needs no TTS service, and that one spells numbers in forty languages.
    unwanted += ["pipecat.services.tts_service", "num2words"]
    code = (
        "import sys; from pipecat_hydra import HydraLLMService;"
        "assert HydraLLMService.__module__ in sys.modules;"
        f"print([m for m in {unwanted} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _distribution(requirement: str) -> str:
    """The normalised name of the distribution that a requirement asks for."""
    return re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-").replace(".", "-")


def _imports(path: Path) -> set[str]:
    """Top-level names of the modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}
