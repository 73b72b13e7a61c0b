"""What a session is told when it begins."""

import json
from typing import Any

import pytest
from pipecat.processors.aggregators.llm_context import LLMContext, LLMSpecificMessage

from pipecat_hydra.service.adapter import HydraLLMAdapter
from pipecat_hydra.service.briefing.briefing import Brief, Briefing, HistoryStyle
from pipecat_hydra.service.briefing.budget import SessionBudget
from pipecat_hydra.service.briefing.ledger import NewText
from pipecat_hydra.wire.codec import encode
from pipecat_hydra.wire.events import ItemCreate, SessionConfigure
from pipecat_hydra.wire.protocol import CONFIGURATION_WARNING_BYTES


def briefing(
    style: HistoryStyle = "instructions", limit: int | None = CONFIGURATION_WARNING_BYTES
) -> Briefing:
    return Briefing("service", HydraLLMAdapter(), style, SessionBudget(limit))


def brief(
    of: Briefing,
    context: LLMContext | None = None,
    *,
    instruction: str | None = "Be kind.",
    greet: bool = False,
    under_way: bool = False,
    hears_again: bool = False,
) -> Brief:
    return of.brief(
        context,
        instruction=instruction,
        voice="aria",
        service_tools=None,
        greet=greet,
        under_way=under_way,
        hears_again=hears_again,
    )


def conversation(turns: int, size: int) -> LLMContext:
    roles = ("user", "assistant")
    messages = [
        {"role": roles[n % 2], "content": f"number {n} " + "x" * (size - len(f"number {n} "))}
        for n in range(turns)
    ]
    return LLMContext(messages)  # pyright: ignore[reportArgumentType]


def test_with_nothing_said_before_the_instructions_are_as_they_are():
    told = brief(briefing(), greet=True)
    assert told.configuration.instructions == "Be kind."
    assert told.configuration.voice == "aria"
    assert told.configuration.generate_initial_response is True
    assert told.configuration.tools is None
    assert told.items == ()


def test_a_saved_conversation_is_in_the_instructions():
    context = LLMContext(
        [{"role": "user", "content": "I am Ada."}, {"role": "assistant", "content": "Hello Ada."}]
    )
    told = brief(briefing(), context)
    assert told.configuration.instructions is not None
    assert told.configuration.instructions.startswith("Be kind.")
    assert "I am Ada." in told.configuration.instructions
    assert "Hello Ada." in told.configuration.instructions


def test_a_long_conversation_keeps_under_the_limit_with_the_newest(warnings: list[str]):
    context = conversation(200, 200)
    told = brief(briefing(), context)
    size = len(encode(SessionConfigure(session=told.configuration, event_id="evt_1")))
    # Half of the room is left for what comes.
    assert 0.45 * CONFIGURATION_WARNING_BYTES < size < 0.51 * CONFIGURATION_WARNING_BYTES
    text = told.configuration.instructions or ""
    assert "number 199 " in text
    assert "number 0 " not in text
    assert "x" * 185 in text
    (warning,) = warnings
    assert "of 200 turns" in warning


def test_as_items_the_conversation_is_put_in_afterwards():
    context = LLMContext(
        [
            {"role": "user", "content": "I am Ada."},
            {"role": "assistant", "content": "Hello Ada."},
            {"role": "developer", "content": "Welcome her back."},
        ]
    )
    told = brief(briefing("items"), context, greet=True)
    assert told.configuration.instructions == "Be kind."
    assert told.configuration.generate_initial_response is False
    assert told.items == (
        ("user", "I am Ada."),
        ("assistant", "Hello Ada."),
        ("system", "Welcome her back."),
    )
    assert told.respond
    assert brief(briefing("items"), greet=True).configuration.generate_initial_response is True


def test_in_instructions_a_greeting_is_asked_for_by_the_configuration_alone():
    context = LLMContext([{"role": "developer", "content": "Greet the user."}])
    told = brief(briefing(), context, greet=True)
    assert told.configuration.generate_initial_response is True
    assert not told.respond


def test_what_no_context_keeps_is_kept_here():
    kept = briefing()
    kept.note("user", "typed")
    kept.note("assistant", "said")
    text = brief(kept).configuration.instructions or ""
    assert "typed" in text
    assert "said" in text
    # It is told again to a session that follows, as far as anybody could want it.
    for n in range(500):
        kept.note("user", f"number {n}.")
    text = brief(kept).configuration.instructions or ""
    assert "typed" not in text
    assert "number 499." in text


def test_a_session_that_follows_does_not_greet_again():
    context = LLMContext([{"role": "developer", "content": "Greet the user."}])
    text = brief(briefing(), context, under_way=True).configuration.instructions or ""
    assert "do not greet" in text
    context = LLMContext([{"role": "assistant", "content": "Hello."}])
    told = brief(briefing(), context, under_way=True)
    assert "under way" not in (told.configuration.instructions or "")


def test_what_the_session_was_told_is_no_news():
    context = LLMContext([{"role": "user", "content": "hello"}])
    kept = briefing()
    brief(kept, context)
    assert kept.news(context).typed == ()
    context.add_message({"role": "user", "content": "and?"})
    assert kept.news(context).typed == (("user", "and?"),)


def instructions(told: Brief) -> str:
    return told.configuration.instructions or ""


def developer(text: str) -> Any:
    return {"role": "developer", "content": text}


def test_what_the_developer_says_outside_a_context_is_told_though_it_comes_first():
    kept = briefing()
    kept.note("system", "The caller is Anna.")
    assert 'Developer: "The caller is Anna."' in instructions(brief(kept, greet=True))
    kept = briefing()
    kept.told([{"role": "system", "content": "Greet her by name."}])
    assert 'Developer: "Greet her by name."' in instructions(brief(kept, greet=True))


@pytest.mark.parametrize(
    "content", ["Ask for the size.", " Ask for the size. ", [{"type": "text", "text": "Ask."}]]
)
def test_a_message_told_on_its_way_into_the_context_is_kept_until_it_is_there(content: Any):
    message = developer(content)
    context = LLMContext([{"role": "assistant", "content": "Hello."}])
    kept = briefing()
    kept.told([message])
    assert "Ask" in instructions(brief(kept, context))
    context.add_message(message)
    assert instructions(brief(kept, context)).count("Ask") == 1
    # Once it was, the context is the record.
    context.set_messages([{"role": "assistant", "content": "Hello."}])
    assert "Ask" not in instructions(brief(kept, context))


def test_a_message_lost_on_its_way_into_the_context_is_kept():
    context = LLMContext([{"role": "assistant", "content": "Hello."}])
    kept = briefing()
    kept.told([developer("Ask for the size.")])
    kept.interrupted(context)
    assert kept.news(context).typed == ()
    assert "Ask for the size." in instructions(brief(kept, context))


def test_a_text_is_held_here_or_by_the_context():
    kept = briefing()
    kept.note("user", "typed")
    context = LLMContext([{"role": "user", "content": [{"type": "text", "text": " told "}]}])
    assert kept.holds("typed", None)
    assert kept.holds("told", context)
    assert not kept.holds("told", None)


def test_a_reply_is_kept_though_its_words_were_said_before():
    kept = briefing()
    kept.note("user", "Say exactly: Welcome to Acme")
    kept.note_reply("Welcome to Acme", resumed=False)
    kept.note_call("call_1", "look_up", {}, "It is open.")
    kept.note_reply("It is open.", resumed=False)
    kept.note_reply("Yes, I will.", resumed=False)
    kept.note_reply("Yes", resumed=False)
    text = instructions(brief(kept))
    for said in ("Welcome to Acme", "It is open.", "Yes, I will.", "Yes"):
        assert f'Assistant: "{said}"' in text


def test_of_a_reply_that_goes_on_after_noise_only_what_is_new_is_kept():
    kept = briefing()
    kept.note_reply("one two three", resumed=False)
    kept.note("user", "typed")
    kept.note_reply("two three", resumed=True)
    kept.note_reply("three four", resumed=True)
    text = instructions(brief(kept))
    assert [line for line in text.splitlines() if line.startswith("Assistant")] == [
        'Assistant: "one two three"',
        'Assistant: "three four"',
    ]


def test_a_reply_that_goes_on_after_noise_is_kept_though_an_earlier_one_had_its_words():
    kept = briefing()
    kept.note_reply("It is open.", resumed=False)
    kept.note_reply("Anything else?", resumed=False)
    kept.note_reply("It is open.", resumed=True)
    assert instructions(brief(kept)).count('Assistant: "It is open."') == 2


def test_messages_that_were_spoken_are_counted():
    kept = briefing()
    assert kept.spoken == 0
    kept.hear("hello")
    kept.hear("hello")
    assert kept.spoken == 2


def test_a_reply_that_nobody_has_heard_yet_is_told_though_another_had_its_words():
    messages: list[Any] = [
        {"role": "user", "content": "Will you?"},
        {"role": "assistant", "content": "Yes, I will."},
        {"role": "user", "content": "Really?"},
    ]
    kept = briefing()
    kept.say("Yes")
    assert instructions(brief(kept, LLMContext(messages))).count('Assistant: "Yes"') == 1
    # Here the aggregator was quicker than the word that it was heard.
    messages.append({"role": "assistant", "content": "Yes"})
    assert instructions(brief(kept, LLMContext(messages))).count('Assistant: "Yes"') == 1


def test_a_reply_that_was_heard_or_interrupted_is_left_to_the_context():
    kept = briefing()
    kept.say("First.")
    kept.say("Second.")
    assert 'Assistant: "First."' in instructions(brief(kept))
    kept.heard(None)
    text = instructions(brief(kept))
    assert "First." not in text
    assert 'Assistant: "Second."' in text
    kept.interrupted(None)
    assert "Second." not in instructions(brief(kept))
    kept.heard(None)


def test_a_call_that_no_context_keeps_is_told_with_its_result():
    kept = briefing()
    kept.note_call("call_1", "look_up", {"city": "Oslo"}, "It is open.")
    line = json.dumps('called look_up({"city": "Oslo"}): It is open.')
    assert f"Tool: {line}" in instructions(brief(kept))


@pytest.mark.parametrize("before", [[], [{"role": "user", "content": "I typed this."}]])
def test_what_is_heard_again_is_not_told_as_text(before: list[Any]):
    kept = briefing()
    kept.hear("Is it")
    kept.hear("warm\n there?")
    spoken: list[Any] = [{"role": "user", "content": text} for text in ("Is it", "warm there?")]
    context = LLMContext([*before, *spoken])
    text = instructions(brief(kept, context))
    assert "Is it" in text
    assert "warm there?" in text
    text = instructions(brief(kept, context, hears_again=True))
    assert "Is it" not in text
    assert "warm there?" not in text
    assert ("I typed this." in text) is bool(before)


def test_of_items_too_the_newest_are_kept_that_there_is_room_for(warnings: list[str]):
    told = brief(briefing("items"), conversation(100, 1_000), greet=True)
    sent = [encode(SessionConfigure(session=told.configuration, event_id="evt_1"))]
    sent += [encode(ItemCreate.message(text, role=role)) for role, text in told.items]
    size = sum(map(len, sent))
    assert 0.4 * CONFIGURATION_WARNING_BYTES < size < 0.51 * CONFIGURATION_WARNING_BYTES
    assert told.items[-1][1].startswith("number 99 ")
    (warning,) = warnings
    assert f"the newest {len(told.items)} of 100 turns" in warning


def test_a_brief_can_be_sent():
    told = brief(briefing(), conversation(10, 50))
    assert json.loads(encode(SessionConfigure(session=told.configuration)))


# What goes on


def test_who_has_the_last_word():
    def waits(*messages: Any) -> bool:
        return briefing().waits_for_answer(LLMContext(list(messages)))

    hello = {"role": "user", "content": "hello"}
    assert waits({"role": "assistant", "content": "hi"}, hello)
    assert waits(LLMSpecificMessage("hydra", hello))
    assert not waits(hello, developer("Greet."))
    assert not waits(hello, object())
    assert not waits()


@pytest.mark.parametrize("style", ["instructions", "items"])
def test_of_messages_the_texts_are_told_each_as_whose_it_is(style: HistoryStyle):
    kept = briefing(style)
    messages: list[Any] = [
        {"role": "user", "content": "one"},
        developer("two"),
        {"role": "system", "content": "three"},
        {"role": "assistant", "content": "four"},
        {"role": "tool", "tool_call_id": "call_1", "content": "five"},
        {"role": "user", "content": " "},
        object(),
    ]
    bots = [("assistant", "four")] if style == "items" else []
    assert kept.told(messages) == (("user", "one"), ("system", "two"), ("system", "three"), *bots)
    # All of it is history.
    told = brief(kept)
    if style == "instructions":
        assert 'Assistant: "four"\nTool: "called a tool: five"' in instructions(told)
    else:
        assert told.items[3:] == (("assistant", "four"), ("system", "called a tool: five"))


def test_of_images_is_warned_once(warnings: list[str]):
    image: Any = LLMContext.create_image_url_message(url="https://example.org/a.png", text="Look")
    kept = briefing()
    assert kept.told([image]) == (("user", "Look"),)
    for _ in range(2):
        brief(kept, LLMContext([image]))
        kept.news(LLMContext([image, image]))
    (warning,) = warnings
    assert "takes no images" in warning


def test_a_context_that_was_reset_leaves_nothing_of_what_was_said_before():
    context = LLMContext([{"role": "user", "content": "My PIN is 1234"}])
    kept = briefing()
    brief(kept, context)
    kept.note("user", "My other PIN is 5678")
    assert not kept.is_reset
    context.set_messages([developer("Ask for the name.")])
    kept.interrupted(context)
    assert kept.is_reset
    assert kept.news(context).reset
    assert "PIN" not in instructions(brief(kept, context))
    assert not kept.is_reset


def test_what_was_redacted_is_in_no_later_session():
    context = LLMContext([{"role": "user", "content": "My PIN is 1234"}, developer("Go on.")])
    kept = briefing()
    brief(kept, context)
    context.get_messages()[0]["content"] = "My PIN is [redacted]"  # type: ignore[index]
    assert kept.news(context).typed == ()
    text = instructions(brief(kept, context))
    assert "1234" not in text
    assert text.count("[redacted]") == 1


def test_what_is_heard_and_narrated_is_no_text_to_be_told():
    context = LLMContext()
    kept = briefing()
    brief(kept, context)
    kept.hear("hello")
    kept.narrate("call_1")
    context.add_message({"role": "user", "content": "hello"})
    context.add_message({"role": "tool", "tool_call_id": "call_1", "content": "sunny"})
    assert kept.news(context) == NewText(spoken=True, narrated=True)
    assert kept.spoken == 1


def test_what_was_heard_to_its_end_the_context_keeps():
    context = LLMContext()
    kept = briefing()
    for reply in ("Good morning.", "Good night."):
        kept.say(reply)
    kept.heard(context)
    text = instructions(brief(kept, context))
    assert "Good morning." not in text
    assert 'Assistant: "Good night."' in text
