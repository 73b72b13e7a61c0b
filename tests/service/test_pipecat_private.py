"""A Pipecat that has moved a private name is refused at import, with a clear error."""

import ast
import importlib
import inspect
import pkgutil
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pipecat_hydra
from pipecat_hydra.service import pipecat_private
from pipecat_hydra.service.pipecat_private import KNOWN_VERSIONS, PRIVATE_NAMES, PrivateName, check

PACKAGE = Path(pipecat_hydra.__file__).parent
each_name = pytest.mark.parametrize(
    "private", PRIVATE_NAMES, ids=lambda p: f"{p.owner.__name__}.{p.name}"
)


def take_away(private: PrivateName, monkeypatch: pytest.MonkeyPatch) -> None:
    if private.is_field:
        monkeypatch.setattr(private.owner, "__init__", lambda self: None)
    else:
        monkeypatch.delattr(private.owner, private.name)


def test_this_pipecat_has_them_all():
    check()


@each_name
def test_a_name_that_is_gone_is_told_at_import(
    private: PrivateName, monkeypatch: pytest.MonkeyPatch
):
    take_away(private, monkeypatch)
    with pytest.raises(ImportError) as raised:
        runpy.run_path(pipecat_private.__file__)
    message = str(raised.value)
    assert f"{private.owner.__name__}.{private.name}" in message
    assert private.reason in message
    assert f"known to work: {', '.join(KNOWN_VERSIONS)}" in message


@each_name
def test_a_name_is_listed_with_the_class_that_defines_it(private: PrivateName):
    if not private.is_field:
        assert private.name in vars(private.owner)


def test_the_service_cannot_be_imported_then():
    program = """
from pipecat.services.llm_service import LLMService
del LLMService._cancel_function_call_tasks
import pipecat_hydra.service.llm
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    last = ran.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: pipecat-hydra does not work with pipecat-ai")
    assert "LLMService._cancel_function_call_tasks" in last


def modules() -> list[Any]:
    walked = pkgutil.walk_packages(pipecat_hydra.__path__, "pipecat_hydra.")
    names = [one.name for one in walked if not one.name.endswith("__main__")]
    return [importlib.import_module(name) for name in names]


def own_names() -> set[str]:
    """Private names that the package itself defines."""
    own: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                own.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                own.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
    return own


def test_no_other_private_name_of_pipecat_is_used():
    used = {
        node.attr
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_")
        if not node.attr.startswith("__")
    }
    listed = {private.name for private in PRIVATE_NAMES}
    assert used - own_names() - listed == set()


def test_every_hook_of_pipecat_that_is_overridden_is_listed():
    listed = {private.name for private in PRIVATE_NAMES}
    overridden = {
        name
        for module in modules()
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if cls.__module__.startswith("pipecat_hydra")
        for base in cls.__mro__[1:]
        if base.__module__.startswith("pipecat.")
        for name in vars(cls).keys() & vars(base).keys()
        if name.startswith("_") and not name.startswith("__")
        if not name.startswith("_abc_")
    }
    assert overridden - listed == set()
