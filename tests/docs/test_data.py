"""The data on the pages: scripts of the emulator load, and YAML, JSON and TOML parse."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml
from support.call import RECORDINGS
from support.documents import PAGES, Block, Page

from pipecat_hydra.emulator import Script
from pipecat_hydra.emulator.model.script_file import load_script

DATA = [
    pytest.param(page, block, id=f"{page}:{block.line}")
    for page in PAGES
    for block in page.blocks("yaml", "yml", "json", "toml", "jsonl")
]


@pytest.mark.parametrize(("page", "block"), DATA)
def test_the_data_of_a_page_parse(page: Page, block: Block, tmp_path: Path):
    match block.language:
        case "json":
            json.loads(block.code)
        case "jsonl":
            assert [json.loads(line) for line in block.code.splitlines()]
        case "toml":
            assert tomllib.loads(block.code)
        case _:
            documents = list(yaml.safe_load_all(block.code))
            assert documents
            if any(isinstance(one, dict) and "turns" in one for one in documents):
                load_as_script(block, tmp_path)


def load_as_script(block: Block, folder: Path) -> None:
    """Load a script; the recordings that it names are there."""
    told = yaml.safe_load(block.code)
    for name in recordings_of(told):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(RECORDINGS / "hello.wav", folder / name)
    (folder / "script.yaml").write_text(block.code, encoding="utf-8")
    assert isinstance(load_script(folder / "script.yaml"), Script)


def recordings_of(told: object) -> list[str]:
    match told:
        case {"say": str(name)}:
            return [name]
        case dict():
            return [name for value in told.values() for name in recordings_of(value)]
        case list():
            return [name for value in told for name in recordings_of(value)]
        case _:
            return []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_each_block_says_its_language(page: Page):
    known = {
        *("python", "sh", "bash", "yaml", "json", "jsonl", "toml", "text", "diff"),
        *("dockerfile", "ini", "html", "javascript", "promql", "console"),
    }
    for block in page.blocks():
        assert block.language in known, f"{page}:{block.line}: {block.language!r}"
