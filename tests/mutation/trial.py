"""Runs the tests against one mutant, in a process of its own."""

import importlib
import multiprocessing
import os
import resource
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

from mutation.mutants import Mutant

_MEMORY_BYTES = 8 * 2**30
_FORK = multiprocessing.get_context("fork")
# No limit counts real seconds: a machine that has no time for the tests must not pass for a
# mutant that fails them. What hangs is ended by the limit on processor time.
_OPTIONS = (
    "--exitfirst",
    "--quiet",
    "--override-ini=addopts=--import-mode=importlib",
    "-pno:cacheprovider",
    "-pno:anyio",
    "-pno:timeout",
    "-pno:xdist",
    "-Wignore::pytest.PytestConfigWarning",
    "-Wignore::pytest.PytestUnknownMarkWarning",
    "-Wignore:Module already imported:pytest.PytestAssertRewriteWarning",
)


@dataclass
class Outcome:
    """What became of the tests."""

    failed: str | None = None
    """The test that failed, or why there was none; None if all passed."""
    passed: int = 0
    secs: dict[str, float] = field(default_factory=dict[str, float])
    """How long each file of tests took."""


class Trial:
    """A run of the tests against one mutant, or against none to see that they pass."""

    def __init__(self, tests: Sequence[Path], mutant: Mutant | None, cpu_secs: int):
        """Begin the trial.

        Args:
            tests: The files of tests, in order.
            mutant: The mutant, if any.
            cpu_secs: How much processor time it may take.
        """
        self._result, sender = _FORK.Pipe(duplex=False)
        self._process = _FORK.Process(target=_run, args=(sender, tests, mutant, cpu_secs))
        self._process.start()
        sender.close()

    @property
    def sentinel(self) -> int:
        """Ready when the trial has ended, for `multiprocessing.connection.wait`."""
        return self._process.sentinel

    def outcome(self) -> Outcome:
        """Wait for the end of the trial, and tell it."""
        try:
            outcome: Outcome = self._result.recv()
        except EOFError:
            outcome = Outcome(failed="(the process was ended: no time or memory left)")
        self._process.join()
        self._result.close()
        return outcome


def preload(modules: Sequence[str]) -> None:
    """Import what modules and their tests import, once for all trials.

    Of the modules' own package nothing stays imported: a trial imports it with its mutant.
    """
    for module in ("hypothesis.stateful", *modules):
        importlib.import_module(module)
    packages = {module.partition(".")[0] for module in modules}
    for name in [*sys.modules]:
        if name.partition(".")[0] in packages:
            del sys.modules[name]


def module_name(path: Path) -> str:
    """The name by which a module is imported."""
    return ".".join(path.with_suffix("").parts)


def _run(sender: Connection, tests: Sequence[Path], mutant: Mutant | None, cpu_secs: int) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.dup2(nothing, sys.stderr.fileno())
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_secs, cpu_secs))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    if mutant is not None:
        sys.meta_path.insert(0, _MutantFinder(mutant))
    watcher = _Watcher()
    code = pytest.main([*_OPTIONS, *map(str, tests)], plugins=[watcher])
    outcome = watcher.outcome
    if code != pytest.ExitCode.OK and outcome.failed is None:
        outcome.failed = f"(pytest ended with {code!r})"
    sender.send(outcome)
    sender.close()
    # Whatever a mutant has left running ends with the process.
    os._exit(0)


class _Watcher:
    """Takes note of the tests, as a plugin of pytest."""

    def __init__(self) -> None:
        self.outcome = Outcome(secs=defaultdict(float))

    def pytest_sessionstart(self) -> None:
        unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.register_profile("mutation", unhurried)
        settings.load_profile("mutation")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.outcome.failed = f"{report.nodeid} (cannot be imported)"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.outcome.secs[report.nodeid.partition("::")[0]] += report.duration
        if report.failed:
            self.outcome.failed = report.nodeid
        elif report.when == "call":
            self.outcome.passed += 1


class _MutantFinder(MetaPathFinder, Loader):
    """Imports the mutant in the place of its module."""

    def __init__(self, mutant: Mutant):
        self._mutant = mutant
        self._name = module_name(mutant.path)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        return spec_from_loader(fullname, self, origin=str(self._mutant.path.resolve()))

    def exec_module(self, module: ModuleType) -> None:
        code = compile(self._mutant.source_tree(), str(self._mutant.path), "exec")
        exec(code, vars(module))
