"""Script files: what is loaded, and how a wrong file is reported."""

from pathlib import Path

import pytest
from emulator.client import RECORDINGS, emulated, recording

from pipecat_hydra.emulator import (
    Call,
    HydraEmulator,
    Noise,
    Pause,
    Say,
    ScriptError,
    load_script,
)


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
