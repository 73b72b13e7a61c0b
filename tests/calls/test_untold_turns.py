"""Calls in which Hydra does not tell when a turn is over, or whether it was one.

`EmulatorSettings.speech_stopped` and `user_items` are readings of the protocol: the end of a turn
may be told by either event alone, or by the reply alone.
"""

import numpy as np
import pytest
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from support.call import NO_GREETING, SHAPES, Call, Shape, call, emulator, recording

from pipecat_hydra.emulator import Say, Script

shapes = pytest.mark.parametrize("shape", SHAPES)
readings = pytest.mark.parametrize(
    ("speech_stopped", "user_items"), [(True, True), (False, True), (True, False), (False, False)]
)

TURN: dict[Shape, tuple[type[Frame], type[Frame]]] = {
    "aggregators": (ProposedUserStartedSpeakingFrame, ProposedUserStoppedSpeakingFrame),
    "bare": (UserStartedSpeakingFrame, UserStoppedSpeakingFrame),
}


def heard(talk: Call) -> int:
    """How many bytes of replies entered the pipeline."""
    return sum(len(frame.audio) for frame in talk.frames.of(TTSAudioRawFrame))


@shapes
@readings
async def test_each_turn_is_answered_and_ends_once(
    shape: Shape, speech_stopped: bool, user_items: bool
):
    readings = {"speech_stopped": speech_stopped, "user_items": user_items}
    replies = [Say(bytes(range(1, 241)) * 100, 24_000)] * 2
    async with (
        emulator(Script(replies), **readings) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        for count in (1, 2):
            await talk.say("hello")
            await talk.until_pushed(TTSStoppedFrame, count)
        await talk.worker.queue_frame(EndFrame())
        await talk.ended()
        assert heard(talk) == 2 * 24_000
        started, stopped = TURN[shape]
        turns = talk.frames.names(started, stopped)
        assert turns == [started.__name__, stopped.__name__] * 2


@shapes
async def test_the_item_tells_that_a_turn_is_over(shape: Shape):
    async with (
        emulator(Script([Say.tones(0.5)]), speech_stopped=False) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await talk.say("hello")
        started, stopped = TURN[shape]
        await talk.until_pushed(TTSAudioRawFrame)
        assert talk.frames.names(started, stopped, TTSAudioRawFrame)[:3] == [
            started.__name__,
            stopped.__name__,
            TTSAudioRawFrame.__name__,
        ]


@shapes
@pytest.mark.parametrize("user_items", [True, False])
async def test_an_answer_is_heard_though_a_reply_that_was_asked_for_before_never_came(
    shape: Shape, user_items: bool
):
    """Hydra drops what it has not begun when the user speaks."""
    settings = {"speech_stopped": False, "user_items": user_items, "response_latency_secs": 0.6}
    async with (
        emulator(Script([Say.tones(0.5)] * 3), **settings) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await talk.say("hello")
        await talk.until_pushed(TTSStoppedFrame)
        await talk.llm.request_response()
        await talk.say("hello")
        await talk.until_pushed(TTSStoppedFrame, 2, within=5)
        assert hydra.sessions[0].create_times
        assert len(hydra.sessions[0].sent_of("response.created")) == 2
        assert heard(talk) == 2 * 24_000


@shapes
async def test_noise_that_nobody_discards_lets_the_reply_go_on(shape: Shape):
    reply = Say(np.arange(1, 32_000, dtype="<i2").tobytes(), 24_000)
    settings = {"user_items": False, "min_turn_ms": 600, "cancel_on": "turn_confirmed"}
    async with (
        emulator(Script([reply]), **settings) as hydra,
        call(hydra, shape, settings=NO_GREETING) as talk,
    ):
        await talk.say("question")
        await talk.until_pushed(TTSAudioRawFrame)
        await talk.transport.microphone.say(recording("hello")[:6_400])
        started, _ = TURN[shape]
        await talk.until_pushed(started, 2)
        end = reply.audio[-8_000:-4_000]
        await talk.until(lambda: end in b"".join(audio.pcm for audio in talk.transport.heard))
