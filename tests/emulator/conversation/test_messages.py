"""Protocol §4: message items, and what a session tells of its conversation."""

from typing import Any

import pytest
from emulator.client import SILENCE, Client, emulated, recording

from pipecat_hydra.emulator import Call, Echo, Noise, Reply, Say, Script


async def write(client: Client, text: str, role: str = "user") -> None:
    content = [{"type": "input_text", "text": text}]
    item = {"type": "message", "role": role, "content": content}
    await client.send("conversation.item.create", item=item)


def transcript(client: Client) -> str:
    deltas = client.of("response.output_audio_transcript.delta")
    return " ".join(delta["delta"] for delta in deltas)


async def test_messages_are_kept_and_answered_with_their_text() -> None:
    async with emulated(transcripts=True) as client:
        await client.configure()
        await write(client, "Answer in French.", "system")
        await write(client, "What time is it?")
        await client.sync()
        assert client.of("response.created") == []
        await client.send("response.create")
        await client.got("response.done")
        assert transcript(client) == "You wrote: Answer in French.; What time is it?"
        first, second = client.session.messages
        assert (first.role, first.text) == ("system", "Answer in French.")
        assert (second.role, second.text) == ("user", "What time is it?")
        assert 0 < first.time <= second.time <= client.session.create_times[0]
        assert "French" not in repr(first)

        await client.send("response.create")  # each is answered once
        await client.got("response.done", 2)
        assert transcript(client).endswith("You wrote nothing.")


async def test_a_message_is_a_turn_of_a_script() -> None:
    turns = [Noise(), Say.tones(0.1, "Noon: {message}"), Say.tones(0.1, "Bye")]
    async with emulated(turns, transcripts=True) as client:
        await client.configure()
        await write(client, "What time is it?")
        await client.send("response.create")
        await client.got("response.done")
        await client.say(recording("hello"), SILENCE)
        await client.got("response.done", 2)
        assert transcript(client) == "Noon: What time is it? Bye"


@pytest.mark.parametrize("respond", [True, False, "error"])
@pytest.mark.parametrize("honour", [True, False])
async def test_messages_may_mean_nothing(honour: bool, respond: Any) -> None:
    async with emulated(
        transcripts=True, honour_messages=honour, respond_to_create=respond
    ) as client:
        await client.configure()
        await write(client, "Hello")
        await client.sync()
        assert client.of("error") == []
        assert [message.text for message in client.session.messages] == ["Hello"]
        await client.send("response.create", event_id="mine")
        if honour or respond is True:
            await client.got("response.done")
            assert transcript(client) == ("You wrote: Hello" if honour else "You wrote nothing.")
            await client.send("response.create", event_id="mine")
        if respond is True:
            await client.got("response.created", 2)
            return
        await client.sync()
        assert len(client.of("response.created")) == honour
        codes = [(e["error"]["code"], e["error"]["event_id"]) for e in client.of("error")]
        assert codes == ([("invalid_request_error", "mine")] if respond == "error" else [])


async def test_a_message_may_be_answered_while_a_tool_runs() -> None:
    turns = [Call("look", call_id="call_1"), Say.tones(0.1, "Still looking, {message}")]
    async with emulated(turns, transcripts=True) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        await write(client, "well?")
        await client.send("response.create")
        await client.got("response.done", 2)
        assert transcript(client) == "Still looking, well?"
        assert client.session.call("call_1").output is None


async def test_history_tells_what_the_model_knows() -> None:
    weather = [Say.tones(0.1, "Let me see"), Call("look", {"at": "sky"}, "call_1")]
    turns = [[*weather, Say.tones(0.1, "It is {output}")], Noise(), Say.tones(30, "So " * 90)]
    async with emulated(turns, delivery_speed=2) as client:
        await client.configure()
        await client.say(recording("hello"), SILENCE)
        await client.got("response.done")
        for _ in range(2):  # the second is refused
            item = {"type": "function_call_output", "call_id": "call_1", "output": "blue"}
            await client.send("conversation.item.create", item=item)
        await client.send("response.create")
        await client.got("response.done", 2)
        await client.say(recording("hello"), SILENCE)  # noise
        await client.got("conversation.item.done", 5)
        await write(client, "Go on", "system")
        await client.send("response.create")
        await client.until(lambda: len(client.audio()) > 48_000)
        await client.send("response.cancel")
        await client.got("response.done", 3)

        history = client.session.history
        assert [(entry.role, entry.kind, entry.text) for entry in history[:-1]] == [
            ("user", "speech", ""),
            ("assistant", "speech", "Let me see"),
            ("assistant", "call", 'look {"at": "sky"}'),
            ("tool", "output", "blue"),
            ("assistant", "speech", "It is blue"),
            ("system", "text", "Go on"),
        ]
        cut = history[-1]
        assert (cut.role, cut.kind) == ("assistant", "speech")
        assert 1 <= cut.text.split().count("So") < 60
        assert "So" not in repr(cut)
        times = [entry.time for entry in history]
        assert times == sorted(times)


class Talker(Echo):
    def prompted(self, messages: Any) -> Reply:
        return [Say.tones(0.1, "one"), Call("look", ""), Say.tones(0.1, "two"), Say.tones(0.1)]


async def test_history_tells_each_stretch_of_speech() -> None:
    async with emulated(Talker()) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        assert [entry.text for entry in client.session.history] == ["one", "look ", "two"]


async def test_what_means_nothing_is_no_history() -> None:
    async with emulated(honour_messages=False) as client:
        await client.configure()
        await write(client, "Hello")
        await client.sync()
        assert client.session.history == []


async def test_tools_in_force_are_told() -> None:
    look, hear = {"type": "function", "name": "look"}, {"type": "function", "name": "hear"}
    async with emulated() as client:
        await client.configure(tools=[look])
        assert client.session.tools == [look]
        await client.send("session.update", session={"tools": [hear], "voice": "leo"})
        await client.got("error")
        assert client.session.tools == [look]
        await client.send("session.update", session={"tools": [hear]})
        await client.got("session.updated")
        assert client.session.tools == [hear]


async def test_nothing_is_kept_when_recording_is_off() -> None:
    script = Script([Call("look", call_id="call_1")])
    async with emulated(script, record=False) as client:
        session = client.session
        await client.configure()
        await write(client, "Hello")
        await client.send("response.create")
        await client.got("response.done")
        for call_id in ("call_1", "call_9"):
            item = {"type": "function_call_output", "call_id": call_id, "output": "ok"}
            await client.send("conversation.item.create", item=item)
        await client.send("response.create")
        await client.got("response.done", 2)
        assert session.calls == []
        assert session.stray_outputs == []
        assert session.narrations == []
        assert session.messages == []
        assert session.history == []
        assert session.create_times == []
