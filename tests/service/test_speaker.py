"""Replies as frames: brackets, one rate, text, and what is measured."""

import numpy as np
from pipecat.frames.frames import Frame, LLMTextFrame, MetricsFrame, TTSAudioRawFrame, TTSTextFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from pipecat_hydra.conversation.effects import (
    AudioChunk,
    ReplyEnded,
    ReplyStarted,
    TextChunk,
    VoiceEnded,
    VoiceStarted,
)
from pipecat_hydra.service.speaker import Speaker, Speech


class Service(FrameProcessor):
    """Keeps what is pushed."""

    def __init__(self):
        super().__init__()
        self.pushed: list[Frame] = []
        self.said: list[str] = []
        self.speaker = Speaker(self, on_said=lambda text, resumed: self.said.append(text))

    async def push_frame(self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM):
        self.pushed.append(frame)

    async def say(self, *speech: Speech) -> list[str]:
        before = len(self.pushed)
        for one in speech:
            await self.speaker.say(one)
        return [type(frame).__name__ for frame in self.pushed[before:]]

    @property
    def audio(self) -> list[TTSAudioRawFrame]:
        return [frame for frame in self.pushed if isinstance(frame, TTSAudioRawFrame)]


class MeasuringService(Service):
    """Has metrics: its frames are pushed without a pipeline."""

    def __init__(self):
        super().__init__()
        self.scanned: list[bytes] = []

    @property
    def metrics_enabled(self) -> bool:
        return True

    async def stop_ttfb_metrics(self, *, end_time: float | None = None):
        await self.push_frame(MetricsFrame(data=[]))

    async def start_ttfb_metrics(self, **_: object):
        pass

    async def process_ttfa_metrics(self, frame: TTSAudioRawFrame):
        self.scanned.append(frame.audio)


def tone(rate: int) -> bytes:
    samples = 8_000 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    return samples.astype("<i2").tobytes()


async def test_a_reply_in_its_brackets():
    service = Service()
    names = await service.say(
        ReplyStarted("r"),
        VoiceStarted("r", None),
        TextChunk("Hello"),
        AudioChunk(b"ab", 24_000),
        TextChunk(" there."),
        VoiceEnded("r"),
        ReplyEnded("r", interrupted=False),
    )
    assert names == [
        "LLMFullResponseStartFrame",
        "TTSStartedFrame",
        "LLMTextFrame",
        "TTSTextFrame",
        "TTSAudioRawFrame",
        "LLMTextFrame",
        "TTSTextFrame",
        "TTSStoppedFrame",
        "LLMFullResponseEndFrame",
    ]
    assert service.said == ["Hello there."]
    texts = [frame for frame in service.pushed if isinstance(frame, LLMTextFrame)]
    assert not any(frame.append_to_context for frame in texts)
    spoken = [frame for frame in service.pushed if isinstance(frame, TTSTextFrame)]
    assert all(frame.includes_inter_frame_spaces for frame in spoken)


async def test_metrics_come_behind_the_first_audio_which_they_would_overtake():
    service = MeasuringService()
    second = service.say(AudioChunk(b"ab", 24_000), AudioChunk(b"cd", 24_000))
    names = await service.say(ReplyStarted("r"), VoiceStarted("r", 0.5)) + await second
    assert names == [
        "LLMFullResponseStartFrame",
        "TTSStartedFrame",
        "TTSAudioRawFrame",
        "TTSAudioRawFrame",
        "MetricsFrame",
    ]
    assert service.scanned == [b"ab"]
    assert await service.say(VoiceEnded("r")) == ["TTSStoppedFrame"]
    assert service.scanned == [b"ab", b"cd"]


async def test_the_metrics_of_a_reply_of_one_chunk_come_at_its_end():
    service = MeasuringService()
    spoken = (ReplyStarted("r"), VoiceStarted("r", 0.5), AudioChunk(b"ab", 24_000), VoiceEnded("r"))
    assert (await service.say(*spoken))[2:] == [
        "TTSAudioRawFrame",
        "MetricsFrame",
        "TTSStoppedFrame",
    ]


async def test_what_was_said_is_told_once_for_each_reply():
    service = Service()
    await service.say(TextChunk("One."), ReplyEnded("a", False), ReplyEnded("b", False))
    await service.say(TextChunk("Two."), ReplyEnded("c", True))
    assert service.said == ["One.", "Two."]


async def test_the_first_rate_is_that_of_the_whole_call():
    service = Service()
    await service.say(AudioChunk(b"ab", 24_000), VoiceEnded("r"))
    await service.say(AudioChunk(tone(48_000), 48_000), VoiceEnded("r2"))
    assert {frame.sample_rate for frame in service.audio} == {24_000}
    heard = b"".join(frame.audio for frame in service.audio[1:])
    assert abs(len(heard) - 48_000) < 50


async def test_of_an_interrupted_reply_nothing_is_drained():
    service = Service()
    await service.say(AudioChunk(b"ab", 24_000))
    await service.say(AudioChunk(tone(48_000), 48_000))
    frames = len(service.audio)
    assert await service.say(VoiceEnded("r", interrupted=True)) == ["TTSStoppedFrame"]
    assert len(service.audio) == frames


async def test_the_words_of_a_reply_are_known_or_not():
    service = Service()
    reply = [ReplyStarted("r"), VoiceStarted("r", None), TextChunk("Hello.")]
    await service.say(*reply)
    assert not service.speaker.are_replies_known
    await service.say(VoiceEnded("r"), ReplyEnded("r", interrupted=False))
    assert service.speaker.are_replies_known


async def test_a_reply_that_is_resumed_is_no_new_one():
    service = Service()
    end = [VoiceEnded("r"), ReplyEnded("r", interrupted=False)]
    await service.say(ReplyStarted("r"), VoiceStarted("r", None), *end)
    again = [ReplyStarted("r", resumed=True), VoiceStarted("r", None), TextChunk("Hello."), *end]
    await service.say(*again, *again)
    assert not service.speaker.are_replies_known


async def test_the_words_of_a_reply_that_is_resumed_are_known_already():
    service = Service()
    end = [VoiceEnded("r"), ReplyEnded("r", interrupted=False)]
    await service.say(ReplyStarted("r"), VoiceStarted("r", None), TextChunk("Hello."), *end)
    await service.say(ReplyStarted("r", resumed=True), VoiceStarted("r", None), *end)
    assert service.speaker.are_replies_known
