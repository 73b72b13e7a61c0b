"""Client events of a replay: which recorded ones they are, and how they differ, in words."""

from typing import Any

from pipecat_hydra.emulator.replay.expectations import Expectations, Expected

FOREVER = 1_000.0


def create(**fields: Any) -> dict[str, Any]:
    return {"type": "response.create", **fields}


def output(call_id: str, text: str) -> dict[str, Any]:
    item = {"type": "function_call_output", "call_id": call_id, "output": text}
    return {"type": "conversation.item.create", "item": item}


def message(text: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    item = {"type": "message", "role": "user", "content": content}
    return {"type": "conversation.item.create", "item": item}


def configure(**session: Any) -> dict[str, Any]:
    return {"type": "session.configure", "session": session}


def compared(recorded: list[Any], came: list[Any], until: float = FOREVER) -> list[str]:
    """The differences; the n-th event was recorded in line n and at n seconds, from 1."""
    expected = (Expected(event, n, float(n)) for n, event in enumerate(recorded, 1))
    expectations = Expectations(1, expected)
    for n, event in enumerate(came, 1):
        expectations.received(event, float(n))
    return [str(difference) for difference in expectations.differences(until)]


def test_ids_of_events_do_not_matter():
    assert compared([create(event_id="a")], [create(event_id="b")]) == []


def test_what_is_missing_and_what_is_additional():
    assert compared([create(), output("call_1", "{}")], [message("Hi"), create()]) == [
        "session 1, call.jsonl line 2 at 2.00 s: conversation.item.create with the output of call "
        "call_1 did not come",
        "session 1, 1.00 s after it opened: conversation.item.create with a message (user) "
        '"Hi" came, and the recording has none (any more)',
    ]


def test_what_the_replay_has_not_reached_is_not_missing():
    assert compared([create(), create()], [], until=1.5) == [
        "session 1, call.jsonl line 1 at 1.00 s: response.create did not come"
    ]


def test_a_changed_result_is_told_by_its_field():
    came = output("call_1", '{"sky": "rain", "degrees": 21}')
    assert compared([output("call_1", '{"sky": "sunny", "degrees": 21}')], [came]) == [
        "session 1, call.jsonl line 1 at 1.00 s: conversation.item.create with the output of call "
        'call_1: item.output.sky: expected "sunny", came "rain"'
    ]


def test_long_texts_are_told_where_they_differ():
    text = "You are a warm, concise voice assistant. Reply in {} sentence."
    found = compared(
        [configure(instructions=text.format("one short"), voice="aria")],
        [configure(instructions=text.format("any long"), tools=[])],
    )
    assert found == [
        "session 1, call.jsonl line 1 at 1.00 s: session.configure: session.instructions: expected "
        '"…oice assistant. Reply in one short sentence.", came "…oice assistant. Reply in any long '
        'sentence."',
        "session 1, call.jsonl line 1 at 1.00 s: session.configure: session.voice is missing; "
        'expected "aria"',
        "session 1, call.jsonl line 1 at 1.00 s: session.configure: session.tools was not "
        "recorded; came []",
    ]


def test_tools_are_compared_by_their_names():
    weather = {"name": "weather", "description": "Tells the weather."}
    clock = {"name": "clock", "description": "Tells the time."}
    found = compared(
        [configure(tools=[weather, clock])],
        [configure(tools=[clock, {**weather, "description": "Tells the sky."}])],
    )
    assert [one.partition("session.tools")[2] for one in found] == [
        ': expected in the order ["weather", "clock"], came ["clock", "weather"]',
        '.weather.description: expected "Tells the weather.", came "Tells the sky."',
    ]


def test_of_several_with_one_meaning_the_equal_one_goes_first():
    assert compared([message("One"), message("Two")], [message("Two"), message("One")]) == [
        "session 1, call.jsonl line 1 at 1.00 s: conversation.item.create with a message (user) "
        '"One" came after conversation.item.create with a message (user) "Two", not before'
    ]


def test_what_comes_after_it_was_given_up_is_late():
    one = Expected(create(), 1, 1.0)
    expectations = Expectations(1, [one])
    one.given_up = True
    expectations.received(create(), 9.0)
    assert [difference.kind for difference in expectations.differences(FOREVER)] == ["late"]


def test_the_output_of_a_call_that_was_not_made_is_not_expected():
    expectations = Expectations(1, [Expected(output("call_1", "{}"), 1, 1.0)])
    expectations.skip_calls({"call_1"})
    assert expectations.differences(FOREVER) == []
