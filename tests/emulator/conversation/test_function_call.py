"""Protocol §3 and §6: how calls are streamed, and when the response that made them is done."""

import json
from typing import Any

import pytest
from emulator.client import SILENCE, Client, emulated, recording

from pipecat_hydra.emulator import Call, Echo, EmulatorSettings, Pause, Reply, Say

DELTA = "response.function_call_arguments.delta"
ARGUMENTS_DONE = "response.function_call_arguments.done"
LOOK = Call("look", {"where": "Zürich \N{BELL}", "list": [1, 2]}, call_id="call_1")
HEAR = Call("hear", call_id="call_2")
ANSWER = Say(bytes(4_800), 24_000)


async def output(client: Client, call_id: str) -> None:
    item = {"type": "function_call_output", "call_id": call_id, "output": "ok"}
    await client.send("conversation.item.create", item=item)


async def called(client: Client, **session: Any) -> None:
    """Have the script's first turn, up to its last call."""
    await client.configure(**session)
    await client.send("response.create")
    await client.until(lambda: len(client.session.calls) == 2)
    await client.sync()


def after(client: Client, kind: str) -> list[str]:
    """Types from the first event of one type on, audio and items apart."""
    types = client.types[client.types.index(kind) :]
    return [t for t in types if t.startswith("response.") and "audio" not in t]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
async def test_arguments_are_cut_anywhere(size: int) -> None:
    async with emulated([[LOOK, HEAR]], arguments_delta_chars=size) as client:
        await called(client)
        for call, done in zip((LOOK, HEAR), client.of(ARGUMENTS_DONE), strict=True):
            deltas = [d["delta"] for d in client.of(DELTA) if d["call_id"] == call.call_id]
            assert "".join(deltas) == done["arguments"] == call.text
            assert [len(delta) for delta in deltas[:-1]] == [size] * (len(deltas) - 1)
            assert 1 <= len(deltas[-1]) <= size
            assert json.loads(done["arguments"]) == call.arguments
        if size == 3:
            cuts = [d["delta"] for d in client.of(DELTA)]
            assert any(cut.endswith("\\u0") for cut in cuts)  # in the midst of an escape


async def test_empty_arguments_have_one_delta() -> None:
    async with emulated([[Call("look", "", "call_1"), HEAR]]) as client:
        await called(client)
        (delta, _) = client.of(DELTA)
        assert (delta["name"], delta["delta"]) == ("look", "")


@pytest.mark.parametrize("told", ["events", "items", "output"])
async def test_a_call_is_told_by_the_events_that_are_set(told: str) -> None:
    async with emulated([[LOOK, HEAR, ANSWER]], calls_told=told) as client:
        await called(client)
        items = [e for e in client.of("conversation.item.done") if e["item"].get("call_id")]
        assert len(client.of(ARGUMENTS_DONE)) == (2 if told == "events" else 0)
        assert bool(client.of(DELTA)) == (told == "events")
        assert len(items) == (0 if told == "output" else 2)
        whole = client.of("response.done")[0]["response"]["output"]
        assert [(item["call_id"], item["arguments"]) for item in whole] == [
            ("call_1", LOOK.text),
            ("call_2", "{}"),
        ]
        for call_id in ("call_1", "call_2"):
            await output(client, call_id)
        await client.send("response.create")
        await client.got("response.done", 2)
        assert client.audio() == ANSWER.audio


def test_calls_in_the_output_alone_need_an_early_end() -> None:
    with pytest.raises(ValueError, match="calls_told='output' needs a calls_done before"):
        EmulatorSettings(calls_told="output", calls_done="after_outputs")


@pytest.mark.parametrize("every", [True, False])
async def test_deltas_name_the_tool(every: bool) -> None:
    async with emulated(
        [[LOOK, HEAR]], name_in_every_delta=every, arguments_delta_chars=2
    ) as client:
        await called(client)
        names = [d.get("name") for d in client.of(DELTA) if d["call_id"] == "call_1"]
        assert len(names) > 2
        assert names == ["look", *(["look" if every else None] * (len(names) - 1))]


@pytest.mark.parametrize("name", [True, False])
@pytest.mark.parametrize("arguments", [True, False])
async def test_the_end_of_arguments_may_hold_nothing(name: bool, arguments: bool) -> None:
    settings = {"arguments_done_has_name": name, "arguments_done_has_arguments": arguments}
    async with emulated([[LOOK, HEAR]], **settings) as client:
        await called(client)
        done = client.of(ARGUMENTS_DONE)[0]
        assert done.get("name") == ("look" if name else None)
        assert done.get("arguments") == (LOOK.text if arguments else None)
        assert done["call_id"] == "call_1"
        item = client.of("conversation.item.done")[0]["item"]
        assert (item["name"], item["arguments"]) == ("look", LOOK.text)


async def test_whole_arguments_may_be_the_object_itself() -> None:
    async with emulated([[LOOK, HEAR]], arguments_as_object=True) as client:
        await called(client)
        assert client.of(ARGUMENTS_DONE)[0]["arguments"] == LOOK.arguments
        assert client.of("conversation.item.done")[0]["item"]["arguments"] == LOOK.arguments
        assert "".join(d["delta"] for d in client.of(DELTA) if d["call_id"] == "call_1") == (
            LOOK.text
        )


async def test_calls_may_come_without_items() -> None:
    async with emulated([[LOOK, HEAR]], call_items=False) as client:
        await called(client)
        assert not [kind for kind in client.types if "item" in kind]
        output_items = client.of("response.done")[0]["response"]["output"]
        assert [item["call_id"] for item in output_items] == ["call_1", "call_2"]


async def test_arguments_take_their_time_and_a_call_cut_short_is_none() -> None:
    async with emulated([[HEAR, LOOK]], arguments_delta_secs=0.1) as client:
        await client.configure()
        await client.send("response.create")
        await client.until(lambda: len(client.of(DELTA)) >= 4)
        times = [record.time for record in client.session.sent_of(DELTA)]
        assert times[3] - times[1] >= 0.19  # the call before had one delta only
        await client.send("response.cancel")
        await client.got("response.done")
        await client.sync()
        assert [call.call_id for call in client.session.calls] == ["call_2"]
        assert [done["call_id"] for done in client.of(ARGUMENTS_DONE)] == ["call_2"]
        await output(client, "call_1")
        assert "'call_1' was not made" in (await client.got("error"))["error"]["message"]


async def test_response_done_before_the_arguments_are() -> None:
    async with emulated([[LOOK, HEAR, ANSWER]], calls_done="before_arguments_done") as client:
        await called(client)
        wanted = [DELTA, DELTA, "response.done", ARGUMENTS_DONE, ARGUMENTS_DONE]
        assert after(client, DELTA) == wanted
        assert len(client.of("response.done")[0]["response"]["output"]) == 2


async def test_response_done_before_the_outputs_by_default() -> None:
    async with emulated([[LOOK, HEAR, ANSWER]]) as client:
        await called(client)
        wanted = [DELTA, ARGUMENTS_DONE, DELTA, ARGUMENTS_DONE, "response.done"]
        assert after(client, DELTA) == wanted


async def test_response_done_after_the_outputs() -> None:
    async with emulated([[LOOK, HEAR, ANSWER]], calls_done="after_outputs") as client:
        await called(client)
        await output(client, "call_2")
        await client.sync()
        assert client.of("response.done") == []
        await output(client, "call_1")
        done = (await client.got("response.done"))["response"]
        assert done["status"] == "completed"
        assert len(done["output"]) == 2
        await client.send("response.create")
        await client.got("response.done", 2)
        assert len(client.of("response.created")) == 2


async def test_response_done_of_outputs_that_came_while_it_was_generated() -> None:
    class Thoughtful(Echo):
        def prompted(self, messages: Any) -> Reply:
            return [LOOK, HEAR, Pause(0.6)]

    async with emulated(Thoughtful(), calls_done="after_outputs") as client:
        await called(client)
        await output(client, "call_1")
        await output(client, "call_2")
        await client.sync()
        assert client.of("response.done") == []
        assert (await client.got("response.done"))["response"]["status"] == "completed"


@pytest.mark.parametrize("posted", [("call_1", "call_2"), ("call_1",)])
@pytest.mark.parametrize(
    ("calls_done", "order"),
    [
        ("before_narration", ["response.done", "response.created"]),
        ("after_narration_began", ["response.created", "response.done"]),
    ],
)
async def test_response_done_around_the_start_of_the_narration(
    calls_done: str, order: list[str], posted: tuple[str, ...]
) -> None:
    # Also of a narration that the client asked for with half the outputs.
    async with emulated([[LOOK, HEAR, ANSWER]], calls_done=calls_done) as client:
        await called(client)
        for call_id in posted:
            await output(client, call_id)
        await client.sync()
        assert client.of("response.done") == []
        await client.send("response.create")
        await client.got("response.done", 2)
        ends = [t for t in client.types if t in ("response.created", "response.done")]
        assert ends == ["response.created", *order, "response.done"]
        first, second = (created["response"]["id"] for created in client.of("response.created"))
        assert [d["response"]["id"] for d in client.of("response.done")] == [first, second]
        assert client.audio(second) == ANSWER.audio
        assert client.of("error") == []


@pytest.mark.parametrize("by", ["user", "client"])
@pytest.mark.parametrize("calls_done", ["after_outputs", "before_narration"])
async def test_a_response_not_yet_done_can_be_cancelled_and_its_calls_answered(
    calls_done: str, by: str
) -> None:
    turns = [[LOOK, HEAR, ANSWER], Say.tones(0.1)]
    async with emulated(turns, calls_done=calls_done) as client:
        await called(client)
        if by == "user":
            await client.say(recording("hello"), SILENCE)
            await client.got("response.done", 2)
        else:
            await client.send("response.cancel", response_id="resp_other")
            await client.sync()
            assert client.of("response.done") == []
            response_id = client.of("response.created")[0]["response"]["id"]
            await client.send("response.cancel", response_id=response_id)
        done = (await client.got("response.done"))["response"]
        reason = "interrupted" if by == "user" else "client_cancelled"
        assert (done["status"], done["status_details"]["reason"]) == ("cancelled", reason)
        await output(client, "call_1")
        await output(client, "call_2")
        await client.send("response.create")
        count = 3 if by == "user" else 2
        narration = (await client.got("response.done", count))["response"]
        assert client.audio(narration["id"]) == ANSWER.audio
        await client.sync()
        assert len(client.of("response.done")) == count
        said = [e for e in client.session.history if e.role == "assistant" and e.kind == "speech"]
        assert len(said) == count - 1  # calling is not speaking
        assert client.of("error") == []


async def test_nothing_else_is_answered_while_a_response_is_not_done() -> None:
    async with emulated([[LOOK, HEAR, ANSWER]], calls_done="after_narration_began") as client:
        await called(client)
        content = [{"type": "input_text", "text": "What is it?"}]
        item = {"type": "message", "role": "user", "content": content}
        await client.send("conversation.item.create", item=item)
        await client.send("response.create", event_id="mine")
        error = (await client.got("error"))["error"]
        assert (error["event_id"], error["message"]) == (
            "mine",
            "a response is already in progress",
        )


async def test_a_response_not_yet_done_fails_when_its_tools_time_out() -> None:
    settings = {"calls_done": "after_narration_began", "tool_timeout_secs": 0.2}
    async with emulated([[LOOK, HEAR], ANSWER], **settings) as client:
        await called(client)
        done = (await client.got("response.done"))["response"]
        assert client.types[-2:] == ["error", "response.done"]
        assert done["status"] == "failed"
        assert done["status_details"]["error"]["code"] == "tool_response_timeout"
        await client.send("response.create")
        assert client.audio((await client.got("response.done", 2))["response"]["id"])


async def test_a_narration_that_stays_silent_ends_the_response() -> None:
    class Silent(Echo):
        def prompted(self, messages: Any) -> Reply:
            return [LOOK, HEAR]

        def narrate(self, outputs: Any) -> Reply:
            return []

    async with emulated(Silent(), calls_done="after_narration_began") as client:
        await called(client)
        await output(client, "call_1")
        await output(client, "call_2")
        await client.send("response.create")
        assert (await client.got("response.done"))["response"]["status"] == "completed"
        assert client.session.narrations[0].response_id is None
