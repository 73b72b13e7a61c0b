"""Check that what is about to be released can be installed and used: `make release-check`.

The steps go from the cheap to the dear, and the first that fails ends the check. They work on what
a user gets: the wheel is installed into empty environments, once with the lowest versions that
`pyproject.toml` allows and once with the newest, and used there from an empty folder; the tests run
from the unpacked sdist.
"""

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

__all__ = [
    "ReleaseError",
    "check_sdist_names",
    "check_version",
    "lowest_python",
    "lowest_versions",
    "main",
]

_ROOT = Path(__file__).parent.parent
_HEADING = re.compile(r"^## \[(?P<version>[^\]]+)\] - (?P<date>\S+)$", re.MULTILINE)
# How much of the output of a command that fails is shown.
_SHOWN_LINES = 40
# What a user of the pytest plugin writes, but for the bot.
_USER_TEST = """
async def test_a_call(hydra):
    assert hydra.url.startswith("ws://")
"""
_USER_CONFIGURATION = "[pytest]\nasyncio_mode = auto\n"


class ReleaseError(Exception):
    """The project is not ready for a release; the message says why."""


def check_version(project: dict[str, Any], changelog: str, tag: str | None) -> str:
    """Compare the versions of `pyproject.toml`, of the changelog and of a tag.

    Args:
        project: The table `project` of `pyproject.toml`.
        changelog: The text of `CHANGELOG.md`.
        tag: The tag that is released, such as `v1.2.3`. None before there is one; the changelog
            may then say "Unreleased" where the date will be.

    Returns:
        The version.

    Raises:
        ReleaseError: They differ, or the changelog has no date for what is tagged.
    """
    version = str(project["version"])
    newest = _HEADING.search(changelog)
    if newest is None:
        raise ReleaseError("CHANGELOG.md has no heading such as `## [1.2.3] - 2026-01-31`")
    if newest["version"] != version:
        raise ReleaseError(
            f"pyproject.toml has version {version}, the newest in CHANGELOG.md is "
            f"{newest['version']}: write the same in both"
        )
    if tag is None:
        return version
    if tag != f"v{version}":
        raise ReleaseError(f"the tag is {tag}, and version {version} has the tag v{version}")
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", newest["date"]) is None:
        raise ReleaseError(
            f"CHANGELOG.md says {newest['date']!r} for {version}: write the date of the release"
        )
    return version


def lowest_versions(requirements: Iterable[str]) -> list[str]:
    """Return constraints that hold each requirement at the lowest version it allows.

    Args:
        requirements: As in `dependencies` of `pyproject.toml`. One with a marker that is false
            here is left out, and so is one that has no lower bound.

    Returns:
        Lines such as `numpy==1.26.4`.
    """
    constraints: list[str] = []
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        lowest = [s.version for s in requirement.specifier if s.operator in (">=", "~=", "==")]
        constraints += [f"{requirement.name}=={version}" for version in lowest]
    return constraints


def lowest_python(project: dict[str, Any]) -> str:
    """Return the lowest Python that the project takes, such as `3.11`."""
    (lowest,) = [
        specifier.version
        for specifier in SpecifierSet(project["requires-python"])
        if specifier.operator == ">="
    ]
    return lowest


def check_sdist_names(tracked: Iterable[str], packed: Iterable[str]) -> None:
    """Check that an sdist has the files that git tracks, and no other.

    Args:
        tracked: What git tracks.
        packed: What is in the sdist, without its top folder.

    Raises:
        ReleaseError: A file is missing, or one more is there.
    """
    differing = set(tracked) ^ (set(packed) - {"PKG-INFO"})
    if differing:
        names = ", ".join(sorted(differing)[:10])
        raise ReleaseError(f"the sdist and what git tracks differ in {len(differing)}: {names}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check from the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="release_check", description=__doc__)
    parser.add_argument("--tag", help="the tag that is released; it has to name the version")
    parser.add_argument("--no-tests", action="store_true", help="leave out the tests of the sdist")
    options = parser.parse_args(arguments)
    try:
        _check(options.tag, with_tests=not options.no_tests)
    except ReleaseError as error:
        print(f"release-check: {error}", file=sys.stderr)
        return 1
    _say("Ready for a release.")
    return 0


def _check(tag: str | None, *, with_tests: bool) -> None:
    pyproject = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = pyproject["project"]
    version = check_version(project, (_ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), tag)
    _say(f"pyproject.toml and CHANGELOG.md agree on version {version}.")
    with tempfile.TemporaryDirectory(prefix="release-check-") as folder:
        place = Path(folder)
        wheel, sdist = _build(place / "dist")
        _check_archives(wheel, sdist)
        _install_and_use(place / "newest", wheel, project, constraints=[])
        _install_and_use_lowest(place / "lowest", wheel, project)
        if with_tests:
            _test_sdist(place / "sdist", sdist)


def _build(dist: Path) -> tuple[Path, Path]:
    _say("Building the sdist, and the wheel from the sdist ...")
    _run([sys.executable, "-m", "build", "--outdir", str(dist), str(_ROOT)], "cannot be built")
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    return wheel, sdist


def _check_archives(wheel: Path, sdist: Path) -> None:
    _say("Checking the metadata, and what is in the wheel ...")
    twine = [sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)]
    _run(twine, "has metadata that PyPI would reject")
    _run([sys.executable, "-m", "check_wheel_contents", str(wheel)], "has an odd wheel")
    if not (_ROOT / ".git").exists():
        _say("This is no clone: what git tracks is not compared with the sdist.")
        return
    _say("Comparing the sdist with what git tracks ...")
    tracked = _run(["git", "-C", str(_ROOT), "ls-files"], "is in no working clone").splitlines()
    with tarfile.open(sdist) as archive:
        members = [member.name for member in archive.getmembers() if not member.isdir()]
    check_sdist_names(tracked, [name.partition("/")[2] for name in members])


def _install_and_use_lowest(place: Path, wheel: Path, project: dict[str, Any]) -> None:
    lowest = lowest_python(project)
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    # Newer Pythons have no wheels of the oldest versions.
    if here != lowest:
        _say(f"The lowest versions are left out: they want Python {lowest}, and this is {here}.")
        return
    extras = project["optional-dependencies"].values()
    requirements = [*project["dependencies"], *(line for extra in extras for line in extra)]
    _install_and_use(place, wheel, project, constraints=lowest_versions(requirements))


def _install_and_use(
    place: Path, wheel: Path, project: dict[str, Any], *, constraints: list[str]
) -> None:
    """Install the wheel into an empty environment, and use it from an empty folder."""
    which = "lowest" if constraints else "newest"
    _say(f"Installing the wheel with the {which} versions of what it needs ...")
    binaries = _environment(place)
    (place / "constraints.txt").write_text("\n".join(constraints), encoding="utf-8")
    limits = ["--constraint", str(place / "constraints.txt")]
    problem = f"cannot be installed with the {which} versions"
    whole = f"{wheel}[{','.join(project['optional-dependencies'])}]"
    _pip(binaries, [*limits, whole, "pytest", "pytest-asyncio"], problem)

    _say("Using what is installed: import, command, call, pytest plugin ...")
    work = place / "work"
    work.mkdir()
    problem = f"does not work with the {which} versions"
    python = str(binaries / "python")
    names = "HydraLLMService, HydraRecorder, RetryPolicy"
    _run([python, "-c", f"from pipecat_hydra import {names}"], problem, work)
    command = str(binaries / "pipecat-hydra")
    _run([command, "--help"], problem, work)
    recording = str(_ROOT / "examples" / "recordings" / "barge_in.wav")
    _run([command, "talk", recording, "heard.wav"], problem, work)
    (work / "test_bot.py").write_text(_USER_TEST, encoding="utf-8")
    (work / "pytest.ini").write_text(_USER_CONFIGURATION, encoding="utf-8")
    _run([python, "-m", "pytest", "-q"], problem, work)
    _say(f"It works with Pipecat {_version_of('pipecat-ai', python, work)}.")


def _test_sdist(place: Path, sdist: Path) -> None:
    _say("Running the tests of the unpacked sdist ...")
    with tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
    (unpacked,) = place.iterdir()
    binaries = _environment(place / "environment")
    _pip(
        binaries, ["--group", f"{unpacked}/pyproject.toml:dev", f"{unpacked}[web]"], "is not whole"
    )
    tests = ["-q", "-n", "auto", "-m", "not realtime", "--ignore=tests/browser"]
    _run([str(binaries / "python"), "-m", "pytest", *tests], "fails tests of the sdist", unpacked)


def _environment(place: Path) -> Path:
    """Make an empty virtual environment; return the folder of its programs."""
    venv.create(place, clear=True, with_pip=True)
    binaries = place / ("Scripts" if os.name == "nt" else "bin")
    _pip(binaries, ["pip>=25.1"], "finds no pip that knows dependency groups")
    return binaries


def _pip(binaries: Path, arguments: list[str], problem: str) -> None:
    install = [str(binaries / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
    _run([*install, "--quiet", *arguments], problem)


def _version_of(distribution: str, python: str, folder: Path) -> str:
    code = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    return _run([python, "-c", code], "is not installed", folder).strip()


def _run(command: list[str], problem: str, folder: Path | None = None) -> str:
    """Run a command, without what points Python to this checkout; return its output.

    Raises:
        ReleaseError: It failed.
    """
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "SMALLEST_API_KEY", "HYDRA_BASE_URL")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        shown = "\n".join(done.stdout.splitlines()[-_SHOWN_LINES:])
        raise ReleaseError(f"the project {problem}: {' '.join(command)} failed\n{shown}")
    return done.stdout


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
