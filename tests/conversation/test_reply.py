"""One response on its way into the pipeline: its states and its bracket (A4 to A6)."""

import pytest

from pipecat_hydra.conversation.effects import (
    AudioChunk,
    PipelineEffect,
    ReplyEnded,
    ReplyStarted,
    TextChunk,
    VoiceEnded,
    VoiceStarted,
)
from pipecat_hydra.conversation.joined_audio import JoinedAudio
from pipecat_hydra.conversation.playback import Playback
from pipecat_hydra.conversation.reply import Reply

PCM = bytes(range(1, 241)) * 4
CHUNK = AudioChunk(PCM, 24_000)


@pytest.fixture
def reply() -> Reply:
    joined = JoinedAudio(Playback(), chunk_secs=0.0)
    return Reply("r", asked_at=1.0, sample_rate=24_000, joined=joined)


def test_a_reply_has_one_bracket(reply: Reply):
    effects = [*reply.begin(), *reply.audio(PCM, 1.5), *reply.text("Hi", 1.5)]
    effects += reply.close(interrupted=False)
    assert effects == [
        ReplyStarted("r"),
        VoiceStarted("r", 0.5),
        CHUNK,
        TextChunk("Hi"),
        VoiceEnded("r"),
        ReplyEnded("r", interrupted=False),
    ]
    assert reply.close(interrupted=False) == []


def test_without_audio_there_is_no_voice(reply: Reply):
    reply.begin()
    assert not reply.heard
    assert reply.close(interrupted=True) == [ReplyEnded("r", interrupted=True)]


def test_text_before_the_first_audio_waits_for_it(reply: Reply):
    reply.begin()
    assert reply.text("Hi", 1.0) == []
    assert reply.audio(PCM, 2.0) == [VoiceStarted("r", 1.0), TextChunk("Hi"), CHUNK]
    assert reply.heard


def test_text_for_which_no_audio_comes_is_told_in_the_end(reply: Reply):
    reply.begin()
    reply.text("Hi", 1.0)
    effects: list[PipelineEffect] = [TextChunk("Hi"), ReplyEnded("r", False)]
    assert reply.close(interrupted=False) == effects


def test_a_byte_that_is_half_a_sample_waits_for_the_other_half(reply: Reply):
    reply.begin()
    assert reply.audio(b"\x01", 1.0) == []
    assert reply.audio(b"\x02", 1.0)[1:] == [AudioChunk(b"\x01\x02", 24_000)]


def test_phrases_get_the_spaces_between_them(reply: Reply):
    reply.begin()
    reply.audio(PCM, 1.0)
    phrases = ["Hello,", "you", "!", "", " Fine ", "then"]
    told = [effect for phrase in phrases for effect in reply.text(phrase, 1.0)]
    assert told == [TextChunk(t) for t in ["Hello,", " you", "!", " Fine ", "then"]]


def test_what_comes_while_it_is_held_is_kept(reply: Reply):
    reply.begin()
    reply.audio(PCM, 1.0)
    assert reply.hold() == [VoiceEnded("r", True), ReplyEnded("r", True)]
    assert reply.held
    assert reply.audio(PCM, 2.0) == reply.text("later", 2.0) == []
    unheard = AudioChunk(b"\x07\x07", 24_000)
    assert reply.resume([unheard]) == [
        ReplyStarted("r", resumed=True),
        # It was heard before, so nobody has waited for it.
        VoiceStarted("r", None),
        unheard,
        CHUNK,
        TextChunk("later"),
    ]
    assert reply.active


def test_one_that_is_over_with_nothing_kept_is_not_resumed(reply: Reply):
    reply.hold()
    reply.generated = True
    assert reply.resume([]) == []
    assert reply.active


def test_one_that_nobody_waits_for_is_given_up(reply: Reply):
    reply.hold()
    minute = bytes(60 * 48_000 * 2)
    assert reply.audio(minute, 1.0) == reply.audio(minute, 1.0) == []
    assert not reply.dead
    reply.text("x", 1.0)
    assert reply.dead


def test_of_a_dead_one_nothing_is_heard(reply: Reply):
    reply.begin()
    reply.text("early", 1.0)
    assert reply.kill()[-1] == ReplyEnded("r", True)
    assert reply.audio(PCM, 2.0) == reply.text("late", 2.0) == []
    assert reply.close(interrupted=True) == []


def test_what_was_thrown_away_is_said_again_in_the_bracket_that_is_open(reply: Reply):
    assert reply.say_again([CHUNK]) == []
    reply.begin()
    assert reply.say_again([CHUNK]) == [VoiceStarted("r", None), CHUNK]
    assert reply.say_again([CHUNK]) == [CHUNK]
    reply.hold()
    assert reply.say_again([CHUNK]) == []
