"""What is said, typed, owed or called when the connection goes, and what becomes of it (A1, F1)."""

import asyncio

import pytest
from pipecat.frames.frames import (
    FunctionCallResultProperties,
    InputTextRawFrame,
    LLMFullResponseEndFrame,
    TTSAudioRawFrame,
)
from pipecat.services.llm_service import FunctionCallParams
from support.call import NO_GREETING, SHAPES, Shape, call, emulator, recording
from support.reconnects import (
    QUICK,
    Story,
    configured,
    errors,
    heard,
    opened_and_closed,
    reconnected,
)

from pipecat_hydra.emulator import (
    Call as ToolCall,
)
from pipecat_hydra.emulator import (
    Drop,
    EmulatorSettings,
    HydraEmulator,
    Refuse,
    Say,
    Script,
)

shapes = pytest.mark.parametrize("shape", SHAPES)


@shapes
async def test_what_the_user_is_saying_is_heard_whole_by_the_next_session(shape: Shape):
    """Twice in a row it is lost while the user speaks; the third session hears all of it."""
    faults = [Drop("reset", during="user_speech", secs=0.3, times=2)]
    async with (
        HydraEmulator(faults=faults) as hydra,
        call(hydra, shape, settings=NO_GREETING, retry=QUICK) as talk,
    ):
        story = Story(talk.llm)
        await talk.say("question")
        await reconnected(talk, story, 2)
        await talk.until_pushed(LLMFullResponseEndFrame)
        last = hydra.sessions[-1]
        assert recording("question").tobytes() in last.received_audio
        assert heard(talk) == last.sent_audio()
        assert len(errors(talk)) == 2
        opened_and_closed(talk)


async def test_a_turn_whose_answer_had_not_begun_is_heard_again():
    settings = {"response_latency_secs": 0.6}
    async with (
        emulator(**settings) as hydra,
        call(hydra, settings=NO_GREETING, retry=QUICK) as talk,
    ):
        story = Story(talk.llm)
        await talk.say("question")
        first = await hydra.wait_for_session()
        await first.wait_for_sent("input_audio_buffer.speech_stopped")
        await hydra.drop("reset")
        await reconnected(talk, story)
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert not first.sent_audio()
        assert recording("question").tobytes() in hydra.sessions[1].received_audio
        assert heard(talk) == hydra.sessions[1].sent_audio()


async def test_a_turn_that_was_being_answered_is_not_heard_again():
    async with (
        emulator(delivery_speed=1.0) as hydra,
        call(hydra, settings=NO_GREETING, retry=QUICK) as talk,
    ):
        story = Story(talk.llm)
        await talk.say("question")
        await talk.until_pushed(TTSAudioRawFrame, 5)
        await hydra.drop("reset")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await reconnected(talk, story)
        said = recording("question").tobytes()
        assert said in hydra.sessions[0].received_audio
        await asyncio.sleep(0.5)
        assert said[-32_000:] not in hydra.sessions[1].received_audio
        assert not hydra.sessions[1].sent_of("response.created")


async def test_a_greeting_that_nobody_heard_is_given_again():
    greeting = Say.tones(1.0)
    async with (
        HydraEmulator(
            Script([], greeting=greeting),
            faults=[Drop("reset", sent=1, of="response.created", times=1)],
        ) as hydra,
        call(hydra, retry=QUICK) as talk,
    ):
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        first, second = hydra.sessions
        assert not first.sent_audio()
        assert heard(talk) == second.sent_audio()
        assert second.configuration is not None
        assert second.configuration["generate_initial_response"] is True


async def test_a_greeting_that_was_heard_is_not_given_again():
    async with (
        HydraEmulator(Script([], greeting=Say.tones(1.0, "Good morning."))) as hydra,
        call(hydra, retry=QUICK) as talk,
    ):
        story = Story(talk.llm)
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame)
        await hydra.drop()
        await reconnected(talk, story)
        second = hydra.sessions[1].configuration
        assert second is not None
        assert second["generate_initial_response"] is False
        assert "do not greet" in second["instructions"].lower()


async def test_an_answer_that_is_owed_to_typed_text_is_given():
    async with (
        HydraEmulator(faults=[Drop("reset", received=1, of="response.create", times=1)]) as hydra,
        call(hydra, "bare", settings=NO_GREETING, retry=QUICK) as talk,
    ):
        story = Story(talk.llm)
        await talk.until(lambda: configured(hydra))
        await talk.worker.queue_frame(InputTextRawFrame("What is the weather?"))
        await reconnected(talk, story)
        second = hydra.sessions[1].configuration
        assert second is not None
        assert "What is the weather?" in second["instructions"]
        assert second["generate_initial_response"] is True
        # It was told in the instructions, and so not once more.
        assert not hydra.sessions[1].messages
        assert story.of("on_reconnected") == [(True,)]


async def test_text_is_told_once_however_often_the_handshake_fails():
    faults = [Drop("reset", received=1, of="session.configure", first=2, times=3)]
    for history in ("instructions", "items"):
        async with (
            HydraEmulator(faults=faults) as hydra,
            call(hydra, settings=NO_GREETING, retry=QUICK, history=history) as talk,
        ):
            story = Story(talk.llm)
            await talk.until(lambda hydra=hydra: configured(hydra))
            await talk.worker.queue_frame(InputTextRawFrame("Are you there?"))
            await talk.until_pushed(LLMFullResponseEndFrame)
            await hydra.drop()
            await reconnected(talk, story)
            last = hydra.sessions[-1]
            # When what is told after it has come, all has that was told of it.
            await talk.worker.queue_frame(InputTextRawFrame("Hello?"))
            await talk.until(lambda last=last: "Hello?" in [m.text for m in last.messages])
            assert last.configuration is not None
            instructions = last.configuration.get("instructions") or ""
            texts = [message.text for message in last.messages]
            assert instructions.count("Are you there?") + texts.count("Are you there?") == 1


async def test_text_typed_meanwhile_is_told_once_and_answered():
    async with emulator() as hydra, call(hydra, settings=NO_GREETING, retry=QUICK) as talk:
        story = Story(talk.llm)
        await talk.until(lambda: configured(hydra))
        hydra.faults = [Refuse(503, times=2)]
        await hydra.drop()
        await talk.until(lambda: story.attempts)
        await talk.worker.queue_frame(InputTextRawFrame("Are you there?"))
        await reconnected(talk, story)
        await talk.until_pushed(LLMFullResponseEndFrame)
        last = hydra.sessions[-1]
        assert last.configuration is not None
        assert last.configuration["instructions"].count("Are you there?") == 1
        assert not last.messages


@shapes
async def test_what_a_function_gives_after_the_loss_is_told_and_spoken_of(shape: Shape):
    running, finish = asyncio.Event(), asyncio.Event()

    async def get_weather(params: FunctionCallParams):
        """Get the weather."""
        running.set()
        await finish.wait()
        await params.result_callback({"sky": "clear"})

    script = Script([ToolCall("get_weather", {})])
    async with (
        HydraEmulator(script) as hydra,
        call(hydra, shape, settings=NO_GREETING, retry=QUICK, tools=[get_weather]) as talk,
    ):
        story = Story(talk.llm)
        await talk.say("question")
        await asyncio.wait_for(running.wait(), 15)
        await hydra.drop()
        await reconnected(talk, story)
        finish.set()
        second = hydra.sessions[1]
        await second.wait_until(lambda: bool(second.messages))
        (message,) = second.messages
        assert "clear" in message.text
        await second.wait_for_received("response.create")
        # No output for a call that the session never made; and what led to it is not repeated.
        assert not second.stray_outputs
        assert not second.calls
        assert not second.errors


async def test_a_result_that_comes_meanwhile_is_in_what_the_session_is_told():
    async def get_weather(params: FunctionCallParams):
        """Get the weather."""
        await hydra.drop()
        await params.result_callback(
            {"sky": "clear"}, properties=FunctionCallResultProperties(run_llm=True)
        )

    script = Script([ToolCall("get_weather", {})])
    async with (
        HydraEmulator(script, faults=[Refuse(503, first=2, times=1)]) as hydra,
        call(hydra, "bare", settings=NO_GREETING, retry=QUICK, tools=[get_weather]) as talk,
    ):
        story = Story(talk.llm)
        await talk.say("question")
        await reconnected(talk, story)
        told = hydra.sessions[1].configuration
        assert told is not None
        assert "clear" in told["instructions"]
        assert told["generate_initial_response"] is True


async def test_a_result_that_comes_while_the_session_rests_is_told_and_spoken_of():
    finish = asyncio.Event()

    async def book(params: FunctionCallParams):
        """Book a table."""
        await finish.wait()
        await params.result_callback({"table": 7})

    async with (
        HydraEmulator(Script([ToolCall("book", {})])) as hydra,
        call(hydra, "bare", settings=NO_GREETING, idle_timeout_secs=1.0) as talk,
    ):
        story = Story(talk.llm)
        talk.llm.register_function("book", book, cancel_on_interruption=False)
        await talk.say("question")
        await talk.until_pushed(LLMFullResponseEndFrame)
        talk.llm.set_audio_input_paused(True)
        await talk.until(lambda: story.of("on_disconnected"))
        finish.set()
        await talk.until(lambda: len(configured(hydra)) == 2)
        told = hydra.sessions[1].configuration
        assert told is not None
        assert '\\"table\\": 7' in told["instructions"]
        assert told["generate_initial_response"] is True


async def test_a_reply_that_is_still_being_played_is_known_to_the_next_session():
    """No context has it yet, for it is written down as it is heard."""
    words = "Your code is seven four two."
    script = Script([Say.tones(4.0, words)])
    settings = {"transcripts": True, "delivery_speed": float("inf")}
    async with (
        HydraEmulator(script, settings=EmulatorSettings(**settings)) as hydra,
        call(hydra, settings=NO_GREETING, retry=QUICK) as talk,
    ):
        story = Story(talk.llm)
        await talk.say("question")
        await talk.until_pushed(LLMFullResponseEndFrame)
        await hydra.drop()
        await reconnected(talk, story)
        told = hydra.sessions[1].configuration
        assert told is not None
        assert told["instructions"].count(words) == 1
        await talk.until_quiet()
        await hydra.drop()
        await reconnected(talk, story, 2)
        told = hydra.sessions[2].configuration
        assert told is not None
        assert told["instructions"].count(words) == 1
