"""Messages in normal form, each read once."""

import copy
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from pipecat.processors.aggregators import async_tool_messages
from pipecat.processors.aggregators.llm_context import LLMContext, LLMSpecificMessage

from pipecat_hydra.service.briefing import entries
from pipecat_hydra.service.briefing.entries import (
    Call,
    Entry,
    EntryReader,
    Kind,
    entry_of,
    one_line,
    split_instructions,
    text_entry,
)


def user(text: Any) -> dict[Any, Any]:
    return {"role": "user", "content": text}


def test_the_text_of_a_message():
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]
    assert entry_of(user(parts)).text == "a b"
    assert entry_of(user(" a\nb ")).text == "a\nb"
    assert entry_of(user(None)).text == ""
    assert entry_of({"role": "user"}) == Entry("user")
    # Half of a pair of surrogates could not be sent.
    assert (
        entry_of(user("a\ud83db")) == text_entry("user", "a\ud83db ") == Entry("user", text="a�b")
    )
    assert one_line(" a\n\tb ") == "a b"


@pytest.mark.parametrize("role", ["user", "assistant", "developer", "system"])
def test_whose_a_text_is(role: Any):
    assert entry_of({"role": role, "content": "x"}) == Entry(role, Kind.TEXT, "x")
    told = role if role in ("user", "assistant") else "system"
    assert text_entry(role, "x").as_told == (told, "x")


def test_calls_and_results():
    function = {"name": "f", "arguments": {1: "x"}}
    calling = {"role": "assistant", "content": "Wait.", "tool_calls": [{"id": "c"}]}
    assert entry_of(calling) == Entry("assistant", Kind.CALL, "Wait.", calls=(Call("c", "", ""),))
    calling["tool_calls"] = [{"id": "c", "function": function}]
    assert entry_of(calling).calls == (Call("c", "f", '{"1": "x"}'),)
    running = {"role": "tool", "tool_call_id": "c", "content": "IN_PROGRESS"}
    assert entry_of(running) == Entry("tool", Kind.RUNNING, "IN_PROGRESS", "c")
    assert entry_of({**running, "content": "21"}) == Entry("tool", Kind.RESULT, "21", "c")
    started = async_tool_messages.build_started_message("c")
    assert entry_of(started) == Entry("tool", Kind.RUNNING, "", "c")
    partial = async_tool_messages.build_intermediate_result_message("c", "half")
    assert entry_of(partial) == Entry("tool", Kind.PARTIAL, "half", "c")
    final = async_tool_messages.build_final_result_message("c", "done")
    assert entry_of(final) == Entry("tool", Kind.RESULT, "done", "c")


def itself() -> Any:
    endless: dict[str, Any] = {}
    endless["x"] = endless
    return endless


ODD: list[Any] = [
    None,
    7,
    object(),
    "hello",
    {},
    {"role": ["user"], "content": "x"},
    {"role": "function", "content": "x"},
    user({"text": "x"}),
    user([None, "x", {"type": ["text"]}, {"type": "text", "text": 7}]),
    {1: 2, "role": "user", (3, 4): {5: 6}},
    {"role": "assistant", "tool_calls": "x"},
    {"role": "assistant", "tool_calls": [{"function": {"arguments": {(1, 2): 3}}}]},
    {"role": "assistant", "tool_calls": [{"function": {"arguments": itself()}}]},
    {"role": "tool"},
    {"role": "tool", "tool_call_id": 7, "content": {"x": 1}},
    {"role": "tool", "tool_call_id": "c", "content": "[" * 100_000},
    {"role": "developer", "content": "[" * 100_000},
    {"role": "user", "content": [itself()]},
    LLMSpecificMessage("hydra", None),
    LLMSpecificMessage("hydra", ["x"]),
]


@pytest.mark.parametrize("message", ODD, ids=range(len(ODD)))
def test_odd_messages_do_no_harm(message: Any):
    reader = EntryReader()
    (entry,) = reader.read([message])
    assert reader.read([message]) == [entry]
    assert isinstance(hash(entry), int)


def test_of_messages_for_one_service_those_for_hydra_are_read():
    own = LLMSpecificMessage("hydra", user([{"type": "input_text", "text": "x"}]))
    assert entry_of(own) == Entry("user", text="x")
    assert entry_of(LLMSpecificMessage("openai", user("x"))) == Entry("")


async def test_an_entry_says_that_there_was_an_image_and_not_which():
    first = LLMContext.create_image_url_message(url="data:image/png;base64,AAAA", text="Look")
    second = LLMContext.create_image_url_message(url="data:image/png;base64,BBBB", text="Look")
    assert entry_of(first) == entry_of(second)
    assert entry_of(first) == Entry("user", text="Look", has_attachments=True)
    file = await LLMContext.create_file_message(type="bytes", format="x/y", file="AAAA")
    sound = user([{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}])
    for message in (file, sound):
        entry = entry_of(message)
        assert entry.has_attachments
        assert entry.is_empty
    assert not entry_of(user("Look")).has_attachments


def test_the_system_message_that_begins_a_context_is_the_instructions():
    other, system, hello = Entry(""), text_entry("system", "S"), text_entry("user", "hello")
    assert split_instructions([other, system, hello, system]) == ("S", [other, hello, system])
    assert split_instructions([hello, system]) == ("", [hello, system])
    assert split_instructions([other]) == ("", [other])
    assert split_instructions([]) == ("", [])


# Reading


def redact_text(message: Any) -> None:
    message["content"][0]["text"] = "[redacted]"


def redact_content(message: Any) -> None:
    message["content"] = "[redacted]"


def add_part(message: Any) -> None:
    message["content"].append({"type": "text", "text": "more"})


def change_role(message: Any) -> None:
    message["role"] = "developer"


@pytest.mark.parametrize("write", [redact_text, redact_content, add_part, change_role])
def test_a_message_that_is_written_to_in_place_is_read_again(write: Callable[[Any], None]):
    """As Pipecat's aggregator does with the result of a function."""
    message = user([{"type": "text", "text": "My PIN is 1234"}])
    specific = LLMSpecificMessage("hydra", copy.deepcopy(message))
    reader = EntryReader()
    before = reader.read([message, specific])
    write(message)
    write(specific.message)
    after = reader.read([message, specific])
    assert after == [entry_of(message), entry_of(specific)]
    assert before[0] not in after


def test_the_result_that_pipecat_writes_into_a_message_is_read():
    message = {"role": "tool", "tool_call_id": "c", "content": "IN_PROGRESS"}
    reader = EntryReader()
    assert reader.read([message])[0].kind is Kind.RUNNING
    message["content"] = "21"
    assert reader.read([message]) == [Entry("tool", Kind.RESULT, "21", "c")]


def test_what_has_left_the_context_is_forgotten():
    """So that another message at the same place in memory is not taken for it."""
    reader = EntryReader()
    for n in range(1_000):
        assert reader.read([user(f"number {n}")]) == [Entry("user", text=f"number {n}")]


def images(megabytes: int) -> list[Any]:
    data = "data:image/png;base64," + "A" * 1_000_000
    return [
        LLMContext.create_image_url_message(url=data + str(n), text=f"image {n}")
        for n in range(megabytes)
    ]


def test_a_message_that_stays_as_it_was_is_read_once(monkeypatch: pytest.MonkeyPatch):
    read: list[Any] = []

    def counting(message: Any) -> Entry:
        read.append(message)
        return entry_of(message)

    monkeypatch.setattr(entries, "entry_of", counting)
    messages = [user(f"number {n}") for n in range(1_000)] + images(10)
    reader = EntryReader()
    first = reader.read(messages)
    assert len(read) == 1_010
    messages.append(user("hello"))
    second = reader.read(messages)
    assert read[1_010:] == [messages[-1]]
    assert second == [*first, Entry("user", text="hello")]


def test_to_read_a_context_again_copies_nothing_of_its_images():
    messages = [user(f"number {n}") for n in range(1_000)] + images(10)
    reader = EntryReader()
    tracemalloc.start()
    try:
        for _ in range(2):
            reader.read(messages)
            now, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            reader.read(messages)
            _, peak = tracemalloc.get_traced_memory()
            # To serialise them takes 10 MB at the least.
            assert peak - now < 1_000_000
    finally:
        tracemalloc.stop()
