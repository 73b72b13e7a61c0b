"""The bots of docs/migrating/: each before and after, and the difference that the page shows."""

import difflib
import re
import sys
from typing import Any

import pytest
from pipecat.pipeline.worker import PipelineWorker
from support.bots import EXAMPLES, example
from support.call import Ears, recording

from pipecat_hydra.emulator import Call, Say
from pipecat_hydra.testing import BargeIn, VirtualTransport
from pipecat_hydra.testing.pytest_plugin import HoldCall

PAGES = {"openai": "openai-realtime", "gemini": "gemini-live", "cascade": "cascade"}

WEATHER = [
    [Call("get_weather", {"city": "Paris"}), Say.tones(3, "In Paris the sky is clear.")],
    Say.tones(1, "As you like."),
]


def source(name: str) -> str:
    return (EXAMPLES / "migrating" / f"{name}.py").read_text("utf-8")


def difference(name: str) -> str:
    """Make the difference between a bot before and after, as `diff -u` in its folder does."""
    before, after = f"{name}_before", f"{name}_after"
    lines = difflib.unified_diff(
        source(before).splitlines(keepends=True),
        source(after).splitlines(keepends=True),
        f"{before}.py",
        f"{after}.py",
    )
    return "".join(lines)


def blocks(page: str, language: str) -> list[str]:
    """The blocks of a language on a page."""
    text = (EXAMPLES.parent / "docs" / "migrating" / f"{page}.md").read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", PAGES)
class TestPage:
    def test_it_shows_the_whole_bot_before(self, name: str):
        assert source(f"{name}_before") in blocks(PAGES[name], "python")

    def test_it_shows_what_really_differs(self, name: str):
        assert blocks(PAGES[name], "diff") == [difference(name)]


@pytest.mark.parametrize("name", PAGES)
class TestBot:
    async def test_before_builds_its_pipeline(self, name: str, monkeypatch: pytest.MonkeyPatch):
        if name == "gemini":
            pytest.importorskip("google.genai", reason="pipecat-ai[google] is not installed")
        for variable in ("OPENAI_API_KEY", "GOOGLE_API_KEY", "CARTESIA_API_KEY"):
            monkeypatch.setenv(variable, "not-a-key")
        worker = example(f"migrating/{name}_before").build(VirtualTransport())
        assert isinstance(worker, PipelineWorker)
        await worker.cleanup()

    @pytest.mark.hydra(WEATHER, transcripts=True)
    async def test_after_holds_a_call(
        self, name: str, call: HoldCall, monkeypatch: pytest.MonkeyPatch
    ):
        bot = example(f"migrating/{name}_after")
        # As if it had been imported, so that the call gives its transport to `create_transport`.
        monkeypatch.setitem(sys.modules, bot.__name__, bot)
        given: list[dict[str, Any]] = []

        def stand_in_for_pulse(**arguments: Any) -> Ears:
            given.append(arguments)
            return Ears("How is the weather in Paris?", "Stop.")

        monkeypatch.setattr(bot, "SmallestSTTService", stand_in_for_pulse)
        result = await call(recording("hello"), BargeIn(recording("hello"), after=1.0), bot=bot.bot)
        assert [list(arguments) for arguments in given] == [["api_key"]]
        assert [reply.words for reply in result.replies][1:] == [
            "In Paris the sky is clear.",
            "As you like.",
        ]
        result.assert_called("get_weather", city="Paris")
        result.assert_barge_in_within(1.0)
        result.assert_no_errors()
        result.assert_ended_by("user")
