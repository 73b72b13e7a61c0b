"""A conversation as a whole: its loss, its replacement, its silence."""

import pytest
from support import wire
from support.driver import PCM, Driver, sent

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import (
    ReplyEnded,
    Report,
    UserStopped,
    VoiceEnded,
)
from pipecat_hydra.conversation.uplink import Uplink
from pipecat_hydra.wire.events import (
    InputAudioAppend,
    SessionConfiguration,
)


def test_a_lost_connection_leaves_nothing_open(driver: Driver):
    driver.receive(wire.response_created(), wire.audio(PCM))
    effects = driver.conversation.disconnected(0.0)
    assert effects == [VoiceEnded("resp_1", True), ReplyEnded("resp_1", True)]
    driver.live().receive(wire.started())
    assert driver.conversation.disconnected(0.0) == [UserStopped(False)]
    assert driver.conversation.disconnected(0.0) == []
    assert driver.conversation.deadline is None
    assert not driver.conversation.reply_pending


def test_what_is_said_while_offline_is_sent_by_the_next_session(driver: Driver):
    driver.conversation.disconnected(0.0)
    assert driver.conversation.microphone(PCM[:640], 0.0) == []
    driver.now = 10.0
    driver.live()
    assert sent(driver.conversation.tick(10.1)) == [InputAudioAppend(audio=PCM[:640])]


def test_what_was_said_and_could_not_be_kept_is_told():
    driver = Driver(Conversation(model="hydra-v1.1", uplink=Uplink(preroll_secs=0.5)))
    for _ in range(50):
        driver.conversation.microphone(PCM[:640], 0.0)
    driver.conversation.configure(SessionConfiguration(), 0.0)
    driver.conversation.connected(0.0)
    effects = driver.receive(wire.created(), wire.configured())
    (report,) = [e for e in effects if isinstance(e, Report)]
    assert report.message.startswith("0.5 s")


def test_a_session_may_be_replaced_only_between_turns(driver: Driver):
    conversation = driver.conversation
    assert conversation.at_turn_boundary
    for event, boundary in [
        (wire.started(), False),
        (wire.stopped(), False),
        (wire.user_item("completed"), False),
        (wire.response_created(), False),
        (wire.call("c1"), False),
        (wire.done(), False),
    ]:
        driver.receive(event)
        assert conversation.at_turn_boundary is boundary
    conversation.answer_call("c1", "1", 0.0)
    assert not conversation.at_turn_boundary
    driver.receive(wire.response_created("r2"), wire.audio(PCM, "r2"))
    assert not conversation.at_turn_boundary
    driver.receive(wire.done("r2"))
    assert conversation.at_turn_boundary


def test_a_word_that_had_just_begun_is_sent_again_to_the_session_that_follows(driver: Driver):
    driver.now = 1.0
    before, after = b"\x01\x00" * 320, b"\x02\x00" * 320
    driver.conversation.microphone(before, 1.0)
    driver.receive(wire.started(), wire.stopped(), wire.user_item("incomplete"))
    driver.conversation.microphone(after, 2.0)
    driver.conversation.disconnected(2.0)
    driver.now = 2.0
    driver.live()
    assert sent(driver.conversation.tick(2.1)) == [InputAudioAppend(audio=after)]


def test_silence_keeps_a_quiet_session_alive(driver: Driver):
    assert driver.conversation.deadline == pytest.approx(0.4)
    appends = sent(driver.conversation.tick(0.4))
    assert appends
    assert all(isinstance(e, InputAudioAppend) and not any(e.audio) for e in appends)
