"""The Python on the pages runs; `support/documents.py` says how a page tells what it is."""

import ast
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from support.call import RECORDINGS
from support.documents import DOCS, PAGES, Block, Page
from support.documents import page as read_page
from support.page_program import (
    DURING_A_CALL,
    NOT_CALLED,
    NOT_RUN,
    CallsEachFunction,
    PageProgram,
)
from support.plugin_project import ARGUMENTS, VIRTUAL_TIME

from pipecat_hydra.emulator import HydraEmulator
from pipecat_hydra.wire.protocol import BASE_URL_VARIABLE, KEY_VARIABLE

pytest_plugins = ["pytester"]

FRAME = Path(__file__).parent / "frame"
SUPPORT = Path(__file__).parent.parent / "support"
RECORDED_CALL = "2026-11-30T21-40-12-3f9a"

# How many blocks of a page do not run, and how many make a service that cannot be called here.
# Each gives its reason on the page.
NOT_RUN_ON = {
    "docs/migrating/gemini-live.md": 1,
    "docs/observability.md": 1,
    "docs/replay.md": 1,
}
NOT_CALLED_ON = {
    "docs/guides/deployment.md": 1,
    "docs/guides/transcripts.md": 1,
    "docs/reference/network.md": 1,
}

# Of the files of a page, what holds a call with the bot in one of them.
CALL_WITH_BOT = """
    import {module} as module

    async def test_a_call_with_{module}(call):
        bot = getattr(module, "bot", None) or module.run_bot
        result = await call("question.wav", bot=bot)
        assert result.replies
        result.assert_no_errors()
"""


def python_of(page: Page) -> list[Block]:
    return page.blocks("python", "py")


def files_of(page: Page) -> list[Block]:
    return [block for block in python_of(page) if block.file]


PIPECAT_PAGE = read_page(DOCS / "pipecat" / "hydra.mdx")
"""The page about this package for Pipecat's own documentation; it is not of the site."""
WITH_PYTHON = [
    page for page in [*PAGES, PIPECAT_PAGE] if any(not block.file for block in python_of(page))
]
WITH_FILES = [page for page in PAGES if files_of(page)]


def furnish(folder: Path, page: Page) -> None:
    """Put into a folder what a page may speak of."""
    shutil.copy(RECORDINGS / "question.wav", folder)
    shutil.copy(RECORDINGS / "interrupt.wav", folder / "stop.wav")
    shutil.copytree(RECORDINGS / "calls" / "weather", folder / "calls" / RECORDED_CALL)
    shutil.copy(FRAME / "bot.py", folder)
    shutil.copy(SUPPORT / "intercepting_authority.pem", folder / "proxy.pem")
    for block in files_of(page):
        assert block.file is not None
        (folder / block.file).write_text(block.code, encoding="utf-8")


@pytest.fixture
def _modules_are_as_before() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if not (getattr(sys.modules[name], "__file__", None) or "").startswith(sys.prefix):
            del sys.modules[name]


@pytest.mark.usefixtures("_modules_are_as_before")
@pytest.mark.parametrize("page", WITH_PYTHON, ids=str)
async def test_the_blocks_of_a_page_run(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    furnish(tmp_path, page)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    responder = CallsEachFunction()
    async with HydraEmulator(responder) as hydra:
        responder.hydra = hydra
        monkeypatch.setenv(KEY_VARIABLE, hydra.api_key)
        monkeypatch.setenv(BASE_URL_VARIABLE, hydra.url)
        await PageProgram(page).run([block for block in python_of(page) if not block.file])


@pytest.mark.parametrize("page", WITH_FILES, ids=str)
def test_the_files_of_a_page_work(page: Page, pytester: pytest.Pytester):
    furnish(pytester.path, page)
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function")
    pytester.makeconftest(VIRTUAL_TIME)
    expected = 0
    for block in files_of(page):
        assert block.file is not None
        compile(block.code, str(page), "exec")
        if block.mark.startswith(NOT_RUN):
            continue
        defined = {
            node.name
            for node in ast.parse(block.code).body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        if block.file.startswith("test_"):
            expected += sum(name.startswith("test_") for name in defined)
        elif {"bot", "run_bot"} & defined:
            module = block.file.removesuffix(".py")
            test = dedent(CALL_WITH_BOT.format(module=module))
            pytester.makepyfile(**{f"test_call_with_{module}": test})
            expected += 1
    pytester.runpytest_inprocess(*ARGUMENTS).assert_outcomes(passed=expected)


SETTINGS_OF_PYTEST = [
    (page, block)
    for page in PAGES
    for block in page.blocks("toml")
    if "[tool.pytest.ini_options]" in block.code
]


@pytest.mark.parametrize(
    ("page", "block"), SETTINGS_OF_PYTEST, ids=[str(page) for page, _ in SETTINGS_OF_PYTEST]
)
def test_the_settings_of_pytest_on_a_page_raise_no_warning(
    page: Page, block: Block, pytester: pytest.Pytester
):
    pytester.makepyprojecttoml(block.code)
    pytester.makepyfile("async def test_it(): pass")
    result = pytester.runpytest_subprocess("-W", "ignore:'audioop':DeprecationWarning")
    result.assert_outcomes(passed=1, warnings=0)
    assert "Warning" not in result.stderr.str() + result.stdout.str()


@pytest.mark.parametrize(
    ("mark", "counted"),
    [(NOT_RUN, NOT_RUN_ON), (NOT_CALLED, NOT_CALLED_ON)],
    ids=["not run", "no call"],
)
def test_what_does_not_run_is_counted_and_has_a_reason(mark: str, counted: dict[str, int]):
    found: dict[str, int] = {}
    for page in PAGES:
        for block in page.blocks():
            if block.mark.startswith(mark):
                assert len(block.mark.removeprefix(mark)) > 10, f"{page}:{block.line}"
                found[str(page)] = found.get(str(page), 0) + 1
    assert found == counted


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_comment_above_a_block_is_one_that_is_known(page: Page):
    known = (NOT_RUN, NOT_CALLED, DURING_A_CALL, "generated: ", "end")
    for block in page.blocks():
        assert not block.mark or block.mark.startswith(known), f"{page}:{block.line}: {block.mark}"
