"""Protocol §6: tool calls, their answers, and what comes of wrong ones."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from pipecat_hydra.emulator import Call, Echo, Pause, Reply, Say, ToolOutput

from .client import SILENCE, Client, emulated, recording

LOOK = Call("look", {"where": "here"}, call_id="call_1")
HEAR = Call("hear", call_id="call_2")
ANSWER = Say(bytes(4_800), 24_000)


async def output(client: Client, call_id: str, text: str = "ok", **fields: Any) -> None:
    item = {"type": "function_call_output", "call_id": call_id, "output": text}
    await client.send("conversation.item.create", item=item, **fields)


async def test_a_call_has_the_documented_order() -> None:
    async with emulated([[LOOK, Pause(0.01), ANSWER]]) as client:
        await client.configure()
        await client.say(recording("hello"), SILENCE)
        done = (await client.got("response.done"))["response"]
        assert client.types[client.types.index("response.created") :] == [
            "response.created",
            "conversation.item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "conversation.item.done",
            "response.done",
        ]
        item = client.of("conversation.item.done")[-1]["item"]
        assert done["status"] == "completed"
        assert done["output"] == [item]
        assert item["name"] == "look"

        deltas = client.of("response.function_call_arguments.delta")
        arguments = client.of("response.function_call_arguments.done")[0]
        assert deltas[0]["name"] == arguments["name"] == "look"
        assert {event["call_id"] for event in (*deltas, arguments)} == {"call_1"}
        assert "".join(event["delta"] for event in deltas) == arguments["arguments"]
        assert json.loads(arguments["arguments"]) == {"where": "here"}

        await output(client, "call_1")
        await client.sync()
        assert client.types[-1] == "response.done"  # no word before `response.create`
        await client.send("response.create")
        narration = (await client.got("response.done", 2))["response"]
        assert client.audio(narration["id"]) == ANSWER.audio
        assert client.of("error") == []


async def test_speech_may_come_before_a_call_and_arguments_need_not_be_json() -> None:
    async with emulated([[ANSWER, Call("look", "{broken")]]) as client:
        await client.configure()
        await client.send("response.create")
        done = (await client.got("response.done"))["response"]
        assert [item["type"] for item in done["output"]] == ["message", "function_call"]
        arguments = client.of("response.function_call_arguments.done")[0]
        assert arguments["arguments"] == "{broken"
        assert arguments["call_id"].startswith("call_")


class Narrator(Echo):
    """Keeps the outputs that it was to narrate."""

    outputs: list[list[ToolOutput]]

    def begin(self) -> "Narrator":
        object.__setattr__(self, "outputs", [])
        return self

    def prompted(self, messages: Sequence[str]) -> Reply:
        return [LOOK, HEAR]

    def narrate(self, outputs: Sequence[ToolOutput]) -> Reply:
        self.outputs.append(list(outputs))
        return [ANSWER]


async def test_two_calls_make_one_narration() -> None:
    narrator = Narrator()
    async with emulated(narrator) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        await output(client, "call_2", "a bell")
        await output(client, "call_1", "a tower")
        await client.send("response.create")
        await client.got("response.done", 2)
        assert narrator.outputs == [
            [ToolOutput("call_2", "hear", "a bell"), ToolOutput("call_1", "look", "a tower")]
        ]
        assert "bell" not in repr(narrator.outputs)


async def test_one_create_per_call_narrates_half_an_answer_each() -> None:
    narrator = Narrator()
    async with emulated(narrator) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        for call_id in ("call_1", "call_2"):
            await output(client, call_id)
            await client.send("response.create")
        await client.got("response.done", 3)
        assert [[output.name for output in half] for half in narrator.outputs] == [
            ["look"],
            ["hear"],
        ]


async def test_narration_waits_for_the_response_in_flight() -> None:
    # It waits for longer than the tool's time: the client did its part in time.
    turns = [[LOOK, ANSWER], Say.tones(2.0)]
    async with emulated(turns, tool_timeout_secs=1.5, delivery_speed=1) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        await client.say(recording("hello"), SILENCE)
        await client.got("response.output_audio.delta")
        await output(client, "call_1")
        await client.send("response.create")
        narration = (await client.got("response.done", 3))["response"]
        assert client.audio(narration["id"]) == ANSWER.audio
        statuses = [event["response"]["status"] for event in client.of("response.done")]
        assert statuses == ["completed"] * 3


@pytest.mark.parametrize("call_id", ["call_1", "call_9"])
async def test_an_output_nobody_waits_for_is_an_error(call_id: str) -> None:
    async with emulated([[LOOK, ANSWER]]) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        await output(client, "call_1")
        await output(client, call_id, event_id="mine")  # answered already, or never made
        error = (await client.got("error"))["error"]
        assert (error["code"], error["event_id"]) == ("invalid_request_error", "mine")
        await client.send("response.create")
        await client.got("response.done", 2)


async def test_create_before_any_output_is_an_error() -> None:
    async with emulated([[LOOK, ANSWER]]) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        await client.send("response.create", event_id="mine")
        assert (await client.got("error"))["error"]["event_id"] == "mine"


@pytest.mark.parametrize("answered", [True, False])
async def test_a_call_not_followed_up_times_out(answered: bool) -> None:
    async with emulated([[LOOK, ANSWER], ANSWER], tool_timeout_secs=0.2) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        if answered:
            await output(client, "call_1")
        assert (await client.got("error"))["error"]["code"] == "tool_response_timeout"
        await output(client, "call_1")
        assert (await client.got("error", 2))["error"]["code"] == "invalid_request_error"
        await client.say(recording("hello"), SILENCE)  # the next turn goes on
        done = (await client.got("response.done", 2))["response"]
        assert client.audio(done["id"]) == ANSWER.audio


async def test_an_answered_call_does_not_time_out() -> None:
    async with emulated(
        [[LOOK, Say.tones(1.2)]], tool_timeout_secs=1.0, delivery_speed=1
    ) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        await output(client, "call_1")
        await client.send("response.create")
        await client.got("response.done", 2)
        assert client.of("error") == []


class Reader(Echo):
    """Keeps the texts that it was sent."""

    texts: list[list[str]]

    def begin(self) -> "Reader":
        object.__setattr__(self, "texts", [])
        return self

    def prompted(self, messages: Sequence[str]) -> Reply:
        self.texts.append(list(messages))
        return [ANSWER]


async def test_create_outside_a_tool_turn_speaks() -> None:
    reader = Reader()
    async with emulated(reader) as client:
        await client.configure()
        content = [{"type": "input_text", "text": "What time is it?"}]
        item = {"type": "message", "role": "user", "content": content}
        await client.send("conversation.item.create", item=item)
        await client.send("response.create", response={})
        await client.got("response.done")
        await client.send("response.create")
        await client.got("response.done", 2)
        assert reader.texts == [["What time is it?"], []]


async def test_create_outside_a_tool_turn_may_do_nothing() -> None:
    async with emulated(respond_to_create=False) as client:
        await client.configure()
        await client.send("response.create")
        await client.sync()
        assert client.types == ["session.created", "session.configured"]


async def test_create_while_a_response_is_in_flight_is_an_error() -> None:
    async with emulated([Say.tones(30)], delivery_speed=1) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.created")
        await client.send("response.create", event_id="mine")
        assert (await client.got("error"))["error"]["event_id"] == "mine"
