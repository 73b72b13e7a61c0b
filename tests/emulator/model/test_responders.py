"""Responders: scripts in Python and in YAML, and responders that fail."""

import wave
from pathlib import Path
from typing import Any

import pytest
from emulator.client import RECORDINGS, SILENCE, emulated, recording

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
    ScriptError,
    ToolOutput,
    load_script,
)

HEARD = Heard(bytes(32_000))


def said(reply: Reply | None) -> list[str]:
    return [step.transcript for step in reply or () if isinstance(step, Say)]


def test_an_echo_is_cut_at_its_longest() -> None:
    (step,) = Echo(max_secs=0.5).answer(HEARD)
    assert isinstance(step, Say)
    assert len(step.audio) == 16_000


def test_a_recording_is_mixed_down_to_mono(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "stereo.wav"), "wb") as file:
        file.setparams((2, 2, 8_000, 0, "NONE", ""))
        file.writeframes(b"\x00\x02\x00\x04" * 100)
    step = Say.file(tmp_path / "stereo.wav", "words")
    assert step == Say(b"\x00\x03" * 100, 8_000, "words")
    assert "\\x03" not in repr(step)


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


async def test_a_silent_model_answers_nothing() -> None:
    async with emulated(Script([Say.tones(), []], then="silence")) as client:
        await client.configure()
        for count in (1, 2, 3):
            await client.say(recording("hello"), SILENCE)
            await client.got("conversation.item.done", count + (count > 0))
            await client.sync()
        assert len(client.of("response.created")) == 1


class Mute(Echo):
    def prompted(self, messages: Any) -> Reply:
        return []


async def test_a_model_that_stays_silent_holds_up_nothing() -> None:
    async with emulated(Mute()) as client:
        await client.configure()
        for _ in range(3):
            await client.send("response.create")
        await client.sync()
        assert client.types == ["session.created", "session.configured"]


class Failing(Echo):
    def answer(self, heard: Heard) -> Reply:
        raise RuntimeError("no answer")

    def prompted(self, messages: Any) -> Reply:
        return [Say.tones(0.1), Call("look", {"set": {1, 2}})]  # sets are not JSON

    def is_noise(self) -> bool:
        raise RuntimeError("no opinion")


async def test_a_failing_responder_does_not_end_the_session() -> None:
    async with emulated(Failing()) as client:
        await client.configure()
        await client.say(recording("hello"), SILENCE)
        assert (await client.got("error", 2))["error"]["code"] == "internal_error"
        await client.send("response.create")
        assert (await client.got("error", 3))["error"]["code"] == "internal_error"
        failed = (await client.got("response.done"))["response"]
        assert failed["status"] == "failed"
        assert failed["status_details"]["error"]["code"] == "internal_error"
        await client.say(recording("hello"), SILENCE)
        await client.got("error", 5)


async def test_a_response_that_fails_before_it_began_holds_up_nothing() -> None:
    turns = [[Call("look", call_id="call_1"), Say(b"odd", 8_000)], Say(b"odd", 8_000), Say.tones()]
    async with emulated(turns, calls_done="after_narration_began") as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.function_call_arguments.done")
        item = {"type": "function_call_output", "call_id": "call_1", "output": "ok"}
        await client.send("conversation.item.create", item=item)
        await client.send("response.create")
        assert (await client.got("error"))["error"]["code"] == "internal_error"
        assert (await client.got("response.done"))["response"]["status"] == "completed"
        await client.send("response.create")
        await client.got("error", 2)
        await client.send("response.create")
        done = (await client.got("response.done", 2))["response"]
        assert done["status"] == "completed"
        assert len(client.of("response.created")) == 2


async def test_a_script_file_is_played(tmp_path: Path) -> None:
    (tmp_path / "say.wav").write_bytes((RECORDINGS / "hello.wav").read_bytes())
    path = tmp_path / "script.yaml"
    path.write_text(
        """
        greeting:
          tones: 0.1
          transcript: Good morning
        turns:
          - say: say.wav
            transcript: Hello there
          - - call: get_weather
              arguments: {city: Zürich}
              call_id: call_mine
            - call: other
              arguments: "{"
            - pause: 0.01
            - tones: 0.1
              transcript: "It rains: {outputs[1]}"
          - noise: true
        then: silence
        """,
        encoding="utf-8",
    )
    script = load_script(path)
    assert script.then == "silence"
    hello = Say(recording("hello"), 16_000, "Hello there")
    assert script.turns[0] == [hello]
    assert script.turns[1] == [
        Call("get_weather", {"city": "Zürich"}, "call_mine"),
        Call("other", "{"),
        Pause(0.01),
        Say.tones(0.1, "It rains: {outputs[1]}"),
    ]
    assert script.turns[2:] == [Noise()]

    async with emulated(str(path), output_sample_rate=16_000, transcripts=True) as client:
        await client.configure(generate_initial_response=True)
        await client.got("response.done")
        await client.send("response.create")
        answer = (await client.got("response.done", 2))["response"]["id"]
        assert client.audio(answer) == hello.audio
        texts = [e["delta"] for e in client.of("response.output_audio_transcript.delta")]
        assert texts == ["Good morning", "Hello there"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("turns: [", "is not YAML"),
        ("- say: a.wav", "must be a mapping with `turns`"),
        ("greeting: {tones: 1}", "turns: Field required"),
        ("turns: []", "turns: List should have at least 1 item"),
        ("turns: [1]", "turns[0]: "),
        ("turns: [{tones: 1}]\nthan: echo", "than: Extra inputs are not permitted"),
        ("turns: [{tones: 1}]\nthen: shout", "then: Input should be 'echo', 'repeat' or"),
        ("turns: [{sey: a.wav}]", "turns[0]: must have exactly one of say, tones, call, pause"),
        ("turns: [[{tones: 1}, {tones: 1, pause: 1}]]", "turns[0][1]: must have exactly one of"),
        ("turns: [{pause: long}]", "turns[0].pause: Input should be a valid number"),
        ("turns: [{pause: 1, text: x}]", "turns[0].text: Extra inputs are not permitted"),
        ("turns: [{noise: false}]", "turns[0].noise: Input should be True"),
        ("turns: [{noise: true, tones: 1}]", "turns[0].tones: Extra inputs are not permitted"),
        ("turns: [[{noise: true}]]", "turns[0][0]: must have exactly one of say, tones"),
        ("turns: [{tones: -1}]", "turns[0].tones: Input should be greater than 0"),
        ("turns: [{call: x, arguments: 3}]", "turns[0].arguments: Input should be"),
        (
            "turns: [{call: x, arguments: {day: 2026-03-01}}]",
            "turns[0].arguments: Object of type date",
        ),
        ("turns: [{tones: 1, transcript: 2026-13-45}]", "is not YAML: month must be in 1..12"),
        ("turns: [{say: none.wav}]", "none.wav: No such file or directory"),
        ("turns: [[{say: script.yaml}]]", "turns[0][0].say: "),
        ("greeting: {say: none.wav}\nturns: [{tones: 1}]", "greeting.say: "),
    ],
)
def test_a_wrong_script_file_tells_file_and_place(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "script.yaml"
    path.write_text(text)
    with pytest.raises(ScriptError) as caught:
        HydraEmulator(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert problem in str(caught.value)


def test_a_script_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "script.yaml"
    with pytest.raises(ScriptError, match="No such file"):
        load_script(path)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ScriptError, match="is not UTF-8 text"):
        load_script(path)
    (tmp_path / "headerless.raw").write_bytes(bytes(320))
    path.write_text("turns: [{say: headerless.raw}]")
    with pytest.raises(ScriptError, match=r"headerless\.raw: not an audio file"):
        load_script(path)
