"""Contexts that the application edits, in whole calls."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pipecat.frames.frames import (
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMMessagesAppendFrame,
    LLMMessagesTransformFrame,
    LLMMessagesUpdateFrame,
    TTSAudioRawFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext, LLMSpecificMessage
from support.call import NO_GREETING, SHAPES, Call, Ears, Shape, call, emulator, session

from pipecat_hydra import RetryPolicy
from pipecat_hydra.emulator import EmulatedSession, HydraEmulator, Say, Script

QUICK = RetryPolicy(first_delay_secs=0.05, longest_delay_secs=0.1)


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def bot(text: str) -> Any:
    return {"role": "assistant", "content": text}


def developer(text: str) -> Any:
    return {"role": "developer", "content": text}


def told(one: EmulatedSession) -> list[tuple[str, str]]:
    """The messages that a session was told while it went on."""
    items = [r.event["item"] for r in one.received_of("conversation.item.create")]
    return [(i["role"], i["content"][0]["text"]) for i in items if i["type"] == "message"]


def instructions(one: EmulatedSession) -> str:
    """What a session was told when it began."""
    assert one.configuration is not None
    return one.configuration.get("instructions") or ""


async def append(talk: Call, *messages: Any) -> None:
    """Append messages that are to be answered, and hear the answer."""
    answers = len(talk.frames.of(LLMFullResponseEndFrame))
    await talk.worker.queue_frame(LLMMessagesAppendFrame(messages=list(messages), run_llm=True))
    await talk.until_pushed(LLMFullResponseEndFrame, answers + 1)
    await talk.until_quiet()


async def session_of_number(number: int, talk: Call, hydra: HydraEmulator) -> EmulatedSession:
    await talk.until(lambda: len(hydra.sessions) == number and hydra.sessions[-1].configured)
    return hydra.sessions[-1]


def redact(messages: list[Any]) -> list[Any]:
    return [{**m, "content": m["content"].replace("1234", "[redacted]")} for m in messages]


def redact_in_place(messages: list[Any]) -> list[Any]:
    for message in messages:
        message["content"] = message["content"].replace("1234", "[redacted]")
    return messages


async def test_what_is_redacted_before_a_session_is_created_it_is_not_told():
    context = LLMContext([user("My PIN is 1234."), user("Help me.")])
    async with (
        emulator(created_delay_secs=0.5) as hydra,
        call(hydra, context=context) as talk,
    ):
        await talk.run_llm()
        await talk.until(lambda: hydra.sessions)
        await asyncio.sleep(0.2)
        context.set_messages(redact(context.get_messages()))
        one = await session_of_number(1, talk, hydra)
        assert "My PIN is [redacted]." in instructions(one)
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert "1234" not in str(one.received)
        assert len(one.sent_of("response.created")) == 1


@pytest.mark.parametrize("delay", ["created_delay_secs", "configured_delay_secs"])
async def test_text_that_comes_and_goes_while_a_session_begins_is_not_told(delay: str):
    context = LLMContext([user("Help me.")])
    async with emulator(**{delay: 0.5}) as hydra, call(hydra, context=context) as talk:
        await talk.run_llm()
        await talk.until(lambda: hydra.sessions)
        await asyncio.sleep(0.1)
        for text in ("My PIN is 1234.", "I am Ada."):
            await talk.worker.queue_frame(LLMMessagesAppendFrame([user(text)], run_llm=True))
        await talk.until(lambda: len(context.get_messages()) == 3)
        await asyncio.sleep(0.1)
        context.set_messages(redact(context.get_messages()))
        one = await session_of_number(1, talk, hydra)
        await talk.until_pushed(LLMFullResponseEndFrame)
        await asyncio.sleep(1.0)
        assert "1234" not in str(one.received)
        # What stays is told, and answered.
        assert str(one.received).count("I am Ada.") == 1
        assert len(talk.frames.of(LLMFullResponseEndFrame)) <= 2


@pytest.mark.parametrize("transform", [redact, redact_in_place])
@pytest.mark.parametrize("before", [[], [developer("Help.")]], ids=["alone", "behind"])
async def test_what_is_redacted_is_not_told_as_new(
    transform: Callable[[list[Any]], list[Any]], before: list[Any]
):
    async with emulator() as hydra, call(hydra, settings=NO_GREETING, retry=QUICK) as talk:
        await session_of_number(1, talk, hydra)
        await append(talk, *before, user("My card is 1234."))
        await talk.worker.queue_frame(LLMMessagesTransformFrame(transform, run_llm=False))
        await append(talk, user("Is it valid?"))
        await asyncio.sleep(1.0)
        one = session(hydra)
        texts = [text for _, text in told(one)]
        assert texts == [m["content"] for m in before] + ["My card is 1234.", "Is it valid?"]
        assert len(one.received_of("response.create")) == 2
        # The next session knows what the context says now.
        await hydra.drop()
        text = instructions(await session_of_number(2, talk, hydra))
        assert "My card is [redacted]." in text
        assert "1234" not in text


async def test_what_is_redacted_in_a_spoken_conversation_is_neither_told_nor_answered():
    ears = Ears("My card is 1234.", "Thank you.")
    script = Script([Say.tones(1.0, "I see."), Say.tones(1.0, "You are welcome.")])
    async with (
        emulator(script, transcripts=True) as hydra,
        call(hydra, settings=NO_GREETING, retry=QUICK, before_aggregator=[ears]) as talk,
    ):
        context = talk.context
        assert context is not None
        await talk.say("hello")
        await talk.until(lambda: len(context.get_messages()) == 2)
        await talk.until_quiet()
        await talk.worker.queue_frame(LLMMessagesTransformFrame(redact, run_llm=False))
        await talk.say("hello")
        await talk.until(lambda: len(context.get_messages()) == 4)
        await talk.until_quiet()
        await asyncio.sleep(1.0)
        assert told(session(hydra)) == []
        assert session(hydra).received_of("response.create") == []
        await hydra.drop()
        text = instructions(await session_of_number(2, talk, hydra))
        assert "1234" not in text
        assert [line.partition(":")[0] for line in text.splitlines() if "My card" in line] == [
            "User"
        ]


async def test_a_summary_of_older_turns_is_for_the_next_session_alone():
    async with emulator() as hydra, call(hydra, settings=NO_GREETING, retry=QUICK) as talk:
        await session_of_number(1, talk, hydra)
        for text in ("I am Ada.", "I like trains.", "I live in Oslo."):
            await append(talk, user(text))

        def summarise(messages: list[Any]) -> list[Any]:
            return [user("Summary: Ada likes trains."), messages[-1]]

        await talk.worker.queue_frame(LLMMessagesTransformFrame(summarise, run_llm=False))
        await append(talk, user("Where do I live?"))
        assert [text for _, text in told(session(hydra))] == [
            "I am Ada.",
            "I like trains.",
            "I live in Oslo.",
            "Where do I live?",
        ]
        await hydra.drop()
        text = instructions(await session_of_number(2, talk, hydra))
        assert text.index("Summary: Ada likes trains.") < text.index("I live in Oslo.")
        assert "I am Ada." not in text


# A context that was reset


async def test_a_context_that_keeps_nothing_begins_a_new_session_that_answers():
    async with emulator() as hydra, call(hydra, settings=NO_GREETING) as talk:
        first = await session_of_number(1, talk, hydra)
        await append(talk, user("My PIN is 1234."))
        await talk.llm.send_text("My other PIN is 5678.", respond=False)
        update = LLMMessagesUpdateFrame(messages=[developer("Ask for the name.")], run_llm=True)
        await talk.worker.queue_frame(update)
        second = await session_of_number(2, talk, hydra)
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        await talk.until_quiet()
        await asyncio.sleep(1.0)
        text = instructions(second)
        assert text.count("Ask for the name.") == 1
        assert "PIN" not in text
        assert [role for role, _ in told(first)] == ["user", "user"]
        assert told(second) == []
        # It is answered once, and by the new session.
        assert len(talk.frames.of(LLMFullResponseEndFrame)) == 2
        assert len(second.sent_of("response.created")) == 1
        assert len(hydra.sessions) == 2
        # From then on all is as ever.
        await append(talk, user("I am Ada."))
        assert told(second) == [("user", "I am Ada.")]


async def test_a_context_that_was_reset_during_a_reply_begins_a_new_session_after_it():
    script = Script([Say.tones(2.0), Say.tones(1.0)])
    async with emulator(script) as hydra, call(hydra, settings=NO_GREETING) as talk:
        first = await session_of_number(1, talk, hydra)
        message = LLMMessagesAppendFrame(messages=[user("My PIN is 1234.")], run_llm=True)
        await talk.worker.queue_frame(message)
        await talk.until_pushed(TTSAudioRawFrame, 3)
        await talk.worker.queue_frame(LLMMessagesUpdateFrame(messages=[], run_llm=False))
        # Nothing tells the service so before the bot has spoken.
        await talk.until_quiet()
        second = await session_of_number(2, talk, hydra)
        assert [r.event["response"]["status"] for r in first.sent_of("response.done")] == [
            "completed"
        ]
        assert "1234" not in instructions(second)
        assert second.sent_of("response.created") == []


async def test_a_context_that_was_reset_in_silence_begins_a_new_session_at_once():
    async with emulator() as hydra, call(hydra, settings=NO_GREETING) as talk:
        first = await session_of_number(1, talk, hydra)
        await append(talk, user("My PIN is 1234."))
        await talk.worker.queue_frame(LLMMessagesUpdateFrame(messages=[], run_llm=False))
        await asyncio.sleep(1.0)
        second = await session_of_number(2, talk, hydra)
        assert "1234" not in instructions(second)
        # Nobody has asked for a reply, and the new session answers the user.
        assert second.sent_of("response.created") == []
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        assert len(hydra.sessions) == 2
        assert len(first.sent_of("response.created")) == 1


async def test_an_edited_question_is_answered_anew():
    async with emulator() as hydra, call(hydra, settings=NO_GREETING) as talk:
        await session_of_number(1, talk, hydra)
        await append(talk, developer("Help."), user("What is the weather in Oslo today?"))

        def edit(messages: list[Any]) -> list[Any]:
            return [*messages[:-1], user("What is the weather in Paris today?")]

        await talk.worker.queue_frame(LLMMessagesTransformFrame(edit, run_llm=True))
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        assert told(session(hydra))[-1] == ("user", "What is the weather in Paris today?")


async def test_a_context_that_was_reset_is_not_known_to_a_session_that_a_loss_begins():
    async with emulator() as hydra, call(hydra, settings=NO_GREETING, retry=QUICK) as talk:
        await session_of_number(1, talk, hydra)
        await append(talk, user("My PIN is 1234."))
        await talk.llm.send_text("My other PIN is 5678.", respond=False)
        update = LLMMessagesUpdateFrame(messages=[user("I am Ada.")], run_llm=False)
        await talk.worker.queue_frame(update)
        await talk.until(
            lambda: talk.context and talk.context.get_messages() == [user("I am Ada.")]
        )
        await hydra.drop()
        text = instructions(await session_of_number(2, talk, hydra))
        assert "I am Ada." in text
        assert "PIN" not in text
        await asyncio.sleep(1.0)
        # That one has begun anew.
        assert len(hydra.sessions) == 2


# Messages of all kinds


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("history", ["instructions", "items"])
async def test_what_the_application_has_the_bot_say_is_history_and_never_the_systems(
    shape: Shape, history: Any
):
    async with (
        emulator() as hydra,
        call(hydra, shape, settings=NO_GREETING, retry=QUICK, history=history) as talk,
    ):
        first = await session_of_number(1, talk, hydra)
        frame = LLMMessagesAppendFrame([bot("This call is recorded.")], run_llm=False)
        await talk.llm.queue_frame(frame)
        await append(talk, user("Is it?"))
        live = [("assistant", "This call is recorded.")] if history == "items" else []
        assert told(first) == [*live, ("user", "Is it?")]
        await hydra.drop()
        second = await session_of_number(2, talk, hydra)
        if history == "items":
            await talk.until(lambda: ("assistant", "This call is recorded.") in told(second))
        else:
            assert 'Assistant: "This call is recorded."' in instructions(second)


async def test_messages_of_all_kinds_do_no_harm(warnings: list[str]):
    context = LLMContext(
        [
            {"role": "tool", "tool_call_id": "call_0", "content": "sunny"},
            developer("Be brief."),
            LLMSpecificMessage("openai", {"type": "reasoning"}),
            LLMContext.create_image_url_message(url="data:image/png;base64,AA", text="Look."),
            {"role": "user", "content": "I am Ada.", 1: {2: 3}},  # type: ignore[misc]
        ]
    )
    async with (
        emulator() as hydra,
        call(hydra, context=context, settings=NO_GREETING, start_audio_paused=True) as talk,
    ):
        await talk.run_llm()
        first = await session_of_number(1, talk, hydra)
        for text in ("called a tool: sunny", "Be brief.", "Look.", "I am Ada."):
            assert text in instructions(first)
        await talk.until_pushed(LLMFullResponseEndFrame)
        own: Any = talk.llm.create_llm_specific_message(user("For Hydra alone."))
        odd: Any = {"role": "tool", "tool_call_id": "call_1", "content": "rainy", ("a", 1): 2}
        image = LLMContext.create_image_url_message(url="data:image/png;base64,BB", text="And?")
        await append(talk, odd, own, image)
        for message in (odd, own, image):
            frame = LLMMessagesAppendFrame([message], run_llm=False)
            await talk.llm.queue_frame(frame)
        await append(talk, developer("Go on."))
        await asyncio.sleep(1.0)
        texts = ["For Hydra alone.", "And?"]
        assert [text for _, text in told(first)] == [*texts, *texts, "Go on."]
        assert sum("Hydra takes no images" in warning for warning in warnings) == 1


@pytest.mark.parametrize("history", ["instructions", "items"])
async def test_messages_of_all_kinds_do_no_harm_without_a_context(
    history: Any, warnings: list[str]
):
    async with (
        emulator() as hydra,
        call(hydra, "bare", settings=NO_GREETING, retry=QUICK, history=history) as talk,
    ):
        first = await session_of_number(1, talk, hydra)
        messages: list[Any] = [
            {"role": "tool", "tool_call_id": "call_0", "content": "sunny"},
            developer("Be brief."),
            {"role": "system", "content": "Be kind."},
            bot("This call is recorded."),
            LLMSpecificMessage("openai", {"type": "reasoning"}),
            talk.llm.create_llm_specific_message(user("For Hydra alone.")),
            LLMContext.create_image_url_message(url="data:image/png;base64,AA", text="Look."),
            {"role": "user", "content": "I am Ada.", 1: {2: 3}, ("a", 1): 2},
            {3: 4},
            "no message",
        ]
        for message in messages:
            await talk.llm.queue_frame(LLMMessagesAppendFrame([message], run_llm=False))
        await talk.llm.queue_frame(LLMMessagesAppendFrame([developer("Go on.")], run_llm=True))
        await talk.until_pushed(LLMFullResponseEndFrame)
        texts = ["Be brief.", "Be kind.", "For Hydra alone.", "Look.", "I am Ada.", "Go on."]
        live = [("assistant", "This call is recorded.")] if history == "items" else []
        assert [text for _, text in told(first)] == [*texts[:2], *(t for _, t in live), *texts[2:]]
        assert [m for m in told(first) if m[0] == "assistant"] == live
        assert first.errors == []
        assert sum("Hydra takes no images" in warning for warning in warnings) == 1
        # The next session knows all of them, and the bot's as the bot's.
        await talk.until_quiet()
        await hydra.drop()
        second = await session_of_number(2, talk, hydra)
        await talk.until(lambda: history == "instructions" or len(told(second)) == 8)
        if history == "items":
            assert ("assistant", "This call is recorded.") in told(second)
        else:
            assert 'Assistant: "This call is recorded."' in instructions(second)
        known = instructions(second) + str(told(second))
        for text in [*texts, "called a tool: sunny"]:
            assert text in known


async def test_an_interruption_makes_no_history_of_what_is_typed_with_it():
    """The words that the bot was heard to say come into the context after the text."""
    script = Script([Say.tones(3.0, "one two three four"), Say.tones(0.5, "Yes.")])
    async with (
        emulator(script, transcripts=True) as hydra,
        call(hydra, settings=NO_GREETING) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(TTSAudioRawFrame, 10)
        await asyncio.sleep(1.0)
        await talk.worker.queue_frames(
            [InterruptionFrame(), LLMMessagesAppendFrame([user("Stop.")], run_llm=True)]
        )
        await talk.until(lambda: told(session(hydra)))
        await talk.until_quiet()
        assert told(session(hydra)) == [("user", "Stop.")]
        context = talk.context
        assert context is not None
        # The aggregator writes them down some turns of the event loop after the voice has stopped.
        await talk.until(lambda: len(context.get_messages()) == 2)
        assert context.get_messages() == [user("Stop."), bot("one two three")]
