"""What is installed, and what README and CHANGELOG say of it."""

import ast
import dataclasses
import importlib
import importlib.metadata
import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pipecat.pipeline.worker import PipelineWorker

import pipecat_hydra
from pipecat_hydra import HydraLLMService, RetryPolicy
from pipecat_hydra.testing import VirtualTransport

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pipecat_hydra"
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(pipecat_hydra.__path__, "pipecat_hydra.")
)
PUBLIC = ["pipecat_hydra", "pipecat_hydra.emulator", "pipecat_hydra.testing"]
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


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


async def test_the_snippets_for_a_bot_in_the_readme_work(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SMALLEST_API_KEY", "sk-none")
    with_aggregators, without, with_retries, with_limit = SNIPPETS[:4]

    names = await _run(with_aggregators, transport=VirtualTransport())
    assert isinstance(names["llm"], HydraLLMService)
    assert isinstance(names["worker"], PipelineWorker)

    names = await _run(without, transport=VirtualTransport())
    assert names["llm"] in names["pipeline"].processors

    for snippet in (with_retries, with_limit):
        assert isinstance((await _run(snippet))["llm"], HydraLLMService)


def test_the_readme_lists_what_a_lost_session_is_worth():
    listed = {
        name: ast.literal_eval(default.strip("`")) for name, default in _table("`RetryPolicy`")
    }
    assert listed == dataclasses.asdict(RetryPolicy())


async def test_the_test_in_the_readme_passes():
    (snippet,) = (snippet for snippet in SNIPPETS if "test_the_bot_speaks_first" in snippet)
    names = await _run(snippet)
    await names["test_the_bot_speaks_first"]()


def test_the_readme_lists_the_arguments_with_their_defaults():
    listed = {name: default for name, default in _table("argument")}
    parameters = inspect.signature(HydraLLMService.__init__).parameters.values()
    keyword_only = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    assert list(listed) == [parameter.name for parameter in keyword_only]
    for parameter in keyword_only:
        assert ast.literal_eval(listed[parameter.name].strip("`")) == parameter.default


def test_the_readme_lists_the_settings():
    own = set(inspect.get_annotations(HydraLLMService.Settings))
    assert {name for name, _ in _table("setting")} == {"model", "system_instruction", *own}


async def _run(snippet: str, **names: Any) -> dict[str, Any]:
    """Run a snippet, which may await; return the names it has defined."""
    code = compile(snippet, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    coroutine = eval(code, names)
    if coroutine is not None:
        await coroutine
    return names


def _table(header: str) -> list[tuple[str, str]]:
    """First column, without its backticks, and second column of a table of the README."""
    table = README.split(f"\n| {header} | default | |\n|---|---|---|\n")[1].split("\n\n")[0]
    rows = [line.split(" | ") for line in table.splitlines()]
    return [(row[0].strip("| `"), row[1]) for row in rows]


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
