"""What of a context is new typed text."""

from typing import Any

from pipecat.processors.aggregators import async_tool_messages

from pipecat_hydra.service.briefing.context import ContextReader, NewText, text_of, waits_for_answer

NOTHING = NewText((), spoken=False)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def test_what_is_new_is_given_once():
    reader = ContextReader()
    messages = [user("hello")]
    assert reader.take(messages) == NewText((("user", "hello"),), spoken=False)
    assert reader.take(messages) == NOTHING
    messages += [{"role": "assistant", "content": "hi"}, user("hello")]
    assert reader.take(messages) == NewText((("user", "hello"),), spoken=False)
    assert reader.take(messages) == NOTHING


def test_what_was_spoken_is_not_typed():
    reader = ContextReader()
    reader.hear("hello")
    assert reader.take([user("hello")]) == NewText((), spoken=True)
    assert reader.take([user("hello"), user("hello")]).typed == (("user", "hello"),)


def test_typed_and_spoken_together():
    reader = ContextReader()
    reader.hear("aloud")
    new = reader.take([user("typed"), user("aloud")])
    assert new == NewText((("user", "typed"),), spoken=True)


def test_what_hydra_was_told_otherwise_is_not_new():
    reader = ContextReader()
    reader.told([user("hello")])
    assert reader.take([user("hello")]) == NOTHING
    assert reader.take([user("hello"), user("hello")]).typed == (("user", "hello"),)


def test_what_hydra_was_told_may_come_into_the_context_late():
    reader = ContextReader()
    reader.told([user("one")])
    reader.told([user("two")])
    assert reader.take([]) == NOTHING
    assert reader.take([user("one")]) == NOTHING
    assert reader.take([user("one"), user("two")]) == NOTHING
    assert reader.take([user("one"), user("two"), user("two")]).typed == (("user", "two"),)


def test_what_was_lost_on_its_way_into_the_context_is_not_awaited():
    reader = ContextReader()
    reader.told([user("lost"), user("there")])
    assert reader.awaits(user("lost"))
    reader.settle([user("there")])
    assert not reader.awaits(user("lost"))
    messages = [user("there"), user("lost")]
    assert reader.take(messages).typed == (("user", "lost"),)
    assert reader.take([*messages, user("there")]).typed == (("user", "there"),)


def test_what_no_interruption_stops_on_its_way_into_the_context_is_awaited():
    reader = ContextReader()
    reader.told([user("one"), user("two")], lasting=True)
    reader.told([user("lost"), user("two")])
    reader.settle([user("one")])
    assert [reader.awaits(user(text)) for text in ("one", "two", "lost")] == [False, True, False]
    messages = [user("one"), user("two"), user("lost")]
    assert reader.take(messages).typed == (("user", "lost"),)
    # It has come; and what is told from now on can be lost again.
    reader.told([user("two")])
    reader.settle(messages)
    assert reader.take([*messages, user("two")]).typed == (("user", "two"),)


def test_who_has_the_last_word():
    assert waits_for_answer([{"role": "assistant", "content": "hi"}, user("hello")])
    assert not waits_for_answer([user("hello"), {"role": "developer", "content": "Greet."}])
    assert not waits_for_answer([user("hello"), object()])
    assert not waits_for_answer([])


def test_instructions_of_the_developer_are_text_of_the_system():
    new = ContextReader().take([{"role": "developer", "content": "Ask whether they are there."}])
    assert new.typed == (("system", "Ask whether they are there."),)


def test_the_bots_side_and_tools_are_not_typed():
    messages: list[Any] = [
        {"role": "assistant", "content": "hi"},
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "21"},
        async_tool_messages.build_started_message("c"),
        async_tool_messages.build_final_result_message("c", "done"),
        user(""),
        object(),
    ]
    new = ContextReader().take(messages)
    assert new.typed == ()
    assert not new.spoken


def test_what_functions_gave_is_told_apart():
    reader = ContextReader()
    running = {"role": "tool", "tool_call_id": "c", "content": "IN_PROGRESS"}
    assert reader.take([running, async_tool_messages.build_started_message("d")]) == NOTHING
    messages = [{**running, "content": "21"}, async_tool_messages.build_started_message("d")]
    assert reader.take(messages).results == {"c"}
    messages.append(async_tool_messages.build_intermediate_result_message("d", "half"))
    assert reader.take(messages).results == {"d"}
    assert reader.take(messages) == NOTHING


def test_a_context_that_was_replaced_gives_only_what_it_did_not_hold_before():
    reader = ContextReader()
    reader.take([user("one"), user("two")])
    assert reader.take([user("two"), user("three")]).typed == (("user", "three"),)
    assert reader.take([user("one")]).typed == (("user", "one"),)


def test_the_text_of_a_message():
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]
    assert text_of({"content": parts}) == "a b"
    assert text_of({"content": ["odd", {"type": "text", "text": "a"}, None]}) == "a"
    assert text_of({"content": " a "}) == "a"
    assert text_of({"content": None}) == ""
    assert text_of({}) == ""
