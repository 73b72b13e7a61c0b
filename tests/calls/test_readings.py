"""What Hydra may say in another order, place or form than documented, in whole calls.

Each reading is a setting or a fault of the emulator. In both shapes of pipeline, whatever Hydra
says is heard, whole and once, and the words of both sides are written down once.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import FunctionCallParams
from pipecat.services.settings import STTSettings
from pipecat.services.stt_service import STTService
from support.call import NO_GREETING, SHAPES, Call, Shape, call, emulator, session

from pipecat_hydra.emulator import Call as ToolCall
from pipecat_hydra.emulator import (
    Drop,
    EmulatorSettings,
    Giant,
    HydraEmulator,
    Pause,
    RejectConfiguration,
    Reply,
    Say,
    Script,
)

MIB = 2**20
WORDS = "It is sunny and rather warm today."


def say(secs: float, words: str = "") -> Say:
    """Speech that repeats nowhere and is sent unchanged."""
    samples = np.random.default_rng(1).integers(-3_000, 3_000, round(secs * 24_000))
    return Say(samples.astype("<i2").tobytes(), 24_000, words)


def heard(talk: Call) -> bytes:
    return b"".join(frame.audio for frame in talk.frames.of(TTSAudioRawFrame))


def said(talk: Call) -> str:
    return "".join(frame.text for frame in talk.frames.of(LLMTextFrame))


def written(context: LLMContext) -> list[str]:
    """The texts of a context."""
    messages: list[Any] = context.get_messages()
    return [message["content"] for message in messages]


async def replied(hydra: HydraEmulator, talk: Call, count: int = 1) -> None:
    """Wait until so many responses are over, and all of them has come."""
    await talk.until(lambda: len(session(hydra).sent_of("response.done")) >= count)
    await talk.until_pushed(LLMFullResponseEndFrame, count)
    await talk.until_quiet()
    await asyncio.sleep(1.0)


# Audio


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("late_ms", [40, 900, 60_000])
async def test_a_reply_that_is_done_before_its_last_deltas_is_heard_whole(
    shape: Shape, late_ms: int
):
    spoken = say(1.5, WORDS)
    settings: dict[str, Any] = {"late_audio_after_done_ms": late_ms, "transcripts": True}
    async with (
        emulator(Script([spoken, spoken]), **settings) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        for count in (1, 2):
            await talk.say("hello")
            await replied(hydra, talk, count)
        assert heard(talk) == 2 * spoken.audio
        # Once it is known that the end comes early, each reply is in one bracket.
        assert len(talk.frames.of(LLMFullResponseStartFrame)) <= 3
        if (context := talk.context) is not None:
            # The first reply may have had two ends, so the second one may still be written.
            await talk.until(lambda: written(context)[-1] == WORDS)
            assert " ".join(written(context)[:-1]) == WORDS


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_last_deltas_of_a_reply_that_is_done_are_heard_before_the_end(shape: Shape):
    spoken = say(1.5, WORDS)
    async with (
        emulator(Script([spoken]), late_audio_after_done_ms=900, delivery_speed=1.5) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await talk.say("hello")
        await session(hydra).wait_for_sent("response.output_audio.delta")
        await talk.worker.queue_frame(EndFrame())
        await talk.ended()
        assert heard(talk) == spoken.audio


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("delta_ms", "secs"),
    [(1_000, 3.0), (1 / 24, 0.05), (1 / 24, 0.02)],
    ids=["a second", "a sample", "a sample or a part of it"],
)
async def test_a_delta_may_have_any_length(shape: Shape, delta_ms: float, secs: float):
    spoken = say(secs)
    async with (
        emulator(Script([spoken]), delta_ms=delta_ms, odd_splits=secs == 0.02) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await talk.say("hello")
        await replied(hydra, talk)
        assert heard(talk) == spoken.audio


@pytest.mark.parametrize("shape", SHAPES)
async def test_audio_may_come_under_another_name_and_in_lines(shape: Shape):
    spoken = say(1.0)
    async with (
        emulator(Script([spoken]), audio_key="audio", base64_lines=True) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await talk.say("hello")
        await replied(hydra, talk)
        assert heard(talk) == spoken.audio


@pytest.mark.parametrize("shape", SHAPES)
async def test_an_interruption_that_only_the_next_response_tells_cuts_the_reply(shape: Shape):
    """The schema: a `response.created` while another streams means that the user interrupted."""
    first, second = say(8.0), say(1.0)
    async with (
        emulator(Script([first, second]), tell_interruptions=False, delivery_speed=1.2) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(TTSAudioRawFrame, 20)
        await talk.say("interrupt")
        await replied(hydra, talk, 1)
        assert len(talk.frames.of(InterruptionFrame)) == 2
        assert heard(talk).endswith(second.audio)
        assert len(heard(talk)) < len(first.audio)


@pytest.mark.parametrize("size", [16 * MIB - 1, 16 * MIB + 1])
async def test_an_event_of_sixteen_mebibytes_is_taken_and_a_longer_one_is_told(size: int):
    spoken = say(0.5)
    settings = EmulatorSettings()
    async with (
        HydraEmulator(Script([spoken]), settings=settings, faults=[Giant(size, times=1)]) as hydra,
        call(hydra, "bare", settings=NO_GREETING) as talk,
    ):
        await talk.say("hello")
        await talk.until(lambda: heard(talk) == spoken.audio)
        errors = talk.frames.of(ErrorFrame, direction=FrameDirection.UPSTREAM)
        if size < 16 * MIB:
            assert len(hydra.sessions) == 1
            assert errors == []
        else:
            assert len(hydra.sessions) == 2
            assert "sent an event larger than 16 MiB" in errors[0].error


# Words


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "told",
    [
        {"transcripts": True},
        {"transcripts": True, "transcript_events": "done"},
        {"transcripts": True, "transcript_events": "both", "item_texts": True},
        {"transcripts": True, "late_transcripts": True},
        {"transcripts": True, "late_transcripts": True, "transcript_events": "done"},
        {"transcripts": True, "late_transcripts": True, "item_texts": True},
        {"transcripts": False, "item_texts": True},
        {"transcripts": False, "item_texts": True, "late_audio_after_done_ms": 400},
    ],
    ids=lambda told: "-".join(f"{name}={value}" for name, value in told.items()),
)
async def test_the_words_of_a_reply_are_used_once_wherever_they_are(
    shape: Shape, told: dict[str, Any]
):
    async with (
        emulator(Script([say(1.0, WORDS)]), **told) as hydra,
        call(hydra, shape, settings=NO_GREETING, observed=True) as talk,
    ):
        await talk.say("hello")
        await replied(hydra, talk)
        assert said(talk) == WORDS
        if talk.context is not None:
            texts = written(talk.context)
            assert " ".join(texts) == WORDS


@pytest.mark.parametrize("shape", SHAPES)
async def test_what_the_user_said_is_written_down_once(shape: Shape):
    script = Script([say(0.5, "Hello."), say(0.5, "Bye.")])
    async with (
        emulator(script, transcripts=True, user_item_text="Some words.") as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        for count in (1, 2):
            await talk.say("hello")
            await replied(hydra, talk, count)
        frames = talk.frames.of(TranscriptionFrame, direction=FrameDirection.UPSTREAM)
        assert [frame.text for frame in frames] == ["Some words."] * 2
        if talk.context is not None:
            assert talk.context.get_messages() == [
                {"role": "user", "content": "Some words."},
                {"role": "assistant", "content": "Hello."},
                {"role": "user", "content": "Some words."},
                {"role": "assistant", "content": "Bye."},
            ]
        # Hydra has heard it: nothing is typed in, and nothing is answered twice.
        assert session(hydra).received_of("conversation.item.create") == []
        assert session(hydra).received_of("response.create") == []


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_next_session_knows_what_both_sides_have_said(shape: Shape):
    script = Script([say(0.5, "Hello, Ada."), say(0.5, "Yes.")])
    restored: list[bool] = []
    async with (
        emulator(script, transcripts=True, user_item_text="I am Ada.") as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):

        @talk.llm.event_handler("on_reconnected")
        async def _(_: Any, is_restored: bool) -> None:
            restored.append(is_restored)

        await talk.say("hello")
        await replied(hydra, talk)
        await hydra.drop()
        await talk.until(lambda: len(hydra.sessions) == 2 and hydra.sessions[1].configured)
        configuration = hydra.sessions[1].configuration
        assert configuration is not None
        assert 'User: "I am Ada."' in configuration["instructions"]
        assert 'Assistant: "Hello, Ada."' in configuration["instructions"]
        await talk.until(lambda: restored)
        assert restored == [True]


class Transcriber(STTService):
    """An STT service, which gives the words itself."""

    def __init__(self) -> None:
        super().__init__(settings=STTSettings(model=None, language=None))

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        yield None


async def test_beside_a_transcriber_its_words_are_the_ones():
    async with (
        emulator(Script([say(0.5)]), user_item_text="Some words.") as hydra,
        call(hydra, settings=NO_GREETING, before_aggregator=[Transcriber()]) as talk,
    ):
        await talk.say("hello")
        await replied(hydra, talk)
        assert talk.frames.of(TranscriptionFrame, direction=FrameDirection.UPSTREAM) == []


# Calls


async def look(params: FunctionCallParams) -> None:
    """Look something up."""
    await params.result_callback("seen")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("told", ["events", "items", "output"])
async def test_a_call_is_made_once_whatever_tells_of_it(shape: Shape, told: str):
    calling: Reply = [ToolCall("look", {"at": "a"}), ToolCall("look", {"at": "b"}), say(0.5)]
    script = Script([calling])
    async with (
        emulator(script, calls_told=told) as hydra,
        call(hydra, shape, settings=NO_GREETING, tools=[look]) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(TTSAudioRawFrame)
        await asyncio.sleep(1.0)
        assert [len(one.outputs) for one in session(hydra).calls] == [1, 1]
        assert len(session(hydra).received_of("response.create")) == 1


@pytest.mark.parametrize("shape", SHAPES)
async def test_calls_that_come_far_apart_have_one_narration_once_the_order_is_known(
    shape: Shape,
):
    a, b, c = (ToolCall("look", {"at": at}) for at in "abc")
    apart: Reply = [a, Pause(0.6), b, say(0.5)]
    once: Reply = [c, say(0.5)]
    async with (
        emulator(Script([once, apart, apart])) as hydra,
        call(hydra, shape, settings=NO_GREETING, tools=[look]) as talk,
    ):
        for count in (1, 2, 3):
            await talk.say("hello")
            await talk.until(lambda count=count: len(session(hydra).narrations) == count)
            await talk.until_quiet()
        await asyncio.sleep(1.0)
        assert [len(one.outputs) for one in session(hydra).calls] == [1] * 5
        assert len(session(hydra).received_of("response.create")) == 3
        assert all(not narration.missing for narration in session(hydra).narrations)


# The end of a session


@pytest.mark.parametrize("after", ["wait", "close", "default_voice"])
@pytest.mark.parametrize("param", ["session.configure.session.tools", "session.instructions"])
async def test_a_rejected_configuration_is_one_permanent_error(param: str, after: Any):
    begun = time.monotonic()
    async with (
        HydraEmulator(
            settings=EmulatorSettings(after_rejection=after), faults=[RejectConfiguration(param)]
        ) as hydra,
        call(hydra, "bare") as talk,
    ):
        await talk.run_llm()
        await talk.until(lambda: not talk.llm.is_usable)
        await talk.until(lambda: talk.frames.of(ErrorFrame, direction=FrameDirection.UPSTREAM))
        (error,) = talk.frames.of(ErrorFrame, direction=FrameDirection.UPSTREAM)
        assert error.category is not None
        assert error.category.is_permanent
        assert f"rejects the configuration of the session (at {param})" in error.error
        assert time.monotonic() - begun < 1.0
        await asyncio.sleep(5.0)
        assert len(hydra.sessions) == 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("how", ["session_ended", "internal_error"])
async def test_a_session_that_is_over_and_not_closed_is_had_again(shape: Shape, how: Any):
    spoken = say(0.5)
    ended = Drop(how, during="user_speech", secs=0.3, times=1)
    async with (
        HydraEmulator(Script([spoken]), faults=[ended]) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await talk.say("question")
        # The next session hears the words again, and answers them.
        await talk.until(lambda: heard(talk) == spoken.audio)
        assert len(hydra.sessions) == 2
        errors = talk.frames.of(ErrorFrame, direction=FrameDirection.UPSTREAM)
        assert any("the session is over, and was not closed" in error.error for error in errors)
        assert talk.llm.is_usable


# Characters


@pytest.mark.parametrize("shape", SHAPES)
async def test_half_a_surrogate_pair_breaks_nothing(shape: Shape):
    asked: list[str] = []

    async def look(params: FunctionCallParams, at: str) -> None:
        asked.append(at)
        await params.result_callback({"seen": "half \ud83d"})

    calling: Reply = [ToolCall("look", '{"at": "a \\ud83d b"}'), say(0.5, "Sunny \ud83d day.")]
    script = Script([calling])
    async with (
        emulator(script, transcripts=True) as hydra,
        call(hydra, shape, settings=NO_GREETING, tools=[look], observed=True) as talk,
    ):
        talk.llm.register_function("look", lambda params: look(params, params.arguments["at"]))
        await talk.say("hello")
        await talk.until_pushed(TTSAudioRawFrame)
        await replied(hydra, talk, 2)
        await talk.llm.send_text("Half \ud83d of it.")
        await talk.until(lambda: session(hydra).messages)
        assert asked == ["a \ufffd b"]
        assert said(talk) == "Sunny \ufffd day."
        assert len(hydra.sessions) == 1
