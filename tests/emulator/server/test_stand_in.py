"""An emulator for whoever has no key."""

import pytest

from pipecat_hydra import HydraLLMService
from pipecat_hydra.emulator import Say, Script, stand_in

KEY = "SMALLEST_API_KEY"


@pytest.mark.parametrize("key", [None, "", " "])
async def test_without_a_key_it_is_served_with_a_warning(
    key: str | None, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
):
    monkeypatch.delenv(KEY, raising=False)
    if key is not None:
        monkeypatch.setenv(KEY, key)
    async with stand_in() as endpoint:
        assert endpoint["base_url"].startswith("ws://127.0.0.1:")
        assert HydraLLMService(api_key=endpoint["api_key"], base_url=endpoint["base_url"])
    (warning,) = warnings
    assert f"{KEY} is not set: talking to an emulator, which is an echo" in warning


async def test_what_it_says_may_be_given(monkeypatch: pytest.MonkeyPatch, warnings: list[str]):
    monkeypatch.delenv(KEY, raising=False)
    async with stand_in(Script([Say.tones(1.0)])) as endpoint:
        assert endpoint.keys() == {"api_key", "base_url"}
    assert "which answers in tones, by a script" in warnings[0]


async def test_with_a_key_there_is_none(monkeypatch: pytest.MonkeyPatch, warnings: list[str]):
    monkeypatch.setenv(KEY, "sk-mine")
    async with stand_in() as endpoint:
        assert endpoint == {}
    assert warnings == []
