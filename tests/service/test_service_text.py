"""Typed text and contexts in whole calls: in once, answered once."""

import asyncio
from typing import Any

import pytest
from pipecat.frames.frames import (
    Frame,
    FunctionCallResultProperties,
    InputTextRawFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMMessagesAppendFrame,
    LLMMessagesUpdateFrame,
    LLMRunFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.processors.frameworks.rtvi import models as rtvi_models
from pipecat.services.llm_service import FunctionCallParams
from support.call import NO_GREETING, SHAPES, Call, Shape, call, configuration, emulator, session

from pipecat_hydra import HydraLLMSettings, RetryPolicy
from pipecat_hydra.emulator import Call as ToolCall
from pipecat_hydra.emulator import Hang, HydraEmulator, Say, Script

shapes = pytest.mark.parametrize("shape", SHAPES)

QUICK = RetryPolicy(first_delay_secs=0.05, longest_delay_secs=0.1)


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def developer(text: str) -> Any:
    return {"role": "developer", "content": text}


def messages(hydra: HydraEmulator) -> list[tuple[str, str]]:
    items = [r.event["item"] for r in session(hydra).received_of("conversation.item.create")]
    return [(i["role"], i["content"][0]["text"]) for i in items if i["type"] == "message"]


def requests(hydra: HydraEmulator) -> int:
    return len(session(hydra).received_of("response.create"))


async def configured(talk: Call, hydra: HydraEmulator) -> None:
    await talk.until(lambda: hydra.sessions and session(hydra).configured)


@shapes
async def test_an_appended_message_is_answered_once(shape: Shape):
    async with emulator() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        await configured(talk, hydra)
        frame = LLMMessagesAppendFrame(messages=[user("What is new?")], run_llm=True)
        await talk.worker.queue_frame(frame)
        await talk.until_pushed(LLMFullResponseEndFrame)
        await talk.until_quiet()
        await asyncio.sleep(0.3)
        assert messages(hydra) == [("user", "What is new?")]
        assert requests(hydra) == 1
        assert len(talk.frames.of(LLMFullResponseEndFrame)) == 1


@shapes
async def test_a_message_that_asks_for_nothing_is_not_answered(shape: Shape):
    async with emulator() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        await configured(talk, hydra)
        frame = LLMMessagesAppendFrame(messages=[user("Just so you know.")], run_llm=False)
        await talk.worker.queue_frame(frame)
        await asyncio.sleep(0.3)
        assert requests(hydra) == 0
        # With the next that asks, it goes in; once.
        await talk.worker.queue_frame(
            LLMMessagesAppendFrame(messages=[user("And now?")], run_llm=True)
        )
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert messages(hydra) == [("user", "Just so you know."), ("user", "And now?")]
        assert requests(hydra) == 1


@shapes
async def test_instructions_of_the_developer_go_in_too(shape: Shape):
    async with emulator() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        await configured(talk, hydra)
        message: Any = {"role": "developer", "content": "Ask whether they are still there."}
        await talk.worker.queue_frame(LLMMessagesAppendFrame(messages=[message], run_llm=True))
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert messages(hydra) == [("system", "Ask whether they are still there.")]


@shapes
async def test_typed_text_of_a_transport_is_answered(shape: Shape):
    async with emulator() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        await configured(talk, hydra)
        await talk.worker.queue_frame(InputTextRawFrame(text="typed"))
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert messages(hydra) == [("user", "typed")]
        assert requests(hydra) == 1


async def test_typed_text_of_a_transport_is_not_taken_for_the_bots():
    script = Script([], greeting=Say.tones(0.2, "Hello."))
    async with emulator(script, transcripts=True) as hydra, call(hydra) as talk:
        await talk.worker.queue_frame(InputTextRawFrame(text="typed"))
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert talk.context is not None
        await talk.until(lambda: talk.context and talk.context.get_messages())
        assert talk.context.get_messages() == [{"role": "assistant", "content": "Hello."}]


@pytest.mark.parametrize(
    "frame",
    [LLMRunFrame(), LLMMessagesAppendFrame(messages=[developer("Say so.")], run_llm=True)],
    ids=["run", "append"],
)
async def test_what_passes_on_its_way_to_the_aggregator_is_answered_once(frame: Frame):
    async with emulator() as hydra, call(hydra, settings=NO_GREETING) as talk:
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await talk.until_quiet()
        await talk.llm.queue_frame(frame, FrameDirection.UPSTREAM)
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        await talk.until_quiet()
        await asyncio.sleep(0.3)
        assert requests(hydra) == 1
        assert len(messages(hydra)) == isinstance(frame, LLMMessagesAppendFrame)


async def test_a_message_that_outlasts_an_interruption_is_told_once():
    script = Script([], greeting=Say.tones(3.0))
    async with emulator(script) as hydra, call(hydra) as talk:
        await talk.run_llm()
        await talk.until_pushed(TTSAudioRawFrame, 3)
        frame = LLMMessagesAppendFrame(messages=[developer("It has come.")], run_llm=False)
        frame.interruptible = False
        await talk.llm.queue_frame(frame)
        await talk.until(lambda: messages(hydra))
        await talk.worker.queue_frame(InterruptionFrame())
        await talk.until(lambda: talk.context and len(talk.context.get_messages()) == 1)
        await talk.run_llm()
        await session(hydra).wait_for_received("response.create")
        await asyncio.sleep(0.2)
        assert messages(hydra) == [("system", "It has come.")]


@shapes
async def test_text_before_the_session_is_configured_is_part_of_its_instructions(shape: Shape):
    """The documented way needs no message items, which are unproven."""
    async with emulator() as hydra, call(hydra, shape, start_audio_paused=True) as talk:
        frame = LLMMessagesAppendFrame(messages=[user("I typed this first.")], run_llm=True)
        await talk.worker.queue_frame(frame)
        await talk.until_pushed(LLMFullResponseEndFrame)
        told = configuration(hydra)
        assert "I typed this first." in told["instructions"]
        assert told["generate_initial_response"] is True
        assert messages(hydra) == []
        assert requests(hydra) == 0


async def test_what_the_developer_says_first_without_a_context_is_told():
    async with emulator() as hydra, call(hydra, "bare", start_audio_paused=True) as talk:
        messages = [developer("The caller is Anna. Greet her by name.")]
        await talk.worker.queue_frame(LLMMessagesAppendFrame(messages=messages, run_llm=True))
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert "The caller is Anna." in configuration(hydra)["instructions"]


async def test_text_of_the_system_before_the_session_is_told():
    async with emulator() as hydra, call(hydra, start_audio_paused=True) as talk:
        await talk.llm.send_text("The caller is Anna.", role="system", respond=False)
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert "The caller is Anna." in configuration(hydra)["instructions"]


async def test_text_typed_first_is_answered_though_the_model_does_not_speak_first():
    async with (
        emulator() as hydra,
        call(hydra, settings=NO_GREETING, start_audio_paused=True, observed=True) as talk,
    ):
        await send_text_of_client(talk, "What is new?")
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert "What is new?" in configuration(hydra)["instructions"]


async def test_a_run_does_not_make_a_model_greet_that_does_not_speak_first():
    context = LLMContext([developer("Greet the user.")])
    async with (
        emulator() as hydra,
        call(hydra, context=context, settings=NO_GREETING, start_audio_paused=True) as talk,
    ):
        await talk.run_llm()
        await configured(talk, hydra)
        await asyncio.sleep(0.3)
        assert not talk.frames.of(LLMFullResponseEndFrame)


@shapes
async def test_a_run_in_the_middle_of_a_call_makes_the_model_speak(shape: Shape):
    async with emulator() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await talk.worker.queue_frame(LLMRunFrame())
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        assert messages(hydra) == []
        assert requests(hydra) == 1


@shapes
async def test_a_run_after_the_greeting_makes_the_model_speak_though_the_user_is_silent(
    shape: Shape,
):
    greets = HydraLLMSettings(generate_initial_response=True)
    async with emulator() as hydra, call(hydra, shape, settings=greets) as talk:
        # One that comes before the greeting was heard is what the greeting answers.
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame)
        await talk.until_quiet()
        assert requests(hydra) == 0
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        assert requests(hydra) == 1


@shapes
async def test_text_typed_over_a_reply_is_answered_after_it(shape: Shape):
    async with (
        emulator(delivery_speed=2.0) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(TTSAudioRawFrame)
        await talk.llm.send_text("And another thing.")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        assert requests(hydra) == 1
        assert not session(hydra).errors
        done = [r.event["response"]["status"] for r in session(hydra).sent_of("response.done")]
        assert done[0] == "completed"


@shapes
async def test_text_may_interrupt_the_reply(shape: Shape):
    async with (
        emulator(delivery_speed=1.5) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await talk.say("question")
        await talk.until_pushed(TTSAudioRawFrame)
        await talk.llm.send_text("Stop.", interrupt=True)
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        first, second = session(hydra).sent_of("response.done")
        assert first.event["response"]["status"] == "cancelled"
        assert second.event["response"]["status"] == "completed"
        assert messages(hydra) == [("user", "Stop.")]
        assert not session(hydra).errors


@shapes
async def test_text_that_interrupts_and_text_that_waited_have_one_answer(shape: Shape):
    async with (
        emulator(Script([Say.tones(3.0), Say.tones(0.5)]), delivery_speed=1.0) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await talk.say("question")
        await talk.until_pushed(TTSAudioRawFrame)
        await talk.llm.send_text("One.")
        await talk.llm.send_text("Two.", interrupt=True)
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        await asyncio.sleep(2.0)
        assert messages(hydra) == [("user", "One."), ("user", "Two.")]
        received = [
            r.type for r in session(hydra).received if r.type != "input_audio_buffer.append"
        ]
        assert received[-4:] == [
            "conversation.item.create",
            "response.cancel",
            "conversation.item.create",
            "response.create",
        ]
        assert requests(hydra) == 1
        assert len(talk.frames.of(LLMFullResponseEndFrame)) == 2


@shapes
async def test_the_application_may_ask_for_a_response_and_cancel_one(shape: Shape):
    async with (
        emulator(delivery_speed=1.0) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await configured(talk, hydra)
        await talk.llm.request_response()
        await talk.until_pushed(TTSAudioRawFrame)
        await talk.llm.cancel_response()
        (done,) = await session(hydra).wait_for_sent("response.done")
        assert done.event["response"]["status"] == "cancelled"
        await talk.until_pushed(LLMFullResponseEndFrame)
        await talk.until_pushed(InterruptionFrame)


async def test_the_text_of_an_rtvi_client_is_answered_after_an_interruption():
    async with (
        emulator(delivery_speed=1.5) as hydra,
        call(hydra, settings=NO_GREETING, observed=True) as talk,
    ):
        await talk.say("question")
        await talk.until_pushed(TTSAudioRawFrame, 3)
        await asyncio.sleep(0.6)
        await send_text_of_client(talk, "Never mind.")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        assert messages(hydra) == [("user", "Never mind.")]
        assert requests(hydra) == 1
        first = session(hydra).sent_of("response.done")[0]
        assert first.event["response"]["status"] == "cancelled"


async def send_text_of_client(talk: Call, text: str) -> None:
    """Do what Pipecat's RTVI processor does when a client sends text."""
    data = rtvi_models.SendTextData(content=text)
    await talk.worker.rtvi._handle_send_text(data, "message-1")


# Contexts


class Ears(FrameProcessor):
    """An STT service in place: says what the user said when the user stops."""

    def __init__(self, text: str):
        super().__init__()
        self.text = text

    async def process_frame(self, frame: Frame, direction: FrameDirection):
        await super().process_frame(frame, direction)
        if isinstance(frame, UserStoppedSpeakingFrame) and direction is FrameDirection.UPSTREAM:
            await self.push_frame(TranscriptionFrame(self.text, "user", "now"))
        await self.push_frame(frame, direction)


async def test_with_a_transcriber_the_context_holds_both_sides_in_order():
    script = Script([Say.tones(1.0, "I am well.")])
    async with (
        emulator(script, transcripts=True) as hydra,
        call(hydra, settings=NO_GREETING, before_aggregator=[Ears("How are you?")]) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        context = talk.context
        assert context is not None
        await talk.until(lambda: len(context.get_messages()) == 2)
        assert context.get_messages() == [
            {"role": "user", "content": "How are you?"},
            {"role": "assistant", "content": "I am well."},
        ]
        # What was spoken is not typed in again, and nothing is answered twice.
        await asyncio.sleep(0.2)
        assert messages(hydra) == []
        assert requests(hydra) == 0


@pytest.mark.parametrize("history", ["instructions", "items"])
async def test_a_saved_conversation_reaches_the_model(history: Any):
    context = LLMContext(
        [
            {"role": "user", "content": "I am Ada."},
            {"role": "assistant", "content": "Hello Ada."},
        ]
    )
    async with emulator() as hydra, call(hydra, context=context, history=history) as talk:
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame)
        told = configuration(hydra)
        if history == "instructions":
            assert "I am Ada." in told["instructions"]
            assert told["generate_initial_response"] is True
            assert messages(hydra) == []
        else:
            assert "instructions" not in told
            assert messages(hydra) == [("user", "I am Ada."), ("assistant", "Hello Ada.")]
            assert requests(hydra) == 1


@pytest.mark.parametrize(
    "content", ["Ask for the size.", " Ask for the size. ", [{"type": "text", "text": "Ask."}]]
)
@pytest.mark.parametrize("way", ["aggregator", "service"])
async def test_of_what_a_context_holds_another_session_is_told_once(content: Any, way: str):
    async with emulator() as hydra, call(hydra, settings=NO_GREETING, retry=QUICK) as talk:
        await configured(talk, hydra)
        message: Any = {"role": "developer", "content": content}
        frame = LLMMessagesAppendFrame(messages=[message], run_llm=True)
        target = talk.worker if way == "aggregator" else talk.llm
        await target.queue_frame(frame)
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert talk.context is not None
        await talk.until(lambda: talk.context and message in talk.context.get_messages())
        await hydra.drop()
        told = await instructions(talk, hydra, 2)
        assert told.count("Ask") == 1


@pytest.mark.parametrize("way", ["aggregator", "service"])
async def test_what_the_application_takes_out_of_its_context_is_not_told_again(way: str):
    async with emulator() as hydra, call(hydra, settings=NO_GREETING, retry=QUICK) as talk:
        await configured(talk, hydra)
        frame = LLMMessagesAppendFrame(messages=[developer("Ask for the size.")], run_llm=True)
        target = talk.worker if way == "aggregator" else talk.llm
        await target.queue_frame(frame)
        await talk.until_pushed(LLMFullResponseEndFrame)
        await talk.until_quiet()
        await asyncio.sleep(0.2)
        kept = [user("I am Ada.")]
        await talk.worker.queue_frame(LLMMessagesUpdateFrame(messages=kept, run_llm=False))
        await talk.until(lambda: talk.context and talk.context.get_messages() == kept)
        await hydra.drop()
        told = await instructions(talk, hydra, 2)
        assert "I am Ada." in told
        assert "Ask for the size." not in told


async def instructions(talk: Call, hydra: HydraEmulator, sessions: int) -> str:
    """What the session of this number, the newest, was told."""
    await talk.until(lambda: len(hydra.sessions) == sessions and hydra.sessions[-1].configured)
    told = hydra.sessions[-1].configuration
    assert told is not None
    return told.get("instructions") or ""


async def test_text_of_a_context_is_told_once_though_the_handshake_fails():
    faults = [Hang("configured", first=2, times=1)]
    async with (
        HydraEmulator(faults=faults) as hydra,
        call(hydra, settings=NO_GREETING, retry=QUICK, handshake_timeout_secs=1.0) as talk,
    ):
        await configured(talk, hydra)
        await hydra.drop()
        await talk.until(lambda: len(hydra.sessions) == 2 and hydra.sessions[1].configuration)
        frame = LLMMessagesAppendFrame(messages=[developer("Ask for the size.")], run_llm=True)
        await talk.worker.queue_frame(frame)
        told = await instructions(talk, hydra, 3)
        assert told.count("Ask for the size.") == 1
        assert not hydra.sessions[2].messages


async def test_messages_told_to_the_service_while_the_bot_speaks_are_told_once():
    """They come into the context only when what was to be heard before them was."""
    script = Script([], greeting=Say.tones(1.5))
    async with emulator(script) as hydra, call(hydra) as talk:
        await talk.run_llm()
        await talk.until_pushed(TTSAudioRawFrame, 3)
        for text in ("one", "two"):
            frame = LLMMessagesAppendFrame(messages=[developer(text)], run_llm=True)
            await talk.llm.queue_frame(frame)
        await talk.worker.queue_frame(LLMMessagesAppendFrame([developer("three")], run_llm=True))
        await talk.until(lambda: talk.context and len(talk.context.get_messages()) == 3)
        await talk.until_quiet()
        await asyncio.sleep(0.5)
        assert sorted(text for _, text in messages(hydra)) == ["one", "three", "two"]
        assert len(talk.frames.of(LLMFullResponseEndFrame)) == 1 + requests(hydra) <= 3


async def look_up(params: FunctionCallParams):
    """Look something up, and take a note in silence."""
    params.context.add_message(developer("The user is looking for a hotel."))
    await params.result_callback("found")


async def test_a_message_that_asks_for_nothing_does_not_make_a_function_told_of_twice():
    script = Script([[ToolCall("look_up", {}), Say.tones()]])
    context = LLMContext(tools=[look_up])
    async with (
        emulator(script) as hydra,
        call(hydra, context=context, settings=NO_GREETING) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        await talk.until_quiet()
        await asyncio.sleep(0.3)
        assert messages(hydra) == [("system", "The user is looking for a hotel.")]
        assert requests(hydra) == 1
        assert len(talk.frames.of(LLMFullResponseEndFrame)) == 2


async def look_up_in_silence(params: FunctionCallParams):
    """Look something up, and say how to go on."""
    silent = FunctionCallResultProperties(run_llm=False)
    await params.result_callback("found", properties=silent)
    frame = LLMMessagesAppendFrame(messages=[developer("Ask for the dates.")], run_llm=True)
    await params.llm.push_frame(frame)


async def test_a_message_that_asks_is_answered_after_a_function_that_does_not():
    script = Script([ToolCall("look_up_in_silence", {})])
    context = LLMContext(tools=[look_up_in_silence])
    async with (
        emulator(script) as hydra,
        call(hydra, context=context, settings=NO_GREETING) as talk,
    ):
        await talk.say("hello")
        await session(hydra).wait_for_received("response.create")
        assert messages(hydra) == [("system", "Ask for the dates.")]
        await talk.until_pushed(LLMFullResponseEndFrame, 2)


async def look_up_and_run(params: FunctionCallParams):
    """Look something up, and have the model speak."""
    silent = FunctionCallResultProperties(run_llm=False)
    await params.result_callback("found", properties=silent)
    await params.llm.push_frame(LLMRunFrame())


@shapes
async def test_a_function_may_have_the_model_speak(shape: Shape):
    script = Script([[ToolCall("look_up_and_run", {}), Say.tones()]])
    given: dict[str, Any] = (
        {"tools": [look_up_and_run]}
        if shape == "bare"
        else {"context": LLMContext(tools=[look_up_and_run])}
    )
    async with (
        emulator(script) as hydra,
        call(hydra, shape, settings=NO_GREETING, **given) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        await talk.until_quiet()
        await asyncio.sleep(0.3)
        assert requests(hydra) == 1
        assert len(talk.frames.of(LLMFullResponseEndFrame)) == 2


async def test_a_context_that_is_replaced_gives_only_what_is_new():
    async with emulator() as hydra, call(hydra, settings=NO_GREETING) as talk:
        await configured(talk, hydra)
        first = [user("one"), user("two")]
        await talk.worker.queue_frame(LLMMessagesAppendFrame(messages=first, run_llm=True))
        await talk.until_pushed(LLMFullResponseEndFrame)
        second = [user("two"), user("three")]
        await talk.worker.queue_frame(LLMMessagesUpdateFrame(messages=second, run_llm=True))
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        assert [text for _, text in messages(hydra)] == ["one", "two", "three"]
