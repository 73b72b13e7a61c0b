"""`pipecat-hydra replay`: the same service is the same call, and a changed one is told apart."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recordings.calls.make import SEED
from support.command import assert_failed, run

from pipecat_hydra import HydraLLMService
from pipecat_hydra.cli.replay.comparison import Comparison
from pipecat_hydra.cli.replay.run import ReplayOptions, replay
from pipecat_hydra.conversation.call_rules import CallRules
from pipecat_hydra.recording import Record, Recording
from pipecat_hydra.service.turns import TurnAnnouncements

CALL = Path(__file__).parent.parent / "recordings" / "calls" / "weather"


@pytest.fixture(autouse=True)
def _same_dice() -> None:
    """Have the service wait before it connects again for as long as when it was recorded."""
    random.seed(SEED)


def frames(folder: Path) -> list[Record]:
    """The frames of a recording, without what is measured."""
    kept = [r for r in Recording.open(folder).records if r.source == "pipeline"]
    return [record for record in kept if record.type not in ("heard", "metrics")]


async def replayed(
    make_service: Callable[..., HydraLLMService] = HydraLLMService, call: Path = CALL
) -> Comparison:
    return await replay(ReplayOptions(call=call), make_service=make_service)


async def test_the_same_service_is_the_same_call_twenty_times(tmp_path: Path):
    recorded = frames(CALL)
    assert len(recorded) > 60
    for number in range(20):
        random.seed(SEED)
        options = ReplayOptions(call=CALL, record=tmp_path / str(number))
        assert (await replay(options)).differences == []
        (folder,) = (tmp_path / str(number)).iterdir()
        again = frames(folder)
        assert [(r.type, r.data) for r in again] == [(r.type, r.data) for r in recorded]
        apart = [abs(ours.t - theirs.t) for ours, theirs in zip(recorded, again, strict=True)]
        assert max(apart) < 0.02


async def test_another_instruction_is_told_in_each_session():
    def other(**arguments: Any) -> HydraLLMService:
        settings = arguments.pop("settings")
        instruction = settings.system_instruction.replace("one short", "two long")
        settings = replace(settings, system_instruction=instruction)
        return HydraLLMService(settings=settings, **arguments)

    found = (await replayed(other)).differences
    assert len(found) == 3
    assert found[0].startswith("session 1, call.jsonl line ")
    assert found[0].endswith(
        's: session.configure: session.instructions: expected "…oice assistant. Reply in one short '
        'sentence.", came "…oice assistant. Reply in two long sentence."'
    )


async def test_another_result_of_a_function_is_told_by_its_field():
    class Other(HydraLLMService):
        def register_function(self, function_name: Any, handler: Any, **kwargs: Any) -> None:
            async def other(params: Any) -> None:
                give = params.result_callback

                async def change(result: Any, **more: Any) -> None:
                    await give({**result, "degrees_celsius": 22}, **more)

                params.result_callback = change
                await handler(params)

            super().register_function(function_name, other, **kwargs)

    found = (await replayed(Other)).differences
    sent = [one for one in found if "item.output" in one]
    assert len(sent) == 3  # one for each session
    assert all(one.endswith("item.output.degrees_celsius: expected 21, came 22") for one in sent)
    frames = [one for one in found if one.startswith("function calls: function_ended at ")]
    assert len(frames) == 3
    assert all(one.endswith("result.degrees_celsius: expected 21, came 22") for one in frames)


async def test_a_narration_that_is_not_asked_for_is_told(monkeypatch: pytest.MonkeyPatch):
    def forget(rules: CallRules, now: float) -> None:
        for _ in rules._calls.take_settled(now):
            pass

    monkeypatch.setattr(CallRules, "want_replies", forget)
    found = (await replayed()).differences
    assert found[0].endswith("response.create did not come")
    assert any(one.startswith("replies: tts_started at ") for one in found)
    assert "speech of the bot: bot_started" in "\n".join(found)


async def test_a_barge_in_that_interrupts_nothing_is_told(monkeypatch: pytest.MonkeyPatch):
    async def announce_nothing(_: TurnAnnouncements) -> None:
        pass

    monkeypatch.setattr(TurnAnnouncements, "started", announce_nothing)
    found = (await replayed()).differences
    interruptions = [one for one in found if one.startswith("interruptions: ")]
    assert len(interruptions) == 6
    assert all(one.endswith(" s is missing") for one in interruptions)


def test_the_command_says_what_is_the_same():
    result = run("replay", CALL, "--strict")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].split() == ["recorded", "replayed"]
    assert "turns                           13          13  0 ms apart" in result.stdout
    assert result.stdout.endswith("0 differences\n")


def test_the_command_fails_for_differences_if_it_is_strict(tmp_path: Path):
    call = tmp_path / "call"
    shutil.copytree(CALL, call)
    lines = (call / "call.jsonl").read_text("utf-8")
    changed = lines.replace('"function_call_output"', '"function_call_answer"', 1)
    (call / "call.jsonl").write_text(changed, "utf-8")
    result = run("replay", call, "--strict", "--json", "--record", tmp_path / "again")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["same"] is False
    assert "did not come" in told["differences"][0]
    turns = told["frames"]["turns"]
    assert (turns["recorded"], turns["replayed"]) == (13, 13)
    assert set(told["latencies"]) == {"answer", "barge_in", "tool_turn", "ttfb"}
    (folder,) = (tmp_path / "again").iterdir()
    assert Recording.open(folder).is_complete
    assert run("replay", call).exit_code == 0


def test_what_cannot_be_replayed_is_told(tmp_path: Path):
    assert_failed(run("replay", tmp_path), 2, "has no recording of a call")
    call = tmp_path / "call"
    shutil.copytree(CALL, call)
    (call / "user.flac").unlink()
    assert_failed(run("replay", call), 2, "has no audio of the user")
    header = (call / "call.jsonl").read_text("utf-8").splitlines()[0]
    (call / "call.jsonl").write_text(header, "utf-8")
    assert_failed(run("replay", call), 2, "has no session")
