"""Whole calls in both pipeline shapes: greeting, turns, barge-ins, ends."""

import asyncio

import numpy as np
import pytest
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMUpdateSettingsFrame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from support.call import (
    NO_GREETING,
    SHAPES,
    Call,
    Shape,
    call,
    configuration,
    emulator,
    recording,
    session,
)

from pipecat_hydra import HydraLLMSettings
from pipecat_hydra.emulator import HydraEmulator, Say, Script

# Noise that repeats nowhere, so that each stretch of it tells where it belongs.
SIX_SECONDS = np.random.default_rng(1).integers(-3_000, 3_000, 6 * 24_000).astype("<i2")

BRACKETS = (
    LLMFullResponseStartFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    LLMFullResponseEndFrame,
)
ONE_REPLY = [kind.__name__ for kind in BRACKETS]

shapes = pytest.mark.parametrize("shape", SHAPES)


def audio_of(talk: Call) -> bytes:
    """All reply audio that the service put into the pipeline."""
    return b"".join(frame.audio for frame in talk.frames.of(TTSAudioRawFrame))


def response_ids(hydra: HydraEmulator) -> list[str]:
    created = session(hydra).sent_of("response.created")
    return [record.event["response"]["id"] for record in created]


@shapes
async def test_the_bot_greets_when_it_is_asked_to(shape: Shape):
    async with emulator() as hydra, call(hydra, shape) as talk:
        await talk.run_llm()
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert configuration(hydra)["generate_initial_response"] is True
        assert talk.frames.names(*BRACKETS) == ONE_REPLY
        assert audio_of(talk) == session(hydra).sent_audio()
        assert not talk.frames.of(InterruptionFrame)


@shapes
async def test_a_turn_is_answered_and_heard_whole(shape: Shape):
    async with emulator() as hydra, call(hydra, shape) as talk:
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert not configuration(hydra)["generate_initial_response"]
        assert talk.frames.names(*BRACKETS) == ONE_REPLY
        assert audio_of(talk) == session(hydra).sent_audio()
        await talk.until_quiet()
        # The transport plays in chunks: only the last is padded.
        assert talk.transport.heard_pcm.startswith(audio_of(talk))
        assert len(talk.transport.heard_pcm) - len(audio_of(talk)) < 24_000 * 2 * 0.05


async def test_with_aggregators_turns_are_proposed_and_resolved_by_the_application():
    async with emulator() as hydra, call(hydra, "aggregators") as talk:
        await talk.say("hello")
        await talk.until_pushed(ProposedUserStoppedSpeakingFrame)
        assert len(talk.frames.of(ProposedUserStartedSpeakingFrame)) == 1
        await talk.until_pushed(InterruptionFrame)
        assert len(talk.frames.of(UserStartedSpeakingFrame)) == 1
        await talk.until_pushed(UserStoppedSpeakingFrame)
        assert len(talk.frames.of(InterruptionFrame)) == 1


async def test_without_aggregators_turns_are_announced_by_the_service():
    async with emulator() as hydra, call(hydra, "bare") as talk:
        await talk.say("hello")
        await talk.until_pushed(UserStoppedSpeakingFrame)
        assert len(talk.frames.of(UserStartedSpeakingFrame)) == 1
        assert len(talk.frames.of(InterruptionFrame)) == 1
        assert not talk.frames.of(ProposedUserStartedSpeakingFrame)


@shapes
@pytest.mark.parametrize("speed", [1.5, float("inf")], ids=["generating", "generated"])
async def test_a_barge_in_silences_the_old_reply_and_the_next_is_whole(shape: Shape, speed: float):
    """Both while the reply is generated, and after: it is playing all the same (T1, A5)."""
    settings = {"delivery_speed": speed, "late_audio_after_cancel_ms": 300}
    async with emulator(**settings) as hydra, call(hydra, shape) as talk:
        await talk.say("question")
        await talk.until_pushed(TTSAudioRawFrame)
        if speed == float("inf"):
            await session(hydra).wait_for_sent("response.done")
        await talk.say("interrupt")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        await talk.until_quiet()

        first, second = response_ids(hydra)
        done = session(hydra).sent_of("response.done")[0].event["response"]
        assert done["status"] == ("completed" if speed == float("inf") else "cancelled")
        assert talk.frames.names(*BRACKETS) == 2 * ONE_REPLY
        assert len(talk.frames.of(InterruptionFrame)) == 2
        # Of the first reply, nothing after the interruption; of the second, all.
        heard = talk.transport.heard_pcm
        reply = session(hydra).sent_audio(second)
        start = heard.index(reply[:4_000])
        assert heard[start : start + len(reply)] == reply
        assert session(hydra).sent_audio(first).startswith(heard[: start - start % 1920 - 1920])
        # More was sent than was heard: what was late, or what had not been played.
        assert start <= len(session(hydra).sent_audio(first)) - 0.3 * 24_000 * 2


@shapes
async def test_late_audio_of_a_cancelled_reply_never_enters_the_pipeline(shape: Shape):
    settings = {"delivery_speed": 2.0, "late_audio_after_cancel_ms": 500}
    async with emulator(**settings) as hydra, call(hydra, shape) as talk:
        await talk.say("question")
        await talk.until_pushed(TTSAudioRawFrame)
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        first, second = response_ids(hydra)
        of_first = audio_of(talk)[: -len(session(hydra).sent_audio(second))]
        assert audio_of(talk).endswith(session(hydra).sent_audio(second))
        assert session(hydra).sent_audio(first).startswith(of_first)
        # More than half a second of it came after the cancel.
        assert len(session(hydra).sent_audio(first)) - len(of_first) >= 24_000


@shapes
async def test_another_interruption_cancels_the_reply_at_the_server(shape: Shape):
    async with emulator(delivery_speed=1.5) as hydra, call(hydra, shape) as talk:
        await talk.say("question")
        await talk.until_pushed(TTSAudioRawFrame, 5)
        # Later than an echo of our own announcement could be.
        await asyncio.sleep(0.6)
        await talk.worker.queue_frame(InterruptionFrame())
        (cancel,) = await session(hydra).wait_for_received("response.cancel")
        assert cancel.event["response_id"] == response_ids(hydra)[0]
        (done,) = await session(hydra).wait_for_sent("response.done")
        assert done.event["response"]["status"] == "cancelled"
        await talk.until_pushed(LLMFullResponseEndFrame)
        assert talk.frames.names(*BRACKETS) == ONE_REPLY


def assert_all_was_heard(heard: bytes, reply: bytes, late_secs: float) -> None:
    """The listener heard the reply up to a cut, then on from a little before it, to its end.

    But for what the loudspeaker should have played by then, and was too late for.
    """
    cut = next(n for n in range(0, len(heard), 2) if heard[n : n + 2] != reply[n : n + 2])
    # The transport pads the end of what it was given with silence.
    rest = heard[cut:]
    begin = reply.rindex(rest[:2_000])
    assert begin <= cut + late_secs * 24_000 * 2
    assert cut - begin <= 0.4 * 24_000 * 2
    assert rest.startswith(reply[begin:])


@shapes
@pytest.mark.parametrize(
    ("speed", "cancel_on"),
    [(10.0, "speech_started"), (2.0, "turn_confirmed")],
    ids=["generated", "generating"],
)
async def test_noise_over_a_reply_lets_it_be_heard_to_its_end(
    shape: Shape, speed: float, cancel_on: str
):
    """Six seconds are heard, whether they lie in the transport or are still generated (T3)."""
    tones = Say(SIX_SECONDS.tobytes(), 24_000)
    settings = {"delivery_speed": speed, "cancel_on": cancel_on, "min_turn_ms": 800}
    async with (
        emulator(Script([], greeting=tones), **settings) as hydra,
        call(hydra, shape) as talk,
    ):
        await talk.run_llm()
        await talk.until_pushed(TTSAudioRawFrame)
        if speed == 10.0:
            await session(hydra).wait_for_sent("response.done")
        else:
            await talk.until(lambda: talk.transport.heard_until_secs > 1.0)
        await talk.transport.microphone.say(recording("hello")[:7_000])
        await talk.until_pushed(InterruptionFrame)
        late_secs = talk.transport.timeline.secs - talk.transport.heard_until_secs
        await talk.until_pushed(LLMFullResponseEndFrame, 2)
        await talk.until_quiet()
        assert len(response_ids(hydra)) == 1
        assert len(talk.frames.of(InterruptionFrame)) == 1
        assert talk.frames.names(*BRACKETS) == 2 * ONE_REPLY
        assert_all_was_heard(talk.transport.heard_pcm, session(hydra).sent_audio(), late_secs)


@shapes
async def test_an_end_lets_the_reply_finish(shape: Shape):
    async with emulator(delivery_speed=2.0) as hydra, call(hydra, shape) as talk:
        await talk.say("hello")
        await talk.until_pushed(TTSAudioRawFrame)
        await talk.worker.queue_frame(EndFrame())
        await talk.ended()
        assert session(hydra).sent_of("response.done")[0].event["response"]["status"] == "completed"
        assert audio_of(talk) == session(hydra).sent_audio()
        assert talk.transport.heard_pcm.startswith(audio_of(talk))
        assert await session(hydra).wait_closed() == 1000


@shapes
async def test_an_end_just_after_the_greeting_was_asked_for_lets_it_be_heard(shape: Shape):
    async with emulator(configured_delay_secs=0.3) as hydra, call(hydra, shape) as talk:
        await talk.run_llm()
        await talk.worker.queue_frame(EndFrame())
        await talk.ended()
        assert audio_of(talk) == session(hydra).sent_audio() != b""


@shapes
async def test_an_end_just_after_a_greeting_was_asked_for_waits_for_the_connection(shape: Shape):
    async def key() -> str:
        await asyncio.sleep(0.5)
        return hydra.api_key

    async with emulator() as hydra, call(hydra, shape, api_key=key) as talk:
        await talk.run_llm()
        await talk.worker.queue_frame(EndFrame())
        await talk.ended()
        assert audio_of(talk) == session(hydra).sent_audio() != b""


@shapes
async def test_an_end_just_after_a_reply_by_other_settings_was_asked_for_lets_it_be_heard(
    shape: Shape,
):
    async with emulator() as hydra, call(hydra, shape, settings=NO_GREETING) as talk:
        await talk.say("hello")
        await talk.until_pushed(LLMFullResponseEndFrame)
        delta = HydraLLMSettings(system_instruction="Say goodbye.")
        await talk.worker.queue_frame(LLMUpdateSettingsFrame(delta=delta))
        await talk.run_llm()
        await talk.worker.queue_frame(EndFrame())
        await talk.ended()
        first, second = hydra.sessions
        assert second.sent_audio() != b""
        assert audio_of(talk) == first.sent_audio() + second.sent_audio()


async def test_an_end_does_not_wait_for_ever():
    async with (
        emulator(response_latency_secs=30) as hydra,
        call(hydra, "bare", end_timeout_secs=0.3) as talk,
    ):
        await talk.run_llm()
        await talk.until(lambda: hydra.sessions and session(hydra).configured)
        await talk.worker.queue_frame(EndFrame())
        await talk.ended(within=5)


async def test_a_cancel_is_at_once():
    async with emulator(delivery_speed=1.0) as hydra, call(hydra, "bare") as talk:
        await talk.say("question")
        await talk.until_pushed(TTSAudioRawFrame)
        await talk.worker.queue_frame(CancelFrame())
        await talk.ended(within=5)
        assert not session(hydra).sent_of("response.done")
        await session(hydra).wait_closed()


@shapes
@pytest.mark.parametrize("how", ["end", "cancel"])
async def test_nothing_is_left_running(shape: Shape, how: str):
    async with emulator() as hydra:
        before = asyncio.all_tasks()
        async with call(hydra, shape) as talk:
            await talk.say("hello")
            await talk.until_pushed(TTSAudioRawFrame)
            if how == "end":
                await talk.worker.queue_frame(EndFrame())
                await talk.ended()
        await talk.until(lambda: session(hydra).closed)
        await talk.until(lambda: len(asyncio.all_tasks()) <= len(before))
