"""A conversation as a whole: its loss, its replacement, its silence."""

import pytest
from support import wire
from support.driver import PCM, Driver, sent, speak

from pipecat_hydra.conversation.conversation import Conversation, Phase
from pipecat_hydra.conversation.effects import (
    Fail,
    ReplyEnded,
    Report,
    Rest,
    Severity,
    UserStopped,
    VoiceEnded,
)
from pipecat_hydra.conversation.uplink import Uplink
from pipecat_hydra.wire.events import (
    InputAudioAppend,
    ItemCreate,
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


def test_what_was_too_much_at_once_is_told_while_the_session_goes_on():
    driver = Driver(Conversation(model="hydra-v1.1", uplink=Uplink(preroll_secs=1.0)))
    driver.live()
    for _ in range(200):
        driver.conversation.microphone(PCM[:640], 0.0)
    kept_secs = driver.conversation.uplink.waiting_secs
    assert not [e for e in driver.conversation.tick(0.4) if isinstance(e, Report)]
    assert driver.conversation.deadline == 0.5
    (report,) = [e for e in driver.conversation.tick(0.5) if isinstance(e, Report)]
    assert report.message.startswith(f"{4.0 - kept_secs:.1f} s")
    assert report.severity is Severity.WARNING
    assert not [e for e in driver.conversation.tick(0.6) if isinstance(e, Report)]


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


# Each step reaches its room


def test_a_call_from_its_first_word_to_its_rest():
    driver = Driver(Conversation(model="hydra", unused_timeout_secs=5.0, idle_timeout_secs=60.0))
    conversation = driver.conversation
    conversation.model = "hydra-v1.1"
    assert conversation.model == "hydra-v1.1"
    conversation.connected(0.0)
    (rest,) = conversation.tick(5.0)
    assert rest == Rest("the session was not used for 5.0 s")
    assert conversation.receive(wire.created(), 5.0) == []
    conversation.send_message("Hello?", 5.0, respond=False)
    assert conversation.take_unsent() == [("user", "Hello?")]
    driver.now = 5.0
    driver.live(greet=True)
    assert (conversation.phase, conversation.sessions) == (Phase.LIVE, 1)
    assert not conversation.under_way
    driver.receive(
        wire.response_created(), wire.audio(PCM), wire.event("response.output_audio.done")
    )
    assert conversation.under_way
    conversation.bot_started(5.0)
    conversation.bot_stopped()
    conversation.forget_playback()
    assert conversation.update_tools((), 5.0) == []
    assert len(sent(conversation.cancel_response(5.0))) == 1
    driver.receive(wire.done(status="cancelled"), wire.started())
    assert conversation.user_speaking
    assert driver.interrupted() == []
    driver.receive(wire.stopped(), wire.user_item("completed"), wire.response_created("r2"))
    driver.receive(wire.call("c1", response="r2"), wire.call("c2", response="r2"), wire.done("r2"))
    assert conversation.user_turns == 1
    # It does not rest while functions run.
    assert not [e for e in conversation.tick(66.0) if isinstance(e, Rest)]
    assert len(sent(conversation.answer_call("c1", "{}", 66.0))) == 1
    assert conversation.answer_call("c1", "{}", 66.0) == []
    conversation.disconnected(66.0)
    assert conversation.answer_call("c2", "{}", 66.0) == []
    assert conversation.owes_reply
    driver.now = 66.0
    told = sent(driver.live(greet=True).conversation.tick(66.0))
    assert not conversation.take_unsent()
    assert not [event for event in told if isinstance(event, ItemCreate)]
    driver.receive(wire.response_created(), wire.audio(PCM), wire.done())
    conversation.hand_over()
    assert conversation.request_response(66.0) == []
    assert len(sent(conversation.keep_session(66.0))) == 1
    driver.receive(wire.response_created("r3"), wire.done("r3"))
    conversation.tick(127.0)
    assert conversation.phase is Phase.OFFLINE


def test_what_goes_wrong_is_reported(driver: Driver):
    driver.receive(wire.event("session.updated"))
    events = [
        wire.event("warning", message="Slow."),
        wire.event("response.mood"),
        wire.decode("no event"),
        wire.error("invalid_audio"),
        wire.error("tool_response_timeout"),
        wire.event("session.updated", session=3),
    ]
    assert [type(e) for e in driver.receive(*events)] == [Report] * 6
    late = Driver()
    late.conversation.configure(SessionConfiguration(voice="nobody"), 0.0)
    late.conversation.connected(0.0)
    late.receive(wire.configured(), wire.created())
    (fail,) = late.receive(wire.error("x", param="session.configure.session.voice"))
    assert isinstance(fail, Fail)


def test_words_that_no_answer_was_heard_to_are_sent_again(driver: Driver):
    driver.receive(wire.started())
    speak(driver)
    driver.conversation.disconnected(driver.now)
    assert not driver.conversation.owes_reply
    driver.live()
    assert driver.conversation.uplink.keeping
    driver.now += 10.0
    driver.conversation.tick(driver.now)
    assert not driver.conversation.uplink.keeping
    assert driver.conversation.output_sample_rate == 24_000
