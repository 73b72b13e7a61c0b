"""CI runs what the project says that it supports, and no workflow may do more than it has to."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))
}
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def test_the_matrix_has_the_pythons_of_the_classifiers():
    prefix = "Programming Language :: Python :: 3."
    versions = [c.removeprefix(prefix) for c in PROJECT["classifiers"] if c.startswith(prefix)]
    assert _matrix()["python"] == [f"3.{version}" for version in versions]


def test_the_matrix_has_the_oldest_pipecat_that_is_allowed_and_the_newest():
    (pipecat,) = (
        requirement
        for requirement in map(Requirement, PROJECT["dependencies"])
        if requirement.name == "pipecat-ai"
    )
    (lowest,) = (s.version for s in pipecat.specifier if s.operator == ">=")
    assert _matrix()["pipecat"] == [lowest, "newest"]


def test_a_job_without_a_matrix_runs_on_a_python_that_is_supported():
    supported = {*_matrix()["python"], "${{ matrix.python }}"}
    used = {
        str(step["with"]["python-version"])
        for step in _steps()
        if step.get("uses", "").startswith("actions/setup-python@")
    }
    assert used <= supported


def test_the_make_targets_of_the_workflows_are_there():
    targets = {
        target
        for step in _steps()
        for target in re.findall(r"^make (\S+)", step.get("run", ""), re.M)
    }
    assert targets >= {"check", "test", "test-uvloop", "test-realtime", "test-browser", "docs"}
    assert targets >= {"release-check"}
    there = re.findall(r"^([\w-]+|\$\(VENV\)/[\w.]+):", MAKEFILE, re.MULTILINE)
    assert targets <= {name.replace("$(VENV)", ".venv") for name in there}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_read_and_nothing_else(name: str):
    assert WORKFLOWS[name]["permissions"] in ({}, {"contents": "read"})


def test_the_jobs_that_may_write_run_no_code_of_the_project():
    for workflow in WORKFLOWS.values():
        for job in workflow["jobs"].values():
            if "write" in job.get("permissions", {}).values():
                steps = job["steps"]
                assert not any("checkout" in step.get("uses", "") for step in steps)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_asks_for_each_thing_once(path: Path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    asked = [part["id"] for part in form.get("body", []) if part["type"] != "markdown"]
    assert len(set(asked)) == len(asked)


def test_the_form_for_a_fault_asks_for_a_report():
    form = yaml.safe_load((FORMS[0]).read_text(encoding="utf-8"))
    (report,) = (part for part in form["body"] if part.get("id") == "report")
    assert report["validations"]["required"]
    for command in ("pipecat-hydra report --json", "pipecat-hydra check"):
        assert command in report["attributes"]["description"]


def _matrix() -> dict[str, list[str]]:
    return WORKFLOWS["ci"]["jobs"]["test"]["strategy"]["matrix"]


def _steps() -> list[dict[str, Any]]:
    jobs = (job for workflow in WORKFLOWS.values() for job in workflow["jobs"].values())
    return [step for job in jobs for step in job["steps"]]
