"""What a release is held to before it is built, and how the check tells what is wrong."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools import release_check
from tools.release_check import (
    ReleaseError,
    check_sdist_names,
    check_version,
    lowest_python,
    lowest_versions,
)

PROJECT = {"version": "1.2.0", "requires-python": ">=3.11,<4"}
RELEASED = "# Changelog\n\n## [1.2.0] - 2026-01-31\n\n## [1.1.0] - 2025-12-24\n"
UNRELEASED = "# Changelog\n\n## [1.2.0] - Unreleased\n"


class TestVersion:
    @pytest.mark.parametrize("changelog", [RELEASED, UNRELEASED])
    def test_before_there_is_a_tag(self, changelog: str):
        assert check_version(PROJECT, changelog, None) == "1.2.0"

    def test_of_the_tag(self):
        assert check_version(PROJECT, RELEASED, "v1.2.0") == "1.2.0"

    @pytest.mark.parametrize(
        ("changelog", "tag", "message"),
        [
            (
                "## [1.1.0] - 2025-12-24",
                None,
                "version 1.2.0, the newest in CHANGELOG.md is 1.1.0: write the same in both",
            ),
            ("# Changelog", None, "no heading such as"),
            (RELEASED, "v1.3.0", "the tag is v1.3.0, and version 1.2.0 has the tag v1.2.0"),
            (RELEASED, "1.2.0", "the tag is 1.2.0, and version 1.2.0 has the tag v1.2.0"),
            (UNRELEASED, "v1.2.0", "says 'Unreleased' for 1.2.0: write the date"),
        ],
    )
    def test_that_is_wrong(self, changelog: str, tag: str | None, message: str):
        with pytest.raises(ReleaseError, match=message):
            check_version(PROJECT, changelog, tag)


def test_lowest_versions_are_those_of_the_lower_bounds():
    requirements = [
        "numpy>=1.26.4,<3",
        "loguru~=0.7.3",
        "exact==1",
        "no-bound<2",
        "elsewhere>=1; sys_platform == 'none'",
        "here>=2; python_version >= '3'",
    ]
    assert lowest_versions(requirements) == [
        "numpy==1.26.4",
        "loguru==0.7.3",
        "exact==1",
        "here==2",
    ]


def test_the_lowest_python_is_that_of_the_project():
    assert lowest_python(PROJECT) == "3.11"


def test_an_sdist_that_is_whole():
    check_sdist_names(["a.py", "b/c.md"], ["b/c.md", "a.py", "PKG-INFO"])


@pytest.mark.parametrize("packed", [["a.py"], ["a.py", "b.md", "left-over"]])
def test_an_sdist_that_lacks_a_file_or_has_one_more(packed: list[str]):
    with pytest.raises(ReleaseError, match=r"differ in 1: (b\.md|left-over)"):
        check_sdist_names(["a.py", "b.md"], packed)


class TestCommand:
    @pytest.fixture
    def root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        lines = ["[project]", 'version = "1.2.0"', 'requires-python = ">=3.11"']
        (tmp_path / "pyproject.toml").write_text("\n".join(lines), encoding="utf-8")
        (tmp_path / "CHANGELOG.md").write_text(UNRELEASED, encoding="utf-8")
        monkeypatch.setattr(release_check, "_ROOT", tmp_path)
        return tmp_path

    def test_the_wrong_tag(self, root: Path, capsys: pytest.CaptureFixture[str]):
        assert release_check.main(["--tag", "v9"]) == 1
        assert "release-check: the tag is v9" in capsys.readouterr().err

    def test_a_command_that_fails(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            return subprocess.CompletedProcess(command, 1, stdout="what the tool says\n")

        monkeypatch.setattr(release_check.subprocess, "run", run)
        assert release_check.main([]) == 1
        output = capsys.readouterr()
        assert "agree on version 1.2.0" in output.out
        assert "the project cannot be built" in output.err
        assert f"{sys.executable} -m build" in output.err
        assert output.err.endswith("what the tool says\n")
