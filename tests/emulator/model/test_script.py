"""Scripts: turns in order, calls and their narration, noise, and placeholders."""

from typing import Any

import pytest

from pipecat_hydra.emulator import (
    Call,
    Echo,
    Heard,
    HydraEmulator,
    Noise,
    Pause,
    Reply,
    Say,
    Script,
    ToolOutput,
)

HEARD = Heard(bytes(32_000))


def said(reply: Reply | None) -> list[str]:
    return [step.transcript for step in reply or () if isinstance(step, Say)]


@pytest.mark.parametrize(
    ("then", "after"),
    [
        ("echo", ["This is an echo of 1.0 seconds.", "You wrote nothing."]),
        ("repeat", ["a", "b"]),
        ("silence", []),
    ],
)
def test_a_script_after_its_last_turn(then: Any, after: list[str]) -> None:
    dialogue = Script([Say.tones(1, "a"), [Say.tones(1, "b")]], then=then).begin()
    assert [said(dialogue.answer(HEARD)), said(dialogue.prompted([]))] == [["a"], ["b"]]
    assert said(dialogue.answer(HEARD)) + said(dialogue.prompted([])) == after


def test_a_script_knows_whether_it_has_transcripts() -> None:
    mute, spoken = Say.tones(), Say.tones(0.6, "a")
    assert not Script([mute, Noise(), [mute, Call("look"), Pause(0.1)]], mute).has_transcripts
    assert not Script([]).has_transcripts
    assert Script([Noise(), spoken]).has_transcripts
    assert Script([[Call("look"), spoken]]).has_transcripts
    assert Script([mute], [mute, spoken]).has_transcripts


def test_calls_end_a_response_and_the_rest_is_narration() -> None:
    call, other, third = (Call("look", call_id=f"call_{n}") for n in (1, 2, 3))
    say, pause = [Say.tones(0.1, name) for name in "abc"], Pause(0.1)
    turn = [say[0], call, pause, other, pause, say[1], third, say[2]]
    outputs = [ToolOutput(f"call_{n}", "look", f"sight {n}") for n in (1, 2, 3)]
    dialogue = Script([turn, say[0]]).begin()
    assert dialogue.answer(HEARD) == [say[0], call, pause, other]
    assert dialogue.answer(HEARD) == [say[0]]  # the user may speak before the outputs are there
    assert dialogue.narrate(outputs[1:2]) == [pause, say[1], third]
    assert said(dialogue.narrate(outputs[:1])) == ["The tool says: sight 1"]  # the other half
    assert dialogue.narrate(outputs[2:]) == [say[2]]
    assert said(dialogue.narrate(outputs[:2])) == ["The tool says: sight 1; sight 2"]


def test_transcripts_take_in_what_tools_say_and_users_write() -> None:
    call, other = (Call("look", call_id=f"call_{n}") for n in (1, 2))
    text = "{outputs[1]}! {outputs[0]}, {outputs[2]}{output} {message} {x} {"
    narration = [Say.tones(0.1, text), other, Say.tones(0.1, "then {output}")]
    wrote = Say.tones(0.1, "{messages[1]} after {messages[0]}: {message} {output}")
    dialogue = Script([[call, *narration], wrote]).begin()
    dialogue.answer(HEARD)
    outputs = [ToolOutput("call_1", "look", "a {tower}"), ToolOutput("call_9", "hear", "\\1")]
    wanted = "\\1! a {tower}, a {tower}; \\1 {message} {x} {"
    assert said(dialogue.narrate(outputs)) == [wanted]
    assert said(dialogue.narrate([ToolOutput("call_2", "look", "a gate")])) == ["then a gate"]
    assert said(dialogue.prompted(["one", "two"])) == ["two after one: one; two {output}"]
    assert said(dialogue.prompted(["one", "two"])) == ["You wrote: one; two"]


def test_noise_is_a_turn_of_a_script() -> None:
    dialogue = Script([Say.tones(1, "a"), Noise(), Noise(), Say.tones(1, "b")]).begin()
    assert not dialogue.is_noise()
    assert said(dialogue.answer(HEARD)) == ["a"]
    assert dialogue.is_noise()
    assert said(dialogue.prompted([])) == ["b"]  # noise is nothing that can be asked for
    assert not dialogue.is_noise()
    assert not Echo().is_noise()


def test_a_script_of_noise_alone_has_no_reply() -> None:
    dialogue = Script([Noise()], then="repeat").begin()
    assert dialogue.is_noise()
    assert dialogue.is_noise()
    assert dialogue.prompted([]) is None


def test_calls_have_ids_of_their_own() -> None:
    dialogue = Script([[Call("look"), Call("look")]]).begin()
    ids = {step.call_id for step in dialogue.answer(HEARD) or () if isinstance(step, Call)}
    assert len(ids) == 2
    assert None not in ids


def test_a_script_in_python_is_checked() -> None:
    wrong: Any = [Say.tones(), [Pause(1), "hello.wav"]]
    with pytest.raises(TypeError, match="turn 1 of the script: str is not a Say"):
        HydraEmulator(wrong)
    inside: Any = [[Noise(), Say.tones()]]
    with pytest.raises(TypeError, match="turn 0 of the script: Noise is not a Say"):
        HydraEmulator(inside)
