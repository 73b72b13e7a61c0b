"""Protocol §6: tool calls, their answers, and what comes of wrong ones."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from emulator.client import SILENCE, Client, emulated, recording

from pipecat_hydra.emulator import Call, Echo, Pause, Reply, Say, Script, ToolOutput

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


async def test_a_session_tells_of_its_calls() -> None:
    turns = [[LOOK, HEAR, Say.tones(0.1, "{outputs[1]} from {outputs[0]}")]]
    async with emulated(turns, transcripts=True) as client:
        await client.configure()
        await client.send("response.create")
        done = (await client.got("response.done"))["response"]
        await output(client, "call_2", "a bell")
        await output(client, "call_1", "a tower")
        await asyncio.sleep(0.2)
        await client.send("response.create")
        narration = (await client.got("response.done", 2))["response"]

        look, hear = client.session.calls
        assert (look.call_id, look.name, look.arguments) == ("call_1", "look", LOOK.text)
        assert look.response_id == hear.response_id == done["id"]
        (seen,), (heard,) = look.outputs, hear.outputs
        assert (seen.call_id, seen.output, seen.accepted) == ("call_1", "a tower", True)
        assert (look.output, hear.output) == ("a tower", "a bell")
        assert 0 < look.time <= hear.time < heard.time <= seen.time
        assert client.session.call("call_2") is hear
        with pytest.raises(KeyError):
            client.session.call("call_9")

        (record,) = client.session.narrations
        assert [o.call_id for o in record.outputs] == ["call_1", "call_2"]
        assert (record.missing, record.response_id) == ((), narration["id"])
        assert seen.time <= record.last_output_at < seen.time + 0.1
        assert 0.15 < record.settle_secs < 0.6
        assert record.asked_at == pytest.approx(client.session.create_times[1], abs=0.05)
        assert client.session.errors == []
        text = " ".join(d["delta"] for d in client.of("response.output_audio_transcript.delta"))
        assert text == "a bell from a tower"
        assert "tower" not in repr((look, record))


async def test_a_narration_that_is_not_laid_down_tells_the_outputs() -> None:
    async with emulated([[LOOK, HEAR]], transcripts=True) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        await output(client, "call_1", "a tower")
        await output(client, "call_2", "a bell")
        await client.send("response.create")
        await client.got("response.done", 2)
        texts = [d["delta"] for d in client.of("response.output_audio_transcript.delta")]
        assert " ".join(texts) == "The tool says: a tower; a bell"


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
            [ToolOutput("call_1", "look", "a tower"), ToolOutput("call_2", "hear", "a bell")]
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
        assert [n.missing for n in client.session.narrations] == [("call_2",), ()]


async def test_halves_that_wait_for_the_user_stay_halves() -> None:
    narrator = Narrator()
    async with emulated(narrator) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        await client.say(recording("hello"))
        await client.got("input_audio_buffer.speech_started")
        for call_id in ("call_1", "call_2"):
            await output(client, call_id)
            await client.send("response.create")
        await client.send("response.create", event_id="mine")  # and there is no third
        assert (await client.got("error"))["error"]["event_id"] == "mine"
        assert client.session.narrations == []
        await client.say(SILENCE)
        await client.got("response.done", 4)
        assert [len(half) for half in narrator.outputs] == [1, 1]


async def test_a_second_create_for_a_batch_is_refused_while_the_first_is_in_flight() -> None:
    turns = [[LOOK, HEAR, Say.tones(30)]]
    async with emulated(turns, delivery_speed=1) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        await output(client, "call_1")
        await output(client, "call_2")
        await client.send("response.create")
        await client.send("response.create", event_id="mine")
        error = (await client.got("error"))["error"]
        assert (error["code"], error["event_id"]) == ("invalid_request_error", "mine")
        assert len(client.session.narrations) == 1
        assert len(client.session.create_times) == 3


async def test_each_batch_has_a_create_of_its_own() -> None:
    turns = [[LOOK, HEAR, Say.tones(0.1, "first")], [Call("x", call_id="call_3"), ANSWER]]
    async with emulated(turns) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        await client.say(recording("hello"), SILENCE)
        await client.got("response.done", 2)
        for call_id in ("call_1", "call_3", "call_2"):
            await output(client, call_id)
            if call_id == "call_3":  # the first batch is the older, but not complete
                await client.send("response.create")
                await client.got("response.done", 3)
        await client.send("response.create")
        await client.got("response.done", 4)
        narrated = [[o.call_id for o in n.outputs] for n in client.session.narrations]
        assert narrated == [["call_3"], ["call_1", "call_2"]]
        assert [n.missing for n in client.session.narrations] == [(), ()]


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


@pytest.mark.parametrize(
    ("call_id", "problem"),
    [("call_1", "'call_1' was answered already"), ("call_9", "'call_9' was not made")],
)
async def test_an_output_nobody_waits_for_is_an_error(call_id: str, problem: str) -> None:
    async with emulated([[LOOK, ANSWER]]) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        await output(client, "call_1")
        await output(client, call_id, "again", event_id="mine")
        error = (await client.got("error"))["error"]
        assert (error["code"], error["event_id"]) == ("invalid_request_error", "mine")
        assert problem in error["message"]
        await client.send("response.create")
        await client.got("response.done", 2)
        (call,), stray = client.session.calls, client.session.stray_outputs
        assert call.output == "ok"
        refused = call.outputs[1:] if call_id == "call_1" else stray
        assert [(o.call_id, o.output, o.accepted) for o in refused] == [(call_id, "again", False)]
        assert len(call.outputs) + len(stray) == 2
        outputs = client.session.narrations[0].outputs
        assert [(o.call_id, o.output) for o in outputs] == [("call_1", "ok")]


async def test_a_batch_is_narrated_once_also_after_the_end_of_its_narration() -> None:
    async with emulated([[LOOK, ANSWER], Say.tones(0.1)]) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        await output(client, "call_1")
        await client.send("response.create")
        await client.got("response.done", 2)
        await output(client, "call_1")
        await client.send("response.create", event_id="mine")
        error = (await client.got("error", 2))["error"]
        assert (error["code"], error["event_id"]) == ("invalid_request_error", "mine")
        await client.send("response.create")  # asks for nothing that was refused
        await client.got("response.done", 3)
        assert len(client.session.narrations) == 1


async def test_a_call_id_may_be_used_again() -> None:
    async with emulated(Script([[LOOK, ANSWER]], then="repeat")) as client:
        await client.configure()
        for count in (1, 3):
            await client.send("response.create")
            await client.got("response.done", count)
            await output(client, "call_1", str(count))
            await client.send("response.create")
            await client.got("response.done", count + 1)
        assert [call.output for call in client.session.calls] == ["1", "3"]
        assert client.session.errors == []


async def test_create_before_any_output_is_an_error() -> None:
    async with emulated([[LOOK, ANSWER]]) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        await client.send("response.create", event_id="mine")
        assert (await client.got("error"))["error"]["event_id"] == "mine"


@pytest.mark.parametrize("answered", [True, False])
async def test_a_call_not_followed_up_times_out(answered: bool) -> None:
    async with emulated([[LOOK, HEAR, ANSWER], ANSWER], tool_timeout_secs=0.2) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        if answered:
            await output(client, "call_1")
        event = await client.got("error")
        assert event["event_id"].startswith("sv_")
        assert event["error"]["code"] == "tool_response_timeout"
        assert "event_id" not in event["error"]  # no event of the client's is at fault
        assert [call.abandoned for call in client.session.calls] == [True, True]
        for count, call_id in enumerate(("call_1", "call_2")):
            await output(client, call_id)
            error = (await client.got("error", count + 2))["error"]
            assert error["code"] == "invalid_request_error"
            assert f"{call_id!r} was given up" in error["message"]
        assert client.session.call("call_2").output is None
        await client.send("response.create")  # too late for a narration, and no turn
        assert (await client.got("error", 4))["error"]["code"] == "invalid_request_error"
        assert client.session.narrations == []
        await client.say(recording("hello"), SILENCE)  # the next turn goes on
        done = (await client.got("response.done", 2))["response"]
        assert client.audio(done["id"]) == ANSWER.audio


async def test_only_the_turn_that_is_late_is_abandoned() -> None:
    turns = [LOOK, [Call("x", call_id="call_3"), ANSWER]]
    async with emulated(turns, tool_timeout_secs=1.0) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        await asyncio.sleep(0.3)
        await client.say(recording("hello"), SILENCE)
        await client.got("response.done", 2)
        await client.got("error")
        assert [call.abandoned for call in client.session.calls] == [True, False]
        await output(client, "call_3")
        await client.send("response.create")
        narration = (await client.got("response.done", 3))["response"]
        assert client.audio(narration["id"]) == ANSWER.audio
        assert len(client.of("error")) == 1


async def test_what_is_left_of_half_a_batch_has_its_time_again() -> None:
    async with emulated([[LOOK, HEAR, ANSWER]], tool_timeout_secs=0.8) as client:
        await client.configure()
        await client.send("response.create")
        await client.got("response.done")
        await asyncio.sleep(0.5)
        await output(client, "call_1")
        await client.send("response.create")
        await client.got("response.done", 2)
        await asyncio.sleep(0.5)
        assert client.of("error") == []
        assert (await client.got("error"))["error"]["code"] == "tool_response_timeout"
        assert [call.abandoned for call in client.session.calls] == [False, True]


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
